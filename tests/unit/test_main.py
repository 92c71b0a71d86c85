"""A wrong configuration is told with its key, and the process ends with 2."""

from pathlib import Path

import pytest

from services.__main__ import SERVICES, main
from services.kit.identity import new_key_pair
from tests.fakes.sealing import key_files


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configurations that are complete and right."""
    private, public = new_key_pair()
    (tmp_path / "private").write_text(private)
    (tmp_path / "public").write_text(public)
    (tmp_path / "latin").write_bytes(b"\xe9\xff")
    (tmp_path / "counterparty").write_text("0f" * 32)
    for service in SERVICES:
        monkeypatch.setenv(f"PUHUI_{service}_SERVER_LISTEN".upper(), "127.0.0.1:0")
    for service in ("scoring", "gateway"):
        monkeypatch.setenv(f"PUHUI_{service}_DATASHARE".upper(), "127.0.0.1:1")
        monkeypatch.setenv(
            f"PUHUI_{service}_IDENTITY_PRIVATE_KEY".upper(), str(tmp_path / "private")
        )
    monkeypatch.setenv("PUHUI_GATEWAY_SCORING", "127.0.0.1:1")
    (tmp_path / "reports").touch(0o600)
    (tmp_path / "reports").write_text(private)
    monkeypatch.setenv("PUHUI_SCORING_REPORT_KEY", str(tmp_path / "reports"))
    for service in ("scoring", "datashare"):
        monkeypatch.setenv(
            f"PUHUI_{service}_IDENTITY_GATEWAY_PUBLIC_KEY".upper(), str(tmp_path / "public")
        )
        database = f"sqlite:///{tmp_path / service}.db"
        monkeypatch.setenv(f"PUHUI_{service}_DATABASE_URL".upper(), database)
    monkeypatch.setenv("PUHUI_DATASHARE_IDENTITY_SCORING_PUBLIC_KEY", str(tmp_path / "public"))
    monkeypatch.setenv("PUHUI_DATASHARE_COUNTERPARTY_KEY", str(tmp_path / "counterparty"))
    for setting, path in key_files(tmp_path).items():
        monkeypatch.setenv(f"PUHUI_DATASHARE_{setting}".upper(), str(path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("service", "key", "value"),
    [
        ("datashare", "server.listen", "nonsense"),
        ("gateway", "server.listen", "127.0.0.1:65536"),
        ("scoring", "server.listen", ":80"),
        ("scoring", "health.listen", "127.0.0.1:-1"),
        ("gateway", "http_listen", "127.0.0.1"),
        ("gateway", "turns.capacity", "0"),
        ("gateway", "timeouts.stream", "-1"),
        ("gateway", "changes_every", "0s"),
        ("datashare", "server.grace", "-1"),
        ("scoring", "server.drain", "-0.5"),
        ("datashare", "database_pool", "0"),
        ("scoring", "database_pool", "-3"),
        ("datashare", "database_url", "mysql://u:hidden@h/n"),
        ("scoring", "database_url", "hidden"),
        ("datashare", "identity_gateway_public_key", "absent"),
        ("datashare", "identity_scoring_public_key", "private"),
        ("datashare", "counterparty_key", "latin"),
        ("datashare", "counterparty_key", "absent"),
        ("datashare", "kek_file", "absent"),
        ("datashare", "kek_file", "public"),
        ("datashare", "subject_token_key", "latin"),
        ("datashare", "subject_token_key", "absent"),
        ("datashare", "signing_key", "public"),
        ("datashare", "signing_key", "absent"),
        ("datashare", "signing_suite", "RS256"),
        ("scoring", "identity_gateway_public_key", "latin"),
        ("scoring", "identity_private_key", "public"),
        ("scoring", "report_key", "public"),
        ("gateway", "identity_private_key", "."),
    ],
)
def test_a_wrong_value_is_told_with_its_key(
    service: str,
    key: str,
    value: str,
    keys: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(f"PUHUI_{service}_{key.replace('.', '_')}".upper(), value)
    assert main([service]) == 2
    told = capsys.readouterr().err
    section, _, name = key.rpartition(".")
    assert told.startswith(f"configuration: {'.'.join(filter(None, (service, section)))}")
    assert name in told
    assert "hidden" not in told


@pytest.mark.parametrize(
    ("service", "action"), [("all", "migrate"), ("all", "config"), ("gateway", "migrate")]
)
def test_an_action_that_a_service_does_not_have_is_refused(
    service: str, action: str, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([service, action])
    assert end.value.code == 2
    assert f"{service} has no {action}" in capsys.readouterr().err
