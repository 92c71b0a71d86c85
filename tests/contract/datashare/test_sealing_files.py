"""What the database's files hold, read as whoever steals them would: byte by byte."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from puhui.datashare.v1 import payloads_pb2, records_pb2
from services.datashare.main import MIGRATIONS
from services.datashare.records.store import record as record_table
from services.datashare.sealing.domain import (
    DataKey,
    MissingKekError,
    SealBrokenError,
    Wrapped,
    record_place,
)
from services.datashare.sealing.maintenance import Maintenance
from services.datashare.sealing.shred import shred
from services.datashare.sealing.store import subject_key
from services.datashare.subjects.uscc import make
from services.kit.db import Database
from services.kit.migrations import upgrade
from tests.contract.datashare import previous_version
from tests.fakes.datashare_records import (
    NOW,
    Datashare,
    day,
    filing,
    invoice,
    provider,
    record,
)
from tests.fakes.raw_files import Files
from tests.fakes.sealing import FakeKms

COURT, TAX = provider("court"), provider("tax")
SEALED = frozenset({"court_case"})
FIRMS = [make("91", "110108", f"MAFILE{number:02}".replace("I", "1")) for number in range(8)]
SECRET, PLAIN = "cause that is sealed", "PLAIN-INVOICE-NUMBER"


class RecordingKms(FakeKms):
    """A KMS that remembers what it wrapped, so that it can be looked for."""

    def __init__(self) -> None:
        super().__init__("k1")
        self.wrapped_keys: list[bytes] = []

    async def wrap(self, key: bytes, owner: str) -> Wrapped:
        self.wrapped_keys.append(key)
        return await super().wrap(key, owner)


@pytest.fixture(params=["sqlite", "postgresql"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "sqlite":
        path = tmp_path / "datashare.db"
        return Files(f"sqlite:///{path}", path)
    return Files(request.getfixturevalue("fresh_postgres_url"), None)


def case(uscc: str, version: int = 1) -> records_pb2.Record:
    row = record(
        f"r-{uscc[-6:]}",
        version=version,
        record_type="court_case",
        court_case=payloads_pb2.CourtCase(
            case_number=f"{version}",
            role="defendant",
            stage="filed",
            cause=SECRET,
            filed=day("2024-01-10"),
        ),
    )
    row.subject.uscc = uscc
    return row


async def test_a_new_database_never_holds_a_registration_number_in_plain_text(
    files: Files,
) -> None:
    upgrade(files.url, MIGRATIONS)
    database = Database.open(files.url)
    kms = RecordingKms()
    made = Datashare(database, kms=kms, sealed=SEALED)
    await made.register(COURT, TAX)
    await made.submit(COURT.participant_id, *(case(uscc) for uscc in FIRMS))
    about = invoice(PLAIN, counterparty=FIRMS[1]), filing("f1", "A")
    for row in about:
        row.subject.uscc = FIRMS[0]
    await made.submit(TAX.participant_id, *about)
    await made.submit(COURT.participant_id, case(FIRMS[0], 2))
    for uscc in FIRMS:
        assert len(await made.read("court_case", uscc=uscc)) == 1
    secrets = [SECRET.encode(), *(uscc.encode() for uscc in FIRMS), *kms.wrapped_keys]
    assert len(kms.wrapped_keys) == len(FIRMS)
    # Level 3 and lower is not sealed: that it is found shows that what is looked for would be.
    assert await files.hold(PLAIN.encode(), *secrets) == {PLAIN.encode()}
    await database.close()
    assert await files.hold(PLAIN.encode(), *secrets) == {PLAIN.encode()}


async def test_sealing_takes_the_numbers_of_an_older_database_out_of_its_files(
    files: Files,
) -> None:
    upgrade(files.url, MIGRATIONS, previous_version.INITIAL)
    numbers = [previous_version.code(firm).encode() for firm in range(5)]
    if files.sqlite:
        previous_version.populate_sqlite(files.url.removeprefix("sqlite:///"), firms=5)
    else:
        await previous_version.fill(files.url.replace("+asyncpg", ""), 5)
    upgrade(files.url, MIGRATIONS)
    assert await files.hold(*numbers) == set(numbers)
    database = Database.open(files.url)
    async with database.begin() as conn:
        await conn.execute(sa.text("ANALYZE"))  # statistics are samples of what is there
    made = Datashare(database)
    await Maintenance(database, made.vault, lambda *_: None).seal()
    left = await shred(files.url)
    assert await files.hold(*numbers, log=files.sqlite) == set()
    # What is said to be left is what is left.
    assert bool(left) != files.sqlite
    assert (await files.hold(*numbers) == set()) == files.sqlite
    for firm in range(5):
        assert await made.subject_id(previous_version.code(firm)) == f"sub_{firm}"
    await database.close()


async def test_nothing_that_remains_opens_what_was_erased(files: Files) -> None:
    upgrade(files.url, MIGRATIONS)
    database = Database.open(files.url)
    kms = RecordingKms()
    made = Datashare(database, kms=kms, sealed=SEALED)
    await made.register(COURT)
    await made.submit(COURT.participant_id, *(case(uscc) for uscc in FIRMS))
    gone = await made.subject_id(FIRMS[0])
    wrapped = await _wrapped(database)
    async with database.begin() as conn:
        await conn.execute(sa.text("ANALYZE"))
    async with made.transactions.begin() as work:
        await work.subjects.erase(gone, NOW)
    await shred(files.url)

    # Neither the key nor what it protected is in the tables' files, nor in SQLite's log.
    lost = wrapped.pop(gone)
    secrets = [SECRET.encode(), FIRMS[0].encode(), *kms.wrapped_keys]
    assert await files.hold(lost.content, *secrets, log=files.sqlite) == set()
    others = {each.content for each in wrapped.values()}
    assert await files.hold(*others, log=False) == others

    # With every other data key, nothing of it opens.
    async with database.read() as conn:
        rows = (await conn.execute(sa.select(record_table))).all()
    (sealed,) = (row for row in rows if row.subject_id == gone)
    place = record_place(*(getattr(sealed, column.name) for column in record_table.primary_key))
    keys = await made.vault.open(wrapped)
    assert len(keys) == len(FIRMS) - 1
    for key in keys.values():
        with pytest.raises(SealBrokenError):
            key.open(place, sealed.payload)

    # PostgreSQL's log and every backup still hold the wrapped key: rotation ends that.
    still = DataKey(await kms.unwrap(lost, gone), bytes)
    assert SECRET.encode() in still.open(place, sealed.payload)
    kms.add("k2")
    kms.current = "k2"
    await Maintenance(database, made.vault, lambda *_: None).rotate()
    kms.remove("k1")
    with pytest.raises(MissingKekError, match='"k1"'):
        await kms.unwrap(lost, gone)
    for uscc in FIRMS[1:]:
        assert len(await made.read("court_case", uscc=uscc)) == 1
    await database.close()


async def _wrapped(database: Database) -> dict[str, Wrapped]:
    async with database.read() as conn:
        rows = await conn.execute(sa.select(subject_key))
        return {row.subject_id: Wrapped(row.kek_id, row.wrapped) for row in rows}


async def test_what_an_old_transaction_still_sees_is_waited_for(fresh_postgres_url: str) -> None:
    files = Files(fresh_postgres_url, None)
    upgrade(files.url, MIGRATIONS)
    database = Database.open(files.url)
    made = Datashare(database)
    async with made.transactions.begin() as work:
        gone = (await work.subjects.resolve_or_create_many(FIRMS))[FIRMS[0]]
    lost = (await _wrapped(database))[gone].content
    waits = 0
    async with AsyncExitStack() as old:
        conn = await old.enter_async_context(database.read())
        await conn.execute(sa.text("SELECT 1 FROM participant"))
        async with made.transactions.begin() as work:
            await work.subjects.erase(gone, NOW)

        async def wait(_seconds: float) -> None:
            nonlocal waits
            waits += 1
            if waits == 40:
                await old.aclose()

        (open_still, _elsewhere) = await shred(files.url, sleep=wait)
        assert "transaction that began before is still open" in open_still
        assert await files.hold(lost, log=False) == {lost}
        assert len(await shred(files.url, sleep=wait)) == 1
    assert waits >= 40  # other tests on this server may be in its way too
    assert await files.hold(lost, log=False) == set()
    await database.close()
