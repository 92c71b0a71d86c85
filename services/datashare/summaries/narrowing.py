"""A series of which only some measures and attributes are opened."""

from collections.abc import Collection

from puhui.datashare.v1 import summaries_pb2 as pb


def narrowed(content: bytes, names: Collection[str]) -> bytes:
    """Return the bytes of a series without what is not named; the numbers of records are not.

    Args:
        content: a serialised `puhui.datashare.v1.Series`.
        names: of measures and attributes.
    """
    series = pb.Series.FromString(content)
    columns = [column for column in series.columns if column.name in names]
    attributes = [attribute for attribute in series.attributes if attribute.name in names]
    for part in ("columns", "attributes", "record_counts"):
        series.ClearField(part)
    series.columns.extend(columns)
    series.attributes.extend(attributes)
    kept: bytes = series.SerializeToString(deterministic=True)
    return kept
