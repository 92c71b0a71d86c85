import contextlib
from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from puhui.common.v1 import types_pb2
from puhui.datashare.v1 import consents_pb2, participants_pb2, records_pb2
from puhui.scoring.v1 import decisions_pb2, scoring_pb2
from services.gateway.http.messages import from_json, from_query, put_values, to_json
from services.kit.errors import InvalidArgumentError

SCORE = scoring_pb2.ScoreRequest.DESCRIPTOR
SUBMIT = records_pb2.SubmitRecordsRequest.DESCRIPTOR
CONSENTS = consents_pb2.ListConsentsRequest.DESCRIPTOR
REGISTER = participants_pb2.RegisterParticipantRequest.DESCRIPTOR
REQUEST = consents_pb2.RequestConsentRequest.DESCRIPTOR


def problems(kind: Any, value: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidArgumentError) as refusal:
        from_json(kind, orjson.dumps(value))
    assert refusal.value.reason == "FIELD_INVALID"
    return [(each.field, each.problem) for each in refusal.value.fields]


def test_plain_fields_come_out_even_when_empty_and_absent_ones_do_not() -> None:
    value = scoring_pb2.FeatureValue(name="x")
    out = orjson.loads(to_json(value))
    assert out == {
        "name": "x",
        "missing": "COVERAGE_STATE_UNSPECIFIED",
        "unit": "",
        "hidden": False,
    }
    value.value = 0
    assert orjson.loads(to_json(value))["value"] == 0


def test_large_integers_are_text_and_names_are_in_camel_case() -> None:
    ready = records_pb2.PushReady(last_sequence=2**60)
    out = orjson.loads(to_json(ready))
    assert out == {"lastSequence": str(2**60), "lastSha256": "", "chainSha256": ""}


def test_a_refusal_inside_a_message_shows_its_details() -> None:
    response = scoring_pb2.BatchScoreResponse(index=3)
    json_format.ParseDict(
        {
            "code": 9,
            "message": "no",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "CONSENT_EXPIRED",
                    "domain": "puhui",
                }
            ],
        },
        response.refused,
    )
    out = orjson.loads(to_json(response))
    assert out["refused"]["details"][0]["reason"] == "CONSENT_EXPIRED"


def test_nothing_is_an_empty_message() -> None:
    assert from_json(SCORE, b"") == scoring_pb2.ScoreRequest()


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (SCORE, {"order": 5}, [("order", "must be an object")]),
        (
            SCORE,
            {"ordre": {}},
            [("ordre", "is no field of puhui.scoring.v1.ScoreRequest: its fields are order")],
        ),
        (SCORE, {"order": {"officer": {"nam": "x"}}}, [("order.officer.nam", None)]),
        (SCORE, {"order": {"purpose": 1}}, [("order.purpose", "must be text")]),
        (SCORE, {"\u0000": 1}, [("(not a name)", None)]),
        (SCORE, {"a b": 1}, [("(not a name)", None)]),
        (SUBMIT, {"historical": "yes"}, [("historical", "must be true or false")]),
        (SUBMIT, {"records": {}}, [("records", "must be a list")]),
        (SUBMIT, {"records": 5}, [("records", "must be a list")]),
        (SUBMIT, {"records": [{}, None]}, [("records[1]", "must be an object")]),
        (SUBMIT, {"records": [{"version": -1}]}, [("records[0].version", None)]),
        (SUBMIT, {"records": [{"version": 2**63}]}, [("records[0].version", None)]),
        (SUBMIT, {"records": [{"version": 1.5}]}, [("records[0].version", None)]),
        (SUBMIT, {"records": [{"recordType": ["x"]}]}, [("records[0].record_type", None)]),
        (SUBMIT, {"records": [{"obtainedAt": 5}]}, [("records[0].obtained_at", None)]),
        (
            SUBMIT,
            {"records": [{"status": "GONE"}]},
            [
                (
                    "records[0].status",
                    "must be one of RECORD_STATUS_UNSPECIFIED, RECORD_STATUS_ACTIVE, "
                    "RECORD_STATUS_RETRACTED",
                )
            ],
        ),
        (
            SUBMIT,
            {"records": [{"grant": {}, "socialInsurance": {}}]},
            [("records[0].social_insurance", "excludes grant: give only one")],
        ),
        (
            SUBMIT,
            {"records": [{"date": {"year": "x", "day": []}}]},
            [("records[0].date.year", None), ("records[0].date.day", None)],
        ),
        (REGISTER, {"subject": {"uscc": "a", "subjectId": "b"}}, [("subject.subject_id", None)]),
    ],
)
def test_what_does_not_fit_is_named(
    kind: Any, value: Any, expected: list[tuple[str, str | None]]
) -> None:
    found = problems(kind, value)
    assert [field for field, _ in found] == [field for field, _ in expected]
    for (_, problem), (_, wanted) in zip(found, expected, strict=True):
        assert wanted is None or problem == wanted


def test_so_many_problems_are_named_and_no_more() -> None:
    assert len(problems(SUBMIT, {"records": [{"version": "x"}] * 1000})) == 20


def test_problems_hold_no_value() -> None:
    secret = "91110108MA01ABCD0X"
    values = {"version": secret, "obtainedAt": secret, "status": secret, "date": secret}
    for field, problem in problems(SUBMIT, {"records": [values]}):
        assert secret not in field + problem


NAMES = ["records", "subject", "date", "year", "period", "from", "obtainedAt", "status", "grant"]
NAMES += ["vatInvoice", "amount", "units", "uscc", "historical", "@type", "x"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_a_message_or_is_refused(value: Any) -> None:
    with contextlib.suppress(InvalidArgumentError):
        assert isinstance(from_json(SUBMIT, orjson.dumps(value)), records_pb2.SubmitRecordsRequest)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_are_refused(body: bytes) -> None:
    with contextlib.suppress(InvalidArgumentError):
        assert isinstance(from_json(SUBMIT, body), records_pb2.SubmitRecordsRequest)


# Queries


def test_a_query_reaches_nested_repeated_and_typed_fields() -> None:
    message = from_query(
        REQUEST,
        [
            ("requestId", "r"),
            ("subject.subject_id", "sub_1"),
            ("terms.recordTypes", "a"),
            ("terms.record_types", "b"),
            ("terms.dataPeriod.from.year", "2025"),
            ("terms.contentLevel", "CONTENT_LEVEL_SUMMARY"),
            ("terms.expiresAt", "2026-01-31T08:00:00Z"),
        ],
    )
    assert isinstance(message, consents_pb2.RequestConsentRequest)
    assert list(message.terms.record_types) == ["a", "b"]
    assert getattr(message.terms.data_period, "from").year == 2025
    assert message.terms.content_level == types_pb2.CONTENT_LEVEL_SUMMARY
    assert message.terms.expires_at.seconds == 1769846400


def test_booleans_and_numbers_of_enums_are_taken_from_a_query() -> None:
    message = from_query(REGISTER, [("historicalSource", "true"), ("role", "3")])
    assert isinstance(message, participants_pb2.RegisterParticipantRequest)
    assert message.historical_source
    assert message.role == 3


@pytest.mark.parametrize(
    ("kind", "query", "field"),
    [
        (CONSENTS, [("pageSize", "x")], "page_size"),
        (CONSENTS, [("pageSize", "1"), ("page_size", "1")], "page_size"),
        (CONSENTS, [("nothing", "1")], "nothing"),
        (CONSENTS, [("pageSize.x", "1")], "pageSize.x"),
        (REGISTER, [("historicalSource", "yes")], "historical_source"),
        (REGISTER, [("subject", "sub_1")], "subject"),
        (REGISTER, [("subject", "s"), ("subject.uscc", "u")], "subject"),
        (REGISTER, [("subject.uscc", "u"), ("subject", "s")], "subject"),
        (REQUEST, [("terms.expiresAt.seconds", "5")], "terms.expiresAt.seconds"),
        (REQUEST, [("terms.expiresAt", "soon")], "terms.expires_at"),
    ],
)
def test_a_wrong_parameter_is_named(kind: Any, query: list[tuple[str, str]], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        from_query(kind, query)
    assert [each.field for each in refusal.value.fields] == [field]


# Variables of a path


def test_a_variable_is_put_into_its_field_unless_the_body_says_another() -> None:
    message = decisions_pb2.GetDecisionRequest()
    put_values(message, {"decision_id": "dec_1"}, "the path")
    put_values(message, {"decision_id": "dec_1"}, "the path")
    assert message.decision_id == "dec_1"
    with pytest.raises(InvalidArgumentError) as refusal:
        put_values(message, {"decision_id": "dec_2"}, "the path")
    assert refusal.value.fields[0].field == "decision_id"
