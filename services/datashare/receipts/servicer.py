"""ReceiptService over gRPC."""

import grpc

from puhui.datashare.v1 import receipts_pb2 as pb
from puhui.datashare.v1 import receipts_pb2_grpc
from services.datashare.receipts.app import PlatformKeys
from services.datashare.times import stamp_of

_Context = grpc.aio.ServicerContext[object, object]


class ReceiptServicer(receipts_pb2_grpc.ReceiptServiceServicer):
    """Translates ReceiptService.

    Args:
        keys: the use case.
    """

    def __init__(self, keys: PlatformKeys) -> None:
        self._keys = keys

    async def ListPlatformKeys(
        self, request: pb.ListPlatformKeysRequest, context: _Context
    ) -> pb.ListPlatformKeysResponse:
        return pb.ListPlatformKeysResponse(
            keys=[
                pb.PlatformKey(
                    key_id=known.key.key_id,
                    public_jwk=known.key.public_jwk,
                    suite=known.key.suite,
                    since=stamp_of(known.since),
                )
                for known in await self._keys.list()
            ]
        )
