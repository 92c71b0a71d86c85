"""WantedService over gRPC."""

from collections.abc import AsyncIterator

import grpc

from puhui.datashare.v1 import wanted_pb2 as pb
from puhui.datashare.v1 import wanted_pb2_grpc
from services.datashare.times import period_message, stamp_of
from services.datashare.wanted.app import TellWanted, Told
from services.kit.errors import InvalidArgumentError, invalid_field
from services.kit.identity import current_caller
from services.kit.pages import decode_page_token, encode_page_token


class WantedServicer(wanted_pb2_grpc.WantedServiceServicer):
    """Translates WantedService.

    Args:
        tell: the use case.
    """

    def __init__(self, tell: TellWanted) -> None:
        self._tell = tell

    async def StreamWanted(
        self,
        request: pb.StreamWantedRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> AsyncIterator[pb.StreamWantedResponse]:
        provider_id = current_caller().participant_id
        # Opaque, as positions would tell how much all the others are asked for.
        bound_to = ("wanted", provider_id)
        try:
            place = decode_page_token(request.cursor, bound_to, (int,))
        except InvalidArgumentError:
            problem = "is none that this stream gave you: send it as it was given, or none"
            raise invalid_field("PAGE_TOKEN_INVALID", "cursor", problem) from None
        position = int(place[0]) if place else 0
        async for page in self._tell(provider_id, position, follow=request.follow):
            yield pb.StreamWantedResponse(
                items=map(_message, page.items),
                cursor=encode_page_token((page.position,), bound_to) if page.position else "",
            )


def _message(told: Told) -> pb.Wanted:
    item = told.item
    return pb.Wanted(
        state=pb.WantedState.Value(f"WANTED_STATE_{item.state}"),
        subject_id=item.subject_id,
        uscc=told.uscc,
        record_type=item.record_type,
        period=period_message(item.period),
        consent_id=item.consent_id,
        until=stamp_of(item.until),
        since=stamp_of(item.since),
    )
