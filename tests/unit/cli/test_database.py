import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from puhui_client import values
from services.cli.database import DatabaseError, Extract, read_url
from services.cli.locks import locked
from tests.fakes.platform import FakePlatform
from tests.unit.cli.conftest import Outcome, Run
from tests.unit.cli.test_push import beside

MAPPING = """
record_type = "social_insurance"
[columns]
id = "provider_record_id"
uscc = "subject.uscc"
month = { field = "period", period = "%Y%m" }
changed_at = { field = "obtained_at", zone = "+08:00" }
headcount = "headcount"
paid = { field = "paid", unit = "元" }
"""


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    Path(tmp_path / "m.toml").write_text(MAPPING, "utf-8")
    monkeypatch.setenv("SOURCE_DB", f"sqlite:///{tmp_path}/bureau.db")
    with closing(sqlite3.connect(tmp_path / "bureau.db")) as connection:
        connection.executescript("""
CREATE TABLE staff (id TEXT, uscc TEXT, month TEXT, changed_at TEXT, headcount, paid NUMERIC);
CREATE VIEW to_share AS SELECT * FROM staff WHERE uscc IS NOT NULL;
""")
        yield connection


def add(database: sqlite3.Connection, number: int, changed_at: str, headcount: object = 5) -> None:
    row = (f"r{number}", "91110000MA00000077", "202405", changed_at, headcount, 1234.5)
    with database:
        database.execute("INSERT INTO staff VALUES (?, ?, ?, ?, ?, ?)", row)


def push(call: Run, *more: str) -> Outcome:
    source = ("--from-db", "env:SOURCE_DB", "--view", "to_share", "--watermark", "changed_at")
    return call("push", *source, "--mapping", "m.toml", *more)


def test_only_what_is_new_is_pushed(
    call: Run, platform: FakePlatform, database: sqlite3.Connection, tmp_path: Path
) -> None:
    add(database, 1, "2024-06-01 08:00:00")
    add(database, 2, "2024-06-02 08:00:00")
    first = push(call, "--json")
    assert (first.code, first.document["accepted"]) == (0, 2)
    assert platform.records.batches[0][2] == 2
    state = json.loads(Path("to_share.puhui-state.json").read_text())
    assert state["watermark"] == {"kind": "text", "value": "2024-06-02 08:00:00"}
    add(database, 3, "2024-06-02 08:00:00")  # of the same moment, committed later
    add(database, 4, "2024-06-03 08:00:00")
    second = push(call, "--json").document
    assert (second["accepted"], second["duplicate"]) == (2, 1)
    third = push(call, "--json").document
    assert (third["accepted"], third["duplicate"]) == (0, 1)
    assert set(platform.records.stored) == {"r1", "r2", "r3", "r4"}
    assert beside(tmp_path) == ["bureau.db", "m.toml", "to_share.puhui-state.json"]


def test_nothing_in_it_yet(call: Run, platform: FakePlatform, database: sqlite3.Connection) -> None:
    done = push(call)
    assert (done.code, "Nothing is new" in done.out) == (0, True)
    assert not platform.records.streams


def test_rows_without_a_watermark_are_left_out_and_said_so(
    call: Run, platform: FakePlatform, database: sqlite3.Connection
) -> None:
    add(database, 1, "2024-06-01 08:00:00")
    with database:
        database.execute("UPDATE staff SET changed_at = NULL")
    add(database, 2, "2024-06-01 08:00:00")
    done = push(call)
    assert "1 row has no changed_at and is never read" in done.err
    assert set(platform.records.stored) == {"r2"}


def test_the_watermark_stays_until_all_is_acknowledged(
    call: Run, platform: FakePlatform, database: sqlite3.Connection, tmp_path: Path
) -> None:
    rest = ("91110000MA00000077", "202405", "2024-06-01 08:00:00", 5, 1)
    many = [(f"r{number}", *rest) for number in range(2010)]
    database.executemany("INSERT INTO staff VALUES (?, ?, ?, ?, ?, ?)", many)
    database.commit()
    platform.records.suspends_after = 1, 0
    assert push(call).code == 1
    state = json.loads(Path("to_share.puhui-state.json").read_text())
    assert "watermark" not in state
    assert Path("to_share.puhui-state.rows.csv").stat().st_mode & 0o077 == 0
    # What changes meanwhile does not change what goes on.
    with database:
        database.execute("DELETE FROM staff WHERE id = 'r5'")
    add(database, 3000, "2024-06-02 08:00:00")
    platform.records.suspended, platform.records.suspends_after = False, None
    done = push(call, "--json")
    assert done.document["skipped"] + done.document["sent"] == 2010
    assert "2,010 rows that were read before" in done.err
    assert len(platform.records.stored) == 2010
    assert push(call, "--json").document["accepted"] == 1
    assert "r3000" in platform.records.stored
    assert not [name for name in beside(tmp_path) if name.endswith((".csv", "puhui-push"))]


def test_rows_that_are_not_in_are_written_and_pushed_again(
    call: Run, platform: FakePlatform, database: sqlite3.Connection
) -> None:
    add(database, 1, "2024-06-01 08:00:00")
    add(database, 2, "2024-06-01 09:00:00", "many")
    done = push(call, "--json")
    assert (done.code, done.document["rejects_file"]) == (1, "to_share.rejects.csv")
    rejects = Path("to_share.rejects.csv")
    assert rejects.stat().st_mode & 0o077 == 0
    rejects.write_text(rejects.read_text().replace("many", "7"))
    again = call("push", "to_share.rejects.csv", "--mapping", "m.toml")
    assert again.code == 0
    assert set(platform.records.stored) == {"r1", "r2"}


def test_a_preview_and_a_check_leave_the_watermark(
    call: Run, platform: FakePlatform, database: sqlite3.Connection, tmp_path: Path
) -> None:
    add(database, 1, "2024-06-01 08:00:00")
    shown = push(call, "--preview", "1", "--json").document
    assert shown["rows"][0]["values"]["social_insurance.paid"] == "1234.5 CNY"
    assert beside(tmp_path) == ["bureau.db", "m.toml"]
    assert push(call, "--check").code == 0
    assert not platform.records.streams
    assert push(call, "--json").document["accepted"] == 1


def test_two_processes_do_not_read_at_once(
    call: Run, platform: FakePlatform, database: sqlite3.Connection, tmp_path: Path
) -> None:
    add(database, 1, "2024-06-01 08:00:00")
    with locked(Path("to_share.puhui-state.json")):
        done = push(call)
        assert done.code == 2
        assert "another process is at work" in done.err
    assert push(call).code == 0
    assert beside(tmp_path) == ["bureau.db", "m.toml", "to_share.puhui-state.json"]


def test_a_query(call: Run, platform: FakePlatform, database: sqlite3.Connection) -> None:
    add(database, 1, "2024-06-01 08:00:00")
    add(database, 2, "2024-06-01 08:00:00", 0)
    Path("q.sql").write_text(
        "SELECT id, uscc, month, changed_at, headcount, paid FROM staff WHERE headcount > 0;\n"
    )
    source = ("--from-db", "env:SOURCE_DB", "--query", "q.sql", "--watermark", "changed_at")
    assert call("push", *source, "--mapping", "m.toml").code == 0
    assert set(platform.records.stored) == {"r1"}
    Path("q.sql").write_text("SELECT * FROM staff")
    other = call("push", *source, "--mapping", "m.toml")
    assert other.code == 2
    assert "is of another view, query or watermark" in " ".join(other.err.replace("│", "").split())


@pytest.mark.parametrize("kind", ["integer", "double", "text"])
def test_watermarks_of_every_kind(tmp_path: Path, kind: str) -> None:
    values: dict[str, list[object]] = {
        "integer": [9, 10, 11],
        "double": [0.1, 0.2, 1.5],
        "text": ["a", "b", "c"],
    }
    url = f"sqlite:///{tmp_path}/w.db"
    state = tmp_path / "s.json"
    with closing(sqlite3.connect(tmp_path / "w.db")) as connection:
        connection.execute("CREATE TABLE t (w)")
        for value, expected in zip(values[kind], ([0], [0, 1], [1, 2]), strict=True):
            with connection:
                connection.execute("INSERT INTO t VALUES (?)", (value,))
            with Extract(url, "t", None, "w", state) as extract:
                rows = extract.rows(print)
                assert rows is not None
                found = rows.read_text().splitlines()
                assert found == ["w", *(str(values[kind][index]) for index in expected)]
                extract.advance()
    assert json.loads(state.read_text())["watermark"]["kind"] == kind


POSTGRES_ROWS = """
CREATE SCHEMA share;
CREATE TABLE share.staff (
    id bigint, uscc text, month date, changed_at {kind}, headcount integer, paid numeric(12, 2)
);
CREATE VIEW share.to_share AS SELECT * FROM share.staff;
INSERT INTO share.staff VALUES
    (1, '91110000MA00000077', '2024-05-01', '2024-06-01 08:00:00.000001+08', 7, 1234.50),
    (2, '91110000MA00000077', '2024-06-01', '2024-07-01 08:00:00+08', NULL, 0.10);
"""


@pytest.mark.parametrize(
    ("kind", "zone"), [("timestamptz", ""), ("timestamp", "+08:00"), ("date", "+08:00")]
)
def test_postgresql(
    call: Run,
    platform: FakePlatform,
    monkeypatch: pytest.MonkeyPatch,
    fresh_postgres_url: str,
    kind: str,
    zone: str,
) -> None:
    import psycopg

    url = fresh_postgres_url.replace("+asyncpg", "")
    with psycopg.connect(url) as connection:
        connection.execute(POSTGRES_ROWS.format(kind=kind))
    monkeypatch.setenv("SOURCE_DB", fresh_postgres_url.replace("+asyncpg", "+psycopg"))
    mapping = MAPPING.replace('period = "%Y%m"', 'period = "month"')
    Path("m.toml").write_text(mapping.replace('zone = "+08:00"', f'zone = "{zone or "+00:00"}"'))
    source = ("--from-db", "env:SOURCE_DB", "--view", "share.to_share", "--watermark", "changed_at")
    first = call("push", *source, "--mapping", "m.toml", "--json")
    assert (first.code, first.document["accepted"], first.document["not_sent"]) == (1, 1, 1)
    (batch,) = next(iter(platform.records.requests.values()))
    (record,) = batch.records
    assert values.from_money(record.social_insurance.paid) == Decimal("1234.5")
    assert record.period == values.to_period(*values.month(2024, 5))
    obtained = values.from_timestamp(record.obtained_at)
    assert (
        obtained.replace(microsecond=0)
        == {
            "timestamptz": datetime(2024, 6, 1, 0, tzinfo=UTC),
            "timestamp": datetime(2024, 6, 1, 0, tzinfo=UTC),
            "date": datetime(2024, 5, 31, 16, tzinfo=UTC),
        }[kind]
    )
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE share.staff SET headcount = 3 WHERE id = 2")
        connection.execute(
            "INSERT INTO share.staff "
            "SELECT 3, uscc, month, '2024-08-01', 4, 1 FROM share.staff LIMIT 1"
        )
    second = call("push", *source, "--mapping", "m.toml", "--json")
    assert (second.code, second.document["accepted"]) == (0, 2)
    assert set(platform.records.stored) == {"1", "2", "3"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--view", "nowhere"), "no such table: nowhere"),
        (("--view", "to_share", "--watermark", "no_such"), "no such column: no_such"),
        (("--view", "to_share", "--state", "m.toml"), "is no state of a push"),
    ],
)
def test_what_the_database_refuses(
    call: Run,
    database: sqlite3.Connection,
    tmp_path: Path,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    rest = () if "--watermark" in arguments else ("--watermark", "id")
    source = ("push", "--from-db", "env:SOURCE_DB", "--mapping", "m.toml")
    done = call(*source, *arguments, *rest)
    assert done.code == 2
    assert said in " ".join(done.err.replace("│", "").split())
    assert beside(tmp_path) == ["bureau.db", "m.toml"]


def test_the_url_is_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "url"
    path.write_text("sqlite:///x.db\n")
    path.chmod(0o600)
    assert read_url(str(path)) == "sqlite:///x.db"
    monkeypatch.setenv("A_URL", "sqlite:///y.db")
    assert read_url("env:A_URL") == "sqlite:///y.db"
    path.chmod(0o644)
    with pytest.raises(DatabaseError, match="chmod 600"):
        read_url(str(path))
    with pytest.raises(DatabaseError, match="others on this machine could see"):
        read_url("postgresql://u:secret@host/db")
    for named in ("env:NO_SUCH", str(tmp_path / "nowhere")):
        with pytest.raises(DatabaseError):
            read_url(named)


@pytest.mark.parametrize(
    "url", ["nodialect://x", "oracle+cx_oracle://u:secret@h/d", "sqlite//x://"]
)
def test_urls_that_lead_nowhere_are_told_without_them(tmp_path: Path, url: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        Extract(url, "t", None, "w", tmp_path / "s.json")
    assert "secret" not in str(caught.value)
