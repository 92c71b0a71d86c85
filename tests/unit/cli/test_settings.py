import json
from pathlib import Path

import pytest

from services.cli.settings import ClientSettings, Options, Settings, SettingsError, resolve


def secret(path: Path, text: str = "k.s\n") -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def profile(folder: Path, text: str) -> dict[str, str]:
    (folder / "puhui").mkdir()
    (folder / "puhui" / "profile.toml").write_text(text)
    return {"XDG_CONFIG_HOME": str(folder)}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_environment_is_enough() -> None:
    environ = {"PUHUI_GATEWAY": "gw:1", "PUHUI_API_KEY": "k.s"}
    assert resolve(Options(), environ) == Settings("gw:1", "k.s", None, 30.0)


def test_options_win_over_the_environment_and_that_over_the_profile(tmp_path: Path) -> None:
    environ = profile(tmp_path, 'gateway = "profile:1"\nkey_file = "p.key"\ntimeout = 5\n')
    secret(tmp_path / "puhui" / "p.key", "p.s")
    assert resolve(Options(), environ) == Settings("profile:1", "p.s", None, 5)
    environ |= {"PUHUI_GATEWAY": "env:1", "PUHUI_API_KEY": "e.s"}
    assert resolve(Options(), environ) == Settings("env:1", "e.s", None, 5)
    options = Options(gateway="opt:1", key_file=secret(tmp_path / "o.key", "o.s"), timeout=2)
    assert resolve(options, environ) == Settings("opt:1", "o.s", None, 2)


def test_the_folder_of_an_embedded_platform(tmp_path: Path) -> None:
    (tmp_path / "endpoints.json").write_text(json.dumps({"gateway": "127.0.0.1:7"}))
    secret(tmp_path / "operator.key", "operator.s")
    found = resolve(Options(data_dir=tmp_path), {})
    assert (found.gateway, found.api_key) == ("127.0.0.1:7", "operator.s")
    bank = resolve(Options(data_dir=tmp_path), {"PUHUI_API_KEY": "bank.s"})
    assert (bank.gateway, bank.api_key) == ("127.0.0.1:7", "bank.s")


def test_the_default_folder_names_the_gateway_but_gives_nobody_the_operators_key(
    tmp_path: Path,
) -> None:
    folder = tmp_path / ".puhui"
    folder.mkdir()
    (folder / "endpoints.json").write_text(json.dumps({"gateway": "127.0.0.1:7"}))
    secret(folder / "operator.key")
    assert resolve(Options(), {"PUHUI_API_KEY": "k.s"}).gateway == "127.0.0.1:7"
    with pytest.raises(SettingsError, match=r"no credentials.* or --data-dir \.puhui"):
        resolve(Options(), {})
    with pytest.raises(SettingsError, match=r"--key-file FILE$"):
        resolve(Options(gateway="gw:1"), {})


def test_certificates(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"PEM")
    environ = {"PUHUI_GATEWAY": "gw:1", "PUHUI_API_KEY": "k.s"}
    assert resolve(Options(ca_file=tmp_path / "ca.pem"), environ).ca == b"PEM"


@pytest.mark.parametrize(
    ("options", "environ", "message"),
    [
        (Options(), {"PUHUI_API_KEY": "k.s"}, "no gateway: set PUHUI_GATEWAY"),
        (Options(gateway="g:1"), {}, "no credentials: sign in by `puhui login`, set PUHUI_API_KEY"),
        (Options(gateway="g:1", key_file=Path("none.key")), {}, "cannot read the key in none.key"),
        (Options(data_dir=Path("none")), {}, "no platform runs in none"),
        (Options(profile=Path("none.toml")), {}, "no profile none.toml"),
        (
            Options(gateway="g:1", ca_file=Path("none.pem")),
            {"PUHUI_API_KEY": "k.s"},
            "cannot read none.pem",
        ),
    ],
)
def test_what_is_missing_is_named(options: Options, environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        resolve(options, environ)


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    path = secret(tmp_path / "k.key")
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        resolve(Options(gateway="g:1", key_file=path), {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gateway =", "not TOML"),
        ('key = "k.s"', "unknown key 'key'"),
        ("gateway = 1", "gateway has the wrong type"),
    ],
)
def test_a_profile_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        resolve(Options(), profile(tmp_path, text))


OF_A_BANK = """
gateway = "gw:7444"
issuer = "https://gw:7481"
client_id = "par_1"
client_key_file = "client.pem"
certificate_file = "bank.crt"
certificate_key_file = "bank.key"
ca_file = "ca.crt"
"""


def of_a_bank(folder: Path, text: str = OF_A_BANK) -> dict[str, str]:
    environ = profile(folder, text)
    for name in ("client.pem", "bank.crt", "bank.key", "ca.crt"):
        secret(folder / "puhui" / name, f"what {name} holds")
    return environ


def test_an_institution_needs_no_api_key(tmp_path: Path) -> None:
    found = resolve(Options(), of_a_bank(tmp_path))
    held = [f"what {name} holds" for name in ("client.pem", "bank.crt", "bank.key")]
    assert (found.gateway, found.api_key, found.ca) == ("gw:7444", "", b"what ca.crt holds")
    assert found.client == ClientSettings("https://gw:7481", "par_1", *held)


def test_an_api_key_that_is_named_wins_over_the_institutions_profile(tmp_path: Path) -> None:
    environ = of_a_bank(tmp_path)
    named = Options(key_file=secret(tmp_path / "o.key", "o.s"))
    assert resolve(named, environ).client is None
    assert resolve(Options(), environ | {"PUHUI_API_KEY": "e.s"}).api_key == "e.s"


def test_what_an_institutions_profile_lacks_is_named(tmp_path: Path) -> None:
    lines = [line for line in OF_A_BANK.splitlines() if not line.startswith(("issuer", "ca_"))]
    with pytest.raises(SettingsError, match="lacks issuer, ca_file"):
        resolve(Options(), of_a_bank(tmp_path, "\n".join(lines)))


@pytest.mark.parametrize("name", ["client.pem", "bank.key"])
def test_an_institutions_key_that_others_can_read_is_not_used(tmp_path: Path, name: str) -> None:
    environ = of_a_bank(tmp_path)
    (tmp_path / "puhui" / name).chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        resolve(Options(), environ)


def test_a_profile_that_an_option_names_wins_over_the_environment(tmp_path: Path) -> None:
    of_a_bank(tmp_path)
    environ = {"PUHUI_GATEWAY": "env:1", "PUHUI_API_KEY": "e.s"}
    found = resolve(Options(profile=tmp_path / "puhui" / "profile.toml"), environ)
    assert (found.gateway, found.api_key) == ("gw:7444", "")
    assert found.client is not None


def test_what_signing_in_gave_goes_to_no_other_machine_in_the_clear(tmp_path: Path) -> None:
    environ = profile(tmp_path, "")
    secret(tmp_path / "puhui" / "login.json", "{}")
    assert resolve(Options(gateway="127.0.0.1:7443"), environ).login
    with pytest.raises(SettingsError, match="--ca-file"):
        resolve(Options(gateway="gw:7445"), environ)
    assert resolve(Options(gateway="gw:7445", ca_file=secret(tmp_path / "ca.crt")), environ).login


@pytest.mark.parametrize(
    "named",
    ["https://gw:7444", "gw", "gw:", "gw:x", "gw:99999", "gw:1/v1", "https://gw", "a@gw:1", "::1"],
)
def test_a_gateway_that_is_no_host_and_port_is_named_with_the_remedy(
    tmp_path: Path, named: str
) -> None:
    environ = profile(tmp_path, f'gateway = "{named}"\n') | {"PUHUI_API_KEY": "k.s"}
    with pytest.raises(SettingsError, match=r"must be HOST:PORT.*name it as"):
        resolve(Options(), environ)


@pytest.mark.parametrize("named", ["gw:1", "127.0.0.1:7443", "[::1]:7443"])
def test_host_and_port_are_taken_as_they_are(named: str) -> None:
    assert resolve(Options(gateway=named), {"PUHUI_API_KEY": "k.s"}).gateway == named
