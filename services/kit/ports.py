"""Ports to listen on that stay free until somebody does."""

import secrets
import socket
from contextlib import suppress

# Linux gives outgoing connections ports from 32,768.
_BELOW_EPHEMERAL = range(20_000, 32_768)


def free_port(host: str) -> int:
    """Return a port that nobody listens on and that no connection is given meanwhile.

    One that a connection may be given could even become the end of a client that calls it while
    nobody listens there.

    Args:
        host: an IP address or a name of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        port = _BELOW_EPHEMERAL[0] + secrets.randbelow(len(_BELOW_EPHEMERAL))
        with suppress(OSError), socket.create_server((host, port), family=family):
            return port
