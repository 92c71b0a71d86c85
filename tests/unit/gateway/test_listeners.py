"""Where the gateway listens, and what production refuses to start with."""

from pathlib import Path
from typing import Any

import pytest

from services.datashare.main import DatashareConfig
from services.gateway.main import GatewayConfig
from services.kit.server import ServerConfig
from services.kit.tls import TlsConfig
from services.kit.workloads import TRUST_DOMAIN, check_internal

FILE = Path("unread.pem")
TLS = TlsConfig(FILE, FILE, FILE)
PRODUCTION = {
    "tenant": "production",
    "issuer": "https://api.puhui.example",
    "token_key": FILE,
    "server": ServerConfig("0.0.0.0:50051", reflection=False, tls=TLS),
    "http_listen": "0.0.0.0:8443",
    "workload": TLS,
}


def config(**settings: Any) -> GatewayConfig:
    return GatewayConfig(
        datashare="datashare:1", scoring="scoring:1", identity_private_key=FILE, **settings
    )


def test_production_has_tls_and_nothing_else() -> None:
    assert config(**PRODUCTION).tenant == "production"


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("server", ServerConfig(reflection=False), "server.tls and workload"),
        ("workload", TlsConfig(), "server.tls and workload"),
        ("plain_listen", "127.0.0.1:7443", "are for a sandbox"),
        ("plain_http_listen", "127.0.0.1:7480", "are for a sandbox"),
        ("server", ServerConfig(tls=TLS), "reflection must be false"),
    ],
)
def test_production_refuses(setting: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(**PRODUCTION | {setting: value})


@pytest.mark.parametrize(
    "settings",
    [
        {"http_listen": "0.0.0.0:80"},
        {"server": ServerConfig("0.0.0.0:50051")},
        {"plain_listen": "0.0.0.0:7443"},
        {"server": ServerConfig(tls=TLS), "plain_http_listen": "10.0.0.1:7480"},
    ],
    ids=str,
)
def test_nobody_else_reaches_a_listener_without_tls(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="address of this machine alone"):
        config(**settings)


def test_people_have_tls() -> None:
    with pytest.raises(ValueError, match="people_listen needs"):
        config(people_listen="127.0.0.1:0")


def test_an_internal_service_of_production_is_reached_by_tls_alone() -> None:
    for server, said in (
        (ServerConfig("0.0.0.0:50051"), "server.tls must be set"),
        (ServerConfig("0.0.0.0:50051", tls=TLS), "reflection must be false"),
    ):
        with pytest.raises(ValueError, match=said):
            check_internal(server, TRUST_DOMAIN, production=True)
        check_internal(server, TRUST_DOMAIN, production=False)
    with pytest.raises(ValueError, match="trust_domain"):
        check_internal(ServerConfig(), "spiffe://x", production=False)
    names = ["identity_gateway_public_key", "identity_scoring_public_key", "counterparty_key"]
    names += ["kek_file", "subject_token_key", "signing_key"]
    keys: dict[str, Any] = dict.fromkeys(names, FILE)
    with pytest.raises(ValueError, match="must be set in production"):
        DatashareConfig(**keys, server=ServerConfig("0.0.0.0:50051"))
