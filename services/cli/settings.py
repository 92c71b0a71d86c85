"""Where the gateway is and what calls prove who makes them with.

In this order: options; a profile that an option names; the environment (PUHUI_GATEWAY,
PUHUI_API_KEY); the profile that is there anyway; at last, for the gateway, the platform that `puhui
serve all` runs in `.puhui`. Secrets come from the environment
or from files, never from options, which other users of the machine can see.

An institution's profile has its certificate and the key that its tokens are got with:

    gateway = "gateway.example:7444"
    issuer = "https://gateway.example:7481"
    client_id = "par_..."
    client_key_file = "client.pem"
    certificate_file = "bank.crt"
    certificate_key_file = "bank.key"
    ca_file = "ca.crt"

With these, no API key is used or needed. Where there are neither and somebody signed in by
`puhui login`, that counts.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from services.kit.config import is_loopback

DEFAULT_DATA_DIR = Path(".puhui")
DEFAULT_TIMEOUT = 30.0


class SettingsError(Exception):
    """A setting is missing or wrong; the message names it and the remedy."""


@dataclass(frozen=True)
class Options:
    """What the command line said.

    Args:
        gateway: "host:port".
        key_file: file with an API key.
        data_dir: folder of an embedded platform, whose gateway and operator's key are used.
        profile: TOML file.
        ca_file: certificates that sign the gateway's.
        timeout: seconds for a call.
    """

    gateway: str | None = None
    key_file: Path | None = None
    data_dir: Path | None = None
    profile: Path | None = None
    ca_file: Path | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class Settings:
    """What a call needs.

    Args:
        gateway: "host:port".
        api_key: "<key_id>.<secret>"; empty where `client` is there.
        ca: certificates that sign the gateway's, PEM; None is plaintext.
        timeout: seconds for a call.
        client: of an institution.
        login: file that `puhui login` wrote, where that counts.
    """

    gateway: str
    api_key: str
    ca: bytes | None
    timeout: float
    client: "ClientSettings | None" = None
    login: Path | None = None


@dataclass(frozen=True)
class ClientSettings:
    """What an institution comes in with. The rest is PEM.

    Args:
        issuer: URL of the gateway as issuer.
        client_id: the participant_id.
        key: signs its assertions.
        certificate: its own.
        certificate_key: of the certificate.
    """

    issuer: str
    client_id: str
    key: str
    certificate: str
    certificate_key: str


def resolve(options: Options, environ: Mapping[str, str]) -> Settings:
    """Return the settings that options, environment and profile make.

    Raises:
        SettingsError: one is missing or wrong.
    """
    profile = _profile(options, environ)
    if options.profile:
        environ = {k: v for k, v in environ.items() if k not in _OVER_PROFILES}
    explicit = options.key_file or options.data_dir or environ.get("PUHUI_API_KEY")
    client = None if explicit else _client(profile)
    login = None if explicit or client or profile.key_file else _login(environ)
    gateway, ca = _gateway(options, environ, profile), _ca(options, profile)
    if login and ca is None and not is_loopback(gateway):
        # Whoever reads a person's token on the way can use it.
        raise SettingsError(
            f"{gateway} is not on this machine and would be called without TLS, for all to read "
            "what you signed in with: give --ca-file, or ca_file in the profile"
        )
    return Settings(
        gateway=gateway,
        api_key="" if client or login else _api_key(options, environ, profile),
        ca=ca,
        timeout=options.timeout or profile.timeout or DEFAULT_TIMEOUT,
        client=client,
        login=login,
    )


@dataclass(frozen=True)
class _Profile:
    gateway: str | None = None
    key_file: Path | None = None
    ca_file: Path | None = None
    timeout: float | None = None
    issuer: str | None = None
    client_id: str | None = None
    client_key_file: Path | None = None
    certificate_file: Path | None = None
    certificate_key_file: Path | None = None


_OVER_PROFILES = ("PUHUI_GATEWAY", "PUHUI_API_KEY")
_OF_A_CLIENT = (
    "issuer",
    "client_id",
    "client_key_file",
    "certificate_file",
    "certificate_key_file",
)


def _profile(options: Options, environ: Mapping[str, str]) -> _Profile:
    named = options.profile or environ.get("PUHUI_PROFILE")
    path = Path(named) if named else config_home(environ) / "puhui" / "profile.toml"
    if not path.is_file():
        if named:
            raise SettingsError(f"there is no profile {path}: make it, or name another")
        return _Profile()
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the profile {path} is not TOML: {error}") from None
    kinds: dict[str, tuple[type, ...]] = {
        "gateway": (str,),
        "key_file": (str,),
        "ca_file": (str,),
        "timeout": (int, float),
        **dict.fromkeys(_OF_A_CLIENT, (str,)),
    }
    for name, value in table.items():
        if name not in kinds:
            raise SettingsError(f"{path}: unknown key {name!r}; there are {', '.join(kinds)}")
        if not isinstance(value, kinds[name]):
            raise SettingsError(f"{path}: {name} has the wrong type: {kinds[name][0].__name__}")
    for name in kinds:
        if name.endswith("_file") and name in table:  # beside the profile
            table[name] = path.parent / Path(table[name]).expanduser()
    return _Profile(**table)


def _client(profile: _Profile) -> ClientSettings | None:
    given = {name: getattr(profile, name) for name in _OF_A_CLIENT}
    if not any(given.values()):
        return None
    missing = [name for name, value in given.items() if not value]
    if profile.ca_file is None:
        missing.append("ca_file")
    if missing:
        raise SettingsError(f"the profile lacks {', '.join(missing)}: add them")
    return ClientSettings(
        issuer=given["issuer"],
        client_id=given["client_id"],
        key=_secret(given["client_key_file"]),
        certificate=_text(given["certificate_file"]),
        certificate_key=_secret(given["certificate_key_file"]),
    )


def login_file(environ: Mapping[str, str]) -> Path:
    """Return where `puhui login` keeps what it got."""
    return config_home(environ) / "puhui" / "login.json"


def _login(environ: Mapping[str, str]) -> Path | None:
    file = login_file(environ)
    return file if file.is_file() else None


def config_home(environ: Mapping[str, str]) -> Path:
    """Return the folder in which programs keep what the user set."""
    named = environ.get("XDG_CONFIG_HOME")
    return Path(named) if named else Path(environ.get("HOME", "~")).expanduser() / ".config"


def _gateway(options: Options, environ: Mapping[str, str], profile: _Profile) -> str:
    if options.data_dir is not None and not options.gateway:
        return _endpoint(options.data_dir)
    named = _named_gateway(options, environ, profile)
    if named:
        return _address(named)
    if (DEFAULT_DATA_DIR / "endpoints.json").is_file():
        return _endpoint(DEFAULT_DATA_DIR)
    raise SettingsError(
        "no gateway: set PUHUI_GATEWAY=host:port, give --gateway, or run `puhui serve all` here"
    )


def _address(named: str) -> str:
    parts = urlsplit(named if "://" in named else f"//{named}")
    try:
        port = parts.port
    except ValueError:
        port = None
    rest = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    if "://" not in named and parts.hostname and port and not parts.path and not rest:
        return named
    host = parts.hostname or "HOST"
    meant = f"[{host}]" if ":" in host else host
    raise SettingsError(
        f"the gateway {named!r} must be HOST:PORT of its gRPC listener, without a scheme or path: "
        f'name it as "{meant}:7444", with the port that the operator tells; '
        "an https address is for `issuer`"
    )


def _named_gateway(options: Options, environ: Mapping[str, str], profile: _Profile) -> str | None:
    return options.gateway or environ.get("PUHUI_GATEWAY") or profile.gateway


def _endpoint(data_dir: Path) -> str:
    path = data_dir / "endpoints.json"
    try:
        gateway = json.loads(path.read_text("utf-8"))["gateway"]
    except FileNotFoundError:
        raise SettingsError(
            f"no platform runs in {data_dir}: start it with `puhui serve all --data-dir {data_dir}`"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise SettingsError(f"{path} does not name a gateway: restart the platform") from None
    return str(gateway)


def _api_key(options: Options, environ: Mapping[str, str], profile: _Profile) -> str:
    if options.key_file is not None:
        return _secret(options.key_file)
    if options.data_dir is not None and "PUHUI_API_KEY" not in environ:
        return _secret(options.data_dir / "operator.key")
    if environ.get("PUHUI_API_KEY"):
        return environ["PUHUI_API_KEY"]
    if profile.key_file is not None:
        return _secret(profile.key_file)
    remedy = "sign in by `puhui login`, set PUHUI_API_KEY, or give --key-file FILE"
    if not _named_gateway(options, environ, profile):
        remedy += f", or --data-dir {DEFAULT_DATA_DIR} to act as the operator"
    raise SettingsError(f"no credentials: {remedy}")


def _secret(path: Path) -> str:
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise SettingsError(f"others can read the key in {path}: chmod 600 {path}")
        key = path.read_text("utf-8").strip()
    except UnicodeDecodeError:
        raise SettingsError(f"there is no key in {path}: it is not text") from None
    except OSError as error:
        raise SettingsError(f"cannot read the key in {path}: {error.strerror}") from None
    if not key:
        raise SettingsError(f"there is no key in {path}")
    return key


def _ca(options: Options, profile: _Profile) -> bytes | None:
    path = options.ca_file or profile.ca_file
    return None if path is None else _text(path).encode()


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not text: a PEM file is needed") from None
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None
