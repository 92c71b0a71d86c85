"""What the gateway answers itself."""

from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor import MethodDescriptor

from puhui.common.v1 import access_pb2
from puhui.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from services.gateway.routes import full_name
from services.kit.calls import roles_of
from services.kit.identity import current_caller


class GatewayServicer(gateway_pb2_grpc.GatewayServiceServicer):
    """Tells a caller who it is here.

    Args:
        methods: all that participants may call.
    """

    def __init__(self, methods: Iterable[MethodDescriptor]) -> None:
        self._roles = {full_name(method)[1:]: roles_of(method) for method in methods}

    async def WhoAmI(
        self, request: gateway_pb2.WhoAmIRequest, context: Any
    ) -> gateway_pb2.WhoAmIResponse:
        caller = current_caller()
        return gateway_pb2.WhoAmIResponse(
            participant_id=caller.participant_id,
            role=access_pb2.Role.Value(f"ROLE_{caller.role}"),
            name=caller.name,
            subject_id=caller.subject_id or "",
            methods=sorted(name for name, roles in self._roles.items() if caller.role in roles),
        )
