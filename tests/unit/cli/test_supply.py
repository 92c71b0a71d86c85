"""`puhui wanted` and `puhui uses`."""

import json
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from puhui.common.v1 import types_pb2
from puhui.datashare.v1 import accesses_pb2, wanted_pb2
from puhui.gateway.v1 import gateway_pb2
from tests.fakes.platform import FakePlatform, refusal
from tests.unit.cli.conftest import Run

WHO = gateway_pb2.WhoAmIResponse(participant_id="par_grid")


def item(consent: str, state: int = wanted_pb2.WANTED_STATE_DUE) -> wanted_pb2.Wanted:
    period = types_pb2.DatePeriod(to={"year": 2026, "month": 12, "day": 31})
    getattr(period, "from").CopyFrom(type(period.to)(year=2024, month=1, day=1))
    return wanted_pb2.Wanted(
        state=wanted_pb2.WantedState.ValueType(state),
        uscc="91110108MA01TE5T0X",
        record_type="utility_bill",
        period=period,
        consent_id=consent,
        since=Timestamp(seconds=1_700_000_000),
    )


def page(cursor: str, *items: wanted_pb2.Wanted) -> wanted_pb2.StreamWantedResponse:
    return wanted_pb2.StreamWantedResponse(items=items, cursor=cursor)


def test_it_lists_and_remembers_where_it_was(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    kept = tmp_path / "wanted.cursor"
    platform.answer(
        "StreamWanted",
        [page("2", item("con_1"), item("con_2"))],
        [page("3", item("con_1", wanted_pb2.WANTED_STATE_ENDED))],
        [],
    )
    shown = call("wanted", "--cursor-file", str(kept)).out
    for part in ("2 items", "91110108MA01TE5T0X", "due", "utility_bill", "2024-01-01", "con_2"):
        assert part in shown
    assert kept.read_text() == "2\n"
    assert "ended" in call("wanted", "--cursor-file", str(kept)).out
    document = call("wanted", "--cursor-file", str(kept), "--json").document
    assert document == {"wanted": [], "cursor": "3"}
    assert kept.read_text() == "3\n"
    asked = [request.cursor for request in platform.requests("StreamWanted")]
    assert asked == ["", "2", "3"]


def test_who_follows_gets_a_line_for_each(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    kept = tmp_path / "wanted.cursor"
    gone = refusal("PERMISSION_DENIED", "PARTICIPANT_SUSPENDED")
    platform.answer("StreamWanted", [page("2", item("con_1")), page("3", item("con_2")), gone])
    outcome = call("wanted", "--follow", "--cursor-file", str(kept))
    told = outcome.out.splitlines()
    assert outcome.code == 1
    assert [line.split()[-1] for line in told] == ["con_1", "con_2"]
    assert kept.read_text() == "3\n"
    lines = call("wanted", "--follow", "--json").out.splitlines()
    assert [json.loads(line)["cursor"] for line in lines[:2]] == ["2", "3"]


def test_uses(call: Run, platform: FakePlatform) -> None:
    platform.answer("WhoAmI", WHO)
    use = accesses_pb2.Use(record_type="utility_bill", purpose="credit_application", count=1200)
    use.day.year, use.day.month, use.day.day = 2024, 5, 2
    platform.answer("ListUses", accesses_pb2.ListUsesResponse(uses=[use, use]))
    shown = call("uses", "--from", "2024-05-01", "--limit", "1").out
    for part in ("1,200 releases", "2024-05-02", "utility_bill", "credit_application"):
        assert part in shown
    document = call("uses", "--provider", "par_tax", "--json").document
    assert (document["provider_id"], len(document["uses"])) == ("par_tax", 2)
    first, second = platform.requests("ListUses")
    assert (first.provider_id, second.provider_id) == ("par_grid", "par_tax")
    assert call("uses", "--from", "2024-05-02", "--to", "2024-05-01").code == 2
