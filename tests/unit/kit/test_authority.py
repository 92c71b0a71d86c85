import base64
import hashlib
import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from services.kit.authority import Authority, Issued
from services.kit.clock import FixedClock

NOW = datetime(2026, 11, 23, 21, 5, 7, 250_000, tzinfo=UTC)
URI = "spiffe://puhui/gateway"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("Puhui sandbox", clock=FixedClock(NOW))


def read(issued: Issued) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issued.certificate.encode())


def test_what_it_issues_is_signed_by_it_and_has_its_key(authority: Authority) -> None:
    issued = authority.issue("gateway", names=[URI], hosts=["gateway.puhui", "127.0.0.1", "::1"])
    certificate = read(issued)
    certificate.verify_directly_issued_by(
        x509.load_pem_x509_certificate(authority.certificate.encode())
    )
    key = load_pem_private_key(issued.key.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert key.public_key() == certificate.public_key()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [URI]
    assert names.get_values_for_type(x509.DNSName) == ["gateway.puhui"]
    addresses = names.get_values_for_type(x509.IPAddress)
    assert addresses == [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]


def test_the_thumbprint_is_that_of_rfc_8705(authority: Authority) -> None:
    issued = authority.issue("bank")
    der = read(issued).public_bytes(Encoding.DER)
    expected = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
    assert issued.thumbprint == expected


def test_it_is_valid_a_little_before_now_and_for_its_days(authority: Authority) -> None:
    certificate = read(authority.issue("bank", days=30))
    second = NOW.replace(microsecond=0)
    assert certificate.not_valid_before_utc == second - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == second + timedelta(days=30)


def test_nothing_outlives_the_authority() -> None:
    authority = Authority.create("short", clock=FixedClock(NOW), days=10)
    own = x509.load_pem_x509_certificate(authority.certificate.encode())
    certificate = read(authority.issue("bank", days=400))
    assert certificate.not_valid_after_utc == own.not_valid_after_utc


@pytest.mark.parametrize(
    ("client", "server", "uses"),
    [
        (True, False, {ExtendedKeyUsageOID.CLIENT_AUTH}),
        (False, True, {ExtendedKeyUsageOID.SERVER_AUTH}),
        (True, True, {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}),
    ],
)
def test_it_says_for_what_it_is(
    authority: Authority, client: bool, server: bool, uses: set[x509.ObjectIdentifier]
) -> None:
    certificate = read(authority.issue("bank", client=client, server=server))
    found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert set(found.value) == uses
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign


def test_only_the_authority_may_sign_certificates_and_none_below_it(authority: Authority) -> None:
    own = x509.load_pem_x509_certificate(authority.certificate.encode())
    constraints = own.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = own.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature
    leaf = read(authority.issue("bank")).extensions.get_extension_for_class(x509.BasicConstraints)
    assert not leaf.value.ca


def test_a_strict_verifier_accepts_the_chain_over_a_handshake(
    authority: Authority, tmp_path: Path
) -> None:
    authority = Authority.create("now", clock=FixedClock(datetime.now(UTC)))
    for name in ("server", "client"):
        issued = authority.issue(name, hosts=["localhost"])
        (tmp_path / f"{name}.pem").write_text(issued.certificate + issued.key)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.certificate)
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= ssl.VERIFY_X509_STRICT
    server.load_cert_chain(tmp_path / "server.pem")
    client = ssl.create_default_context(cadata=authority.certificate)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_cert_chain(tmp_path / "client.pem")
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(here, there, server_hostname="localhost")
    serving = server.wrap_bio(there, here, server_side=True)
    for _ in range(3):
        for side in (caller, serving):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert caller.getpeercert()
    assert serving.getpeercert()


def test_it_can_be_kept_in_files(authority: Authority) -> None:
    again = Authority.load(authority.certificate, authority.key, clock=FixedClock(NOW))
    read(again.issue("bank")).verify_directly_issued_by(
        x509.load_pem_x509_certificate(authority.certificate.encode())
    )


def test_it_is_not_loaded_from_what_is_no_authority(authority: Authority) -> None:
    issued, other = authority.issue("bank"), authority.issue("other")
    clock = FixedClock(NOW)
    with pytest.raises(ValueError, match="no authority's"):
        Authority.load(issued.certificate, issued.key, clock=clock)
    with pytest.raises(ValueError, match="not that of the certificate"):
        Authority.load(authority.certificate, other.key, clock=clock)
    with pytest.raises(ValueError, match="not the PEM"):
        Authority.load("x", authority.key, clock=clock)


def test_it_refuses_what_no_certificate_can_say(authority: Authority) -> None:
    with pytest.raises(ValueError, match="client's, a server's or both"):
        authority.issue("bank", client=False, server=False)
    with pytest.raises(ValueError, match="1 to 64"):
        authority.issue("b" * 65)
    with pytest.raises(ValueError, match="a day at least"):
        authority.issue("bank", days=0)
