"""A datashare that names counterparties by a chain of keys, and what it stores of them."""

import random
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from puhui.common.v1 import types_pb2
from puhui.datashare.v1 import payloads_pb2, records_pb2
from services.datashare.counterparties.keyfile import KeyFile
from services.datashare.counterparties.rotation import Progress, Rotation
from services.datashare.deliveries.app import CloseDelivery
from services.datashare.deliveries.wire import Reader, control_fields
from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.domain import Sealer
from services.datashare.mandates.registry import RegisterWatch
from services.datashare.mandates.submissions import LogSubmission
from services.datashare.participants.domain import SubjectName
from services.datashare.quality import tables
from services.datashare.quality.app import Inspect
from services.datashare.quality.examine import PayloadExaminer
from services.datashare.quality.loader import load as load_rules
from services.datashare.records.app import TakeIn
from services.datashare.records.intake import Intake, content_hash
from services.datashare.records.servicer import AT_ONCE, RecordServicer
from services.datashare.records.store import opened, record
from services.datashare.records.tokens import CounterpartyTokens
from services.datashare.reviews.app import DecideReview, Hints
from services.datashare.reviews.domain import ReviewState
from services.datashare.reviews.loader import load as load_weights
from services.datashare.reviews.servicer import AckCodec
from services.datashare.reviews.store import review
from services.datashare.subjects.uscc import make
from services.datashare.summaries.store import counterparty
from services.kit.db import Database, retry_on_conflict
from services.kit.identity import Caller
from services.kit.ids import SequentialIds
from tests.fakes.datashare_records import (
    USCC,
    Datashare,
    day,
    invoice,
    money,
    provider,
    retraction,
)
from tests.fakes.datashare_records import record as row_of

TAX, MARKET, LENDER = "par_tax", "par_market_regulator", "par_lender"
FIRMS = (USCC, make("91", "110105", "MA02WXYR"), make("91", "110106", "MA03WXYR"))
NAME = "北京小桔科技有限公司"
PARTIES = ("甲公司", "Acme", "B and Sons", *FIRMS)
MATCHED, WAITING = "matched", "waiting"


class Named(Datashare):
    """Datashare with inspection and reviews; what guarantees say is sealed.

    Args:
        database: where it keeps everything.
        keys: of counterparties.
        again: it was here before, so its ids are other ones.
    """

    def __init__(self, database: Database, *keys: bytes, again: bool = False) -> None:
        super().__init__(database, sealed=frozenset({"guarantee"}))
        tokens = CounterpartyTokens(*keys)
        # The same in every datashare that takes in the same.
        self.ids = SequentialIds()
        if again:
            for _ in range(10_000):
                self.ids.new("past")
        self.stores.ids = self.ids
        hints = Hints(load_weights(), self.catalogue.on_consent, self.clock, self.ids)
        self.take_in = TakeIn(
            self.transactions,
            retry_on_conflict,
            self.stores.layouts,
            self.catalogue.on_consent,
            hints,
            self.clock,
            RegisterWatch(Sealer(self.ids, bytes)),
            LogSubmission(Sealer(self.ids, bytes)),
        )
        self.servicer = RecordServicer(
            self.take_in,
            CloseDelivery(self.transactions, retry_on_conflict, self.clock),
            Reader(control_fields(self.catalogue)),
            Intake(self.catalogue, tokens),
            self.clock,
            AT_ONCE[database.dialect],
        )
        self.decision: DecideReview[Any] = DecideReview(
            self.transactions, retry_on_conflict, self.take_in.row, AckCodec(), self.clock
        )
        rules = load_rules()
        examiner = PayloadExaminer(tokens, rules.invoice_under_two_firms.number_alone)
        self.inspect = Inspect(self.transactions, examiner, rules, self.clock, self.ids)

    async def supply(self, seed: int = 1) -> None:
        """Take in records of many kinds, have one review decided, look at everything."""
        await self.register(
            provider("tax"), provider("market_regulator"), provider("lender"), provider("court")
        )
        await self.submit(MARKET, registered())
        await self.submit(TAX, *invoices(seed))
        await self.submit(TAX, *corrections(seed))
        await self.submit(LENDER, *guarantees())
        await self.submit(TAX, hinted(MATCHED), hinted(WAITING))
        await self.match(MATCHED)
        self.clock.advance(timedelta(minutes=1))
        await self.inspect()

    async def match(self, record_id: str) -> None:
        """Decide that a row that waits is about the first firm."""
        async with self.transactions.read() as work:
            waiting = await work.reviews.page(TAX, ReviewState.WAITING, "", 10)
        (found,) = [each for each in waiting if each.provider_record_id == record_id]
        key = RequestKey(TAX, f"req_{record_id}", b"f" * 32)
        name = SubjectName(await self.subject_id(), "")
        await self.decision(Caller(TAX, "PROVIDER"), key, found.review_id, name, "")

    async def looked_at_again(self) -> None:
        """Look at every firm and at the circles anew."""
        async with self.transactions.begin() as work:
            await work.quality.enqueue_all(self.clock.now())
            await work.quality.note("circles", None)
        await self.inspect()

    async def stored(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return what is stored that tokens are in or may be, unsealed."""
        async with self.transactions.read() as work:
            conn = work.records._conn
            found: dict[str, list[tuple[Any, ...]]] = {}
            rows = (await conn.execute(sa.select(record).order_by(*record.primary_key))).all()
            keys = await work.seals.keys({row.subject_id for row in rows})
            for row in rows:
                content = opened(row, keys) or b""
                digest = content_hash(row.retracted, row.occurred_from, row.occurred_to, content)
                told = keys[row.subject_id].blind(digest) if row.sealed else digest
                assert bytes(row.content_hash) == told
                found.setdefault("record", []).append((*row[:13], content, row.sealed))
            for table in (counterparty, tables.invoice, tables.guarantee, tables.token):
                query = sa.select(table).order_by(*table.columns)
                found[table.name] = [tuple(row) for row in await conn.execute(query)]
            named = sa.select(review.c.provider_record_id, review.c.state, review.c.content_token)
            found["review"] = [tuple(row) for row in await conn.execute(named.order_by("state"))]
            waiting = await work.reviews.page(TAX, ReviewState.WAITING, "", 10)
            found["waiting"] = [(await work.reviews.row(each.review_id)).row for each in waiting]
            found["finding"] = await self.findings(work)
        return found

    async def findings(self, work: Any) -> list[tuple[Any, ...]]:
        """Return every finding that holds."""
        query = sa.select(tables.finding).where(tables.IS_OPEN).order_by(tables.finding.c.digest)
        rows = await work.records._conn.execute(query)
        return [tuple(row) for row in rows]

    async def summaries(self) -> list[bytes]:
        """Return every firm's summary of its invoices."""
        read = [await self.read("vat_invoice", "guarantee", uscc=firm) for firm in FIRMS]
        return [each.SerializeToString() for series in read for each in series]


def rotation(
    datashare: Datashare,
    url: str,
    files: KeyFile,
    key: bytes,
    progress: Progress = lambda *_: None,
) -> Rotation:
    """Return the command over a datashare; `key` is the one that it would make."""
    return Rotation(
        database=datashare.database,
        url=url,
        vault=datashare.vault,
        catalogue=datashare.catalogue,
        files=files,
        clock=datashare.clock,
        random_bytes=lambda _: key,
        progress=progress,
    )


def registered() -> records_pb2.Record:
    """A registration, by which the first firm is found."""
    return row_of(
        "r1",
        record_type="registration",
        registration=payloads_pb2.Registration(
            name=NAME,
            firm_kind="limited",
            industry="I",
            status="active",
            district="110108",
            capital=money(1_000_000_00),
            founded=day("2019-01-02"),
            legal_representative="李四",
        ),
    )


def invoices(seed: int) -> list[records_pb2.Record]:
    """Invoices of the three firms with the same few parties, some of them with each other's."""
    rng = random.Random(seed)
    rows = []
    for number in range(60):
        party = rng.choice(PARTIES)
        shown = rng.choice([party, f" {party.lower()} ", party.upper()])
        row = invoice(
            f"i{number}",
            rng.randrange(1, 9) * 100_00,
            on=f"2024-0{rng.randrange(1, 6)}-1{rng.randrange(9)}",
            side=rng.choice([1, 2]),
            counterparty=rng.choice([shown, shown, shown, ""]),
            void=rng.random() < 0.1,
            subject=types_pb2.SubjectRef(uscc=rng.choice(FIRMS)),
        )
        row.vat_invoice.code = rng.choice(["", "1100"])
        row.vat_invoice.number = f"00{rng.randrange(8)}"
        rows.append(row)
    return rows


def corrections(seed: int) -> list[records_pb2.Record]:
    """Second versions of some of them: with another party, and taken back."""
    first, second, *_ = invoices(seed)
    corrected = records_pb2.Record()
    corrected.CopyFrom(first)
    corrected.version = 2
    corrected.vat_invoice.counterparty = "乙公司"
    return [corrected, retraction(second, 2)]


def guarantees() -> list[records_pb2.Record]:
    """A circle of the three firms."""
    return [
        row_of(
            f"g{number}",
            subject=types_pb2.SubjectRef(uscc=firm),
            record_type="guarantee",
            guarantee=payloads_pb2.Guarantee(
                contract_number=f"g{number}",
                role="guarantor",
                other_party=FIRMS[(number + 1) % len(FIRMS)],
                creditor="甲公司",
                amount=money(1_000_000_00),
                valid_from=day("2024-01-15"),
                valid_to=day("2030-12-31"),
                kind="joint",
            ),
        )
        for number, firm in enumerate(FIRMS)
    ]


def hinted(record_id: str) -> records_pb2.Record:
    """An invoice that only hints at whom it is about."""
    row = invoice(record_id, hint=records_pb2.SubjectHint(name="小桔科技"))
    row.ClearField("subject")
    return row
