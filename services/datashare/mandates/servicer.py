"""MandateService over gRPC."""

from datetime import datetime
from typing import Any

import grpc

from puhui.datashare.v1 import mandates_pb2 as pb
from puhui.datashare.v1 import mandates_pb2_grpc
from services.datashare.idempotency.servicer import key_of
from services.datashare.mandates.app import Mandates
from services.datashare.mandates.domain import (
    Mandate,
    MandateKind,
    Power,
    SigningRule,
    ended_at,
    state_at,
)
from services.datashare.times import stamp_of, time_of
from services.kit.clock import Clock
from services.kit.identity import current_caller
from services.kit.pages import decode_page_token, encode_page_token, page_size

_Context = grpc.aio.ServicerContext[object, object]

_POWERS = {pb.Power.Value(f"POWER_{power}"): power for power in Power}
_KINDS = {pb.MandateKind.Value(f"MANDATE_KIND_{kind}"): kind for kind in MandateKind}
_LIST = "mandates"


class MandateServicer(mandates_pb2_grpc.MandateServiceServicer):
    """Translates MandateService.

    Args:
        mandates: the use cases.
        clock: the time at which states are computed.
    """

    def __init__(self, mandates: Mandates, clock: Clock) -> None:
        self._mandates = mandates
        self._clock = clock

    async def ClaimFirm(
        self, request: pb.ClaimFirmRequest, context: _Context
    ) -> pb.ClaimFirmResponse:
        caller = current_caller()
        key = key_of(caller, request.request_id, request)
        mandate = await self._mandates.claim(caller, key, request.uscc, request.proof)
        return pb.ClaimFirmResponse(mandate=mandate_message(mandate, self._clock.now()))

    async def AppointDelegate(
        self, request: pb.AppointDelegateRequest, context: _Context
    ) -> pb.AppointDelegateResponse:
        caller = current_caller()
        mandate = await self._mandates.appoint(
            caller,
            key_of(caller, request.request_id, request),
            request.participant_id,
            frozenset(_POWERS[power] for power in request.powers),
            _time(request, "until"),
        )
        return pb.AppointDelegateResponse(mandate=mandate_message(mandate, self._clock.now()))

    async def EndMandate(
        self, request: pb.EndMandateRequest, context: _Context
    ) -> pb.EndMandateResponse:
        caller = current_caller()
        key = key_of(caller, request.request_id, request)
        mandate = await self._mandates.end(caller, key, request.mandate_id)
        return pb.EndMandateResponse(mandate=mandate_message(mandate, self._clock.now()))

    async def SetSigningRule(
        self, request: pb.SetSigningRuleRequest, context: _Context
    ) -> pb.SetSigningRuleResponse:
        caller = current_caller()
        key = key_of(caller, request.request_id, request)
        rule = await self._mandates.set_rule(caller, key, _rule(request.rule))
        return pb.SetSigningRuleResponse(rule=rule_message(rule))

    async def ListMandates(
        self, request: pb.ListMandatesRequest, context: _Context
    ) -> pb.ListMandatesResponse:
        position = decode_page_token(request.page_token, (_LIST,), (str,))
        listed = await self._mandates.list(
            current_caller(), str(position[0]) if position else "", page_size(request.page_size)
        )
        token = encode_page_token((listed.before,), (_LIST,)) if listed.before else ""
        return pb.ListMandatesResponse(
            mandates=[mandate_message(each, listed.at) for each in listed.mandates],
            rule=rule_message(listed.rule) if listed.rule else None,
            next_page_token=token,
        )


def mandate_message(mandate: Mandate, now: datetime) -> pb.Mandate:
    """Return the message of a mandate, with its state at a time."""
    ended = ended_at(mandate, now)
    return pb.Mandate(
        mandate_id=mandate.mandate_id,
        subject_id=mandate.subject_id,
        participant_id=mandate.participant_id,
        kind=pb.MandateKind.Value(f"MANDATE_KIND_{mandate.kind}"),
        powers=sorted(pb.Power.Value(f"POWER_{power}") for power in mandate.powers),
        state=pb.MandateState.Value(f"MANDATE_STATE_{state_at(mandate, now)}"),
        appointed_by=mandate.appointed_by,
        since=stamp_of(mandate.since),
        until=stamp_of(mandate.until) if mandate.until else None,
        ended_at=stamp_of(ended) if ended else None,
        proved_by=mandate.proved_by,
    )


def rule_message(rule: SigningRule) -> pb.SigningRule:
    """Return the message of a signing rule; without signers any one who may grant may sign."""
    return pb.SigningRule(signer_ids=rule.signer_ids, required=rule.required)


def _rule(message: pb.SigningRule) -> SigningRule:
    return SigningRule(tuple(message.signer_ids), message.required)


def _time(message: Any, field: str) -> datetime | None:
    return time_of(getattr(message, field), field) if message.HasField(field) else None


class MandateCodec:
    """A mandate as stored in a response."""

    def encode(self, response: Mandate) -> bytes:
        """Return the bytes of a mandate."""
        return mandate_message(response, response.since).SerializeToString()

    def decode(self, stored: bytes) -> Mandate:
        """Return the mandate of its bytes."""
        message = pb.Mandate.FromString(stored)
        return Mandate(
            mandate_id=message.mandate_id,
            subject_id=message.subject_id,
            participant_id=message.participant_id,
            kind=_KINDS[message.kind],
            powers=frozenset(_POWERS[power] for power in message.powers),
            since=time_of(message.since, "since"),
            appointed_by=message.appointed_by,
            until=_time(message, "until"),
            ended_at=_time(message, "ended_at"),
            proved_by=message.proved_by,
        )


class RuleCodec:
    """A signing rule as stored in a response."""

    def encode(self, response: SigningRule) -> bytes:
        """Return the bytes of a signing rule."""
        return rule_message(response).SerializeToString()

    def decode(self, stored: bytes) -> SigningRule:
        """Return the signing rule of its bytes."""
        return _rule(pb.SigningRule.FromString(stored))
