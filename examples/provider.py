"""As a provider: push records with the Python client, and see what became of them.

    PUHUI_GATEWAY=host:port PUHUI_API_KEY=... python examples/provider.py USCC

The key is that of a provider of the kind "tax". Run again, everything is a duplicate.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime

from puhui.datashare.v1.records_pb2 import Record
from puhui_client import Client, records
from puhui_client.values import month


def filings(uscc: str) -> Iterator[Record]:
    """Tax filings of a firm; any iterable of records can be pushed, of any length."""
    for number, sales in enumerate(("712400.00", "655180.50", "801020.00"), start=1):
        yield records.tax_filing(
            record_id=f"filing-vat:2021-{number:02}",  # ours: never a registration number
            uscc=uscc,
            occurred=month(2021, number),
            obtained_at=datetime(2021, number + 1, 15, 10, 0, tzinfo=UTC),
            tax_kind="vat",
            declared_sales=sales,
            declared_tax="21372.00",
            paid="21372.00",
            days_late=0,
        )
    yield records.vat_invoice(
        record_id="output:wrong",
        uscc=uscc,
        occurred=date(2021, 3, 31),
        obtained_at=datetime(2021, 3, 31, tzinfo=UTC),
        number="00000001",
        side="output",
        net="100.00",
        tax="13.00",
        gross="113.00",
        currency="XXX",  # a bad row is rejected and does not block the others
    )


async def main(uscc: str) -> None:
    """Push, and print what became of the rows."""
    gateway, key = os.environ["PUHUI_GATEWAY"], os.environ["PUHUI_API_KEY"]
    async with Client(gateway, key) as provider:
        report = await provider.push(filings(uscc), historical=True)
    print(f"{report.accepted} accepted, {report.duplicate} duplicate")
    for rejection in report.rejections:
        print(f"{rejection.record_id}: {rejection.reason} {rejection.field}: {rejection.message}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
