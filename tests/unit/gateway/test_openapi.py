import re
from typing import Any

import orjson
import pytest

from services.gateway.http import docs
from services.gateway.openapi import DOCUMENT, comments, document


@pytest.fixture(scope="module")
def committed() -> Any:
    return orjson.loads(DOCUMENT.read_bytes())


def references(value: Any) -> set[str]:
    if isinstance(value, list):
        return {found for each in value for found in references(each)}
    if not isinstance(value, dict):
        return set()
    own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
    return own | {found for each in value.values() for found in references(each)}


def test_the_committed_document_is_fresh(committed: Any) -> None:
    assert committed == document(comments()), "run `make openapi`"


def test_everything_that_is_referred_to_is_there(committed: Any) -> None:
    for reference in references(committed):
        found = committed
        for name in reference.removeprefix("#/").split("/"):
            found = found[name]
        assert found


def test_every_operation_has_its_path_variables_roles_and_words(committed: Any) -> None:
    ids = set()
    for path, item in committed["paths"].items():
        for operation in item.values():
            declared = [
                each["name"] for each in operation.get("parameters", []) if each["in"] == "path"
            ]
            assert declared == re.findall(r"\{([^}]+)\}", path)
            assert set(operation["x-puhui-roles"]) <= {
                "PROVIDER",
                "FIRM",
                "BANK",
                "REGULATOR",
                "OPERATOR",
            }
            assert {"200", "default"} <= operation["responses"].keys()
            ids.add(operation["operationId"])
    assert len(ids) == sum(len(item) for item in committed["paths"].values())


def test_words_limits_and_choices_come_from_the_proto(committed: Any) -> None:
    schemas = committed["components"]["schemas"]
    order = schemas["scoring.v1.ScoreOrder"]
    assert order["required"] == ["requestId", "subjectId", "purpose"]
    assert order["properties"]["requestId"]["maxLength"] == 64
    assert order["properties"]["purpose"]["description"] == "Code of the table of purposes."
    assert order["properties"]["asOf"]["format"] == "date-time"
    assert schemas["common.v1.SubjectRef"]["oneOf"] == [
        {"required": ["subjectId"]},
        {"required": ["uscc"]},
    ]
    assert committed["x-error-reasons"]["CONSENT_EXPIRED"] == "The consent's time is over."


def test_what_stands_in_the_path_is_not_asked_for_in_the_body(committed: Any) -> None:
    fetch = committed["paths"]["/v1/subjects/{fetch.subject_id}/summary:fetch"]["post"]
    schema = fetch["requestBody"]["content"]["application/json"]["schema"]
    assert "subjectId" not in schema["properties"]["fetch"]["properties"]
    assert "subjectId" not in schema["properties"]["fetch"]["required"]


def test_the_page_shows_every_operation_schema_and_reason(committed: Any) -> None:
    page = "".join(docs.render(committed))
    anchors = set(re.findall(r'id="([^"]+)"', page))
    for item in committed["paths"].values():
        assert {operation["operationId"] for operation in item.values()} <= anchors
    assert committed["components"]["schemas"].keys() <= anchors
    assert committed["x-error-reasons"].keys() <= anchors
    assert set(re.findall(r'href="#([^"]+)"', page)) <= anchors


def test_the_page_shows_words_as_text(committed: Any) -> None:
    committed = {**committed, "info": {**committed["info"], "title": "<script>"}}
    assert "<script>" not in "".join(docs.render(committed))
