"""The OpenAPI document against the platform that it describes: schemathesis makes the calls.

Each operation is called as a participant that may, with what its schema allows and with what it
does not. Whatever comes back has to be what the document says, and never a fault.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import orjson
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, checks
from schemathesis.core.result import Ok

from services.gateway.openapi import DOCUMENT
from services.sandbox.embedded import embedded
from tests.e2e.town import Town, settle

ROLES: Final = {"OPERATOR": "operator", "BANK": "bank", "FIRM": "firm", "PROVIDER": "tax"}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town of its own: what is made up here may stop its scoring, or fill it."""
    folder = tmp_path_factory.mktemp("openapi")
    with embedded(folder) as platform:
        yield asyncio.run(settle(platform, scores=False))


def the_checks() -> list[Any]:
    checks.load_all_checks()
    return checks.CHECKS.get_by_names(
        [
            "not_a_server_error",
            "status_code_conformance",
            "content_type_conformance",
            "response_headers_conformance",
            "response_schema_conformance",
            "allow_header_conformance",
        ]
    )


def call_all(town: Town, examples: int) -> list[str]:
    """Call every operation so often in either way, and return what was not as documented."""
    schema = schemathesis.openapi.from_dict(orjson.loads(DOCUMENT.read_bytes()))
    schema.config.update(base_url=f"http://{town.platform.http}")
    found: list[str] = []
    with requests.Session() as session:
        for result in schema.get_all_operations():
            assert isinstance(result, Ok), result.err()
            operation: Any = result.ok()
            roles = operation.definition.raw["x-puhui-roles"]
            key = next((town.key(who) for role, who in ROLES.items() if role in roles), "")
            session.headers["authorization"] = f"Bearer {key}"
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                try:
                    call(operation.as_strategy(generation_mode=mode), session, examples)
                except BaseExceptionGroup as error:
                    found.append(f"{operation.label}, {mode.value}: {error!r} {error}")
    return found


def call(cases: Any, session: requests.Session, examples: int) -> None:
    """Make so many calls.

    Raises:
        BaseExceptionGroup: they were not answered as documented.
    """
    looked_at = the_checks()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def called(case: Any) -> None:
        # Whoever follows is never told the end.
        if case.query:
            case.query.pop("follow", None)
        case.call_and_validate(session=session, checks=looked_at, timeout=20)

    called()


def test_the_platform_keeps_its_document(target: Town) -> None:
    assert call_all(target, 2) == []


@pytest.mark.heavy
def test_the_platform_keeps_its_document_over_many_calls(target: Town) -> None:
    assert call_all(target, 60) == []
