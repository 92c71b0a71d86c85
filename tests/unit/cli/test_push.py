import json
from pathlib import Path

from google.protobuf.json_format import MessageToJson

from puhui.datashare.v1.records_pb2 import Record
from tests.fakes.platform import FakePlatform
from tests.unit.cli.conftest import Run
from tests.unit.client.test_push import row


def write(path: Path, records: list[Record]) -> Path:
    path.write_text("".join(MessageToJson(r, indent=None) + "\n" for r in records))
    return path


def test_a_file_is_pushed_and_every_row_accounted_for(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    write(tmp_path / "rows.jsonl", [row(1), row(2, -1), row(1), row(3)])
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('\n{"no_such_field": 1}\n' + MessageToJson(row(4, -1), indent=None))
    done = call("push", "rows.jsonl", "--json", "--delivery", "d1")
    assert done.code == 1
    assert done.document == {
        "delivery_id": "d1",
        "skipped": 0,
        "sent": 5,
        "accepted": 2,
        "duplicate": 1,
        "rejected": {"NUMBER_OUT_OF_RANGE": 2},
        "unreadable": 1,
        "reconnects": 0,
        "rejects_file": "rows.jsonl.rejects.jsonl",
    }
    lines = Path("rows.jsonl.rejects.jsonl").read_text().splitlines()
    rejects = [json.loads(line) for line in lines]
    assert sorted((r["line"], r["record_id"], r["reason"], r["field"]) for r in rejects) == [
        (2, "r2", "NUMBER_OUT_OF_RANGE", "social_insurance.headcount"),
        (6, "", "MALFORMED_MESSAGE", ""),
        (7, "r4", "NUMBER_OUT_OF_RANGE", "social_insurance.headcount"),
    ]


def test_people_see_a_table_of_rejected_rows(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    write(tmp_path / "rows.jsonl", [row(1), row(2, -1)])
    done = call("push", "rows.jsonl", "--rejects", "out.jsonl")
    assert done.code == 1
    assert "rejected NUMBER_OUT_OF_RANGE" in done.out
    assert "a count is never negative: correct it" in done.out
    assert Path("out.jsonl").exists()
    assert "--delivery push-" in done.err


def test_nothing_rejected_leaves_no_file(call: Run, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [row(1)])
    done = call("push", "rows.jsonl", "--json")
    assert (done.code, done.document["rejects_file"]) == (0, None)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    again = call("push", "rows.jsonl", "--json")
    assert (again.code, again.document["duplicate"]) == (0, 1)


def test_a_delivery_resumes(call: Run, platform: FakePlatform, tmp_path: Path) -> None:
    rows = [row(n, -1 if n == 2001 else 1) for n in range(2500)]
    write(tmp_path / "half.jsonl", rows[:2000])
    write(tmp_path / "all.jsonl", rows)
    assert call("push", "half.jsonl", "--delivery", "d1", "--json").document["accepted"] == 2000
    again = call("push", "all.jsonl", "--delivery", "d1", "--json").document
    assert (again["skipped"], again["sent"], again["accepted"]) == (2000, 500, 499)
    assert json.loads(Path("all.jsonl.rejects.jsonl").read_text())["line"] == 2002
    assert len(platform.records.stored) == 2499


def test_csv(call: Run, platform: FakePlatform, tmp_path: Path) -> None:
    (tmp_path / "staff.csv").write_text(
        "provider_record_id,subject.uscc,period,obtained_at,headcount\n"
        "1,91110000MA00000077,2024-05,2024-06-01T08:00:00+08:00,12\n"
        "2,91110000MA00000077,2024-06,2024-07-01T08:00:00+08:00,twelve\n"
    )
    done = call("push", "staff.csv", "--type", "social_insurance", "--json")
    assert done.code == 1
    found = done.document
    assert (found["sent"], found["accepted"], found["unreadable"]) == (1, 1, 1)


def test_a_header_that_is_wrong_is_wrong_use(call: Run, tmp_path: Path) -> None:
    (tmp_path / "staff.csv").write_text("heads\n1\n")
    done = call("push", "staff.csv", "--type", "social_insurance")
    assert done.code == 2
    assert "unknown column heads" in " ".join(done.err.split())
    assert "resumes it" not in done.err
    assert call("push", "none.csv", "--type", "grant").code == 2
