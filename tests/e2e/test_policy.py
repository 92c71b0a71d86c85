"""What the policy and its bounds refuse, over TLS by gRPC and HTTPS; the cases are in a table."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from puhui.datashare.v1.consents_pb2 import WithdrawConsentRequest
from services.gateway.policy.file import DEFAULT
from tests.cases.table import Case, parameters
from tests.e2e.fapi import Doors, Institution, Refusal, doors
from tests.e2e.gateway import told

pytestmark = pytest.mark.asyncio(loop_scope="module")

# One rule less, and bounds for two roles.
BOUNDS = """
[limits.roles.REGULATOR]
rate = 0.01
burst = 1

[limits.roles.FIRM]
daily = 2
message_bytes = 64
"""
LIST_MODELS = '  "puhui.scoring.v1.ModelService/ListModels",\n'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def entrance(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Doors]:
    folder = tmp_path_factory.mktemp("doors")
    text = DEFAULT.read_text(encoding="utf-8")
    assert LIST_MODELS in text
    policy = folder / "policy.toml"
    policy.write_text(text.replace(LIST_MODELS, "") + BOUNDS, encoding="utf-8")
    async with doors(folder, policy=policy) as made:
        yield made


@parameters("policy", "policy")
async def test_no_call_is_let_through(entrance: Doors, case: Case, protocol: str) -> None:
    await refused(entrance, case, protocol)


@parameters("policy", "limits")
async def test_no_call_goes_beyond_its_bounds(entrance: Doors, case: Case, protocol: str) -> None:
    await refused(entrance, case, protocol)


async def refused(entrance: Doors, case: Case, protocol: str) -> None:
    make = case.make
    who = entrance.institution(make.get("role", "BANK"), tuple(make.get("products", ())))
    token = await entrance.token(who)
    for _ in range(make.get("before", 0)):
        found = await entrance.call(protocol, who.certificate, f"Bearer {token}")
        assert found.reason == ""
    found = await asked(entrance, who, token, case, protocol)
    expected = str(case.http) if protocol == "https" else case.grpc
    assert (found.status, found.reason) == (expected, case.expect)
    assert case.says in found.message


async def asked(
    entrance: Doors, who: Institution, token: str, case: Case, protocol: str
) -> Refusal:
    make = case.make
    headers = {"authorization": f"Bearer {token}", **make.get("headers", {})}
    if "product" in make:
        headers["puhui-product"] = make["product"]
    note = "x" * make.get("bytes", 0)
    if protocol == "https":
        verb = make.get("verb", "POST")
        body = None if verb == "GET" else {"note": note}
        response = await entrance.http(who.certificate).request(
            verb, make["path"], headers=headers, json=body
        )
        said = response.json()
        assert (response.status_code == 429) == ("retry-after" in response.headers)
        return Refusal(str(response.status_code), said["reason"], said["detail"])
    call: Any = entrance.channel(who.certificate).unary_unary(f"/puhui.{make['method']}")
    message = WithdrawConsentRequest(note=note).SerializeToString() if note else b""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(message, metadata=tuple(headers.items()), timeout=10.0)
    found = told(error.value)
    assert found.retry == (error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED)
    return Refusal(error.value.code().name, found.reason, error.value.details() or "")
