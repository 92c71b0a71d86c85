"""The VAT invoices that ingest is measured with: real ones where there are any."""

from collections.abc import Sequence
from datetime import date
from itertools import chain, islice
from pathlib import Path

from puhui.datashare.v1.records_pb2 import Record
from services.sandbox import cumcm2020c
from services.sandbox.city import City, CityPlan
from services.sandbox.delivery import Delivery
from services.sandbox.months import month_of

_REAL = Path(__file__).parents[4] / "shared" / "data" / "cumcm2020c"
_SIMULATED_FIRMS = 300
_SIMULATED_ROWS = 50_000  # about what such a city issues in three years


def real() -> Sequence[Delivery]:
    """The files of the real invoices; none where the data set is not there."""
    return cumcm2020c.deliveries(_REAL) if _REAL.is_dir() else ()


def simulated(count: int, firms: int = _SIMULATED_FIRMS) -> Sequence[Delivery]:
    """The invoices of a simulated city, at least so many, from its firms in turn."""
    plan = CityPlan(
        2020,
        month_of(date(2026, 6, 1)),
        firms,
        activity=1.1 * count / _SIMULATED_ROWS * _SIMULATED_FIRMS / firms,
    )
    return tuple(d for d in City(plan).deliveries() if d.record_type == "vat_invoice")


def invoices(count: int) -> tuple[str, list[Record]]:
    """What the rows are, and at least `count` of them, or all real ones if there are fewer.

    Of the real ones the first of each of the set's four files, so that both sides and both groups
    of firms are in.
    """
    files = real()
    if files:
        # The four files are of different sizes: what one lacks, the others give.
        share, rows = count, []
        for left, file in zip(range(len(files), 0, -1), sorted(files, key=len), strict=True):
            part = list(islice(file, -(-share // left)))
            share -= len(part)
            rows.append(part)
        return "real (CUMCM 2020 C)", list(chain.from_iterable(rows))
    return "simulated", list(chain.from_iterable(simulated(count)))
