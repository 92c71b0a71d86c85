"""The platform, which kills itself before a statement to its database: `CRASH_AT` says which.

Counted are statements and commits, from 0, once the file `armed` is in the data folder.
"""

import os
import signal
import sys
from itertools import count
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from services.__main__ import main

_ARMED = Path(sys.argv[sys.argv.index("--data-dir") + 1]) / "armed"
_AT = int(os.environ.get("CRASH_AT", "-1"))
_steps = count()


def _step(*_: Any) -> None:
    if _ARMED.exists() and next(_steps) == _AT:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sa.event.listen(sa.Engine, "before_cursor_execute", _step)
    sa.event.listen(sa.Engine, "commit", _step)
    sys.exit(main())
