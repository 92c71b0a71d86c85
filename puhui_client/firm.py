"""Who speaks for a firm, and what is held about it."""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from puhui.datashare.v1.facts_pb2 import (
    GetFactsRequest,
    GetFactsResponse,
    HeldRecord,
    ListHeldRecordsRequest,
)
from puhui.datashare.v1.mandates_pb2 import (
    AppointDelegateRequest,
    ClaimFirmRequest,
    EndMandateRequest,
    ListMandatesRequest,
    Mandate,
    Power,
    SetSigningRuleRequest,
    SigningRule,
)
from puhui_client.base import PAGE, Methods, new_request_id
from puhui_client.values import to_timestamp

if TYPE_CHECKING:
    from puhui.datashare.v1.facts_pb2_grpc import FactServiceAsyncStub
    from puhui.datashare.v1.mandates_pb2_grpc import MandateServiceAsyncStub

PowerName = Literal["READ", "GRANT", "WITHDRAW", "DISPUTE", "SUBMIT"]
"""What an account may do for a firm."""


class FirmMethods(Methods):
    """Methods for firms about themselves."""

    _facts: "FactServiceAsyncStub"
    _mandates: "MandateServiceAsyncStub"

    async def claim_firm(self, uscc: str, proof: str, *, request_id: str | None = None) -> Mandate:
        """Become the representative of a firm; every earlier mandate of it ends.

        Args:
            uscc: the firm's registration number.
            proof: what the deployment asks for: a verifier's statement, or a code of the sandbox.
            request_id: None makes one.

        Raises:
            PermissionDeniedError: PROOF_INVALID.
            AlreadyExistsError: ALREADY_EXISTS, this account speaks for another firm.
        """
        request = ClaimFirmRequest(
            request_id=request_id or new_request_id(), uscc=uscc, proof=proof
        )
        return (await self._transport.unary(self._mandates.ClaimFirm, request)).mandate

    async def appoint_delegate(
        self,
        participant_id: str,
        powers: Iterable[PowerName],
        *,
        until: datetime | None = None,
        request_id: str | None = None,
    ) -> Mandate:
        """As the representative, let another account act for the firm.

        Args:
            participant_id: of role FIRM, and speaking for nobody yet.
            powers: what it may do.
            until: its end, aware; None is without end.
            request_id: None makes one.

        Raises:
            PermissionDeniedError: MANDATE_REQUIRED.
            AlreadyExistsError: ALREADY_EXISTS, the account speaks for a firm.
        """
        request = AppointDelegateRequest(
            request_id=request_id or new_request_id(),
            participant_id=participant_id,
            powers=[Power.Value(f"POWER_{power}") for power in powers],
            until=None if until is None else to_timestamp(until),
        )
        return (await self._transport.unary(self._mandates.AppointDelegate, request)).mandate

    async def end_mandate(self, mandate_id: str, *, request_id: str | None = None) -> Mandate:
        """End a delegate's mandate as the representative, or one's own.

        Args:
            mandate_id: of the mandate.
            request_id: None makes one.
        """
        request = EndMandateRequest(
            request_id=request_id or new_request_id(), mandate_id=mandate_id
        )
        return (await self._transport.unary(self._mandates.EndMandate, request)).mandate

    async def set_signing_rule(
        self, signer_ids: Sequence[str], required: int, *, request_id: str | None = None
    ) -> SigningRule:
        """As the representative, say how many of which accounts must agree to a consent.

        It holds for the consents that banks ask for from then on.

        Args:
            signer_ids: accounts that may grant for the firm.
            required: how many of them.
            request_id: None makes one.
        """
        rule = SigningRule(signer_ids=signer_ids, required=required)
        request = SetSigningRuleRequest(request_id=request_id or new_request_id(), rule=rule)
        return (await self._transport.unary(self._mandates.SetSigningRule, request)).rule

    async def mandates(self) -> AsyncIterator[Mandate]:
        """Go through the mandates of one's firm, newest first, also ended ones."""
        request = ListMandatesRequest(page_size=PAGE)
        async for page in self._pages(self._mandates.ListMandates, request):
            for mandate in page.mandates:
                yield mandate

    async def signing_rule(self) -> SigningRule:
        """Return the signing rule of one's firm; without signers, any who may grant may agree."""
        request = ListMandatesRequest(page_size=1)
        return (await self._transport.unary(self._mandates.ListMandates, request)).rule

    async def facts(self) -> GetFactsResponse:
        """Return what is held about one's firm, who looked, and which consents stand."""
        return await self._transport.unary(self._facts.GetFacts, GetFactsRequest())

    async def held_records(self, record_type: str = "") -> AsyncIterator[HeldRecord]:
        """Go through the records about one's firm, newest first, without names of others.

        Args:
            record_type: only of this type; "" is all.
        """
        request = ListHeldRecordsRequest(record_type=record_type, page_size=PAGE)
        async for page in self._pages(self._facts.ListHeldRecords, request):
            for record in page.records:
                yield record
