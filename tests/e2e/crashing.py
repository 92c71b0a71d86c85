"""The platform, which kills itself before a statement to its database: `CRASH_AT` says which.

Counted are the statements, commits and signatures of a bank's or a provider's calls, from 0, once
the file `armed` is in the data folder. A release is signed between its commit and its answer. What
the services do by themselves or ask each other is not counted: when it comes is a matter of chance.
"""

import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import sqlalchemy as sa

from services.__main__ import main
from services.datashare.receipts.keyfile import FileSigner
from services.kit.identity import current_caller

_ARMED = Path(sys.argv[sys.argv.index("--data-dir") + 1]) / "armed"
_AT = int(os.environ.get("CRASH_AT", "-1"))
_steps = count()


def _step(*_: Any) -> None:
    if _ARMED.exists() and _asked_for() and next(_steps) == _AT:
        os.kill(os.getpid(), signal.SIGKILL)


def _asked_for() -> bool:
    try:
        return current_caller().role in {"BANK", "PROVIDER"}
    except LookupError:
        return False


def _counted(sign: Callable[[FileSigner, bytes], str]) -> Callable[[FileSigner, bytes], str]:
    def counted(signer: FileSigner, payload: bytes) -> str:
        _step()
        return sign(signer, payload)

    return counted


def _fetching(fetch: Callable[..., Any]) -> Callable[..., Any]:
    async def fetching(*args: Any, **kwargs: Any) -> Any:
        _step()
        return await fetch(*args, **kwargs)

    return fetching


if __name__ == "__main__":
    FileSigner.sign = _counted(FileSigner.sign)  # type: ignore[assignment,method-assign]  # no event tells of one
    # What is asked without SQLAlchemy, which itself prepares what it sends.
    asyncpg.Connection.fetch = _fetching(asyncpg.Connection.fetch)  # type: ignore[method-assign]  # no event tells of these
    sa.event.listen(sa.Engine, "before_cursor_execute", _step)
    sa.event.listen(sa.Engine, "commit", _step)
    sys.exit(main())
