"""Datashare's log, as far as it takes the registry's events."""

from collections.abc import Sequence
from typing import Final

from puhui.datashare.v1 import log_pb2 as pb
from services.kit.client import Channel
from services.scoring.registry.app import Leaf
from services.scoring.registry.domain import Event, content_of

METHOD: Final = "/puhui.datashare.v1.LogService/AppendLeaves"


class DatashareLog:
    """Adds leaves.

    Args:
        channel: to datashare, as scoring itself.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def append(self, events: Sequence[Event]) -> Sequence[Leaf]:
        """Add leaves for events, in their order; those that it has are returned as they are.

        Raises:
            PuhuiError: it cannot be had now, or it has another content of one of these.
        """
        request = pb.AppendLeavesRequest(
            events=[
                pb.AttestedEvent(event_id=event.event_id, content=content_of(event))
                for event in events
            ]
        )
        answer = await self._channel.unary(
            METHOD, request, pb.AppendLeavesResponse, idempotent=True
        )
        return [Leaf(leaf.leaf_id, leaf.salt, leaf.hash) for leaf in answer.leaves]
