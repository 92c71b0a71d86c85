"""`puhui serve`: the services on this machine."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from services.cli.command import local
from services.cli.output import Output
from services.cli.settings import DEFAULT_DATA_DIR


def register(app: typer.Typer) -> None:
    """Add the command to the main group."""
    local(app, example="puhui serve all --data-dir .puhui", with_json=False)(serve)


def serve(
    out: Output,
    service: Annotated[
        Literal["all", "datashare", "scoring", "gateway"],
        typer.Argument(help="`all`: the three in one process, for one machine."),
    ],
    data_dir: Annotated[
        Path,
        typer.Option(
            "--data-dir", metavar="DIR", help="Of `all`: databases, keys, models, endpoints.json."
        ),
    ] = DEFAULT_DATA_DIR,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="TOML with a table per service."),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option("--log-level", help="What is logged."),
    ] = "info",
) -> None:
    """Run services until SIGTERM or Ctrl-C. Configuration: PUHUI_<SERVICE>_* and --config.

    It has no result to print: the log is JSON lines on stderr, addresses are in endpoints.json.
    `all` serves at 127.0.0.1:7443 and, over HTTP, 127.0.0.1:7480, unless configured otherwise.
    """
    from services.__main__ import main

    arguments = [service, "--log-level", log_level]
    if service == "all":
        arguments += ["--data-dir", str(data_dir)]
    if config is not None:
        arguments += ["--config", str(config)]
    raise typer.Exit(main(arguments))
