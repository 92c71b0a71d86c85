"""Certificates and keys that are taken, and those that are not."""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from joserfc.jwk import ECKey, OKPKey, RSAKey

from services.datashare.credentials.certificates import certificate as parse
from services.datashare.credentials.domain import (
    Kind,
    PersonAccount,
    PersonIds,
    bootstrap_account,
)
from services.datashare.credentials.keys import assertion_key
from services.kit.errors import InvalidArgumentError
from tests.fakes.certificates import certificate

NOW = datetime.now(UTC)


def refused(text: str, kind: str = "certificate_pem") -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        parse(text, NOW) if kind == "certificate_pem" else assertion_key(text)
    assert caught.value.reason == "FIELD_INVALID"
    assert [problem.field for problem in caught.value.fields] == [kind]
    return caught.value.message


def weak_rsa() -> dict[str, str]:
    modulus = rsa.generate_private_key(65537, 1024).public_key().public_numbers().n
    text = base64.urlsafe_b64encode(modulus.to_bytes(128)).rstrip(b"=").decode()
    return {"kty": "RSA", "e": "AQAB", "n": text}


class TestCertificates:
    def test_it_is_known_by_the_hash_of_its_der(self) -> None:
        pem = certificate(authority=False, uses=[ExtendedKeyUsageOID.CLIENT_AUTH])
        claim = parse(pem, NOW)
        der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
        digest = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
        assert (claim.kind, claim.identity) == (Kind.CERTIFICATE, digest)
        assert claim.ends_at == x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc

    @pytest.mark.parametrize(
        ("problem", "made"),
        [
            ("an authority's", {"authority": True}),
            ("sign other certificates", {"signs_certificates": True}),
            ("has expired", {"ends": NOW - timedelta(seconds=10)}),
            ("not valid yet", {"begins": NOW + timedelta(hours=1)}),
            ("not for TLS clients", {"uses": [ExtendedKeyUsageOID.SERVER_AUTH]}),
            ("too weak", {"key": rsa.generate_private_key(65537, 1024)}),
            ("of another kind", {"key": ec.generate_private_key(ec.SECP256K1())}),
        ],
    )
    def test_what_is_wrong_with_one_is_said(self, problem: str, made: dict[str, Any]) -> None:
        assert problem in refused(certificate(**made))

    def test_no_private_key_is_taken_and_one_certificate_at_a_time(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        assert "private key" in refused(certificate(key=key) + secret)
        assert "holds 2 certificates" in refused(certificate() + certificate())

    @pytest.mark.parametrize(
        "text",
        ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "\x00", "中"],
    )
    def test_what_is_no_certificate_is_refused(self, text: str) -> None:
        assert "no certificate" in refused(text)


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        [
            OKPKey.generate_key("Ed25519"),
            ECKey.generate_key("P-256"),
            RSAKey.generate_key(2048),
        ],
    )
    def test_a_key_has_one_spelling_and_is_named_by_its_thumbprint(self, key: Any) -> None:
        said = {**key.as_dict(private=False), "kid": "mine", "alg": "x"}
        claim = assertion_key(json.dumps(said))
        assert claim.identity == key.thumbprint()
        assert claim == assertion_key(claim.public_jwk)
        assert set(json.loads(claim.public_jwk)) <= {"kty", "crv", "x", "y", "e", "n"}

    @pytest.mark.parametrize(
        ("problem", "jwk"),
        [
            ("private", RSAKey.generate_key(2048).as_dict(private=True)),
            ("private", OKPKey.generate_key("Ed25519").as_dict(private=True)),
            ("too weak", weak_rsa()),
            ("too weak", {**RSAKey.generate_key(2048).as_dict(private=False), "e": "Aw"}),
            ("no `n`", {"kty": "RSA", "e": "AQAB"}),
            ("not for signing", {"kty": "RSA", "use": "enc"}),
            ("another kind", ECKey.generate_key("P-384").as_dict(private=False)),
            ("private", {"kty": "oct", "k": "AAAA"}),
        ],
    )
    def test_what_is_wrong_with_one_is_said(self, problem: str, jwk: dict[str, Any]) -> None:
        assert problem in refused(json.dumps(jwk), "public_jwk")

    @pytest.mark.parametrize("text", ["", "[]", "1", "{", "[" * 4000])
    def test_what_is_no_key_is_refused(self, text: str) -> None:
        refused(text, "public_jwk")

    def test_ed25519_is_generated_as_this_test_thinks(self) -> None:
        raw = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        claim = assertion_key(json.dumps({"kty": "OKP", "crv": "Ed25519", "x": x}))
        assert json.loads(claim.public_jwk)["x"] == x


class TestPersons:
    def test_an_id_is_of_one_account_and_needs_the_key(self) -> None:
        ids, person = PersonIds(b"k" * 32), PersonAccount("https://id.example", "li")
        assert ids.of(person) == ids.of(PersonAccount("https://id.example", "li"))
        others = {
            ids.of(PersonAccount("https://id.example", "wang")),
            ids.of(PersonAccount("https://id.examplel", "i")),
            PersonIds(b"j" * 32).of(person),
        }
        assert len(others) == 3
        assert ids.of(person) not in others

    def test_accounts_of_the_configuration(self) -> None:
        account = bootstrap_account("https://id.example 24 82")
        assert account == PersonAccount("https://id.example", "24 82")
        for wrong in ("", "https://id.example", " x", "x "):
            with pytest.raises(ValueError, match="issuer subject"):
                bootstrap_account(wrong)
