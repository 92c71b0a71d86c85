"""`puhui sandbox` and `puhui demo`: trying everything out on data that is simulated or public."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from services.cli import output
from services.cli.command import REFUSED, local, usage
from services.cli.inputs import parse_day
from services.cli.output import Output
from services.cli.settings import DEFAULT_DATA_DIR

app = typer.Typer(help="Simulated firms and public data sets.", no_args_is_help=True)


def register(main: typer.Typer) -> None:
    """Add `demo` to the main group."""
    local(main, example="puhui demo --stay")(demo)


@local(app, example="puhui sandbox run cumcm2020c data/cumcm2020c --json out.json", with_json=False)
def run(
    out: Output,
    data_set: Annotated[
        Literal["cumcm2020c"], typer.Argument(help="CUMCM 2020 C: 425 firms, 1,099,441 invoices.")
    ],
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="Holds the set.")
    ],
    json_file: Annotated[
        Path, typer.Option("--json", metavar="OUT", help="Where the report is written.")
    ],
) -> None:
    """Run the whole path on a public data set, on a platform of its own, and report."""
    from services.sandbox.cumcm2020c import DataSetError
    from services.sandbox.run_cumcm2020c import run as run_cumcm2020c

    try:
        with _failures_told(out):
            run_cumcm2020c(folder, json_file)
    except DataSetError as error:
        raise usage(f"{folder} does not hold {data_set}: {error}") from None
    except OSError as error:
        if error.filename is None or Path(error.filename) != json_file:
            raise
        raise usage(f"{json_file} cannot be written ({error.strerror}): name another") from None
    out.note(f"The report is in {json_file}.")


@local(app, example="puhui sandbox reset --data-dir .puhui")
def reset(
    out: Output,
    data_dir: Annotated[
        Path, typer.Option("--data-dir", metavar="DIR", help="Folder of `puhui serve all`.")
    ] = DEFAULT_DATA_DIR,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="As it is served with.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Empty a sandbox that does not run: databases, models, messages. Its keys stay."""
    from services.embedded import Embedded, Folder
    from services.kit.config import ConfigError
    from services.sandbox.reset import ResetError
    from services.sandbox.reset import reset as empty

    if not yes:
        typer.confirm(f"Delete everything that the sandbox in {data_dir} holds?", abort=True)
    folder = Folder(data_dir)
    try:
        empty(folder, Embedded(folder, os.environ, config))
    except ResetError as error:
        out.failed("RESET_REFUSED", str(error))
        raise typer.Exit(REFUSED) from None
    except ConfigError as error:
        raise usage(str(error)) from None
    out.show({"reset": str(data_dir)}, f"The sandbox in {data_dir} is empty; its keys are kept.")


@local(app, example="puhui sandbox simulate --firms 300 --seed 7 --out city")
def simulate(
    out: Output,
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go.")],
    firms: Annotated[int, typer.Option("--firms", min=1, help="Size of the city.")] = 300,
    seed: Annotated[int, typer.Option("--seed", help="Picks the city.")] = 1,
    last: Annotated[
        date | None,
        typer.Option(
            "--until",
            parser=parse_day,
            metavar="DAY",
            help="A day of its last month; else the last whole month.",
        ),
    ] = None,
) -> None:
    """Write a simulated city as files: records for `puhui push`, and who defaulted."""
    from services.sandbox.city import CityPlan
    from services.sandbox.months import last_complete_month, month_of
    from services.sandbox.simulate import simulate as write_city

    today = datetime.now(UTC).date()
    last_month = last_complete_month(today) if last is None else month_of(last)
    count = write_city(CityPlan(seed, last_month, firms), folder)
    out.show(
        {"folder": str(folder), "firms": firms, "seed": seed, "records": count},
        output.pairs(
            "A simulated city: nobody in it exists.",
            [("folder", str(folder)), ("firms", f"{firms:,}"), ("records", f"{count:,}")],
        ),
    )


@local(app, example="puhui sandbox person wang --data-dir .puhui")
def person(
    out: Output,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower case, digits, . _ -")],
    folder: Annotated[
        Path, typer.Option("--data-dir", metavar="DIR", help="Folder of the sandbox.")
    ] = DEFAULT_DATA_DIR,
) -> None:
    """Let a person sign in at the sandbox; a new password goes into a file. Again: another one."""
    from services.embedded import ACCOUNTS
    from services.gateway.sign_in import accounts
    from services.kit.files import write_secret

    if not accounts.NAME.fullmatch(name):
        raise usage(f"{name!r} is no name: a letter, then up to 31 of a-z 0-9 . _ -")
    if not (folder / "keys").is_dir():
        raise usage(f"no sandbox has been started in {folder}: `puhui serve all` makes one")
    password = secrets.token_urlsafe(12)
    known = accounts.read(folder / ACCOUNTS)
    known[name] = accounts.entry(password, secrets.token_bytes)
    file = folder / f"{name}.password"
    write_secret(folder / ACCOUNTS, json.dumps(known))
    write_secret(file, password)
    out.show(
        {"subject": name, "password_file": str(file)},
        output.pairs(
            "May sign in; what for, the operator says by `puhui credential add-person`.",
            [("subject", name), ("password", str(file))],
        ),
    )


def demo(
    out: Output,
    stay: Annotated[
        bool, typer.Option("--stay", help="Keep the platform running, and say how to call it.")
    ] = False,
    firms: Annotated[
        int,
        # Of fewer, too few have defaulted to train on: of 200, 15 or more in each of 60 cities.
        typer.Option("--firms", min=200, help="Size of the city."),
    ] = 300,
    seed: Annotated[int | None, typer.Option("--seed", help="Picks the city.")] = None,
) -> None:
    """Show the main job on a simulated city: push, consent, score, withdraw, accesses."""
    from services.sandbox.demo import SEED
    from services.sandbox.demo import demo as show

    with _failures_told(out):
        show(stay=stay, as_json=out.as_json, firms=firms, seed=SEED if seed is None else seed)


@contextmanager
def _failures_told(out: Output) -> Iterator[None]:
    """Tell in a line why a platform of one's own did not do it, and exit with 1."""
    from puhui_client import PuhuiError
    from services.sandbox.embedded import EmbeddedError
    from services.scoring.training.domain import TrainingError

    try:
        yield
    except EmbeddedError as error:
        out.failed("PLATFORM_FAILED", str(error))
    except TrainingError as error:
        out.failed("TRAINING_REFUSED", f"no model of these firms: {error}")
    except PuhuiError as error:
        out.refused(error)
    else:
        return
    raise typer.Exit(REFUSED)
