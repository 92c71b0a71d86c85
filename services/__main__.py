"""Runs services: `python -m services {datashare,scoring,gateway,all}`.

A service reads its configuration from `PUHUI_<SERVICE>_*` and the TOML file of `--config`. It exits
with 0 after SIGTERM or SIGINT, with 2 when its configuration is wrong. A command that was stopped
half-way, as the database or a key could not be had, exits with 1; the next run goes on.
"""

import argparse
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from services.kit.clock import SystemClock
from services.kit.config import ConfigError, check_sections, describe, load
from services.kit.errors import UnavailableError
from services.kit.ids import RandomIds
from services.kit.secrets import SECTION, References, SecretsConfig
from services.kit.service import run_until_signal
from services.kit.telemetry import configure_logs

SERVICES = ("datashare", "scoring", "gateway")
ACTIONS = {
    "datashare": (
        *("serve", "migrate", "config"),
        *("seal", "unseal", "rotate-keys", "rotate-counterparty-key", "shred"),
        "rebuild-summaries",
    ),
    "scoring": ("serve", "migrate", "config"),
    "gateway": ("serve", "config"),
    "all": (
        *("serve", "seal", "unseal", "rotate-keys", "rotate-counterparty-key", "shred"),
        "rebuild-summaries",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments say.

    Returns:
        The exit status.
    """
    # Modules are no garbage: to look for some while they are imported is a sixth of a start.
    gc.set_threshold(100_000, 20, 20)
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.action not in ACTIONS[arguments.service]:
        parser.error(f"{arguments.service} has no {arguments.action}: name another service")
    if arguments.apply and arguments.action in ("serve", "migrate", "config"):
        parser.error(f"{arguments.action} takes no --apply: it always does what it says")
    configure_logs(arguments.log_level)
    try:
        if arguments.config is not None:
            check_sections(arguments.config, (*SERVICES, SECTION))
        if arguments.service == "all":
            from services import embedded

            if arguments.action == "serve":
                uvloop.run(embedded.serve(arguments.data_dir, os.environ, arguments.config))
            else:
                folder = embedded.Folder(arguments.data_dir)
                platform = embedded.Embedded(folder, os.environ, arguments.config)
                uvloop.run(platform.maintain(arguments.action, _tell, apply=arguments.apply))
        else:
            _run_one(arguments)
    except ConfigError as error:
        print(f"configuration: {error}", file=sys.stderr)  # noqa: T201 - no log yet
        return 2
    except UnavailableError as error:
        print(f"stopped: {error}", file=sys.stderr)  # noqa: T201 - as above
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services", description=__doc__)
    parser.add_argument("service", choices=[*SERVICES, "all"], help="all: one process for a laptop")
    parser.add_argument(
        "action",
        nargs="?",
        default="serve",
        choices=sorted({action for actions in ACTIONS.values() for action in actions}),
        metavar="ACTION",
        help="serve (the default), migrate the database and exit, or config, which lists the "
        "configuration. Of datashare and all also, each only told without --apply: seal what an "
        "existing database holds in plain text, unseal it for the version before, rotate-keys "
        "(wrap data keys by the current key-encryption key), rotate-counterparty-key (carry "
        "counterparties' tokens to a new key, while datashare is stopped), shred (take what was "
        "deleted out of the files), rebuild-summaries (fold them anew by this version's catalogue, "
        "and give every record its day of retention)",
    )
    parser.add_argument("--apply", action="store_true", help="do what would only be told")
    parser.add_argument("--config", type=Path, help="TOML file with a table per service")
    parser.add_argument(
        "--data-dir", type=Path, default=Path(".puhui"), help="of `all`: databases, keys, models"
    )
    parser.add_argument(
        "--log-level", default="info", choices=["debug", "info", "warning", "error"]
    )
    return parser


def _run_one(arguments: argparse.Namespace) -> None:
    name: str = arguments.service
    module: Any = importlib.import_module(f"services.{name}.main")
    config_type = getattr(module, f"{name.capitalize()}Config")
    if arguments.action == "config":
        for key in (*describe(config_type, name), *describe(SecretsConfig, SECTION)):
            default = "required" if key.default is None else f"default {key.default!r}"
            print(f"{key.variable}  {key.kind}, {default}: {key.help}")  # noqa: T201 - the answer
        return
    references = References.configured(os.environ, arguments.config)
    config = load(config_type, name, os.environ, arguments.config, secrets=references)
    if arguments.action == "migrate":
        module.migrate(config)
        return
    clock = SystemClock()
    if arguments.action != "serve":
        uvloop.run(module.maintain(config, arguments.action, clock, _tell, apply=arguments.apply))
        return
    given = (clock,) if name == "gateway" else (clock, RandomIds(clock))

    async def serve() -> None:
        await run_until_signal([references, module.build(config, *given)], lambda: None)

    uvloop.run(serve())


def _tell(line: str) -> None:
    print(line)  # noqa: T201 - the answer


if __name__ == "__main__":
    sys.exit(main())
