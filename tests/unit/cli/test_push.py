import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter
from google.protobuf.json_format import MessageToJson

from puhui.datashare.v1.records_pb2 import Record
from puhui_client import values
from puhui_client.signing import PublicKey, new_key
from services.cli.locks import locked
from services.cli.rows import open_source
from services.cli.tables import Layout, open_table
from tests.conftest import CHECKOUT
from tests.fakes.platform import FakePlatform
from tests.unit.cli.conftest import Outcome, Run
from tests.unit.client.test_push import row

HEADER = "编号,统一社会信用代码,月份,取得时间,人数,实缴(万元)"
MAPPING = """
record_type = "social_insurance"
[columns]
"编号" = "provider_record_id"
"统一社会信用代码" = "subject.uscc"
"月份" = { field = "period", period = "%Y年%m月" }
"取得时间" = { field = "obtained_at", time = "%Y/%m/%d", zone = "+08:00" }
"人数" = "headcount"
"实缴(万元)" = { field = "paid", unit = "万元" }
"""


def write(path: Path, records: list[Record]) -> Path:
    path.write_text("".join(MessageToJson(r, indent=None) + "\n" for r in records))
    return path


def csv_row(number: int, headcount: str = "10", paid: str = "1.5") -> str:
    return f"r{number},91110000MA00000077,2024年5月,2024/6/1,{headcount},{paid}"


def table(path: Path, *rows: str, encoding: str = "gb18030") -> Path:
    path.with_name("m.toml").write_text(MAPPING, "utf-8")
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding)
    return path


def beside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_pushed_and_every_row_accounted_for(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    write(tmp_path / "rows.jsonl", [row(1), row(2, -1), row(1), row(3)])
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('\n{"no_such_field": 1}\n' + MessageToJson(row(4), indent=None))
    platform.records.refused.add("r4")
    done = call("push", "rows.jsonl", "--json", "--delivery", "d1")
    assert done.code == 1
    found = done.document
    check, reconciliation = found.pop("check"), found.pop("reconciliation")
    assert found == {
        "delivery_id": "d1",
        "read_as": "JSON lines",
        "skipped": 0,
        "sent": 4,
        "accepted": 2,
        "duplicate": 1,
        "rejected": {"RECORD_CONFLICT": 1},
        "held": 0,
        "not_sent": 2,
        "reconnects": 0,
        "rejects_file": "rows.rejects.jsonl",
        "reviews": [],
    }
    assert (check["rows"], check["good"], check["failed"]) == (6, 4, 2)
    assert (reconciliation["rows_sent"], reconciliation["agrees"]) == ("4", True)
    lines = Path("rows.rejects.jsonl").read_text().splitlines()
    rejects = [json.loads(line) for line in lines]
    assert [(r["puhui_row"], r["puhui_reason"], r["puhui_field"]) for r in rejects] == [
        (2, "FIELD_INVALID", "social_insurance.headcount"),
        (6, "MALFORMED_MESSAGE", ""),
        (7, "RECORD_CONFLICT", ""),
    ]
    assert beside(tmp_path) == ["rows.jsonl", "rows.rejects.jsonl"]


def test_people_see_what_fails_by_column_and_the_rows_that_are_not_in(
    call: Run, platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    table(tmp_path / "rows.csv", csv_row(1), csv_row(2, "many"), csv_row(3, paid="1.5万"))
    done = call("push", "rows.csv", "--mapping", "m.toml", "--rejects", "out.csv")
    assert done.code == 1
    for said in (
        "CSV, GB18030, as detected: 3 rows, 2 fail",
        "row 3: not a whole number",
        "row 4: not an amount such as 1234.50",
        "failed here, not sent",
        "Both ends counted the same: 1 row.",
    ):
        assert said in done.out
    assert Path("out.csv").exists()
    assert "Delivery push-" in done.err


def test_nothing_rejected_leaves_no_file(call: Run, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [row(1)])
    done = call("push", "rows.jsonl", "--json")
    assert (done.code, done.document["rejects_file"]) == (0, None)
    assert beside(tmp_path) == ["rows.jsonl"]
    again = call("push", "rows.jsonl", "--json")
    assert (again.code, again.document["duplicate"]) == (0, 1)


def test_rejects_are_mended_and_pushed_again(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    table(tmp_path / "rows.csv", csv_row(1), csv_row(2, "many"), csv_row(3))
    platform.records.refused.add("r3")
    assert call("push", "rows.csv", "--mapping", "m.toml").code == 1
    rejects = Path("rows.rejects.csv")
    text = rejects.read_text("gb18030")
    assert text.splitlines() == [
        f"{HEADER},puhui_row,puhui_reason,puhui_field,puhui_problem",
        f"{csv_row(2, 'many')},3,MALFORMED_MESSAGE,social_insurance.headcount,not a whole number",
        f"{csv_row(3)},4,RECORD_CONFLICT,,is there with other content",
    ]
    platform.records.refused.clear()
    rejects.write_text(text.replace("many", "12"), "gb18030")
    again = call("push", "rows.rejects.csv", "--mapping", "m.toml", "--json")
    assert (again.code, again.document["accepted"]) == (0, 2)
    assert set(platform.records.stored) == {"r1", "r2", "r3"}


COLUMNS: dict[str, list[Any]] = {
    "编号": ["r1", "r2", "r3"],
    "统一社会信用代码": ["91110000MA00000077"] * 3,
    "月份": ["2024年5月"] * 3,
    "取得时间": ["2024/6/1"] * 3,
    "人数": [10, -1, 30],
    "实缴(万元)": [1.5, 2.25, 0.1],
}


def as_excel(path: Path, columns: dict[str, list[Any]]) -> None:
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet("明细")
        for at, (name, cells) in enumerate(columns.items()):
            sheet.write_column(0, at, [name, *cells])


def as_parquet(path: Path, columns: dict[str, list[Any]]) -> None:
    pq.write_table(pa.table(columns), path)


def as_csv(path: Path, columns: dict[str, list[Any]]) -> None:
    with path.open("w", encoding="utf-16", newline="") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])


@pytest.mark.parametrize("write_table", [as_excel, as_parquet, as_csv])
def test_rejects_of_every_kind_of_table_are_mended_and_pushed_again(
    call: Run,
    platform: FakePlatform,
    tmp_path: Path,
    write_table: Callable[[Path, dict[str, list[Any]]], None],
) -> None:
    suffix = {"as_excel": ".xlsx", "as_parquet": ".parquet"}.get(write_table.__name__, ".csv")
    write_table(tmp_path / f"rows{suffix}", COLUMNS)
    (tmp_path / "m.toml").write_text(MAPPING, "utf-8")
    platform.records.refused = {"r3"}
    assert call("push", f"rows{suffix}", "--mapping", "m.toml").code == 1
    rejects = tmp_path / f"rows.rejects{suffix}"
    found = open_table(rejects, Layout())
    rows = [row.cells for row in found.rows()]
    assert found.columns == tuple(COLUMNS)
    assert [row[0] for row in rows] == ["r2", "r3"]
    with closing(found.writer(mended := tmp_path / f"mended{suffix}")) as writer:
        for row in rows:
            cells = list(row)
            cells[4] = 20 if cells[0] == "r2" else cells[4]
            writer.write(cells, (1, "", "", ""))
    platform.records.refused = set()
    again = call("push", mended.name, "--mapping", "m.toml", "--json")
    assert (again.code, again.document["accepted"]) == (0, 2)
    paid = {
        row.provider_record_id: values.from_money(row.social_insurance.paid)
        for batches in platform.records.requests.values()
        for batch in batches
        for row in batch.records
    }
    assert paid == {"r1": Decimal(15000), "r2": Decimal(22500), "r3": Decimal(1000)}


def test_rejected_lines_of_json_are_mended_and_pushed_again(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    write(tmp_path / "rows.jsonl", [row(1), row(2, -1)])
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write("{not json\n")
    assert call("push", "rows.jsonl").code == 1
    rejects = Path("rows.rejects.jsonl")
    first, second = map(json.loads, rejects.read_text().splitlines())
    assert second["puhui_line"] == "{not json"
    first["socialInsurance"]["headcount"] = 2
    third = MessageToJson(row(3), indent=None)
    rejects.write_text(f"{json.dumps(first)}\n{third}\n")
    assert call("push", rejects.name).code == 0
    assert set(platform.records.stored) == {"r1", "r2", "r3"}


def test_rejects_never_replace_what_is_there(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    table(tmp_path / "rows.csv", csv_row(1, "many"))
    Path("rows.rejects.csv").write_text("half mended")
    done = call("push", "rows.csv", "--mapping", "m.toml", "--json")
    assert done.document["rejects_file"] == "rows.rejects-2.csv"
    assert Path("rows.rejects.csv").read_text() == "half mended"


PUSH = ("push", "rows.csv", "--mapping", "m.toml")


def many(path: Path, count: int) -> None:
    """A table of rows r0, r1, ..., on its lines 2, 3, ..."""
    table(path, *map(csv_row, range(count)))


def rejected_rows(path: str) -> list[int]:
    with Path(path).open(encoding="gb18030", newline="") as file:
        return [int(row["puhui_row"]) for row in csv.DictReader(file)]


def breaks_off(call: Run, platform: FakePlatform, acked: int, unacked: int = 0) -> None:
    """Pushes rows.csv to a platform that refuses it in the middle."""
    platform.records.suspends_after = acked, unacked
    done = call(*PUSH)
    assert done.code == 1
    assert "PARTICIPANT_SUSPENDED" in done.err
    platform.records.suspends_after = None
    platform.records.suspended = False


def test_a_push_that_broke_off_goes_on_by_itself(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    many(tmp_path / "rows.csv", 3010)
    platform.records.refused = {"r100", "r1500", "r3005"}
    breaks_off(call, platform, acked=2)
    assert beside(tmp_path) == ["m.toml", "rows.csv", "rows.csv.puhui-push"]
    done = call(*PUSH, "--json")
    assert done.document["skipped"] + done.document["sent"] == 3010
    assert done.document["reconciliation"]["rows_sent"] == "3010"
    assert done.document["rejected"] == {"RECORD_CONFLICT": 3}
    # Those that the first process was told of, too.
    assert rejected_rows("rows.rejects.csv") == [102, 1502, 3007]
    assert beside(tmp_path) == ["m.toml", "rows.csv", "rows.rejects.csv"]
    deliveries = {delivery for delivery, _, _ in platform.records.batches}
    assert deliveries == {done.document["delivery_id"]}
    assert [sequence for _, sequence, _ in platform.records.batches] == [1, 2, 3, 4]


def test_two_processes_do_not_push_a_file_at_once(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    many(tmp_path / "rows.csv", 1)
    with locked(Path("rows.csv")):
        done = call(*PUSH)
        assert done.code == 2
        assert "another process is at work on rows.csv" in done.err
        assert not platform.records.streams
    assert call(*PUSH).code == 0
    assert beside(tmp_path) == ["m.toml", "rows.csv"]


def test_a_lock_of_a_process_that_died_is_none(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    many(tmp_path / "rows.csv", 1)
    Path("rows.csv.lock").touch()
    assert call(*PUSH).code == 0


def test_another_process_goes_on(call: Run, platform: FakePlatform, tmp_path: Path) -> None:
    many(tmp_path / "rows.csv", 1010)
    platform.records.suspends_after = 1, 0
    command = [sys.executable, "-m", "services.cli", *PUSH, "--json"]
    environ = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    first = subprocess.run(command, env=environ, check=False, capture_output=True)
    assert first.returncode == 1
    platform.records.suspended, platform.records.suspends_after = False, None
    second = subprocess.run(command, env=environ, check=True, capture_output=True)
    (delivery,) = {delivery for delivery, _, _ in platform.records.batches}
    assert json.loads(second.stdout)["delivery_id"] == delivery
    assert [sequence for _, sequence, _ in platform.records.batches] == [1, 2]


@pytest.mark.parametrize("unacked", [1, 2])
def test_what_was_lost_with_the_acks_is_asked_again(
    call: Run, platform: FakePlatform, tmp_path: Path, unacked: int
) -> None:
    many(tmp_path / "rows.csv", 3010)
    platform.records.refused = {"r100", "r1500", "r2500", "r3005"}
    breaks_off(call, platform, 1, unacked)
    done = call(*PUSH, "--json")
    assert done.document["skipped"] <= 1000
    assert rejected_rows("rows.rejects.csv") == [102, 1502, 2502, 3007]
    assert [sequence for _, sequence, _ in platform.records.batches] == [1, 2, 3, 4]


def test_a_file_that_changed_since_begins_anew(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    many(tmp_path / "rows.csv", 1010)
    breaks_off(call, platform, 1)
    many(tmp_path / "rows.csv", 1009)
    done = call(*PUSH, "--json").document
    assert (done["skipped"], done["sent"]) == (0, 1009)
    assert len({delivery for delivery, _, _ in platform.records.batches}) == 2


def test_a_mapping_that_changed_since_begins_anew(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    many(tmp_path / "rows.csv", 1010)
    breaks_off(call, platform, 1)
    Path("m.toml").write_text(MAPPING.replace('万元" }', '元" }'), "utf-8")
    done = call(*PUSH, "--json").document
    assert (done["skipped"], done["sent"]) == (0, 1010)


def test_a_journal_that_was_cut_off_is_read_as_far_as_it_goes(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    many(tmp_path / "rows.csv", 1010)
    platform.records.refused = {"r100"}
    breaks_off(call, platform, 1)
    journal = Path("rows.csv.puhui-push")
    assert journal.stat().st_mode & 0o077 == 0
    journal.write_text(journal.read_text() + '{"sequence": 2, "reje')
    assert call(*PUSH, "--json").code == 1
    assert rejected_rows("rows.rejects.csv") == [102]
    assert [sequence for _, sequence, _ in platform.records.batches] == [1, 2]


def test_a_delivery_resumes_on_another_machine(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    many(tmp_path / "rows.csv", 1010)
    breaks_off(call, platform, 1)
    (delivery,) = {delivery for delivery, _, _ in platform.records.batches}
    Path("rows.csv.puhui-push").unlink()
    done = call(*PUSH, "--delivery", delivery, "--json").document
    assert (done["delivery_id"], done["skipped"], done["sent"]) == (delivery, 1000, 10)
    assert len(platform.records.stored) == 1010


def test_ends_that_do_not_agree_are_an_error(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    write(tmp_path / "rows.jsonl", [row(1), row(2)])
    platform.records.loses_rows = 1
    done = call("push", "rows.jsonl")
    assert done.code == 1
    assert "The ends do NOT agree: 2 rows sent, 1 received" in done.out
    assert "202405" in done.out
    assert not call("push", "rows.jsonl", "--json").document["reconciliation"]["agrees"]


def test_totals_are_the_clients_own(call: Run, platform: FakePlatform, tmp_path: Path) -> None:
    table(tmp_path / "rows.csv", csv_row(1), csv_row(2, "many"), csv_row(3, paid="-0.000001"))
    call("push", "rows.csv", "--mapping", "m.toml", "--delivery", "d")
    (total,) = platform.records.closes["d"].totals
    assert (total.month, total.rows, total.sum) == (202405, 2, 1_499_999)


def test_rows_that_wait_for_a_review_are_shown(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    (tmp_path / "m.toml").write_text(
        MAPPING.replace('"统一社会信用代码" = "subject.uscc"', '"名称" = "hint.name"'), "utf-8"
    )
    Path("rows.csv").write_text(
        f"{HEADER.replace('统一社会信用代码', '名称')}\n"
        "r1,某某科技有限公司,2024年5月,2024/6/1,10,\n"
    )
    done = call("push", "rows.csv", "--mapping", "m.toml")
    assert done.code == 0
    assert "held for a review" in done.out
    assert "rev_r1" in done.out
    shown = call("push", "rows.csv", "--mapping", "m.toml", "--json").document
    assert shown["reviews"] == [{"row": 2, "record_id": "r1", "review_id": "rev_r1"}]


def test_batches_are_signed(call: Run, platform: FakePlatform, tmp_path: Path) -> None:
    key = new_key()
    Path("key.pem").write_text(key.pem)
    Path("key.pem").chmod(0o600)
    write(tmp_path / "rows.jsonl", [row(1)])
    assert call("push", "rows.jsonl", "--delivery", "d", "--sign-with", "key.pem").code == 0
    from puhui_client.canonical import canonical_batch

    PublicKey.parse(key.public.jwk).verify(
        platform.records.jws[0], canonical_batch("d", 1, [row(1)])
    )


def test_a_key_that_is_none_is_wrong_use(call: Run, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [row(1)])
    Path("key.pem").write_text("no key")
    assert call("push", "rows.jsonl", "--sign-with", "key.pem").code == 2
    Path("key.pem").chmod(0o600)
    done = call("push", "rows.jsonl", "--sign-with", "key.pem")
    assert done.code == 2
    assert "there is no Ed25519 or P-256 key in key.pem" in " ".join(done.err.split())
    assert call("push", "rows.jsonl", "--sign-with", "nowhere.pem").code == 2


def test_without_a_check_the_platform_says_what_is_wrong(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    table(tmp_path / "rows.csv", csv_row(1), csv_row(2, "-1"), csv_row(3, "many"))
    done = call("push", "rows.csv", "--mapping", "m.toml", "--no-check", "--json")
    found = done.document
    assert (found["rejected"], found["not_sent"]) == ({"NUMBER_OUT_OF_RANGE": 1}, 1)
    assert "check" not in found
    assert len(Path("rows.rejects.csv").read_text("gb18030").splitlines()) == 3


def test_a_check_alone_sends_nothing(call: Run, platform: FakePlatform, tmp_path: Path) -> None:
    table(tmp_path / "rows.csv", csv_row(1), csv_row(2, "many"), csv_row(3, ""), csv_row(4, "-1"))
    done = call("push", "rows.csv", "--mapping", "m.toml", "--check", "--json")
    assert done.code == 1
    check = done.document["check"]
    headcount = next(c for c in check["columns"] if c["column"] == "人数")
    assert headcount == {
        "column": "人数",
        "field": "social_insurance.headcount",
        "filled": 3,
        "empty": 1,
        "converted": 1,
        "failed": 3,
        "examples": [
            {"row": 3, "problem": "not a whole number"},
            {"row": 4, "problem": "missing: fill it in, or map it"},
            {"row": 5, "problem": "must be greater than or equal to 0 and less than or equal to "
             "10000000"},
        ],
    }  # fmt: skip  # a table, line by line
    assert not platform.records.streams
    table(tmp_path / "rows.csv", csv_row(1))
    assert call("push", "rows.csv", "--mapping", "m.toml", "--check").code == 0


def test_a_check_needs_no_platform(run: Run, tmp_path: Path) -> None:
    table(tmp_path / "rows.csv", csv_row(1))
    done = run("push", "rows.csv", "--mapping", "m.toml", "--check")
    assert done.code == 0
    assert "the rules are those of this version" in done.err


def preview(run: Run, *more: str) -> Outcome:
    return run("push", "rows.csv", "--mapping", "m.toml", "--preview", "2", *more)


def test_a_preview_shows_rows_as_they_would_be_sent(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path / "rows.csv", csv_row(1), csv_row(2, "many"), csv_row(3))
    shown = preview(run, "--json")
    assert shown.code == 0
    first, second = shown.document["rows"]
    assert first == {
        "row": 2,
        "values": {
            "provider_record_id": "r1",
            "subject.uscc": "91110000MA00000077",
            "record_type": "social_insurance",
            "period": "2024-05-01/2024-05-31",
            "obtained_at": "2024-06-01T00:00:00+08:00",
            "social_insurance.headcount": "10",
            "social_insurance.paid": "15000 CNY",
        },
        "problems": [],
    }
    assert second["problems"][0]["column"] == "人数"
    monkeypatch.setenv("COLUMNS", "400")
    text = preview(run).out
    assert "15000 CNY" in text
    assert "not a whole number" in text


def test_columns_that_are_not_sent_are_named(run: Run, tmp_path: Path) -> None:
    table(tmp_path / "rows.csv")
    Path("rows.csv").write_text(f"{HEADER},备注\n{csv_row(1)},x\n")
    assert preview(run, "--json").document["not_mapped"] == ["备注"]
    assert "备注" in preview(run).err


def test_csv_without_a_mapping(call: Run, platform: FakePlatform, tmp_path: Path) -> None:
    (tmp_path / "staff.csv").write_text(
        "provider_record_id,subject.uscc,period,obtained_at,headcount\n"
        "1,91110000MA00000077,2024-05,2024-06-01T08:00:00+08:00,12\n"
        "2,91110000MA00000077,2024-06,2024-07-01T08:00:00+08:00,twelve\n"
    )
    done = call("push", "staff.csv", "--type", "social_insurance", "--json")
    assert done.code == 1
    found = done.document
    assert (found["sent"], found["accepted"], found["not_sent"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("push",), "name a file, or a database"),
        (("push", "rows.csv"), "name it by --type, or give --mapping"),
        (("push", "rows.csv", "--type", "grant"), "puhui mapping init"),
        (("push", "rows.csv", "--type", "grant", "--mapping", "m.toml"), "leave it out"),
        (("push", "m.toml", "--mapping", "m.toml"), "leave --mapping out"),
        (("push", "rows.csv", "--mapping", "bad.toml"), "bad.toml: unknown key colums"),
        (("push", "rows.csv", "--mapping", "more.toml"), "no column 工资: there are 编号"),
        (("push", "rows.csv", "--view", "v"), "need --from-db"),
        (("push", "--from-db", "env:X"), "needs --watermark"),
        (("push", "--from-db", "sqlite:///x", "--view", "v", "--watermark", "w"), "chmod 600"),
        (("push", "none.csv", "--type", "grant"), "does not exist"),
    ],
)
def test_wrong_use(
    call: Run, platform: FakePlatform, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    table(tmp_path / "rows.csv", csv_row(1))
    Path("bad.toml").write_text('record_type = "grant"\n[colums]\n')
    Path("more.toml").write_text(MAPPING + '"工资" = "overdue"\n'.replace('"overdue"', OVERDUE))
    done = call(*arguments)
    assert done.code == 2
    # What people see is wrapped into a box.
    assert said.replace(" ", "") in "".join(done.err.replace("│", "").split())
    assert not platform.records.streams


OVERDUE = '{ field = "overdue", unit = "元" }'


def test_a_source_tells_what_it_was_read_as(tmp_path: Path) -> None:
    path = table(tmp_path / "rows.csv", csv_row(1), encoding="utf-8-sig")
    with pytest.raises(Exception, match="unknown field 编号"):
        open_source(path, "social_insurance", None)
