"""What the gateway answers itself."""

from collections.abc import Sequence
from typing import Any, Protocol

from puhui.common.v1 import access_pb2
from puhui.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from services.kit.identity import Caller, current_caller


class Permissions(Protocol):
    """Tells what a participant may do here."""

    def may(self, caller: Caller) -> Sequence[str]:
        """Return the full names of the methods that it may call, sorted."""
        ...

    def held(self, caller: Caller) -> Sequence[str]:
        """Return the products that it may use."""
        ...


class GatewayServicer(gateway_pb2_grpc.GatewayServiceServicer):
    """Tells a caller who it is here.

    Args:
        permissions: what it may do.
        tenant: which this is.
    """

    def __init__(self, permissions: Permissions, tenant: str) -> None:
        self._permissions = permissions
        self._tenant = tenant

    async def WhoAmI(
        self, request: gateway_pb2.WhoAmIRequest, context: Any
    ) -> gateway_pb2.WhoAmIResponse:
        caller = current_caller()
        return gateway_pb2.WhoAmIResponse(
            participant_id=caller.participant_id,
            role=access_pb2.Role.Value(f"ROLE_{caller.role}"),
            name=caller.name,
            subject_id=caller.subject_id or "",
            person_id=caller.person_id,
            products=self._permissions.held(caller),
            tenant=self._tenant,
            methods=self._permissions.may(caller),
        )
