"""What both sources of secrets do: a folder, and a key management service over HTTPS."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.kit.config import ConfigError, SecretError, load
from services.kit.secrets import FileSecrets, References, SecretsConfig, SecretSource, VaultSecrets
from tests.fakes.kms import TOKEN, Kms, kms


@dataclass
class World:
    """A source, and how a secret gets into it and out again."""

    source: SecretSource
    put: Callable[[str, str], None]
    lose: Callable[[], None]


def of_folder(folder: Path) -> World:
    def put(name: str, value: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)
        path.chmod(0o600)

    def lose() -> None:
        folder.rename(folder.with_name("elsewhere"))

    folder.mkdir()
    return World(FileSecrets(folder), put, lose)


def token_file(folder: Path, token: str = TOKEN) -> Path:
    path = folder / "token"
    path.write_text(f"{token}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Kms]:
    with kms(tmp_path) as made:
        yield made


@pytest.fixture(params=["folder", "service"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    if request.param == "folder":
        return of_folder(tmp_path / "secrets")
    made: Kms = request.getfixturevalue("service")
    source = VaultSecrets(made.address, token_file(tmp_path), made.ca_file)
    return World(source, made.values.__setitem__, lambda: setattr(made, "sealed", True))


def test_a_secret_is_read_as_it_is_now(world: World) -> None:
    world.put("datashare/kek", "one")
    assert world.source.read("datashare/kek") == b"one"
    world.put("datashare/kek", "two")
    assert world.source.read("datashare/kek") == b"two"


def test_what_is_not_there_is_named(world: World) -> None:
    with pytest.raises(SecretError, match="datashare/kek"):
        world.source.read("datashare/kek")


@pytest.mark.parametrize("name", ["../kek", "/etc/passwd", "a/../b", "", "a b", "a?x=1", ".kek"])
def test_no_name_leads_elsewhere(world: World, name: str) -> None:
    with pytest.raises(SecretError, match="names no secret"):
        world.source.read(name)


def test_a_setting_that_is_a_path_may_name_a_secret(world: World) -> None:
    world.put("datashare/kek", "key")
    references = References(world.source)
    path = references.path(Path("kms:datashare/kek"))
    assert path.read_text() == "key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert references.path(Path("/etc/key.pem")) == Path("/etc/key.pem")


def test_the_path_has_the_new_secret_once_it_changed(world: World) -> None:
    world.put("kek", "first, and longer")
    references = References(world.source)
    path = references.path(Path("kms:kek"))
    before = path.stat().st_ino
    assert references.refresh() == []
    world.put("kek", "second")
    assert references.refresh() == ["kek"]
    assert path.read_text() == "second"
    assert path.stat().st_ino != before


def test_a_secret_stays_while_it_cannot_be_read_anew(world: World) -> None:
    world.put("kek", "key")
    references = References(world.source)
    path = references.path(Path("kms:kek"))
    world.lose()
    assert references.refresh() == []
    assert path.read_text() == "key"


@dataclass(frozen=True)
class Config:
    """A section with every kind of setting that may name a secret."""

    key: Path
    database_url: str = field(default="", metadata={"secret": True})
    keys: tuple[str, ...] = ()
    name: str = ""


def test_a_configuration_gets_secrets_in_place_of_their_names(world: World, tmp_path: Path) -> None:
    world.put("key", "1")
    world.put("url", "postgresql://puhui:hunter2@db/puhui\n")
    other = tmp_path / "other"
    other.write_text("postgresql://puhui:hunter3@db/puhui\n")
    other.chmod(0o600)
    environ = {
        "PUHUI_X_KEY": "kms:key",
        "PUHUI_X_DATABASE_URL": "kms:url",
        "PUHUI_X_KEYS": "kms:key,./beside.pem",
        "PUHUI_X_NAME": "kms:key",
    }
    references = References(world.source)
    config = load(Config, "x", environ, secrets=references)
    assert config.key.read_text() == "1"
    assert config.database_url == "postgresql://puhui:hunter2@db/puhui"
    assert (Path(config.keys[0]).read_text(), config.keys[1]) == ("1", "./beside.pem")
    assert config.name == "kms:key"
    environ["PUHUI_X_DATABASE_URL"] = f"file:{other}"
    config = load(Config, "x", environ, secrets=references)
    assert config.database_url == "postgresql://puhui:hunter3@db/puhui"


def test_a_name_without_a_source_is_told_with_its_setting(tmp_path: Path) -> None:
    references = References.configured({}, None)
    with pytest.raises(ConfigError, match=r"x\.key: no KMS is configured for kek"):
        load(Config, "x", {"PUHUI_X_KEY": "kms:kek"}, secrets=references)


def test_what_others_can_read_is_no_secret(tmp_path: Path) -> None:
    world = of_folder(tmp_path / "secrets")
    world.put("kek", "key")
    (tmp_path / "secrets" / "kek").chmod(0o644)
    with pytest.raises(SecretError, match="others can read"):
        world.source.read("kek")


def test_the_service_has_to_prove_itself(service: Kms, tmp_path: Path) -> None:
    service.values["kek"] = "key"
    stranger = VaultSecrets(service.address, token_file(tmp_path))
    with pytest.raises(SecretError, match="did not answer"):
        stranger.read("kek")


def test_a_wrong_token_is_told_and_not_shown(service: Kms, tmp_path: Path) -> None:
    service.values["kek"] = "key"
    source = VaultSecrets(service.address, token_file(tmp_path, "hvs.wrong"), service.ca_file)
    with pytest.raises(SecretError, match="refuses kek") as refused:
        source.read("kek")
    assert "hvs.wrong" not in str(refused.value)
    # An agent renews the file: no restart.
    token_file(tmp_path)
    assert source.read("kek") == b"key"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"ADDRESS": "http://kms:8200", "TOKEN_FILE": "t"}, r"secrets\.address: must be https"),
        ({"ADDRESS": "https://kms/v1", "TOKEN_FILE": "t"}, r"secrets\.address"),
        ({"ADDRESS": "https://kms"}, "token_file must be set"),
        ({"ADDRESS": "https://kms", "TOKEN_FILE": "t", "FOLDER": "f"}, "two places"),
        ({"MOUNT": "../sys"}, "mount"),
        ({"REFRESH": "0s"}, "refresh"),
    ],
)
def test_a_wrong_configuration_is_told(settings: dict[str, str], problem: str) -> None:
    environ = {f"PUHUI_SECRETS_{name}": value for name, value in settings.items()}
    with pytest.raises(ConfigError, match=problem):
        load(SecretsConfig, "secrets", environ).source()
