"""ChangeService over gRPC."""

import grpc

from puhui.datashare.v1 import changes_pb2 as pb
from puhui.datashare.v1 import changes_pb2_grpc
from services.datashare.changes.app import Feed
from services.datashare.changes.domain import Change
from services.datashare.times import stamp_of


class ChangeServicer(changes_pb2_grpc.ChangeServiceServicer):
    """Translates ChangeService.

    Args:
        feed: the use case.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    async def ListChanges(
        self,
        request: pb.ListChangesRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> pb.ListChangesResponse:
        entries, cursor = await self._feed.list(request.cursor, request.page_size)
        return pb.ListChangesResponse(
            changes=[_message(entry.change) for entry in entries], next_cursor=cursor
        )


def _message(change: Change) -> pb.Change:
    return pb.Change(
        kind=pb.ChangeKind.Value(f"CHANGE_KIND_{change.kind}"),
        changed_at=stamp_of(change.changed_at),
        subject_id=change.subject_id,
        consent_id=change.consent_id,
        participant_id=change.participant_id,
        key_id=change.key_id,
        record_type=change.record_type,
        dispute_id=change.dispute_id,
    )
