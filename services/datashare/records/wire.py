"""Batches and acks as messages: on the wire, and kept for a sender that lost an ack."""

import hashlib

from puhui.datashare.v1 import records_pb2
from services.datashare.records.domain import Ack, Held, Rejection


def content_sha256(batch: records_pb2.PushBatch) -> bytes:
    """Return the hash of a batch as `PushReady` tells it."""
    sequence, jws = batch.sequence, batch.jws
    batch.ClearField("sequence")
    batch.ClearField("jws")
    content = batch.SerializeToString(deterministic=True)
    batch.sequence, batch.jws = sequence, jws
    return hashlib.sha256(content).digest()


def ack_message(ack: Ack) -> records_pb2.PushAck:
    """Return the message of an ack."""
    return records_pb2.PushAck(
        sequence=ack.sequence,
        accepted=ack.accepted,
        duplicates=ack.duplicates,
        rejections=[
            records_pb2.RowRejection(row=row, reason=reason, field=field, message=message)
            for row, reason, field, message in ack.rejections
        ],
        held=[records_pb2.RowHeld(row=row, review_id=review_id) for row, review_id in ack.held],
    )


def ack_of(content: bytes) -> Ack:
    """Return the ack in a serialised message."""
    message = records_pb2.PushAck.FromString(content)
    return Ack(
        sequence=message.sequence,
        accepted=tuple(message.accepted),
        duplicates=tuple(message.duplicates),
        rejections=tuple(
            Rejection(item.row, item.reason, item.field, item.message)
            for item in message.rejections
        ),
        held=tuple(Held(item.row, item.review_id) for item in message.held),
    )
