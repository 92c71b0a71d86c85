"""Who is at the other end of a connection, by the certificate that TLS verified.

TLS proved when the connection was made that the certificate chains to a trusted authority and that
the other side has its key. A connection may outlive its certificate: from then on it proves nobody.
"""

import base64
import functools
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from services.kit.calls import Peer

_PEM = b"-----BEGIN"


def peer_of(certificate: bytes, now: datetime) -> Peer | None:
    """Return whom a verified certificate names, None before and after it is valid.

    Args:
        certificate: DER or PEM; of a chain in PEM the first.
        now: the time.
    """
    peer, begins, ends = _read(certificate)
    return peer if begins <= now.timestamp() <= ends else None


# As many as participants and workloads may well have connections: a call costs a look-up.
@functools.lru_cache(maxsize=4_096)
def _read(certificate: bytes) -> tuple[Peer, float, float]:
    pem = certificate.startswith(_PEM)
    load = x509.load_pem_x509_certificate if pem else x509.load_der_x509_certificate
    read = load(certificate)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(read.public_bytes(Encoding.DER))
    thumbprint = base64.urlsafe_b64encode(digest.finalize()).rstrip(b"=").decode()
    return (
        Peer(thumbprint, _uris(read)),
        read.not_valid_before_utc.timestamp(),
        read.not_valid_after_utc.timestamp(),
    )


def _uris(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
