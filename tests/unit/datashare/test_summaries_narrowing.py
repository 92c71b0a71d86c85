"""What is left of a series of which only some measures are opened."""

from puhui.datashare.v1 import summaries_pb2 as pb
from services.datashare.summaries.narrowing import narrowed


def test_only_what_is_named_is_left_and_no_number_of_records() -> None:
    whole = pb.Series(
        record_type="tax_filing",
        provider_id="par_tax",
        months=[202401, 202402],
        record_counts=[1, 2],
        columns=[
            pb.Column(name="paid", values=[5, 6]),
            pb.Column(name="arrears", values=[0, 7]),
        ],
        attributes=[pb.Attribute(name="grade", value="A"), pb.Attribute(name="kind", value="vat")],
    )
    left = pb.Series.FromString(narrowed(whole.SerializeToString(), {"paid", "kind", "other"}))
    assert left == pb.Series(
        record_type="tax_filing",
        provider_id="par_tax",
        months=[202401, 202402],
        columns=[pb.Column(name="paid", values=[5, 6])],
        attributes=[pb.Attribute(name="kind", value="vat")],
    )
