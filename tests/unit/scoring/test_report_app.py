"""Making a report: what is asked first, what is done once, how many pages are written at a time."""

import asyncio
import datetime as dt
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pytest
from rfc8785 import dumps as canonical

from services.kit.errors import FailedPreconditionError, PuhuiError
from services.kit.identity import Caller
from services.scoring.decisions.app import OrderCall, Released
from services.scoring.decisions.domain import Decision, Order, Referred
from services.scoring.models.signing import ModelKey, verify
from services.scoring.reports.app import MakeReport, Report
from services.scoring.reports.content import CONTENT
from services.scoring.reports.domain import Format, Json, Language, Proof, Scale
from services.scoring.reports.scales import ModelScales
from tests.fakes.decisions import AddingModel, FakeModels
from tests.fakes.reports import AS_OF, SCALE, decision, papers, summary

ORDER = Order("r1", "sub_01K7A2V0XWQ8", "con_1", "credit_application", officer="王")
FOUND = summary()
KEY = ModelKey.new()


def call() -> OrderCall:
    return OrderCall(ORDER, Caller("par_bank", "BANK"), "token", 1e9, "")


def decided() -> Decision:
    model = AddingModel("v1")
    vector = model.features(FOUND, AS_OF)
    (outcome,) = model.score([vector])
    return Decision(
        decision_id="dec_01K7GZ4M7C2R",
        caller_id="par_bank",
        order=ORDER,
        access_id="acc_01K7GZ4M6Q9T",
        as_of=AS_OF,
        decided_at=AS_OF,
        model_version="v1",
        model_class="SIMULATED",
        inputs=model.inputs,
        features=vector,
        coverage={},
        notices=(),
        outcome=outcome,
    )


@dataclass
class Scored:
    """`app.Scored` that answers with one thing."""

    answer: Referred | PuhuiError | None = None
    calls: list[OrderCall] = field(default_factory=list)

    async def score_and_show(self, call: OrderCall) -> tuple[Decision, Released] | Referred:
        self.calls.append(call)
        if isinstance(self.answer, PuhuiError):
            raise self.answer
        if self.answer is not None:
            return self.answer
        return decided(), Released("acc_01K7GZ4M6Q9T", AS_OF, FOUND, papers=papers(FOUND))


class Scales:
    """`app.Scales` that knows every model."""

    async def of(self, version: str) -> Scale | None:
        return SCALE


class Names:
    """`app.Names` that lists one participant."""

    async def of(self, participant_ids: Collection[str]) -> Mapping[str, str]:
        return {"par_bank": "Bank of Trial"} if "par_bank" in participant_ids else {}


@dataclass
class Pages:
    """`app.Pages` that counts who writes at the same time."""

    refuses: PuhuiError | None = None
    running: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, format_: Format) -> None:
        if self.refuses is not None:
            raise self.refuses

    def write(
        self,
        format_: Format,
        language: Language,
        document: Json,
        canonical: bytes,
        proof: Proof,
        made_at: dt.datetime,
    ) -> bytes:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        threading.Event().wait(0.02)
        with self.lock:
            self.running -= 1
        return f"{format_} {language} {proof.digest}".encode()


def maker(scored: Scored, pages: Pages, at_once: int = 2) -> MakeReport:
    return MakeReport(
        scoring=scored,
        scales=Scales(),
        names=Names(),
        told=lambda made: decision(FOUND) | {"decision_id": made.decision_id},
        content=CONTENT,
        canonical=canonical,
        signer=KEY,
        pages=pages,
        at_once=at_once,
    )


async def test_what_is_handed_over_is_signed_as_a_file_and_as_a_document() -> None:
    scored = Scored()
    made = await maker(scored, Pages())(call(), Format.HTML, Language.EN)
    assert isinstance(made, Report)
    assert verify(made.content_jws, made.content) == KEY.key_id
    assert made.content.decode() == f"HTML EN {made.document_sha256.hex()}"
    assert [each.with_papers for each in scored.calls] == [True]
    plain = await maker(Scored(), Pages())(call(), Format.JSON, Language.ZH)
    assert isinstance(plain, Report)
    assert plain.document_sha256 == made.document_sha256
    assert verify(made.document_jws, plain.content) == KEY.key_id


async def test_nothing_is_read_for_a_page_that_cannot_be_written() -> None:
    scored, refused = Scored(), FailedPreconditionError("REPORT_FONT_MISSING", "no font")
    with pytest.raises(FailedPreconditionError):
        await maker(scored, Pages(refuses=refused))(call(), Format.PDF, Language.ZH)
    assert scored.calls == []


async def test_while_scoring_is_stopped_no_page_is_written() -> None:
    pages, stopped = Pages(), Referred(AS_OF)
    assert await maker(Scored(stopped), pages)(call(), Format.PDF, Language.ZH) is stopped
    assert pages.most == 0


async def test_who_may_not_score_gets_no_report() -> None:
    refused = FailedPreconditionError("DATA_INSUFFICIENT", "no invoices")
    with pytest.raises(FailedPreconditionError) as raised:
        await maker(Scored(refused), Pages())(call(), Format.JSON, Language.ZH)
    assert raised.value is refused


async def test_no_more_pages_are_written_at_a_time_than_may_be() -> None:
    pages = Pages()
    make = maker(Scored(), pages, at_once=2)
    await asyncio.gather(*(make(call(), Format.HTML, Language.EN) for _ in range(6)))
    assert pages.most == 2


async def test_who_goes_away_makes_no_room_for_more_pages_at_a_time() -> None:
    pages = Pages()
    make = maker(Scored(), pages, at_once=1)
    calls = [asyncio.create_task(make(call(), Format.HTML, Language.EN)) for _ in range(5)]
    for each in calls[:-1]:
        await asyncio.sleep(0.005)
        each.cancel()
    assert isinstance(await calls[-1], Report)
    assert pages.most == 1


async def test_a_model_whose_folder_is_gone_has_no_scale() -> None:
    assert await ModelScales(FakeModels({}, None)).of("v0") is None  # type: ignore[arg-type]  # it knows no model
