"""A development authority: the certificates of a sandbox, of tests and of a laptop.

It is no production authority: its key is a plain file, it keeps no register of what it issued and
publishes no revocations. Certificates are X.509 v3 on P-256. They are valid from five minutes ago,
for clocks that are a little behind. The authority may sign certificates and nothing else, and no
authority below itself; what it issues may sign no certificate and says for what it is: a client, a
server or both. Names stand in the subject alternative names, URIs such as `spiffe://puhui/gateway`
and hosts, which are all that is looked at today; the common name is for people.
"""

import base64
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.kit.clock import Clock

BACKDATED = timedelta(minutes=5)
_ORGANISATION = "Puhui development"
_COMMON_NAME_LIMIT = 64
_P256_BITS = 256


@dataclass(frozen=True)
class Issued:
    """A certificate and its key.

    Args:
        certificate: PEM.
        key: PEM, PKCS #8, not encrypted: it belongs into a file that only its owner can read.
        thumbprint: SHA-256 of the certificate's DER, base64url without padding: `x5t#S256`.
    """

    certificate: str
    key: str
    thumbprint: str


class Authority:
    """Issues certificates.

    Args:
        certificate: its own.
        key: its own.
        clock: the time from which certificates are valid.
    """

    def __init__(
        self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, clock: Clock
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._clock = clock

    @classmethod
    def create(cls, name: str, *, clock: Clock, days: int = 365) -> "Authority":
        """Return a new authority.

        Args:
            name: for people.
            clock: the time.
            days: how long its own certificate is valid.

        Raises:
            ValueError: the name or the days do not fit into a certificate.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(name)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            _builder(subject, subject, key.public_key(), clock, days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(identifier, critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key, clock)

    @classmethod
    def load(cls, certificate: str, key: str, *, clock: Clock) -> "Authority":
        """Return an authority from its PEM texts.

        Raises:
            ValueError: they are not those of an authority, or do not belong together.
        """
        try:
            read = x509.load_pem_x509_certificate(certificate.encode())
            private = load_pem_private_key(key.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError("not the PEM certificate and plain key of an authority") from None
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.key_size != _P256_BITS:
            raise ValueError("the key of a development authority is one on P-256")
        if read.public_key() != private.public_key():
            raise ValueError("the key is not that of the certificate")
        try:
            constraints = read.extensions.get_extension_for_class(x509.BasicConstraints)
        except x509.ExtensionNotFound:
            raise ValueError("the certificate is no authority's") from None
        if not constraints.value.ca:
            raise ValueError("the certificate is no authority's")
        return cls(read, private, clock)

    @property
    def certificate(self) -> str:
        """Its certificate, PEM: what others trust."""
        return _pem(self._certificate)

    @property
    def key(self) -> str:
        """Its private key, PEM: whoever has it can be anybody."""
        return _key_pem(self._key)

    def issue(
        self,
        common_name: str,
        *,
        names: Sequence[str] = (),
        hosts: Sequence[str] = (),
        days: int = 90,
        client: bool = True,
        server: bool = True,
    ) -> Issued:
        """Return a new key with its certificate, which ends no later than the authority's.

        Args:
            common_name: for people.
            names: URIs that it may call itself.
            hosts: names and addresses at which it may serve.
            days: how long it is valid.
            client: it may call.
            server: it may serve.

        Raises:
            ValueError: a name does not fit into a certificate, or it would be good for nothing.
        """
        uses = [
            *([ExtendedKeyUsageOID.CLIENT_AUTH] if client else []),
            *([ExtendedKeyUsageOID.SERVER_AUTH] if server else []),
        ]
        if not uses:
            raise ValueError("a certificate is a client's, a server's or both")
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        own = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)
        last = self._certificate.not_valid_after_utc
        builder = (
            _builder(
                _subject(common_name), self._certificate.subject, public, self._clock, days, last
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(authority, critical=False)
        )
        alternatives = [
            *(x509.UniformResourceIdentifier(name) for name in names),
            *(_host(host) for host in hosts),
        ]
        if alternatives:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), critical=False
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(_pem(certificate), _key_pem(key), thumbprint(certificate))


def thumbprint(certificate: x509.Certificate) -> str:
    """Return the `x5t#S256` of a certificate: SHA-256 of its DER, base64url without padding."""
    digest = certificate.fingerprint(hashes.SHA256())
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    clock: Clock,
    days: int,
    last: datetime | None = None,
) -> x509.CertificateBuilder:
    if days < 1:
        raise ValueError("a certificate is valid for a day at least")
    # Certificates tell seconds.
    now = clock.now().replace(microsecond=0)
    end = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(min(end, last) if last else end)
    )


def _subject(common_name: str) -> x509.Name:
    if not 0 < len(common_name) <= _COMMON_NAME_LIMIT:
        raise ValueError(f"a name in a certificate has 1 to {_COMMON_NAME_LIMIT} characters")
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
