"""NoticeService over gRPC."""

from collections.abc import AsyncIterator

import grpc

from puhui.datashare.v1 import notices_pb2 as pb
from puhui.datashare.v1 import notices_pb2_grpc
from services.datashare.notices.app import TellNotices, Told
from services.datashare.times import stamp_of
from services.kit.errors import InvalidArgumentError, invalid_field
from services.kit.identity import Caller, current_caller
from services.kit.pages import DEFAULT_PAGE_SIZE, decode_page_token, encode_page_token


class NoticeServicer(notices_pb2_grpc.NoticeServiceServicer):
    """Translates NoticeService.

    Args:
        tell: the notices.
    """

    def __init__(self, tell: TellNotices) -> None:
        self._tell = tell

    async def StreamNotices(
        self,
        request: pb.StreamNoticesRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> AsyncIterator[pb.StreamNoticesResponse]:
        caller = current_caller()
        position = _position(caller, request.cursor) if request.cursor else None
        async for page in self._tell.stream(caller, position, follow=request.follow):
            yield pb.StreamNoticesResponse(
                notices=map(_message, page.notices), cursor=_cursor(caller, page.position)
            )

    async def ListNotices(
        self,
        request: pb.ListNoticesRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> pb.ListNoticesResponse:
        caller = current_caller()
        page = await self._tell.list(caller, request.page_size or DEFAULT_PAGE_SIZE)
        return pb.ListNoticesResponse(
            notices=map(_message, page.notices), cursor=_cursor(caller, page.position)
        )

    async def AcknowledgeNotices(
        self,
        request: pb.AcknowledgeNoticesRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> pb.AcknowledgeNoticesResponse:
        caller = current_caller()
        await self._tell.acknowledge(caller, _position(caller, request.cursor))
        return pb.AcknowledgeNoticesResponse()


def _bound_to(caller: Caller) -> tuple[str, str]:
    """Return what a cursor is of: all who act for a firm share its notices, and their cursors."""
    return "notices", caller.subject_id or caller.participant_id


def _cursor(caller: Caller, position: int) -> str:
    # Opaque, as positions would tell how much all the others are told.
    return encode_page_token((position,), _bound_to(caller)) if position else ""


def _position(caller: Caller, cursor: str) -> int:
    try:
        place = decode_page_token(cursor, _bound_to(caller), (int,))
    except InvalidArgumentError:
        problem = "is none that these notices gave you: send it as it was given, or none"
        raise invalid_field("PAGE_TOKEN_INVALID", "cursor", problem) from None
    return int(place[0]) if place else 0


def _message(told: Told) -> pb.Notice:
    notice, words = told.entry.notice, told.words
    return pb.Notice(
        notice_id=told.entry.notice_id,
        kind=pb.NoticeKind.Value(f"NOTICE_KIND_{notice.kind}"),
        occurred_at=stamp_of(notice.occurred_at),
        subject_id=notice.subject_id,
        consent_id=notice.consent_id,
        dispute_id=notice.dispute_id,
        record_type=notice.record_type,
        participant_id=notice.participant_id,
        mandate_id=notice.mandate_id,
        due_at=stamp_of(notice.due_at) if notice.due_at else None,
        text_zh=words.zh,
        text_en=words.en,
    )
