import re
from typing import Any

import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from services.gateway.http import docs
from services.gateway.http.messages import from_json, put_values
from services.gateway.http.paths import Binding, Table
from services.gateway.openapi import DOCUMENT, comments, document, path_of
from services.gateway.routes import DATASHARE, GATEWAY, SCORING, exposed
from services.kit.calls import validate


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
                each["name"] for each in operation.get("parameters", []) if each.get("in") == "path"
            ]
            assert declared == re.findall(r"\{([^}]+)\}", path)
            assert set(operation["x-puhui-roles"]) <= {
                "PROVIDER",
                "FIRM",
                "BANK",
                "REGULATOR",
                "OPERATOR",
            }
            assert {"200", "400", "401", "403", "429", "503"} <= operation["responses"].keys()
            assert operation["description"]
            ids.add(operation["operationId"])
    assert len(ids) == sum(len(item) for item in committed["paths"].values())


def test_the_document_is_openapi(committed: Any) -> None:
    errors = [error.message for error in OpenAPIV31SpecValidator(committed).iter_errors()]
    assert errors == []


def test_every_field_has_words(committed: Any) -> None:
    for name, schema in committed["components"]["schemas"].items():
        for field, inner in schema.get("properties", {}).items():
            assert "description" in inner or name == "Problem", (name, field)


METHODS = [method for package in (GATEWAY, DATASHARE, SCORING) for method in exposed(package)]
BINDINGS = Table(METHODS).bindings


@pytest.mark.parametrize("binding", BINDINGS, ids=lambda binding: binding.method.name)
def test_examples_are_messages_that_keep_their_rules(committed: Any, binding: Binding) -> None:
    operation = committed["paths"][path_of(binding)][binding.verb.lower()]
    if binding.has_body:
        media = operation["requestBody"]["content"]["application/json"]
        message = from_json(binding.method.input_type, orjson.dumps(media["example"]))
        examples = [
            each["example"] for each in operation.get("parameters", []) if each.get("in") == "path"
        ]
        values = dict(zip(binding.path.variables, examples, strict=True))
        put_values(message, values, "the path")
        validate(message)
    if not binding.streams:
        media = operation["responses"]["200"]["content"]["application/json"]
        from_json(binding.method.output_type, orjson.dumps(media["example"]))


def test_every_way_to_prove_who_calls_is_told(committed: Any) -> None:
    schemes = committed["components"]["securitySchemes"]
    assert [scheme["type"] for scheme in schemes.values()] == [
        "mutualTLS",
        "oauth2",
        "openIdConnect",
        "http",
    ]
    assert set().union(*committed["security"]) == schemes.keys()


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
    fetch = committed["paths"]["/v1/subjects/{subject_id}/summary:fetch"]["post"]
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
