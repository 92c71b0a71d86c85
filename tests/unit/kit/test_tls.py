"""What is said of certificates that cannot be used, at the start and later."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from services.kit.config import ConfigError, is_loopback
from services.kit.telemetry import Telemetry
from services.kit.tls import Certificates, TlsConfig, open_certificates
from tests.e2e.secured import Certified, Shifted


@pytest.fixture
def certified(tmp_path: Path) -> Certified:
    return Certified(tmp_path)


@pytest.fixture
def tls(certified: Certified) -> TlsConfig:
    return certified.workload("datashare")


def problem(tls: TlsConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        Certificates("datashare.server.tls", tls)
    return str(caught.value)


def test_all_files_are_given_or_none(tls: TlsConfig) -> None:
    assert open_certificates("x", TlsConfig(), Telemetry("test").meter) is None
    for missing in ("certificate", "key", "ca"):
        with pytest.raises(ValueError, match="all three, or none"):
            replace(tls, **{missing: None})


@pytest.mark.parametrize("part", ["certificate", "key", "ca"])
@pytest.mark.parametrize("content", [None, "", "-----BEGIN CERTIFICATE-----\nx\n"])
def test_a_file_that_cannot_be_used_is_named(
    tls: TlsConfig, part: str, content: str | None
) -> None:
    path = getattr(tls, part)
    path.unlink()
    if content is not None:
        path.write_text(content)
    said = problem(tls)
    assert str(path) in said
    assert f"datashare.server.tls.{part}" in said


def test_certificate_and_key_must_belong_together(certified: Certified, tls: TlsConfig) -> None:
    assert tls.key is not None
    tls.key.write_text(certified.participant().key)
    assert "not the key of the certificate" in problem(tls)


@pytest.mark.parametrize(("days", "said"), [(-30, "expired at"), (3, "is not valid before")])
def test_a_certificate_must_be_valid_now(certified: Certified, days: int, said: str) -> None:
    issued = certified.at(Shifted(timedelta(days=days))).issue("datashare", days=1)
    assert said in problem(certified.write("datashare", issued))


def test_what_cannot_be_used_later_leaves_what_was_there(
    certified: Certified, tls: TlsConfig
) -> None:
    certificates = Certificates("datashare.server.tls", tls)
    first = certificates.current()
    assert certificates.current() is first
    assert tls.certificate is not None
    tls.certificate.unlink()
    assert certificates.current() is first
    renewed = certified.service("datashare")
    certified.write("datashare", renewed)
    assert certificates.current().certificate == renewed.certificate.encode()


def test_it_is_measured_when_a_certificate_ends(certified: Certified, tls: TlsConfig) -> None:
    telemetry = Telemetry("test")
    certificates = open_certificates("datashare.server.tls", tls, telemetry.meter)
    assert certificates is not None
    assert tls.certificate is not None
    for issued in (None, certified.authority.issue("datashare", days=7)):
        if issued:
            certified.write("datashare", issued)
        pem = tls.certificate.read_bytes()
        ends = x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
        (line,) = [
            line
            for line in telemetry.render_metrics().decode().splitlines()
            if line.startswith("puhui_tls_certificate_ends")
        ]
        assert 'setting="datashare.server.tls"' in line
        assert float(line.rpartition(" ")[2]) == ends


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("localhost.example.cn:1", False),
    ],
)
def test_what_only_this_machine_can_reach(address: str, expected: bool) -> None:
    assert is_loopback(address) == expected
