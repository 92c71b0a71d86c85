import dataclasses
import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.scoring.models.domain import InputSource
from services.scoring.training.encoding import Unread, check_needed, encode, needed
from services.scoring.training.files import TableFileError, open_file
from services.scoring.training.spec import (
    Evaluation,
    Indeterminates,
    Outcome,
    Rejected,
    SpecError,
    TableSpec,
    parse_spec,
    write_spec,
)
from services.scoring.training.table import Prepared, prepare, read_labels
from tests.fakes import tables


def prepared(
    path: Path, columns: Mapping[str, Any], spec: TableSpec, encoding: str = "utf-8"
) -> Prepared:
    return prepare(open_file(tables.write_csv(path / "t.csv", columns, encoding)), spec)


def refused(found: Prepared) -> dict[str, str]:
    return {f.column: f.problem for f in found.table.findings if f.refused}


def small(**more: Any) -> dict[str, Any]:
    chance = np.random.default_rng(0)
    return {
        "bad": [1, 0, 0, 0] * 25,
        "x": chance.normal(0, 1, 100).tolist(),
        **more,
    }


def test_a_table_of_small_business_loans(tmp_path: Path) -> None:
    found = prepared(tmp_path, tables.sba(), TableSpec(label="MIS_Status"))
    assert refused(found) == {
        "LoanNr_ChkDgt": "id_like",
        "Name": "id_like",
        "ApprovalFY": "calendar",
        "ChgOffDate": "leak_missing",
        "DisbursementDate": "leak_date",
        "BalanceGross": "constant",
        "ChgOffPrinGr": "leak_label",
    }
    spec = found.spec
    assert (spec.positive, spec.time) == (
        "CHGOFF",
        "ApprovalDate",
    )
    assert found.left_out == {"without a label": 9}
    by_name = {feature.name: feature for feature in found.table.features}
    assert set(by_name["State"].categories) == set(tables.STATES)
    assert by_name["DisbursementGross"].unit == "number"
    at = [feature.name for feature in found.table.features].index("DisbursementGross")
    assert np.nanmin(found.table.matrix[:, at]) > 100
    assert set(found.table.segments["NAICS"]) >= {"72", "missing"}
    assert found.table.times is not None
    assert found.table.as_of.startswith("1967")


def test_a_panel_of_companies(tmp_path: Path) -> None:
    found = prepared(tmp_path, tables.company_panel(), TableSpec(label="status_label"))
    assert (found.spec.positive, found.spec.group, found.spec.time) == (
        "failed",
        "company_name",
        "year",
    )
    assert found.table.groups is not None
    assert len(np.unique(found.table.groups)) == 300
    assert len(found.table.features) == 18
    assert set(found.remarks) >= {"positive", "group", "time"}


def test_a_table_of_ratios_with_odd_names(tmp_path: Path) -> None:
    found = prepared(tmp_path, tables.ratios(), TableSpec(label="Bankrupt?"))
    assert refused(found) == {
        "Realized Sales Gross Margin": "duplicate",
        "Net Income Flag": "constant",
    }
    assert found.table.features[0].name.startswith("ROA(C)")


def test_a_balanced_sample_with_weights_and_leaks(tmp_path: Path) -> None:
    found = prepared(tmp_path, tables.platform_loans(), TableSpec(label="loan_status"))
    assert refused(found) == {
        "id": "id_like",
        "total_pymnt": "leak_after",
        "recoveries": "leak_value",
        "hardship_flag": "constant",
    }
    table = found.table
    assert found.spec.weight == "sample_weight"
    assert table.weights is not None
    assert table.weights.mean() == pytest.approx(1)
    prior = float((table.weights * table.labels).sum() / table.weights.sum())
    assert prior == pytest.approx(0.2)
    assert {f.name: f.unit for f in table.features}["int_rate"] == "percent"


def test_a_chinese_table(tmp_path: Path) -> None:
    found = prepared(tmp_path, tables.chinese_firms(), TableSpec(label="是否违约"), "gb18030")
    by_name = {feature.name: feature for feature in found.table.features}
    assert by_name["成立日期"].unit == "days before 申请日期"
    assert by_name["高新技术企业"].unit == "yes or no"
    assert refused(found)["核销日期"] == "leak_missing"
    sales = found.table.matrix[:, list(by_name).index("年销售额")]
    assert np.nanmedian(sales) > 1e6
    assert 0.05 < np.isnan(sales).mean() < 0.15


@pytest.mark.parametrize("name", tables.TABLES)
def test_rows_are_scored_as_they_were_trained_on(tmp_path: Path, name: str) -> None:
    make, label = tables.TABLES[name]
    columns = make()
    path = tables.write_csv(tmp_path / "t.csv", columns)
    found = prepare(open_file(path), TableSpec(label=label))
    features = found.table.features
    assert all(feature.source is InputSource.TABLE for feature in features)
    lines = path.read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "one.csv").write_text(lines[0] + lines[7], "utf-8")
    parquet = tmp_path / "t.parquet"
    pq.write_table(pa.table(dict(columns)), parquet)
    batches = open_file(path).batches(needed(features))
    whole = np.concatenate([encode(features, batch) for batch in batches])
    if not found.left_out:
        np.testing.assert_array_equal(whole, found.table.matrix)
    (alone,) = open_file(tmp_path / "one.csv").batches(needed(features))
    np.testing.assert_array_equal(encode(features, alone)[0], whole[6])
    typed = open_file(parquet).batches(needed(features))
    np.testing.assert_array_equal(np.concatenate([encode(features, b) for b in typed]), whole)


@pytest.mark.parametrize("name", tables.TABLES)
def test_the_spec_that_comes_out_gives_the_same_table(tmp_path: Path, name: str) -> None:
    make, label = tables.TABLES[name]
    file = open_file(tables.write_csv(tmp_path / "t.csv", make()))
    first = prepare(file, TableSpec(label=label))
    again = prepare(file, parse_spec(write_spec(first.spec, first.remarks)))
    assert again.table.features == first.table.features
    np.testing.assert_array_equal(again.table.matrix, first.table.matrix)
    assert again.remarks == {}


def test_unseen_and_rare_categories_fall_back(tmp_path: Path) -> None:
    kinds = ["a"] * 50 + ["b"] * 46 + ["c"] * 4
    found = prepared(tmp_path, small(kind=kinds, other=["u", "v"] * 50), TableSpec(label="bad"))
    features = {feature.name: feature for feature in found.table.features}
    assert features["kind"].categories == ("a", "b", "(other)")
    assert features["kind"].others == 2
    assert features["other"].others is None
    unread = Unread()
    batch = {
        "x": pa.array(["1", "oops", ""]),
        "kind": pa.array(["b", "new", "?"]),
        "other": pa.array(["v", "new", None]),
    }
    rows = encode(list(features.values()), batch, unread)
    np.testing.assert_array_equal(rows[:, 1:], [[1, 1], [2, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(rows[:, 0], [1, np.nan, np.nan])
    assert unread.cells["x"] == 1
    assert (unread.unseen["kind"], unread.unseen["other"]) == (1, 1)


def test_what_leaks_is_kept_where_the_spec_names_it(tmp_path: Path) -> None:
    leak = [5, 1, 2, 3] * 25
    alone = prepared(tmp_path, small(leak=leak), TableSpec(label="bad"))
    assert refused(alone) == {"leak": "leak_label"}
    named = prepared(tmp_path, small(leak=leak), TableSpec(label="bad", monotone={"leak": 1}))
    assert [feature.name for feature in named.table.features] == ["x", "leak"]
    kept = [f for f in named.table.findings if f.column == "leak"]
    assert kept[0].problem == "leak_label"
    assert kept[0].detail.startswith("kept, as the spec names it")
    assert "left out" not in kept[0].detail


def test_codes_are_categories_where_the_spec_says_or_they_begin_with_zero(tmp_path: Path) -> None:
    columns = small(naics=[11, 22, 33, 44] * 25, zip=["00501", "10001", "94105", "02139"] * 25)
    found = prepared(tmp_path, columns, TableSpec(label="bad", categorical=("naics",)))
    kinds = {f.name: len(f.categories) for f in found.table.features}
    assert kinds["naics"] == 4 if "naics" in kinds else True
    assert kinds.get("zip", 4) == 4
    plain = prepared(tmp_path, small(naics=np.arange(100) % 7), TableSpec(label="bad"))
    assert {f.name: f.unit for f in plain.table.features}["naics"] == "number"


@pytest.mark.parametrize(
    ("values", "positive"),
    [
        (["0", "1", "0"], "1"),
        (["no", "Yes", "Yes"], "Yes"),
        (["False", "True", "True"], "True"),
        (["否", "是", "是"], "是"),
        (["P I F", "CHGOFF", "CHGOFF"], "CHGOFF"),
        (["alive", "alive", "gone"], "gone"),
        (["1", "1", "2"], "2"),
    ],
)
def test_the_outcome_is_inferred_safely(tmp_path: Path, values: list[str], positive: str) -> None:
    columns = {"y": values * 40, "x": np.random.default_rng(1).normal(0, 1, 120).tolist()}
    found = prepared(tmp_path, columns, TableSpec(label="y"))
    assert found.spec.positive == positive
    assert found.table.labels.sum() == 40 * values.count(positive)
    assert next(f.problem for f in found.table.findings if f.column == "y") == "positive"


@pytest.mark.parametrize(
    ("columns", "spec", "said"),
    [
        ({"y": ["a", "b"] * 50}, TableSpec(label="y"), "say by `positive` which is the outcome"),
        ({"y": ["a", "b", "c"] * 40}, TableSpec(label="y"), "has 3 values"),
        ({"y": ["a"] * 90}, TableSpec(label="y"), "nothing to learn"),
        ({"y": list(range(90))}, TableSpec(label="y"), "90 different values"),
        ({"y": [""] * 90}, TableSpec(label="y"), "has no value in any row"),
        ({"y": [0, 1] * 40}, TableSpec(label="y", positive="2"), "which 'y' never is"),
        ({"y": [0, 1] * 40}, TableSpec(label="Y_"), "the table does not have"),
        ({"y": [0, 1] * 40, "xa": [1] * 80}, TableSpec(label="y", time="xb"), "mean `xa`?"),
        ({"y": [0, 1] * 40, "t": ["s"] * 80}, TableSpec(label="y", time="t"), "is no date"),
        ({"y": [0, 1] * 40, "w": [-1] * 80}, TableSpec(label="y", weight="w"), "below 0"),
        ({"y": [0, 1] * 40, "w": ["a"] * 80}, TableSpec(label="y", weight="w"), "of numbers"),
        ({"y": [0, 1] * 40, "w": [0] * 80}, TableSpec(label="y", weight="w"), "0 in every row"),
        ({"y": [0, 0, 0, 1] * 20}, TableSpec(label="y"), "no column is left to learn from: "),
        (
            {"y": [0, 0, 0, 1] * 20, "k": ["u", "v"] * 40},
            TableSpec(label="y", monotone={"k": 1}),
            "names have no order",
        ),
        (
            {"y": [0, 0, 0, 1] * 20, "x": list("ab") * 40, "t": [2001, 2002] * 40},
            TableSpec(label="y", time="t", evaluation=Evaluation(cutoff="soon")),
            "`evaluation.cutoff` is 'soon'",
        ),
    ],
)
def test_a_spec_that_does_not_fit_says_what_to_do(
    tmp_path: Path, columns: dict[str, Any], spec: TableSpec, said: str
) -> None:
    with pytest.raises(SpecError) as error:
        prepared(tmp_path, columns, spec)
    assert said in str(error.value)


def test_undecided_rows_and_rejected_applicants_are_treated_as_the_spec_says(
    tmp_path: Path,
) -> None:
    columns = {
        "y": ["bad", "good", "good", "M2", ""] * 30,
        "d": ["yes", "yes", "no", "yes", "no"] * 30,
        "x": np.random.default_rng(1).normal(0, 1, 150).tolist(),
    }
    undecided = Indeterminates(values=("M2",))

    def rows(indeterminates: Indeterminates, rejected: Rejected) -> tuple[int, int, int | None]:
        outcome = Outcome(indeterminates=indeterminates, rejected=rejected)
        found = prepared(tmp_path, columns, TableSpec(label="y", outcome=outcome))
        accepted = found.table.accepted
        return (
            len(found.table.labels),
            int(found.table.labels.sum()),
            None if accepted is None else int(accepted.sum()),
        )

    no = Rejected("d", ("no",))
    assert rows(undecided, Rejected()) == (90, 30, None)
    assert rows(dataclasses.replace(undecided, treated="bad"), Rejected()) == (120, 60, None)
    assert rows(undecided, no) == (60, 30, None)
    assert rows(undecided, dataclasses.replace(no, treated="bad")) == (120, 90, 60)
    assert rows(undecided, dataclasses.replace(no, treated="labelled")) == (90, 30, 60)


def test_rows_without_a_date_or_weight_are_left_out_and_counted(tmp_path: Path) -> None:
    columns = small(t=["2015-01-31", "2016-01-31", "2017-01-31", ""] * 25, w=[1, 1, 0, 2] * 25)
    found = prepared(tmp_path, columns, TableSpec(label="bad", time="t", weight="w"))
    assert found.left_out == {"without a date in t": 25, "of weight 0": 25}
    assert len(found.table.labels) == len(found.table.matrix) == 50


def test_outcomes_alone_are_read_by_the_same_rules(tmp_path: Path) -> None:
    path = tables.write_csv(tmp_path / "t.csv", tables.sba())
    spec = TableSpec(label="MIS_Status", time="ApprovalDate")
    whole = prepare(open_file(path), spec).table
    found = read_labels(open_file(path), spec, ("State", "NAICS"))
    np.testing.assert_array_equal(found.labels, whole.labels)
    np.testing.assert_array_equal(found.times, whole.times)
    assert found.positive == "CHGOFF"
    assert found.segments["State"] == whole.segments["State"]
    assert (len(found.places), int(found.places[-1]) < 3000) == (2991, True)


def test_rows_that_occur_twice_are_told(tmp_path: Path) -> None:
    columns = small()
    twice = {name: values + values[:20] for name, values in columns.items()}
    found = prepared(tmp_path, twice, TableSpec(label="bad"))
    assert "20 rows have the same inputs" in found.table.findings[-1].detail


def test_a_table_that_lacks_inputs_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    features = prepared(tmp_path, small(), TableSpec(label="bad")).table.features
    check_needed(features, ("y", "x"), "m")
    with pytest.raises(SpecError, match="the table lacks 1 column that m was trained on: x"):
        check_needed(features, ("xx",), "m")


def test_files_as_they_come(tmp_path: Path) -> None:
    import gzip

    text = ' a ;b\n1;"x\ny"\n2;z\n'
    for name, content in (
        ("a.csv", text.encode("utf-16")),
        ("b.csv.gz", gzip.compress(b"\xef\xbb\xbf" + text.encode())),
        ("c.csv", text.replace(";", "\t").encode("gb18030")),
    ):
        (tmp_path / name).write_bytes(content)
        file = open_file(tmp_path / name)
        assert file.columns == ("a", "b")
        assert file.read(["b"])["b"].to_pylist() == ["x\ny", "z"]
        assert [batch["a"].to_pylist() for batch in file.batches(["a"])] == [["1", "2"]]


def test_a_row_of_another_width_is_left_out_of_training_and_refused_for_scores(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3\n4,5\n")
    file = open_file(tmp_path / "a.csv")
    assert file.read(["a"])["a"].to_pylist() == ["1", "4"]
    assert file.skipped == 1
    with pytest.raises(TableFileError, match="Expected 2 columns, got 1"):
        list(file.batches(["a"]))


@pytest.mark.parametrize("start", ["sep=;", '"sep=;"', "\ufeffSEP=;"])
def test_excel_may_state_the_separator_above_the_header(tmp_path: Path, start: str) -> None:
    (tmp_path / "a.csv").write_text(f"{start}\na, b;c\n1,5;2\n3;4\n", encoding="utf-8")
    file = open_file(tmp_path / "a.csv")
    assert file.columns == ("a, b", "c")
    assert file.read(["c"])["c"].to_pylist() == ["2", "4"]
    assert [each["a, b"].to_pylist() for each in file.batches(["a, b"])] == [["1,5", "3"]]


def test_ratios_that_were_divided_by_zero_are_missing_numbers(tmp_path: Path) -> None:
    ratio = ["inf", "-inf", "#DIV/0!", "Infinity"] * 5 + [f"{at}.5" for at in range(80)]
    found = prepared(tmp_path, small(ratio=ratio), TableSpec(label="bad"))
    place = [each.name for each in found.table.features].index("ratio")
    assert found.table.features[place].unit == "number"
    assert int(np.isnan(found.table.matrix[:, place]).sum()) == 20


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xlsx", b"", "save it as CSV or Parquet"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"a,a\n1,2\n", "two columns named 'a'"),
        ("a.parquet", b"PAR", "is not Parquet"),
        ("a.csv.gz", b"a,b\n", "is not gzip"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableFileError, match=said):
        open_file(tmp_path / name)


def test_a_parquet_file_may_hold_any_type(tmp_path: Path) -> None:
    chance = np.random.default_rng(2)
    rows = 400
    values = chance.normal(0, 1, rows)
    columns = {
        "score": pa.array(values),
        "decimal": pa.array([Decimal("1.25"), Decimal("2.50")] * 200),
        "true": pa.array(chance.random(rows) < 0.5),
        "coded": pa.array(chance.choice(["a", "b"], rows)).dictionary_encode(),
        "coded numbers": pa.array(chance.integers(0, 9, rows)).dictionary_encode(),
        "huge": pa.array(chance.integers(2**62, 2**63, rows, dtype=np.uint64)),
        "view": pa.array(["u", "v"] * 200, pa.string_view()),
        "born": pa.array([dt.date(1980, 1, 1) + dt.timedelta(days=7 * at) for at in range(rows)]),
        "applied": pa.array(
            [dt.datetime(2020, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=at) for at in range(rows)]
        ),
        "infinite": pa.array(np.where(values > 2, np.inf, values)),
        "list": pa.array([[1]] * rows),
        "bytes": pa.array([b"x"] * rows),
        "bad": pa.array(chance.random(rows) < 0.2),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    file = open_file(tmp_path / "t.parquet")
    found = prepare(file, TableSpec(label="bad"))
    units = {feature.name: feature.unit for feature in found.table.features}
    assert units == {
        "score": "number",
        "decimal": "number",
        "true": "yes or no",
        "coded": "category",
        "coded numbers": "number",
        "huge": "number",
        "view": "category",
        "born": "days before applied",
        "infinite": "number",
    }
    assert refused(found) == {"list": "unreadable", "bytes": "unreadable"}
    features = found.table.features
    again = np.concatenate([encode(features, b) for b in file.batches(needed(features))])
    np.testing.assert_array_equal(again, found.table.matrix)
    with pytest.raises(SpecError, match="kept for the score"):
        prepared(tmp_path, small(**{"(score)": [1] * 100}), TableSpec(label="bad"))
