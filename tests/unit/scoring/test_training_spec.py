from pathlib import Path

import pytest

from services.scoring.models.domain import GradeCut, Words
from services.scoring.training.spec import SpecError, TableSpec, parse_spec, read_spec, write_spec

FULL = """
label = "status"
positive = 1
exclude = ["id", "name"]
time = "applied"
group = "firm"
weight = "w"
categorical = ["naics"]

[monotone]
debt = 1
"sales, net" = -1

[groups]
liquidity = ["quick", "cash ratio"]

[reasons]
liquidity = { zh = "流动性", en = "Liquidity" }
debt = "Debt"

[outcome]
definition = "90 days past due within 12 months"
observation_window = "12 months"
performance = "12 months"
indeterminates = { values = ["M2"], treated = "left_out" }
rejected = { column = "decision", values = ["no"], treated = "bad" }

[evaluation]
kind = "out-of-time"
folds = 4
repeats = 2
cutoff = 2015-06-30

[score]
base = 500
odds = 10
PDO = 20
grades = { A = 0.0, B = 0.05 }
"""


def test_every_key_is_understood() -> None:
    spec = parse_spec(FULL)
    assert (spec.label, spec.positive, spec.exclude) == ("status", "1", ("id", "name"))
    assert spec.monotone == {"debt": 1, "sales, net": -1}
    assert spec.reasons == {
        "liquidity": Words("流动性", "Liquidity"),
        "debt": Words("Debt", "Debt"),
    }
    assert spec.outcome.observation == "12 months"
    assert spec.outcome.indeterminates.treated == "left out"
    assert spec.outcome.rejected.treated == "bad"
    assert (spec.evaluation.kind, spec.evaluation.cutoff) == ("out_of_time", "2015-06-30")
    assert (spec.scaling.base, spec.scaling.odds, spec.scaling.pdo) == (500, 10, 20)
    assert spec.grades == (GradeCut("A", 0.0), GradeCut("B", 0.05))
    assert spec.named == {"naics", "debt", "sales, net", "quick", "cash ratio", "liquidity"}


def test_a_spec_is_written_as_what_gives_it() -> None:
    for spec in (parse_spec(FULL), TableSpec(label='a "b"\\ \n中'), parse_spec('label = "x"')):
        again = write_spec(spec, {"label": "said", "score": "usual"}, ["one", "two"])
        assert parse_spec(again) == spec


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = ", "it is not TOML"),
        ("", "`label` is missing"),
        ('lable = "x"', "unknown key `lable`: did you mean `label`?"),
        ('label = "x"\nzzz = 1', "unknown key `zzz`: leave it out; known are label"),
        ('label = "x"\n[evaluation]\nfold = 3', "did you mean `folds`?"),
        ('label = "x"\n[score]\nbse = 3', "did you mean `base`?"),
        ('label = "x"\n[outcome]\ndefinitin = "y"', "did you mean `definition`?"),
        ("label = 3", "`label` is 3, not a text"),
        ('label = "x"\nexclude = 3', "`exclude` is 3, not a list"),
        ('label = "x"\nmonotone = "up"', "`monotone` is 'up', not a section"),
        ('label = "x"\n[monotone]\na = 2', "`monotone.a` is 2: write 1 where PD rises"),
        ('label = "x"\n[monotone]\na = true', "`monotone.a` is True"),
        ('label = "x"\n[monotone]\nx = 1', "which `label` keeps out of the inputs"),
        ('label = "x"\ntime = "x"', "`time` and `label` name the same column"),
        ('label = "x"\ncategorical = ["a"]\n[monotone]\na = 1', "names have no order"),
        ('label = "x"\n[groups]\ng = ["a"]\nh = ["a"]', "`groups` names 'a' twice"),
        ('label = "x"\nexclude = ["a"]\ncategorical = ["a"]', "`exclude` keeps out"),
        ('label = "x"\n[evaluation]\nkind = "random"', "It is one of repeated_stratified"),
        ('label = "x"\n[evaluation]\nkind = "time"', "`time` is missing"),
        ('label = "x"\n[evaluation]\nkind = "grouped"', "`group` is missing"),
        ('label = "x"\n[evaluation]\nfolds = 1', "write a whole number from 2 on"),
        ('label = "x"\n[evaluation]\ncutoff = "2015"', "`evaluation.cutoff` needs `time`"),
        ('label = "x"\n[score]\npdo = 0', "write a number above 0"),
        ('label = "x"\n[score]\ngrades = { A = 0.1 }', "do not ascend from 0"),
        (
            f'label = "x"\n[score]\ngrades = {{ A = 0, {"B" * 17} = 0.1 }}',
            "more than 16 characters",
        ),
        ('label = "x"\n[score]\ngrades = "A"', "write grades = {"),
        ('label = "x"\n[score]\nbase = nan', "`score.base` is nan"),
        (
            'label = "x"\n[outcome]\nrejected = { column = "d" }',
            "names a column or values, not both",
        ),
        (
            'label = "x"\n[outcome]\nindeterminates = { values = ["a"], treated = "worse" }',
            "It is one of left out, good, bad",
        ),
    ],
)
def test_a_wrong_spec_says_key_problem_and_remedy(text: str, said: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse_spec(text)
    assert said in str(refused.value)


def test_a_file_that_is_no_spec_is_named(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    with pytest.raises(SpecError, match=r"spec\.toml"):
        read_spec(path)
    path.write_bytes(b"label = '\xff'")
    with pytest.raises(SpecError, match="UTF-8"):
        read_spec(path)
    path.write_text("labl = 'x'")
    with pytest.raises(SpecError, match=r"spec\.toml: unknown key"):
        read_spec(path)
