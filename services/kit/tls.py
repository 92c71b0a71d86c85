"""TLS of everything that listens and of everything that calls: files, checked and read anew.

A certificate is renewed by replacing its files, without a restart: the next connection has it, old
ones live on. What cannot be used is refused at the start by a ConfigError that names the file; when
it comes later it is reported in the log, and what was there before goes on serving.

TLS 1.3, or 1.2 with forward secrecy and authenticated encryption, nothing older. gRPC brings its
own TLS and negotiates X25519MLKEM768 where the other side offers it; HTTP does so where Python was
built with OpenSSL 3.5 or later.
"""

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.kit.config import ConfigError

_SUITES_OF_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"

_log = structlog.get_logger()


@dataclass(frozen=True)
class TlsConfig:
    """The files of one side of TLS; all of them, or none for no TLS.

    Args:
        certificate: PEM, its own certificate, followed by those between it and the authority.
        key: PEM, the private key of that certificate, not encrypted.
        ca: PEM, authorities from which the other side's certificate must come.
    """

    certificate: Path | None = field(
        default=None, metadata={"help": "PEM file, own certificate and its chain; none: no TLS"}
    )
    key: Path | None = field(
        default=None, metadata={"help": "PEM file, private key of the certificate"}
    )
    ca: Path | None = field(
        default=None, metadata={"help": "PEM file, authorities of the other side's certificates"}
    )

    def __post_init__(self) -> None:
        given = [self.certificate, self.key, self.ca]
        if any(given) and not all(given):
            raise ValueError("TLS needs certificate, key and ca: give all three, or none")

    @property
    def on(self) -> bool:
        """Whether there is TLS."""
        return self.certificate is not None


@dataclass(frozen=True)
class Material:
    """What the files hold, PEM.

    Args:
        certificate: own certificate and its chain.
        key: its private key.
        ca: whose certificates are trusted.
        ends: when the certificate's validity ends.
    """

    certificate: bytes
    key: bytes
    ca: bytes
    ends: datetime


class Certificates:
    """The certificate of one side, as its files have it now.

    Args:
        setting: where it is configured, such as "gateway.server.tls".
        config: the files.

    Raises:
        ConfigError: they cannot be used.
    """

    def __init__(self, setting: str, config: TlsConfig) -> None:
        if config.certificate is None or config.key is None or config.ca is None:
            raise ConfigError([f"{setting}: TLS needs certificate, key and ca: give all three"])
        self._setting = setting
        self._paths = {"certificate": config.certificate, "key": config.key, "ca": config.ca}
        # Connections are made in threads of gRPC's, too.
        self._lock = threading.Lock()
        self._seen = self._stamps()
        self._material = self._read()

    def current(self) -> Material:
        """Return what the files hold, or held last when they could be used."""
        with self._lock:
            stamps = self._stamps()
            if stamps != self._seen:
                self._seen = stamps
                try:
                    self._material = self._read()
                    _log.info("certificate renewed", setting=self._setting)
                except ConfigError as error:
                    _log.error("certificate not renewed", problems=error.problems)
            return self._material

    def watch(self, meter: Meter) -> None:
        """Measure when the certificate ends: `puhui.tls.certificate.ends`, seconds since 1970."""

        def ends(_options: CallbackOptions) -> list[Observation]:
            return [Observation(self.current().ends.timestamp(), {"setting": self._setting})]

        meter.create_observable_gauge(
            "puhui.tls.certificate.ends",
            [ends],
            unit="s",
            description="when the certificate of a setting ends, seconds since 1970",
        )

    def grpc_server(self, *, clients: bool) -> grpc.ServerCredentials:
        """Return credentials of a gRPC listener.

        Args:
            clients: a client must have a certificate of one of the authorities; else it is asked
                for none.
        """

        def given(material: Material) -> grpc.ServerCertificateConfiguration:
            pair = (material.key, material.certificate)
            return grpc.ssl_server_certificate_configuration([pair], material.ca)

        served = self.current()
        initial = given(served)

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            """Return what is new; gRPC frees what it had, even below a handshake that begins."""
            nonlocal served
            found = self.current()
            if found is served:
                return None
            served = found
            return given(found)

        # gRPC takes None for "unchanged"; its stubs do not say so.
        return grpc.dynamic_ssl_server_credentials(initial, renewed, clients)  # type: ignore[arg-type]

    def http_server(self) -> ssl.SSLContext:
        """Return the context of an HTTP listener; a client may have a certificate.

        Raises:
            ConfigError: OpenSSL cannot use the files.
        """
        return _Contexts(self.current, self._context).outer

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_SUITES_OF_1_2)
        context.set_alpn_protocols(["http/1.1"])
        # Resumed sessions would bring a certificate that nobody looked at again.
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        context.num_tickets = 0
        context.verify_mode = ssl.CERT_OPTIONAL
        try:
            context.load_cert_chain(self._paths["certificate"], self._paths["key"])
            context.load_verify_locations(self._paths["ca"])
        except (OSError, ssl.SSLError) as error:
            raise ConfigError([f"{self._setting}: OpenSSL cannot use the files: {error}"]) from None
        return context

    def _stamps(self) -> list[tuple[int, int, int]]:
        stamps = []
        for path in self._paths.values():
            try:
                found = path.stat()
                stamps.append((found.st_mtime_ns, found.st_ino, found.st_size))
            except OSError:
                stamps.append((0, 0, 0))
        return stamps

    def _read(self) -> Material:
        found, problems = {}, []
        for name, path in self._paths.items():
            try:
                found[name] = path.read_bytes()
            except OSError as error:
                problem = f"{path} cannot be read ({error.strerror}), check it"
                problems.append(f"{self._setting}.{name}: {problem}")
        if not problems:
            problems = [
                f"{self._setting}.{name}: {self._paths[name]} {problem}"
                for name, problem in _problems(found, datetime.now(UTC))
            ]
        if problems:
            raise ConfigError(problems)
        own = x509.load_pem_x509_certificate(found["certificate"])
        return Material(**found, ends=own.not_valid_after_utc)


def open_certificates(setting: str, config: TlsConfig, meter: Meter) -> Certificates | None:
    """Return the certificates that are configured, watched, or None without TLS.

    Raises:
        ConfigError: they cannot be used.
    """
    if not config.on:
        return None
    certificates = Certificates(setting, config)
    certificates.watch(meter)
    return certificates


class _Contexts:
    """A context that hands every new connection to the newest one.

    Args:
        current: tells what the files hold.
        make: makes a context of it.
    """

    def __init__(self, current: Callable[[], Material], make: Callable[[], ssl.SSLContext]) -> None:
        self._current, self._make = current, make
        self._material, self._inner = current(), make()
        self.outer = make()
        # Called with every ClientHello, also with one that names no host.
        self.outer.sni_callback = self._choose

    def _choose(
        self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        material = self._current()
        if material is not self._material:
            try:
                self._inner = self._make()
            except ConfigError as error:
                _log.error("certificate not renewed", problems=error.problems)
            self._material = material
        connection.context = self._inner


def _problems(found: dict[str, bytes], now: datetime) -> list[tuple[str, str]]:
    problems = []
    try:
        own = x509.load_pem_x509_certificates(found["certificate"])[0]
    except ValueError:
        return [("certificate", "must hold certificates in PEM")]
    if now > own.not_valid_after_utc:
        problems.append(("certificate", f"expired at {own.not_valid_after_utc}: renew it"))
    if now < own.not_valid_before_utc:
        problem = f"is not valid before {own.not_valid_before_utc}: check the clock"
        problems.append(("certificate", problem))
    try:
        key = load_pem_private_key(found["key"], None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        problems.append(("key", "must hold a private key in PEM that is not encrypted"))
    else:
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if key.public_key().public_bytes(*form) != own.public_key().public_bytes(*form):
            problems.append(("key", "is not the key of the certificate: give the two that belong"))
    try:
        x509.load_pem_x509_certificates(found["ca"])
    except ValueError:
        problems.append(("ca", "must hold certificates of authorities in PEM"))
    return problems
