"""A summary's table as the bytes of `puhui.datashare.v1.Series`, which readers get untouched."""

from collections.abc import Mapping, Sequence

from puhui.datashare.v1 import summaries_pb2 as pb
from services.datashare.summaries.domain import Layout, SeriesKey, Table


def encode(
    key: SeriesKey, layout: Layout, table: Table, derived: Mapping[str, Sequence[int]]
) -> bytes:
    """Return the bytes.

    Args:
        key: whose series.
        layout: of its type.
        table: stored measures.
        derived: derived measures by name, aligned with the table's months ascending; may be empty.
    """
    months = sorted(table.rows)
    columns = zip(*(table.rows[month] for month in months), strict=True)
    counts = next(columns, ())
    stored = (
        pb.Column(name=name, values=values)
        for name, values in zip(layout.names, columns, strict=bool(months))
    )
    content: bytes = pb.Series(
        record_type=key.record_type,
        provider_id=key.provider_id,
        months=months,
        record_counts=counts,
        columns=[
            *stored,
            *(pb.Column(name=name, values=values) for name, values in derived.items()),
        ],
        attributes=[
            pb.Attribute(name=name, value=table.attributes[name])
            for name in layout.attributes
            if name in table.attributes
        ],
    ).SerializeToString(deterministic=True)
    return content


def decode(layout: Layout, content: bytes) -> Table:
    """Return the table of stored measures; a measure that is newer than the bytes is 0."""
    series = pb.Series.FromString(content)
    found = {column.name: column.values for column in series.columns}
    nothing = (0,) * len(series.months)
    columns = [series.record_counts, *(found.get(name, nothing) for name in layout.names)]
    rows = zip(*columns, strict=True)
    return Table(
        rows={month: list(row) for month, row in zip(series.months, rows, strict=True)},
        attributes={attribute.name: attribute.value for attribute in series.attributes},
    )


def first_month_of(content: bytes) -> int:
    """Return the first month, yyyymm, of bytes that have one."""
    return pb.Series.FromString(content).months[0]


def clip(content: bytes, first: int, last: int) -> bytes | None:
    """Return the bytes of the months from first to last, yyyymm; None where there are none."""
    series = pb.Series.FromString(content)
    begin = sum(month < first for month in series.months)
    end = sum(month <= last for month in series.months)
    if begin >= end:
        return None
    series.months[:] = series.months[begin:end]
    series.record_counts[:] = series.record_counts[begin:end]
    for column in series.columns:
        column.values[:] = column.values[begin:end]
    clipped: bytes = series.SerializeToString(deterministic=True)
    return clipped
