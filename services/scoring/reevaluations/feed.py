"""Datashare's feed of changes, as far as it speaks of corrected and disputed records."""

from datetime import UTC
from typing import Final

from puhui.datashare.v1 import changes_pb2 as pb
from services.kit.client import Channel
from services.scoring.reevaluations.app import Read
from services.scoring.reevaluations.domain import Cause, Correction, Standing

METHOD: Final = "/puhui.datashare.v1.ChangeService/ListChanges"
PAGE: Final = 1_000
_STANDS: Final = {
    pb.CHANGE_KIND_DISPUTE_OPENED: True,
    pb.CHANGE_KIND_DISPUTE_CLOSED: False,
    pb.CHANGE_KIND_RECORD_ERASED: False,  # of everything about a subject, where it has no type
}
_CAUSES: Final = {pb.ChangeKind.Value(f"CHANGE_KIND_{cause}"): cause for cause in Cause}


class DatashareFeed:
    """Reads the feed.

    Args:
        channel: to datashare, as scoring itself.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def after(self, cursor: str) -> Read:
        """Return what follows a cursor; the same cursor where nothing does.

        Raises:
            PuhuiError: it cannot be read.
        """
        request = pb.ListChangesRequest(cursor=cursor, page_size=PAGE)
        answer = await self._channel.unary(METHOD, request, pb.ListChangesResponse, idempotent=True)
        corrections = [
            Correction(
                change.subject_id,
                change.record_type,
                change.participant_id,
                change.changed_at.ToDatetime(tzinfo=UTC),
                _CAUSES[change.kind],
            )
            for change in answer.changes
            if change.kind in _CAUSES
        ]
        disputes = [
            Standing(
                change.dispute_id,
                change.subject_id,
                change.record_type,
                change.participant_id,
                _STANDS[change.kind],
            )
            for change in answer.changes
            if change.kind in _STANDS and (change.dispute_id or not change.record_type)
        ]
        return Read(corrections, disputes, answer.next_cursor)
