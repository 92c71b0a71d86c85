"""Which of Puhui's own services may call which method of another.

A workload is named by the SPIFFE id in its certificate, `spiffe://puhui/gateway`. Who may call a
method follows from the roles beside it in the .proto: participants come through the gateway and so
does what is its own, what is scoring's comes from scoring. That holds for every call, also for one
that travels with others, and before anything of it is believed: an assertion that was stolen is of
no use to a workload that may not pass it on. A certificate that proves a participant, or nobody of
ours, may call nothing.
"""

import re
from functools import lru_cache

from services.kit.calls import Peer
from services.kit.config import is_loopback
from services.kit.errors import PermissionDeniedError
from services.kit.server import ServerConfig

TRUST_DOMAIN = "puhui"
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SCHEME = "spiffe://"
_GATEWAY, _SCORING = "gateway", "scoring"
_OF_SCORING = "SCORING"


def check_internal(server: ServerConfig, trust_domain: str, *, production: bool) -> None:
    """Check how a service behind the gateway listens.

    Args:
        server: its listener.
        trust_domain: of the SPIFFE ids of those who may call it.
        production: it is no sandbox.

    Raises:
        ValueError: others than Puhui's own services could call it, or read what is said.
    """
    if not _TRUST_DOMAIN.fullmatch(trust_domain):
        raise ValueError("trust_domain must be a name such as puhui or puhui.example.cn")
    if production and not server.tls.on and not is_loopback(server.listen):
        raise ValueError(
            "server.tls must be set in production where server.listen is no address of this "
            "machine alone, such as 127.0.0.1:50051"
        )
    if production and server.tls.on and server.reflection:
        raise ValueError("server.reflection must be false in production")


def spiffe_id(trust_domain: str, service: str) -> str:
    """Return the SPIFFE id of a service."""
    return f"{_SCHEME}{trust_domain}/{service}"


class Workloads:
    """Admits the workloads of a method.

    Args:
        trust_domain: of the SPIFFE ids of Puhui's services.
    """

    def __init__(self, trust_domain: str) -> None:
        self._gateway = spiffe_id(trust_domain, _GATEWAY)
        self._scoring = spiffe_id(trust_domain, _SCORING)
        self.callers = lru_cache(maxsize=None)(self._callers)

    def check(self, method: str, roles: frozenset[str], peer: Peer | None) -> None:
        """Admit a call.

        Args:
            method: full name.
            roles: who may call it.
            peer: the other end of the connection.

        Raises:
            PermissionDeniedError: WORKLOAD_NOT_ALLOWED.
        """
        # An SVID has one URI; with several it could not be told who is calling.
        if peer is None or len(peer.names) != 1 or peer.names[0] not in self.callers(roles):
            raise PermissionDeniedError(
                "WORKLOAD_NOT_ALLOWED",
                f"{method} is not for this workload: it is called by "
                f"{' or '.join(sorted(self.callers(roles))) or 'nobody'}, by its own certificate",
            )

    def _callers(self, roles: frozenset[str]) -> frozenset[str]:
        scoring = frozenset({self._scoring} if _OF_SCORING in roles else ())
        gateway = frozenset({self._gateway} if roles - {_OF_SCORING} else ())
        return scoring | gateway
