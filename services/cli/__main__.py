"""Entry of the `puhui` command, also where its packages are not installed.

The base install is the client and brings this script without what it needs; that is told in a line.
"""

import os
import sys

_EXTRAS = {"typer": "cli", "rich": "cli"}
_OURS = frozenset({"services", "puhui", "puhui_client", "buf"})


def main() -> None:
    """Run the command line."""
    # What goes wrong is told once and in words; gRPC reads this when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from services.cli.main import main as run

        run()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _OURS:
            raise
        extra = _EXTRAS.get(package, "all")
        sys.exit(f"puhui: {package} is not installed: pip install 'puhui[{extra}]'")


if __name__ == "__main__":
    main()
