import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date

from puhui.common.v1 import access_pb2, types_pb2
from puhui.datashare.v1 import (
    accesses_pb2,
    catalogue_pb2,
    consents_pb2,
    participants_pb2,
    receipts_pb2,
    subjects_pb2,
)
from puhui.gateway.v1 import gateway_pb2
from puhui.scoring.v1 import decisions_pb2, models_pb2, scoring_pb2
from puhui_client import (
    Client,
    ConsentError,
    DeadlineExceededError,
    NotFoundError,
    PuhuiError,
    UnavailableError,
    score_order,
)
from puhui_client.signing import SigningError, new_key
from tests.fakes.platform import UNAVAILABLE, FakePlatform, refusal

UNTIL = datetime(2027, 1, 1, tzinfo=UTC)
CONSENT = consents_pb2.Consent(consent_id="con_1", canonical=b'{"a":1}')
DECISION = scoring_pb2.ScoreResponse(decision=scoring_pb2.Decision(decision_id="dec_1", score=600))


async def collect(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


async def test_every_call_carries_the_key_and_a_trace(
    client: Client, platform: FakePlatform
) -> None:
    platform.answer("WhoAmI", gateway_pb2.WhoAmIResponse(participant_id="p"))
    await client.whoami()
    await client.whoami()
    first, second = platform.calls
    assert first.metadata["authorization"] == "Bearer key_1.secret"
    version, trace, span, flags = str(first.metadata["traceparent"]).split("-")
    assert (version, len(trace), len(span), flags) == ("00", 32, 16, "01")
    assert first.metadata["traceparent"] != second.metadata["traceparent"]


async def test_a_request_for_consent(client: Client, platform: FakePlatform) -> None:
    platform.answer("RequestConsent", consents_pb2.RequestConsentResponse(consent=CONSENT))
    consent = await client.request_consent(
        subject_id="sub_1",
        purpose="credit_application",
        providers=["par_tax"],
        record_types=["vat_invoice", "tax_filing"],
        data_from=date(2023, 1, 1),
        data_to=date(2024, 12, 31),
        expires_at=UNTIL,
        officer="Wang",
        file_reference="A-17",
        request_id="req_1",
    )
    assert consent == CONSENT
    (request,) = platform.requests("RequestConsent")
    assert request == consents_pb2.RequestConsentRequest(
        request_id="req_1",
        subject=types_pb2.SubjectRef(subject_id="sub_1"),
        terms=consents_pb2.ConsentTerms(
            purpose="credit_application",
            provider_ids=["par_tax"],
            record_types=["vat_invoice", "tax_filing"],
            content_level=types_pb2.CONTENT_LEVEL_SUMMARY,
            data_period=types_pb2.DatePeriod(
                **{
                    "from": Date(year=2023, month=1, day=1),
                    "to": Date(year=2024, month=12, day=31),
                }
            ),
            expires_at=Timestamp(seconds=int(UNTIL.timestamp())),
        ),
        officer=types_pb2.Officer(name="Wang", file_reference="A-17"),
    )


async def test_a_request_with_all_terms(client: Client, platform: FakePlatform) -> None:
    platform.answer("RequestConsent", consents_pb2.RequestConsentResponse(consent=CONSENT))
    asked: dict[str, Any] = {
        "subject_id": "sub_1",
        "purpose": "credit_application",
        "providers": ["par_tax"],
        "record_types": ["vat_invoice"],
        "data_from": date(2023, 1, 1),
        "data_to": date(2024, 12, 31),
        "expires_at": UNTIL,
        "officer": "Wang",
        "file_reference": "A-17",
    }
    await client.request_consent(
        **asked,
        fields={"vat_invoice": ["output_net"]},
        fetches=(4, "MONTH"),
        store_days=0,
        automated_decision=True,
        onward_recipients=["par_2"],
        notice_language="en",
        supersedes="con_0",
    )
    await client.request_consent(**asked, once=True, score=False)
    full, once = platform.requests("RequestConsent")
    terms = full.terms
    assert terms.mode == consents_pb2.CONSENT_MODE_STORE
    assert terms.fields[0] == consents_pb2.FieldSelection(
        record_type="vat_invoice", names=["output_net"]
    )
    assert terms.fetch_limit.periodic == consents_pb2.Frequency(
        times=4, unit=consents_pb2.FREQUENCY_UNIT_MONTH
    )
    assert terms.derived_use == consents_pb2.DerivedUse(score=True, automated_decision=True)
    assert (list(terms.onward_recipient_ids), terms.notice_language) == (["par_2"], "en")
    assert full.supersedes_consent_id == "con_0"
    assert once.terms.fetch_limit.WhichOneof("limit") == "one_time"
    assert once.terms.HasField("derived_use")
    assert not once.terms.derived_use.score
    with pytest.raises(ValueError, match="exclude each other"):
        await client.request_consent(**asked, once=True, fetches=(1, "DAY"))


async def test_pausing_duties_and_attesting(client: Client, platform: FakePlatform) -> None:
    platform.answer("PauseConsent", consents_pb2.PauseConsentResponse(consent=CONSENT))
    platform.answer("ResumeConsent", consents_pb2.ResumeConsentResponse(consent=CONSENT))
    assert await client.pause_consent("con_1", note="audit") == CONSENT
    assert await client.resume_consent("con_1") == CONSENT
    assert platform.requests("PauseConsent")[0].note == "audit"
    duty = consents_pb2.ErasureDuty(consent_id="con_1")

    def page(
        request: consents_pb2.ListErasureDutiesRequest,
    ) -> consents_pb2.ListErasureDutiesResponse:
        more = "" if request.page_token else "2"
        return consents_pb2.ListErasureDutiesResponse(duties=[duty], next_page_token=more)

    platform.answer("ListErasureDuties", page)
    assert await collect(client.erasure_duties(overdue=True)) == [duty, duty]
    assert all(request.overdue for request in platform.requests("ListErasureDuties"))
    platform.answer("AttestErasure", consents_pb2.AttestErasureResponse(duty=duty))
    said = await client.attest_erasure("con_1", "deleted", officer="Wang", file_reference="A-17")
    assert said == duty
    (request,) = platform.requests("AttestErasure")
    assert request.officer == types_pb2.Officer(name="Wang", file_reference="A-17")
    assert request.statement == "deleted"


async def test_signatures_of_the_platform(client: Client, platform: FakePlatform) -> None:
    ours, other = new_key(), new_key()
    known = receipts_pb2.PlatformKey(key_id=ours.key_id, public_jwk=ours.public.jwk)
    platform.answer("ListPlatformKeys", receipts_pb2.ListPlatformKeysResponse(keys=[known]))
    assert await client.verify_platform_signature(ours.sign(b"{}"), b"{}") == known
    for jws, told in (
        (other.sign(b"{}"), "no key of the platform"),
        (ours.sign(b"[]"), "not by this key over this content"),
        ("nonsense", "no key of the platform"),
    ):
        with pytest.raises(SigningError, match=told):
            await client.verify_platform_signature(jws, b"{}")


async def test_a_grant_that_is_signed(client: Client, platform: FakePlatform) -> None:
    platform.answer("GrantConsent", consents_pb2.GrantConsentResponse(consent=CONSENT))
    key = new_key()
    await client.grant_consent(CONSENT, signing_key=key)
    (request,) = platform.requests("GrantConsent")
    (signature,) = request.signatures
    key.public.verify(signature.jws, CONSENT.canonical)


async def test_a_grant_names_the_hash_of_what_was_read(
    client: Client, platform: FakePlatform
) -> None:
    platform.answer("GrantConsent", consents_pb2.GrantConsentResponse(consent=CONSENT))
    await client.grant_consent(CONSENT)
    (request,) = platform.requests("GrantConsent")
    assert request.canonical_sha256 == hashlib.sha256(b'{"a":1}').digest()
    assert request.request_id


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("RejectConsent", lambda c: c.reject_consent("con_1", note="no")),
        ("WithdrawConsent", lambda c: c.withdraw_consent("con_1", note="no")),
        ("RevokeConsent", lambda c: c.revoke_consent("con_1", note="no")),
    ],
)
async def test_consents_end(
    client: Client,
    platform: FakePlatform,
    method: str,
    call: Callable[[Client], Awaitable[consents_pb2.Consent]],
) -> None:
    answer = getattr(consents_pb2, f"{method}Response")
    platform.answer(method, answer(consent=CONSENT))
    assert await call(client) == CONSENT
    (request,) = platform.requests(method)
    assert (request.consent_id, request.note) == ("con_1", "no")
    assert request.request_id


async def test_lists_are_gone_through_page_by_page(client: Client, platform: FakePlatform) -> None:
    def page(request: consents_pb2.ListConsentsRequest) -> consents_pb2.ListConsentsResponse:
        number = int(request.page_token or 0)
        return consents_pb2.ListConsentsResponse(
            consents=[consents_pb2.Consent(consent_id=f"con_{number}")],
            next_page_token=str(number + 1) if number < 2 else "",
        )

    platform.answer("ListConsents", page)
    consents = await collect(client.list_consents(state="ACTIVE"))
    assert [consent.consent_id for consent in consents] == ["con_0", "con_1", "con_2"]
    assert {r.state for r in platform.requests("ListConsents")} == {
        consents_pb2.CONSENT_STATE_ACTIVE
    }


async def test_a_score(client: Client, platform: FakePlatform) -> None:
    platform.answer("Score", DECISION)
    decision = await client.score(
        "sub_1",
        "con_1",
        as_of=datetime(2024, 1, 1, tzinfo=UTC),
        officer="007",
        file_reference="loan 4",
    )
    assert decision.score == 600
    order = platform.requests("Score")[0].order
    assert (order.subject_id, order.consent_id) == ("sub_1", "con_1")
    assert order.purpose == "credit_application"
    assert order.as_of.seconds == 1704067200
    assert (order.officer.name, order.officer.file_reference) == ("007", "loan 4")


async def test_a_refused_score_says_why(client: Client, platform: FakePlatform) -> None:
    platform.answer("Score", refusal("FAILED_PRECONDITION", "CONSENT_WITHDRAWN", "ask again"))
    with pytest.raises(ConsentError) as caught:
        await client.score("sub_1", "con_1", officer="007", file_reference="loan 4")
    assert caught.value.reason == "CONSENT_WITHDRAWN"
    assert str(caught.value) == "CONSENT_WITHDRAWN: ask again"
    assert caught.value.trace_id in str(platform.calls[0].metadata["traceparent"])
    assert len(platform.calls) == 1


async def test_writes_are_repeated_with_the_same_request_id(
    client: Client, platform: FakePlatform
) -> None:
    platform.answer("Score", UNAVAILABLE, UNAVAILABLE, DECISION)
    await client.score("sub_1", "con_1", officer="007", file_reference="loan 4")
    ids = {request.order.request_id for request in platform.requests("Score")}
    assert len(platform.calls) == 3
    assert len(ids) == 1


async def test_an_overload_is_waited_out(client: Client, platform: FakePlatform) -> None:
    overload = refusal("RESOURCE_EXHAUSTED", "OVERLOADED", retry_after=timedelta(milliseconds=50))
    platform.answer("Score", overload, DECISION)
    await client.score("sub_1", "con_1", officer="007", file_reference="loan 4")
    assert len(platform.calls) == 2


async def test_an_overload_beyond_the_deadline_is_told(
    client: Client, platform: FakePlatform
) -> None:
    platform.answer(
        "Score", refusal("RESOURCE_EXHAUSTED", "OVERLOADED", retry_after=timedelta(minutes=1))
    )
    with pytest.raises(PuhuiError) as caught:
        await client.score("sub_1", "con_1", officer="007", file_reference="loan 4")
    assert caught.value.retry_after == timedelta(minutes=1)


async def test_a_key_is_never_asked_for_twice(client: Client, platform: FakePlatform) -> None:
    platform.answer("IssueKey", UNAVAILABLE)
    with pytest.raises(UnavailableError):
        await client.issue_key("par_1")
    assert len(platform.calls) == 1


async def test_attempts_end(client: Client, platform: FakePlatform) -> None:
    platform.answer("WhoAmI", UNAVAILABLE)
    with pytest.raises(UnavailableError):
        await client.whoami()
    assert len(platform.calls) == 5


async def test_nobody_there() -> None:
    async with Client("127.0.0.1:1", "k.s", timeout=0.3) as client:
        with pytest.raises((UnavailableError, DeadlineExceededError)):
            await client.whoami()
        with pytest.raises(UnavailableError, match="nobody answers"):
            await client.ready(0.1)


async def test_ready(client: Client) -> None:
    await client.ready(5)


async def test_a_portfolio(client: Client, platform: FakePlatform) -> None:
    def results(request: scoring_pb2.BatchScoreRequest) -> list[scoring_pb2.BatchScoreResponse]:
        return [
            scoring_pb2.BatchScoreResponse(
                index=1, refused=refusal("FAILED_PRECONDITION", "CONSENT_EXPIRED")
            ),
            scoring_pb2.BatchScoreResponse(index=0, decision=DECISION.decision),
        ]

    platform.answer("BatchScore", results)
    orders = [
        score_order("sub_0", "con_0", officer="007", file_reference="loan 4"),
        score_order("sub_1", "con_1", officer="007", file_reference="loan 4"),
    ]
    refused, scored = await collect(client.batch_score(orders))
    assert (scored.index, scored.order, scored.error) == (0, orders[0], None)
    assert scored.decision.score == 600
    assert (refused.index, refused.decision) == (1, None)
    assert isinstance(refused.error, ConsentError)


async def test_a_portfolio_goes_on_after_a_drop(client: Client, platform: FakePlatform) -> None:
    orders = [
        score_order(f"sub_{n}", "con", officer="007", file_reference="loan 4") for n in range(6)
    ]

    def answers(count: int) -> Callable[[scoring_pb2.BatchScoreRequest], list[Any]]:
        def some(request: scoring_pb2.BatchScoreRequest) -> list[Any]:
            decided = [
                scoring_pb2.BatchScoreResponse(
                    index=index, decision=scoring_pb2.Decision(subject_id=order.subject_id)
                )
                for index, order in reversed(list(enumerate(request.orders)))
            ]
            return decided[:count] + ([UNAVAILABLE] if count < len(decided) else [])

        return some

    platform.answer("BatchScore", answers(2), answers(3), answers(9))
    results = await collect(client.batch_score(orders))
    assert sorted(result.index for result in results) == list(range(6))
    assert all(result.decision.subject_id == f"sub_{result.index}" for result in results)
    assert [len(request.orders) for request in platform.requests("BatchScore")] == [6, 4, 1]


async def test_a_portfolio_that_is_refused_as_a_whole(
    client: Client, platform: FakePlatform
) -> None:
    platform.answer("BatchScore", lambda _: [refusal("PERMISSION_DENIED", "ROLE_NOT_ALLOWED")])
    with pytest.raises(PuhuiError, match="ROLE_NOT_ALLOWED"):
        await collect(
            client.batch_score([score_order("sub", "con", officer="007", file_reference="loan 4")])
        )


async def test_summaries_decisions_and_accesses(client: Client, platform: FakePlatform) -> None:
    platform.answer("ResolveSubject", subjects_pb2.ResolveSubjectResponse(subject_id="sub_1"))
    platform.answer("FetchSummary", accesses_pb2.FetchSummaryResponse(access_id="acc_1"))
    platform.answer(
        "ListAccesses",
        accesses_pb2.ListAccessesResponse(accesses=[accesses_pb2.Access(access_id="acc_1")]),
    )
    platform.answer("GetDecision", decisions_pb2.GetDecisionResponse(reproduced=True))
    platform.answer(
        "ListDecisions", decisions_pb2.ListDecisionsResponse(decisions=[DECISION.decision])
    )
    assert await client.resolve_subject("91110000MA00000077") == "sub_1"
    fetched = await client.fetch_summary(
        "sub_1",
        "con_1",
        officer="007",
        file_reference="loan 4",
        purpose="portfolio_review",
        record_types=["registration"],
        period=(date(2024, 1, 1), date(2024, 1, 31)),
    )
    assert fetched.access_id == "acc_1"
    fetch = platform.requests("FetchSummary")[0].fetch
    assert (fetch.purpose, list(fetch.record_types)) == ("portfolio_review", ["registration"])
    assert fetch.period.to.day == 31
    assert (fetch.officer.name, fetch.officer.file_reference) == ("007", "loan 4")
    assert [a.access_id for a in await collect(client.accesses(subject_id="sub_1"))] == ["acc_1"]
    assert (await client.get_decision("dec_1", use="DISPUTE")).reproduced
    assert platform.requests("GetDecision")[0].use == decisions_pb2.DECISION_USE_DISPUTE
    assert len(await collect(client.decisions())) == 1


async def test_models_and_the_catalogue(client: Client, platform: FakePlatform) -> None:
    model = models_pb2.Model(ref=scoring_pb2.ModelRef(version="m1"))
    policy = catalogue_pb2.RecordTypePolicy(record_type="grant")
    purpose = catalogue_pb2.Purpose(code="credit_application", max_days=365)
    platform.answer("ListModels", models_pb2.ListModelsResponse(models=[model]))
    platform.answer("GetModel", models_pb2.GetModelResponse(model=model))
    platform.answer("ListRecordTypes", catalogue_pb2.ListRecordTypesResponse(types=[policy]))
    platform.answer("GetRecordType", catalogue_pb2.GetRecordTypeResponse(type=policy))
    platform.answer("ListPurposes", catalogue_pb2.ListPurposesResponse(purposes=[purpose]))
    assert await collect(client.models()) == [model]
    assert await client.get_model("m1") == model
    assert await collect(client.record_types()) == [policy]
    assert await client.record_type("grant") == policy
    assert await collect(client.purposes()) == [purpose]


async def test_the_operator(client: Client, platform: FakePlatform) -> None:
    participant = participants_pb2.Participant(participant_id="par_1")
    platform.answer(
        "RegisterParticipant", participants_pb2.RegisterParticipantResponse(participant=participant)
    )
    platform.answer("SetStanding", participants_pb2.SetStandingResponse(participant=participant))
    platform.answer(
        "ListParticipants", participants_pb2.ListParticipantsResponse(participants=[participant])
    )
    platform.answer("IssueKey", participants_pb2.IssueKeyResponse(key_id="k", api_key="k.s"))
    platform.answer(
        "RevokeKey", participants_pb2.RevokeKeyResponse(revoked_at=Timestamp(seconds=1704067200))
    )
    await client.register_participant("FIRM", "firm", uscc="91110000MA00000077")
    await client.register_participant("PROVIDER", "tax", provider_kind="tax")
    firm, provider = platform.requests("RegisterParticipant")
    assert (firm.role, firm.subject.uscc) == (access_pb2.ROLE_FIRM, "91110000MA00000077")
    assert (provider.provider_kind, provider.HasField("subject")) == ("tax", False)
    await client.set_standing("par_1", "SUSPENDED")
    assert platform.requests("SetStanding")[0].standing == participants_pb2.STANDING_SUSPENDED
    assert await collect(client.participants(role="BANK")) == [participant]
    assert platform.requests("ListParticipants")[0].role == access_pb2.ROLE_BANK
    assert (await client.issue_key("par_1")).api_key == "k.s"
    assert await client.revoke_key("k") == datetime(2024, 1, 1, tzinfo=UTC)


async def test_what_does_not_exist(client: Client, platform: FakePlatform) -> None:
    platform.answer("GetConsent", refusal("NOT_FOUND", "NOT_FOUND"))
    with pytest.raises(NotFoundError):
        await client.get_consent("con_9")


async def test_one_small_batch(client: Client) -> None:
    ack = await client.submit([])
    assert list(ack.accepted) == []
