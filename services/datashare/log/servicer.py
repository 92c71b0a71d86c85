"""LogService over gRPC."""

import hashlib
from datetime import UTC

import grpc

from puhui.datashare.v1 import log_pb2 as pb
from puhui.datashare.v1 import log_pb2_grpc
from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.app import Attested, AttestEvents
from services.datashare.log.domain import SALT_BYTES, Leaf, LeafKind
from services.datashare.times import stamp_of
from services.kit.identity import current_caller


class LeafCodec:
    """Leaves of models' events as bytes."""

    def encode(self, response: Leaf) -> bytes:
        """Return the bytes of a leaf."""
        leaf = pb.Leaf(leaf_id=response.leaf_id, kind=response.kind, hash=response.hash)
        leaf.created_at.CopyFrom(stamp_of(response.created_at))
        return response.salt + leaf.SerializeToString()

    def decode(self, stored: bytes) -> Leaf:
        """Return the leaf of its bytes."""
        salt, leaf = stored[:SALT_BYTES], pb.Leaf.FromString(stored[SALT_BYTES:])
        created_at = leaf.created_at.ToDatetime(tzinfo=UTC)
        return Leaf(leaf.leaf_id, created_at, LeafKind(leaf.kind), salt, leaf.hash)


class LogServicer(log_pb2_grpc.LogServiceServicer):
    """Translates LogService.

    Args:
        attest: the use case of adding leaves.
    """

    def __init__(self, attest: AttestEvents) -> None:
        self._attest = attest

    async def AppendLeaves(
        self,
        request: pb.AppendLeavesRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> pb.AppendLeavesResponse:
        caller_id = current_caller().participant_id
        events = []
        for event in request.events:
            content = event.content.encode()
            digest = hashlib.sha256(content).digest()
            events.append(Attested(RequestKey(caller_id, event.event_id, digest), content))
        leaves = await self._attest(events)
        return pb.AppendLeavesResponse(
            leaves=[
                pb.SaltedLeaf(leaf_id=leaf.leaf_id, salt=leaf.salt, hash=leaf.hash)
                for leaf in leaves
            ]
        )
