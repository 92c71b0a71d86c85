"""What is no sound message, over real TLS to a real platform: the table of tests/cases/input.toml.

Whoever calls is known, so that nothing but the input is refused.
"""

import json
import ssl
from typing import Any

import grpc
import httpx2
import pytest
from google.protobuf.json_format import ParseDict

from puhui.datashare.v1 import consents_pb2, records_pb2
from puhui.scoring.v1 import scoring_pb2
from tests.cases.table import Case, parameters
from tests.e2e.gateway import told
from tests.e2e.test_gateway_http import bearer
from tests.e2e.town import Town

RPCS: dict[str, tuple[str, type | None, str, str]] = {
    "Score": ("scoring.v1.ScoringService", scoring_pb2.ScoreRequest, "POST", "/v1/scores"),
    "RequestConsent": (
        "datashare.v1.ConsentService",
        consents_pb2.RequestConsentRequest,
        "POST",
        "/v1/consents:request",
    ),
    "ListConsents": (
        "datashare.v1.ConsentService",
        consents_pb2.ListConsentsRequest,
        "GET",
        "/v1/consents",
    ),
    "SubmitRecords": (
        "datashare.v1.RecordService",
        records_pb2.SubmitRecordsRequest,
        "POST",
        "/v1/records:submit",
    ),
    "Nothing": ("scoring.v1.ScoringService", None, "", ""),
    "BatchFetchSummaries": ("datashare.v1.AccessService", None, "", ""),
}


def address(town: Town, listener: str) -> str:
    endpoints = json.loads((town.platform.data_dir / "endpoints.json").read_text("utf-8"))
    found: str = endpoints[listener]
    return found


def authority(town: Town) -> str:
    return (town.platform.data_dir / "keys" / "authority.crt").read_text("utf-8")


def filled(case: Case, text: str) -> str:
    return text.replace("<many>", case.make.get("repeat", "") * case.make.get("times", 0))


async def over_grpc(town: Town, case: Case, body: bytes) -> None:
    rpc = case.make["rpc"]
    method = f"/puhui.{RPCS[rpc][0]}/{rpc}"
    metadata = tuple(bearer(town.key(case.make.get("who", "bank"))).items())
    trusted = grpc.ssl_channel_credentials(authority(town).encode())
    unbounded = [("grpc.max_send_message_length", -1)]
    channel = grpc.aio.secure_channel(address(town, "people"), trusted, options=unbounded)
    async with channel:
        call: Any = channel.unary_unary(method)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(body, metadata=metadata, timeout=20)
    found = told(refused.value)
    assert (found.code.name, found.reason) == (case.grpc, case.expect)
    named = f"{' '.join(found.fields)} {refused.value.details()}"
    assert case.says in named


async def over_https(town: Town, case: Case, verb: str, path: str, body: bytes) -> None:
    headers = bearer(town.key(case.make.get("who", "bank"))) | {
        name: filled(case, value) for name, value in case.make.get("header", {}).items()
    }
    if "rpc" in case.make and body:
        headers["content-type"] = "application/json"
    context = ssl.create_default_context(cadata=authority(town))
    client = httpx2.AsyncClient(
        base_url=f"https://{address(town, 'https')}", verify=context, timeout=20
    )
    async with client:
        answer = await client.request(verb, path, content=body or None, headers=headers)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["reason"]) == (case.http, case.expect)
    assert case.says in f"{problem['detail']} {problem['fields']}"


def said(case: Case) -> bytes:
    if "hex" in case.make:
        return bytes.fromhex(filled(case, case.make["hex"]))
    return filled(case, case.make.get("json", "")).encode()


@parameters("input", "fields")
async def test_no_message_is_taken(town: Town, case: Case, protocol: str) -> None:
    _, kind, verb, path = RPCS[case.make["rpc"]]
    body = said(case)
    if protocol == "grpc":
        assert kind is not None
        message: Any = ParseDict(json.loads(body), kind())
        await over_grpc(town, case, message.SerializeToString())
    elif "query" in case.make:
        await over_https(town, case, verb, f"{path}?{case.make['query']}", b"")
    else:
        await over_https(town, case, verb, path, body)


@parameters("input", "protobuf")
async def test_no_bytes_are_taken(town: Town, case: Case, protocol: str) -> None:
    assert protocol == "grpc"
    await over_grpc(town, case, said(case))


@parameters("input", "json")
async def test_no_json_is_taken(town: Town, case: Case, protocol: str) -> None:
    assert protocol == "https"
    _, _, verb, path = RPCS[case.make["rpc"]]
    await over_https(town, case, verb, path, said(case))


@parameters("input", "http")
async def test_no_request_is_taken(town: Town, case: Case, protocol: str) -> None:
    assert protocol == "https"
    await over_https(town, case, case.make["verb"], filled(case, case.make["path"]), said(case))
