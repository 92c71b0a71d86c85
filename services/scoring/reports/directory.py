"""The names of participants, from datashare's directory."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final

from puhui.datashare.v1 import participants_pb2 as pb
from services.kit.client import Channel
from services.kit.clock import Clock

METHOD: Final = "/puhui.datashare.v1.ParticipantService/ListParticipants"
AGAIN: Final = timedelta(minutes=1)
"""After which ids that were not in the directory are looked for again."""
_PAGE: Final = 500


class DatashareNames:
    """`app.Names` from datashare. Names never change, so those that were found are kept.

    Args:
        channel: to datashare, as scoring itself, to which firms are not listed.
        clock: the time.
    """

    def __init__(self, channel: Channel, clock: Clock) -> None:
        self._channel = channel
        self._clock = clock
        self._known: dict[str, str] = {}
        self._asked: datetime | None = None

    async def of(self, participant_ids: Collection[str]) -> Mapping[str, str]:
        """Return names by id; those that the directory does not list are left out.

        Raises:
            PuhuiError: datashare does not answer.
        """
        now = self._clock.now()
        lacking = any(each not in self._known for each in participant_ids)
        if lacking and (self._asked is None or now - self._asked >= AGAIN):
            self._known |= await self._all()
            self._asked = now
        return {each: self._known[each] for each in participant_ids if each in self._known}

    async def _all(self) -> dict[str, str]:
        found: dict[str, str] = {}
        request = pb.ListParticipantsRequest(page_size=_PAGE)
        while True:
            page = await self._channel.unary(
                METHOD, request, pb.ListParticipantsResponse, idempotent=True
            )
            found |= {each.participant_id: each.name for each in page.participants}
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token
