"""The public data set of CUMCM 2020, problem C: VAT invoices of 425 Chinese firms, 123 with labels.

Codes such as E1 become registration numbers that pass the check of GB 32100 and belong to nobody
(district 100000, organisation code XC...). An invoice's record id is side:firm:number. Each was
obtained at the end of its own day, so the tax provider that pushes them is a historical source.

The set's rows are pushed as they are, every one, and the platform accounts for them:

- 11,665 repeat an earlier row of the same id exactly. They come back as duplicates.
- 2,101 have the id of an earlier row and other content, and do not say that they are a new version.
  They come back rejected with RECORD_CONFLICT; the first row in the set's order stands. 2,036 of
  them are one and the same invoice listed twice, with the same day and amounts: under two codes of
  its counterparty (2,031; E197 and E160 have all but 3), or as valid and as void (5). To accept
  those would count a sale twice. The other 65 are of another day and, but for one, of another
  amount: other invoices, for a number is unique only within its invoice code 发票代码, which the
  set left out. Nothing in a row itself tells the two kinds apart, so these stay out too: 0.006 % of
  the rows.

The rating 信誉评级 decides the label (D: 24 of 24 defaulted, A: none), so it is not read.
"""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from puhui.datashare.v1.payloads_pb2 import (
    INVOICE_SIDE_INPUT,
    INVOICE_SIDE_OUTPUT,
    INVOICE_STATUS_VALID,
    INVOICE_STATUS_VOID,
    VatInvoice,
)
from puhui.datashare.v1.records_pb2 import Record
from services.datashare.subjects.uscc import make
from services.sandbox.delivery import Delivery, Provider
from services.sandbox.wire import cny, date_of, obtained_on, subject_of

TAX = Provider("tax", "tax", "CUMCM 2020 C invoices 数模2020C题发票数据", simulated=False)
LAST_DAY = date(2020, 2, 29)
"""The end of the month that the set's last invoices are of."""


class DataSetError(Exception):
    """A folder does not hold the set; the message names the file at fault."""


_SIDES = {"input": INVOICE_SIDE_INPUT, "output": INVOICE_SIDE_OUTPUT}
_STATUS = {"有效发票": INVOICE_STATUS_VALID, "作废发票": INVOICE_STATUS_VOID}
_DEFAULTED = {"是": True, "否": False}
_COLUMNS = 8
_ROWS = 16_384


@dataclass(frozen=True)
class Enterprise:
    """A firm of the set.

    Args:
        code: as in the set, E1 to E425.
        uscc: its synthetic registration number.
        name: as in the set, masked.
        defaulted: the label; None for the 302 firms without a credit record.
    """

    code: str
    uscc: str
    name: str
    defaulted: bool | None


def uscc_of(code: str) -> str:
    """The synthetic registration number of a firm of the set."""
    return make("91", "100000", f"XC{int(code.removeprefix('E')):06d}")


def enterprises(folder: Path) -> tuple[Enterprise, ...]:
    """All firms of the set, those with a label first.

    Raises:
        DataSetError: a file is missing or not what the set has.
    """
    found = []
    for part in (1, 2):
        path = folder / f"attach{part}_enterprises.csv"
        with _reading(path), path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                code, name = row["企业代号"], row["企业名称"]
                defaulted = _DEFAULTED[row["是否违约"]] if part == 1 else None
                found.append(Enterprise(code, uscc_of(code), name.strip(), defaulted))
    return tuple(found)


def deliveries(folder: Path) -> tuple[Delivery, ...]:
    """The set's four files of invoices, in the set's order of rows.

    Raises:
        DataSetError: a file is missing or not what the set has.
    """
    return tuple(
        _delivery(folder / f"attach{part}_{side}_invoices.parquet", side)
        for part in (1, 2)
        for side in _SIDES
    )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataSetError(f"{path.name}: {error.strerror or 'it cannot be read'}") from error
    except (KeyError, ValueError, AttributeError) as error:
        raise DataSetError(f"{path.name}: a row is not as in CUMCM 2020 C") from error


def _delivery(path: Path, side: str) -> Delivery:
    with _reading(path), pq.ParquetFile(path) as file:
        if file.metadata.num_columns != _COLUMNS:
            raise DataSetError(f"{path.name}: {_COLUMNS} columns were expected")
        count = file.metadata.num_rows

    def build() -> Iterator[Record]:
        with pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(_ROWS, use_threads=False):
                yield from _records(batch, side)

    return Delivery(TAX, "vat_invoice", count, build)


def _records(batch: pa.RecordBatch, side: str) -> Iterator[Record]:
    firm, number, day, party, net, tax, gross, status = batch.columns
    rows = zip(
        firm.to_pylist(),
        number.to_pylist(),
        day.cast(pa.int32()).to_pylist(),
        party.to_pylist(),
        *(_fen(amount) for amount in (net, tax, gross)),
        status.to_pylist(),
        strict=True,
    )
    current, subject, prefix = "", subject_of(""), ""
    which = _SIDES[side]
    for code, serial, at, other, net_fen, tax_fen, gross_fen, state in rows:
        if code != current:
            current, subject, prefix = code, subject_of(uscc_of(code)), f"{side}:{code}:"
        yield Record(
            provider_record_id=f"{prefix}{serial}",
            subject=subject,
            record_type="vat_invoice",
            date=date_of(at),
            obtained_at=obtained_on(at),
            vat_invoice=VatInvoice(
                number=str(serial),
                side=which,
                counterparty=other,
                net=cny(net_fen),
                tax=cny(tax_fen),
                gross=cny(gross_fen),
                status=_STATUS[state],
            ),
        )


def _fen(yuan: pa.Array) -> list[int]:
    """Amounts in whole fen; the set's are floats that are within 1e-6 of one."""
    fen: list[int] = np.rint(yuan.to_numpy() * 100).astype(np.int64).tolist()
    return fen
