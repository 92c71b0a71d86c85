import pytest

from puhui.datashare.v1 import accesses_pb2
from services.gateway.http.paths import PathTemplate, Table, field_at
from services.gateway.routes import DATASHARE, GATEWAY, SCORING, exposed


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("/v1/consents", "/v1/consents", {}),
        ("/v1/consents", "/v1/consents/", None),
        ("/v1/consents:request", "/v1/consents:request", {}),
        ("/v1/consents/{id}", "/v1/consents/con_1", {"id": "con_1"}),
        ("/v1/consents/{id}", "/v1/consents/", None),
        ("/v1/consents/{id}", "/v1/consents/a/b", None),
        ("/v1/consents/{id}", "/v1/consents/a%2Fb", {"id": "a/b"}),
        ("/v1/consents/{id}", "/v1/consents/a:grant", None),
        ("/v1/consents/{id}", "/v1/consents/a%3Agrant", {"id": "a:grant"}),
        ("/v1/consents/{id}", "/v1/consents/%E6%99%AE", {"id": "普"}),
        ("/v1/consents/{id}", "/v1/consents/%FF", None),
        ("/v1/consents/{id}:grant", "/v1/consents/a:grant", {"id": "a"}),
        ("/v1/consents/{id}:grant", "/v1/consents/a:grant:grant", None),
        ("/v1/s/{f.subject_id}/x:y", "/v1/s/sub_1/x:y", {"f.subject_id": "sub_1"}),
        ("/v1/{a}/{b}", "/v1/1/2", {"a": "1", "b": "2"}),
        ("/v1.x", "/v1ax", None),
    ],
)
def test_a_path_matches_its_template(
    template: str, path: str, values: dict[str, str] | None
) -> None:
    assert PathTemplate(template).match(path) == values


@pytest.mark.parametrize("template", ["/v1/{name=a/*}", "/v1/*", "/v1/**", "v1", "/v1/{A}", "/{a"])
def test_other_syntax_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="not known here"):
        PathTemplate(template)


def test_every_method_of_one_request_has_one_operation() -> None:
    methods = [method for package in (GATEWAY, DATASHARE, SCORING) for method in exposed(package)]
    bound = {binding.method.full_name for binding in Table(methods).bindings}
    assert bound == {method.full_name for method in methods if not method.client_streaming}


def test_the_same_verb_and_path_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="the same HTTP verb"):
        Table([*exposed(GATEWAY), *exposed(GATEWAY)])


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("fetch.subject_id", "subject_id"),
        ("fetch.subjectId", "subject_id"),
        ("fetch.period.from.year", "year"),
        ("fetch.record_types", "record_types"),
        ("fetch.record_types.x", None),
        ("fetch.subject_id.x", None),
        ("fetch..x", None),
        ("", None),
        ("nothing", None),
    ],
)
def test_a_field_is_found_at_its_path(path: str, found: str | None) -> None:
    field = field_at(accesses_pb2.FetchSummaryRequest.DESCRIPTOR, path)
    assert (field.name if field else None) == found
