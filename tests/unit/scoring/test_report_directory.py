"""Names of participants: asked for once, kept, and looked for again only after a while."""

from datetime import UTC, datetime, timedelta
from typing import Any

from puhui.datashare.v1 import participants_pb2 as pb
from services.scoring.reports.directory import AGAIN, DatashareNames

NOW = datetime(2026, 5, 1, tzinfo=UTC)


class Clock:
    """A time that the test moves."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at


class Directory:
    """A channel to a datashare that lists participants two to a page."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.asked = 0

    async def unary(
        self, method: str, request: pb.ListParticipantsRequest, kind: Any, *, idempotent: bool
    ) -> pb.ListParticipantsResponse:
        self.asked += 1
        start = int(request.page_token or 0)
        page = self.names[start : start + 2]
        return pb.ListParticipantsResponse(
            participants=[pb.Participant(participant_id=f"par_{each}", name=each) for each in page],
            next_page_token=str(start + 2) if start + 2 < len(self.names) else "",
        )


async def test_names_are_found_on_every_page_and_asked_for_once() -> None:
    directory, clock = Directory("a", "b", "c"), Clock()
    names = DatashareNames(directory, clock)  # type: ignore[arg-type]  # as far as it is used
    assert await names.of({"par_a", "par_c"}) == {"par_a": "a", "par_c": "c"}
    assert await names.of({"par_b"}) == {"par_b": "b"}
    assert directory.asked == 2


async def test_who_is_not_listed_is_left_out_and_not_asked_for_with_each_report() -> None:
    directory, clock = Directory("a"), Clock()
    names = DatashareNames(directory, clock)  # type: ignore[arg-type]  # as far as it is used
    assert await names.of({"par_new"}) == {}
    directory.names.append("new")
    assert await names.of({"par_new"}) == {}
    assert directory.asked == 1
    clock.at += AGAIN + timedelta(seconds=1)
    assert await names.of({"par_new"}) == {"par_new": "new"}
