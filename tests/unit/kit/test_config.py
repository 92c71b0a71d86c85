from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from services.kit.config import ConfigError, check_sections, describe, load


@dataclass(frozen=True)
class Listen:
    address: str = field(default="127.0.0.1:0", metadata={"help": "host:port"})
    reflection: bool = True


@dataclass(frozen=True)
class Settings:
    database: str = field(metadata={"help": "where rows are", "secret": True})
    listen: Listen
    pool_size: int = field(default=8, metadata={"help": "connections"})
    ratio: float = 0.5
    keys: Path | None = None
    wait: timedelta = timedelta(seconds=90)
    names: tuple[str, ...] = ("a", "b")

    def __post_init__(self) -> None:
        if self.pool_size < 1:
            raise ValueError("pool_size must be at least 1")


@pytest.fixture
def write(tmp_path: Path) -> Path:
    return tmp_path / "puhui.toml"


def refused(environ: dict[str, str], file: Path | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(Settings, "svc", environ, file)
    return caught.value.problems


def test_defaults_fill_what_is_not_given() -> None:
    assert load(Settings, "svc", {"PUHUI_SVC_DATABASE": "x"}) == Settings("x", Listen())


def test_the_file_gives_every_type(write: Path) -> None:
    write.write_text(
        """
        [svc]
        database = "d"
        pool_size = 3
        ratio = 1
        keys = "k.pem"
        wait = "1h30m"
        names = ["x", "y,z"]
        [svc.listen]
        address = "0.0.0.0:1"
        reflection = false
        [other]
        anything = 1
        """
    )
    assert load(Settings, "svc", {}, write) == Settings(
        "d",
        Listen("0.0.0.0:1", reflection=False),
        3,
        1.0,
        Path("k.pem"),
        timedelta(hours=1, minutes=30),
        ("x", "y,z"),
    )


def test_the_environment_gives_every_type_and_wins(write: Path) -> None:
    write.write_text('[svc]\ndatabase = "file"\npool_size = 3\n')
    environ = {
        "PUHUI_SVC_DATABASE": "env",
        "PUHUI_SVC_RATIO": "0.25",
        "PUHUI_SVC_KEYS": "",
        "PUHUI_SVC_WAIT": "500ms",
        "PUHUI_SVC_NAMES": "x, y",
        "PUHUI_SVC_LISTEN_ADDRESS": ":2",
        "PUHUI_SVC_LISTEN_REFLECTION": "No",
        "PUHUI_SVCOTHER_X": "of another section",
        "PATH": "/bin",
    }
    assert load(Settings, "svc", environ, write) == Settings(
        "env",
        Listen(":2", reflection=False),
        3,
        0.25,
        None,
        timedelta(milliseconds=500),
        ("x", "y"),
    )


def test_what_is_implied_gives_way_to_file_and_environment(write: Path) -> None:
    implied = {
        "PUHUI_SVC_DATABASE": "implied",
        "PUHUI_SVC_RATIO": "0.25",
        "PUHUI_SVC_LISTEN_ADDRESS": "127.0.0.1:7443",
    }
    assert load(Settings, "svc", {}, implied=implied) == Settings(
        "implied", Listen("127.0.0.1:7443"), ratio=0.25
    )
    write.write_text("[svc]\nratio = 0.75\n[svc.listen]\naddress = 'file:1'\n")
    given = load(Settings, "svc", {"PUHUI_SVC_DATABASE": "environ"}, write, implied=implied)
    assert given == Settings("environ", Listen("file:1"), ratio=0.75)


def test_every_problem_is_named_at_once(write: Path) -> None:
    write.write_text('[svc]\npool_sise = 3\nratio = "x"\n[svc.listen]\nport = 1\n[svc.extra]\n')
    assert refused({"PUHUI_SVC_WAIT": "soon", "PUHUI_SVC_WIAT": "1s"}, write) == (
        f"svc.pool_sise in {write} is unknown: did you mean pool_size?",
        f"svc.ratio in {write}: 'x' does not fit: give a number",
        f"svc.listen.port in {write} is unknown: known are address, database, keys, names, "
        "pool_size, ratio, reflection, wait",
        f"svc.extra in {write} is unknown: known are address, database, keys, names, pool_size, "
        "ratio, reflection, wait",
        "PUHUI_SVC_WAIT: 'soon' does not fit: give a duration such as 500ms, 5s, 1h30m or 7d",
        "PUHUI_SVC_WIAT is unknown: did you mean PUHUI_SVC_WAIT?",
    )


def test_a_missing_key_is_named_with_both_ways_to_set_it() -> None:
    assert refused({}) == (
        "svc.database is not set: set PUHUI_SVC_DATABASE, or database in [svc] of the "
        "configuration file",
    )


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("database = 5", "svc.database"),
        ("pool_size = 3.5", "svc.pool_size"),
        ("pool_size = true", "svc.pool_size"),
        ('pool_size = "3"', "svc.pool_size"),
        ("ratio = nan", "svc.ratio"),
        ('wait = "5"', "svc.wait"),
        ('wait = "5s later"', "svc.wait"),
        ("wait = 5", "svc.wait"),
        ('names = "x"', "svc.names"),
        ("names = [1]", "svc.names"),
        ("listen = 5", "svc.listen"),
    ],
)
def test_values_of_another_type_are_refused(write: Path, line: str, key: str) -> None:
    write.write_text(f"[svc]\n{line}\n")
    problems = refused({"PUHUI_SVC_DATABASE": "x"}, write)
    assert [problem.split(" ")[0].rstrip(":") for problem in problems] == [key]


def test_a_secret_is_never_shown(write: Path) -> None:
    write.write_text("[svc]\ndatabase = 987654\n")
    (problem,) = refused({}, write)
    assert "987654" not in problem


def test_a_rule_of_the_dataclass_is_reported_with_its_section() -> None:
    environ = {"PUHUI_SVC_DATABASE": "x", "PUHUI_SVC_POOL_SIZE": "0"}
    assert refused(environ) == ("svc: pool_size must be at least 1",)


def test_a_file_that_cannot_be_read_is_named(write: Path) -> None:
    (problem,) = refused({}, write)
    assert str(write) in problem
    write.write_text("[svc\n")
    (problem,) = refused({}, write)
    assert problem.startswith(f"{write} is not TOML, correct it: ")


def test_unknown_sections_are_refused(write: Path) -> None:
    write.write_text("[svc]\n[srv]\n")
    check_sections(write, ["svc", "srv"])
    with pytest.raises(ConfigError, match=r"\[srv\] in .* is unknown: did you mean svc\?"):
        check_sections(write, ["svc"])


def test_describe_tells_every_key() -> None:
    keys = describe(Settings, "svc")
    assert [(key.variable, key.default) for key in keys] == [
        ("PUHUI_SVC_DATABASE", None),
        ("PUHUI_SVC_LISTEN_ADDRESS", "127.0.0.1:0"),
        ("PUHUI_SVC_LISTEN_REFLECTION", "true"),
        ("PUHUI_SVC_POOL_SIZE", "8"),
        ("PUHUI_SVC_RATIO", "0.5"),
        ("PUHUI_SVC_KEYS", ""),
        ("PUHUI_SVC_WAIT", "90s"),
        ("PUHUI_SVC_NAMES", "a,b"),
    ]
    assert (keys[0].name, keys[0].help, keys[0].secret) == ("svc.database", "where rows are", True)
    assert keys[5].kind == "a path, or nothing"
