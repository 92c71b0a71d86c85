"""The operator's command as it is seen: what it would do, how far it is, what is left to do."""

import time
from collections.abc import Callable

from services.datashare.counterparties.keyfile import KeyFile
from services.datashare.counterparties.rotation import Rotation


async def rotate_counterparty_key(
    rotation: Rotation,
    files: KeyFile,
    tell: Callable[[str], None],
    end_bar: Callable[[], None],
    *,
    apply: bool,
) -> None:
    """Add a key to the chain that names counterparties, and carry all that is stored to it.

    Args:
        rotation: the work.
        files: the keys' file.
        tell: takes a line of text.
        end_bar: leaves the progress bar's line.
        apply: do it; else only say what would be done.

    Raises:
        ConfigError: the keys cannot be used or replaced.
        UnavailableError: datashare runs, or keys or the database cannot be had now.
    """
    noted = await rotation.noted()
    if rotation.is_unfinished(noted):
        if not apply:
            tell("a rotation was broken off after its commit: finish it with --apply")
        else:
            rotation.finish(noted)
            tell(f"the rotation of before is finished: the new keys are in {files.path}")
        return
    keys = "1 key" if noted.links == 1 else f"{noted.links} keys"
    tell(f"{keys} in use, the newest since {noted.since:%Y-%m-%d}")
    amount = await rotation.amount()
    tell("to be carried to a new key: " + ", ".join(f"{n:,} {what}" for what, n in amount.items()))
    if not apply:
        tell(
            "nothing was changed; datashare has to be stopped meanwhile, and the database and the "
            "key file need a backup, as there is no way back but that. Do it with --apply"
        )
        return
    began = time.monotonic()
    try:
        replaced = await rotation.rotate(amount)
    finally:
        end_bar()
    took = time.monotonic() - began
    tell(f"{sum(amount.values()):,} rows carried to the new key in {took:,.1f} s")
    if replaced:
        tell(f"the new keys are in {files.path}: back it up, apart from the database, and start")
    else:
        tell(
            f"{files.path} cannot be replaced here: put {files.next_path.name} in its place, in "
            "Kubernetes in the Secret, before datashare is started"
        )
