"""The operator's command as it is seen: what it would do, how far it is, what it did."""

from collections.abc import Callable

from services.datashare.retention.app import Rebuild


async def rebuild_summaries(
    rebuild: Rebuild,
    tell: Callable[[str], None],
    show: Callable[[str, int, int], None],
    *,
    apply: bool,
) -> None:
    """Fold every summary anew, beside the service, which goes on.

    Args:
        rebuild: the work.
        tell: takes a line of text.
        show: shows what, how much of it is done, and how much there is.
        apply: do it; else only say what would be done.
    """
    series, others = await rebuild.count()
    tell(f"{series:,} series, {others:,} of them folded by another catalogue than this version's")
    if not apply:
        tell("nothing was done: add --apply to fold all of them anew")
        return
    done = await rebuild(lambda number: show("series", number, series))
    tell(f"{done:,} series folded anew")
