"""The caps of a sandbox at its entrance: calls that add an account."""

import contextlib
from collections.abc import AsyncIterator
from typing import Final

from services.datashare.caps.app import Capped
from services.kit.calls import Call, Endpoint
from services.kit.identity import Caller

REGISTER: Final = "/puhui.datashare.v1.ParticipantService/RegisterParticipant"


class CapGate:
    """Lets accounts be added while there is room; see `services.kit.calls.Gate`.

    Args:
        capped: the caps.
    """

    def __init__(self, capped: Capped) -> None:
        self._capped = capped

    @contextlib.asynccontextmanager
    async def enter(self, endpoint: Endpoint, caller: Caller, call: Call) -> AsyncIterator[None]:
        """Let a call in.

        Raises:
            FailedPreconditionError: SANDBOX_FULL.
        """
        if endpoint.method == REGISTER:
            await self._capped.account()
        yield
