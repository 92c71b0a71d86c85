"""FactService over gRPC."""

import grpc
from google.protobuf.message import Message

from puhui.datashare.v1 import facts_pb2 as pb
from puhui.datashare.v1 import facts_pb2_grpc, records_pb2
from services.datashare.access.servicer import access_messages
from services.datashare.consent.domain import Period
from services.datashare.consent.servicer import consent_message
from services.datashare.disputes.servicer import dispute_message
from services.datashare.facts.app import Position, TellFacts
from services.datashare.facts.domain import Holding, Told, kept_because
from services.datashare.records.payloads import hidden_fields
from services.datashare.times import date_message, period_message, stamp_of
from services.kit.db import from_microseconds, to_microseconds
from services.kit.identity import current_caller
from services.kit.pages import decode_page_token, encode_page_token, page_size

_Context = grpc.aio.ServicerContext[object, object]

_TOKENS = {name: tuple(token for _, token in pairs) for name, pairs in hidden_fields().items()}


class FactServicer(facts_pb2_grpc.FactServiceServicer):
    """Translates FactService.

    Args:
        tell: the use cases.
    """

    def __init__(self, tell: TellFacts) -> None:
        self._tell = tell

    async def GetFacts(self, request: pb.GetFactsRequest, context: _Context) -> pb.GetFactsResponse:
        facts = await self._tell(current_caller())
        return pb.GetFactsResponse(
            subject_id=facts.subject_id,
            read_at=stamp_of(facts.read_at),
            holdings=[_holding(holding) for holding in facts.holdings],
            accesses=access_messages(facts.accesses),
            releases=facts.releases,
            refusals=facts.refusals,
            consents=[
                pb.StandingConsent(
                    consent=consent_message(standing.consent, facts.read_at),
                    recipient_name=standing.recipient_name,
                    effect_zh=standing.effect.zh,
                    effect_en=standing.effect.en,
                )
                for standing in facts.consents
            ],
            disputes=[dispute_message(dispute, facts.read_at) for dispute in facts.disputes],
            views=[
                pb.OwnView(
                    viewed_at=stamp_of(view.viewed_at),
                    participant_id=view.participant_id,
                    principal_id=view.principal_id,
                    what=view.what,
                )
                for view in facts.views
            ],
        )

    async def ListHeldRecords(
        self, request: pb.ListHeldRecordsRequest, context: _Context
    ) -> pb.ListHeldRecordsResponse:
        bound_to = ("held records", request.record_type)
        position = decode_page_token(request.page_token, bound_to, (int, int, str, str, str))
        after = None
        if position:
            held_at, recorded_at, *names = position
            after = Position(
                from_microseconds(int(held_at)),
                from_microseconds(int(recorded_at)),
                *map(str, names),
            )
        records, behind = await self._tell.records(
            current_caller(), request.record_type, after, page_size(request.page_size)
        )
        token = ""
        if behind:
            times = to_microseconds(behind.held_at), to_microseconds(behind.recorded_at)
            token = encode_page_token((*times, *behind[2:]), bound_to)
        return pb.ListHeldRecordsResponse(
            records=[_held(told) for told in records], next_page_token=token
        )


def _holding(holding: Holding) -> pb.Holding:
    held, policy = holding.held, holding.policy
    kept = kept_because(policy)
    return pb.Holding(
        record_type=held.record_type,
        title_zh=policy.title.zh,
        title_en=policy.title.en,
        provider_id=held.provider_id,
        provider_name=holding.provider_name,
        records=held.records,
        first=date_message(held.first),
        last=date_message(held.last),
        last_received_at=stamp_of(held.received_at),
        sharing=policy.sharing_mode.name,
        legal_basis=policy.legal_basis,
        kept_because_zh=kept.zh,
        kept_because_en=kept.en,
    )


def _held(told: Told) -> pb.HeldRecord:
    held = told.record
    message = records_pb2.Record(
        provider_record_id=held.provider_record_id,
        record_type=held.record_type,
        obtained_at=stamp_of(held.obtained_at),
        version=held.version,
        status=records_pb2.RECORD_STATUS_ACTIVE,
        schema_version=held.schema_version,
        recorded_at=stamp_of(held.recorded_at),
        known_at=stamp_of(held.known_at),
    )
    if held.first == held.last:
        message.date.CopyFrom(date_message(held.first))
    else:
        message.period.CopyFrom(period_message(Period(held.first, held.last)))
    payload: Message = getattr(message, held.record_type)
    payload.SetInParent()
    payload.ParseFromString(held.payload)
    # Names of others are not kept; by their tokens, what is told to others could be linked.
    for token in _TOKENS[held.record_type]:
        payload.ClearField(token)
    return pb.HeldRecord(
        provider_id=held.provider_id,
        recorded_at=stamp_of(held.recorded_at),
        record=message,
        disputes=[dispute_message(dispute, told.read_at) for dispute in told.disputes],
    )
