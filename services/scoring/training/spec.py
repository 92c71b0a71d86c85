"""What a bank says of its table: SPEC.toml.

Invariants: every key but the label is optional; an unknown key is an error that names the nearest
known one; a spec that was read is written and read again as the same spec. Nothing here has seen
the table: `table` checks a spec's columns against it and fills in what was not said.
"""

import datetime as dt
import difflib
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from services.scoring.models.domain import (
    DEFAULT_GRADES,
    LONGEST_GRADE,
    GradeCut,
    Scaling,
    Words,
)
from services.scoring.training.domain import GROUPED, OUT_OF_TIME, STRATIFIED, TrainingError

KINDS: Final = (STRATIFIED, GROUPED, OUT_OF_TIME)

LEFT_OUT, AS_GOOD, AS_BAD, AS_LABELLED = "left out", "good", "bad", "labelled"
INDETERMINATE_AS: Final = (LEFT_OUT, AS_GOOD, AS_BAD)
REJECTED_AS: Final = (LEFT_OUT, AS_GOOD, AS_BAD, AS_LABELLED)

_KIND_WORDS: Final = {
    "stratified": STRATIFIED,
    "group": GROUPED,
    "time": OUT_OF_TIME,
    "temporal": OUT_OF_TIME,
    "out-of-time": OUT_OF_TIME,
    "out of time": OUT_OF_TIME,
}
_SPELLINGS: Final = {
    "observation_window": "observation",
    "performance_window": "performance",
    "indeterminate": "indeterminates",
    "rejects": "rejected",
    "default": "definition",
}
"""Other names of keys of [outcome]."""

_MOST_GRADES: Final = 30


class SpecError(TrainingError):
    """A spec that cannot be followed; the message names the key, the problem and the remedy."""


@dataclass(frozen=True, slots=True)
class Indeterminates:
    """Rows whose outcome is neither good nor bad.

    Args:
        values: of the label, as text.
        treated: one of INDETERMINATE_AS.
        words: how they were treated, where that is all that is known.
    """

    values: tuple[str, ...] = ()
    treated: str = LEFT_OUT
    words: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Applicants that were rejected, so that nobody saw their outcome.

    Args:
        column: which tells them; empty where none is in the table.
        values: of the column, as text, that say rejected.
        treated: one of REJECTED_AS.
        words: how they were treated, where that is all that is known.
    """

    column: str = ""
    values: tuple[str, ...] = ()
    treated: str = LEFT_OUT
    words: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the label means.

    Args:
        definition: of the outcome, in words.
        observation: window of which the inputs tell, in words.
        performance: window in which the outcome may come, in words.
        indeterminates: rows without a clear outcome.
        rejected: applicants that were rejected.
    """

    definition: str = ""
    observation: str = ""
    performance: str = ""
    indeterminates: Indeterminates = field(default_factory=Indeterminates)
    rejected: Rejected = field(default_factory=Rejected)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How the model is to be judged.

    Args:
        kind: one of KINDS; None: by what the table has.
        folds: None: the trainer's.
        repeats: None: the trainer's.
        cutoff: first day, month or year of the rows that an out-of-time model is judged on.
    """

    kind: str | None = None
    folds: int | None = None
    repeats: int | None = None
    cutoff: str | None = None


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A bank's table, as the bank says it.

    Args:
        label: column of the outcome.
        positive: its value that is the outcome, as text; None: inferred.
        exclude: columns that are no inputs.
        time: column of the observation's date.
        group: column of the firm: its rows never lie on both sides of a fold.
        weight: column of the rows' weights.
        categorical: columns whose values are names, also where they are numbers.
        monotone: direction in which PD may move as a column grows, by column.
        groups: columns by group that reasons speak about.
        reasons: titles by group or column.
        outcome: what the label means.
        evaluation: how the model is judged.
        scaling: log-odds to points.
        grades: cuts on PD.
    """

    label: str
    positive: str | None = None
    exclude: tuple[str, ...] = ()
    time: str | None = None
    group: str | None = None
    weight: str | None = None
    categorical: tuple[str, ...] = ()
    monotone: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reasons: Mapping[str, Words] = field(default_factory=dict)
    outcome: Outcome = field(default_factory=Outcome)
    evaluation: Evaluation = field(default_factory=Evaluation)
    scaling: Scaling = field(default_factory=Scaling)
    grades: tuple[GradeCut, ...] = DEFAULT_GRADES

    @property
    def named(self) -> frozenset[str]:
        """Columns that the spec wants as inputs, whatever an inspection says."""
        grouped = (column for columns in self.groups.values() for column in columns)
        return frozenset((*self.categorical, *self.monotone, *self.reasons, *grouped))


def read_spec(path: Path) -> TableSpec:
    """Return the spec in a file.

    Raises:
        SpecError: there is none, or it cannot be followed.
    """
    try:
        return parse_spec(path.read_text("utf-8-sig"))
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}: name another file") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path} is not UTF-8: save it as UTF-8") from None
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None


def parse_spec(text: str) -> TableSpec:
    """Return the spec that a TOML document holds.

    Raises:
        SpecError: it is no TOML, a key is unknown or a value cannot be followed.
    """
    try:
        stated = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"it is not TOML: {error}") from None
    return _spec(stated)


def nearest(name: str, known: Iterable[str]) -> str:
    """Words that point to the known name that is most like another; empty when none is."""
    found = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"did you mean `{found[0]}`?" if found else ""


def one_of(found: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Refuse keys that are not known.

    Raises:
        SpecError: names the nearest known one.
    """
    known = tuple(known)
    for key in found:
        if key not in known:
            hint = nearest(key, known) or "leave it out"
            raise SpecError(
                f"{where}unknown key `{key}`: {hint} Known are {', '.join(known)}"
                if hint.endswith("?")
                else f"{where}unknown key `{key}`: {hint}; known are {', '.join(known)}"
            )


def _spec(stated: Mapping[str, Any]) -> TableSpec:
    one_of(stated, _READERS, "")
    if "label" not in stated:
        raise SpecError('`label` is missing: name the column of the outcome, label = "default"')
    values = {key: _READERS[key](key, value) for key, value in stated.items()}
    scaling, grades = values.pop("score", (Scaling(), DEFAULT_GRADES))
    spec = TableSpec(**values, scaling=scaling, grades=grades)
    _check(spec)
    return spec


def _check(spec: TableSpec) -> None:
    """Refuse a spec that contradicts itself.

    Raises:
        SpecError: a column has two roles that exclude each other.
    """
    roles = {"label": spec.label, "time": spec.time, "group": spec.group, "weight": spec.weight}
    taken: dict[str, str] = {}
    for role, column in roles.items():
        if column is None:
            continue
        if column in taken:
            raise SpecError(f"`{role}` and `{taken[column]}` name the same column {column!r}")
        taken[column] = role
    for column in spec.exclude:
        taken.setdefault(column, "exclude")
    inputs = {
        "categorical": spec.categorical,
        "monotone": tuple(spec.monotone),
        "groups": tuple(column for columns in spec.groups.values() for column in columns),
    }
    for key, columns in inputs.items():
        for column in columns:
            if column in taken:
                raise SpecError(
                    f"`{key}` names {column!r}, which `{taken[column]}` keeps out of the inputs: "
                    "take it out of one of the two"
                )
    both = set(spec.categorical) & set(spec.monotone)
    if both:
        raise SpecError(
            f"`monotone` names {min(both)!r}, which is categorical: names have no order, take it "
            "out of one of the two"
        )
    members = inputs["groups"]
    twice = sorted({column for column in members if members.count(column) > 1})
    if twice:
        raise SpecError(f"`groups` names {twice[0]!r} twice: a column is in one group")
    if spec.evaluation.kind == OUT_OF_TIME and spec.time is None:
        raise SpecError(
            "`evaluation.kind` is out_of_time, but `time` is missing: name the column of the "
            "observation's date"
        )
    if spec.evaluation.kind == GROUPED and spec.group is None:
        raise SpecError(
            "`evaluation.kind` is grouped, but `group` is missing: name the column of the firm"
        )
    if spec.evaluation.cutoff is not None and spec.time is None:
        raise SpecError(
            "`evaluation.cutoff` needs `time`: name the column of the observation's date"
        )


def _bad(key: str, problem: str, remedy: str) -> SpecError:
    return SpecError(f"`{key}` {problem}: {remedy}")


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _bad(key, f"is {_shown(value)}, not a text", "write it in quotation marks")
    return value.strip()


def _value(key: str, value: Any) -> str:
    """A value of a column, which a spec may also write as a number or a truth value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return _text(key, value)


def _day(key: str, value: Any) -> str:
    if isinstance(value, dt.datetime):
        return value.date().isoformat()
    return value.isoformat() if isinstance(value, dt.date) else _value(key, value)


def _texts(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise _bad(key, f"is {_shown(value)}, not a list", f'write {key} = ["a", "b"]')
    return tuple(dict.fromkeys(_value(key, item) for item in value))


def _section(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _bad(key, f"is {_shown(value)}, not a section", f"write its keys below [{key}]")
    return value


def _monotone(key: str, value: Any) -> Mapping[str, int]:
    for column, direction in _section(key, value).items():
        if isinstance(direction, bool) or direction not in (1, -1):
            raise _bad(
                f"{key}.{column}",
                f"is {_shown(direction)}",
                "write 1 where PD rises with the column, -1 where it falls, or leave it out",
            )
    return {column.strip(): int(direction) for column, direction in value.items()}


def _groups(key: str, value: Any) -> Mapping[str, tuple[str, ...]]:
    return {
        group: _texts(f"{key}.{group}", columns) for group, columns in _section(key, value).items()
    }


def _reasons(key: str, value: Any) -> Mapping[str, Words]:
    titles = {}
    for group, words in _section(key, value).items():
        if isinstance(words, dict):
            one_of(words, ("zh", "en"), f"[{key}.{group}] ")
            en = words.get("en", words.get("zh", ""))
            titles[group.strip()] = Words(
                zh=_text(f"{key}.{group}.zh", words.get("zh", en)),
                en=_text(f"{key}.{group}.en", en),
            )
        else:
            title = _text(f"{key}.{group}", words)
            titles[group.strip()] = Words(zh=title, en=title)
    return titles


def _outcome(key: str, value: Any) -> Outcome:
    stated = {_SPELLINGS.get(name, name): each for name, each in _section(key, value).items()}
    one_of(
        stated,
        ("definition", "observation", "performance", "indeterminates", "rejected"),
        f"[{key}] ",
    )
    words = {
        name: _value(f"{key}.{name}", stated[name])
        for name in ("definition", "observation", "performance")
        if name in stated
    }
    return Outcome(
        **words,
        indeterminates=_indeterminates(f"{key}.indeterminates", stated.get("indeterminates", [])),
        rejected=_rejected(f"{key}.rejected", stated.get("rejected", "")),
    )


def _indeterminates(key: str, value: Any) -> Indeterminates:
    if isinstance(value, str):
        return Indeterminates(words=value.strip())
    if isinstance(value, list):
        return Indeterminates(values=_texts(key, value))
    one_of(_section(key, value), ("values", "treated", "words"), f"[{key}] ")
    return Indeterminates(
        values=_texts(f"{key}.values", value.get("values", [])),
        treated=_choice(f"{key}.treated", value.get("treated", LEFT_OUT), INDETERMINATE_AS),
        words=str(value.get("words", "")).strip(),
    )


def _rejected(key: str, value: Any) -> Rejected:
    if isinstance(value, str):
        return Rejected(words=value.strip())
    one_of(_section(key, value), ("column", "values", "treated", "words"), f"[{key}] ")
    if ("column" in value) != ("values" in value):
        raise _bad(
            key,
            "names a column or values, not both",
            'write column = "decision" and values = ["rejected"]',
        )
    return Rejected(
        column=_text(f"{key}.column", value["column"]) if "column" in value else "",
        values=_texts(f"{key}.values", value.get("values", [])),
        treated=_choice(f"{key}.treated", value.get("treated", LEFT_OUT), REJECTED_AS),
        words=str(value.get("words", "")).strip(),
    )


def _choice(key: str, value: Any, choices: tuple[str, ...]) -> str:
    found = _text(key, value).lower().replace("_", " ")
    if found not in choices:
        hint = nearest(found, choices)
        raise _bad(key, f"is {_shown(value)}", f"{hint} It is one of {', '.join(choices)}".strip())
    return found


def _evaluation(key: str, value: Any) -> Evaluation:
    one_of(_section(key, value), ("kind", "folds", "repeats", "cutoff"), f"[{key}] ")
    kind = None
    if "kind" in value:
        said = _text(f"{key}.kind", value["kind"]).lower()
        kind = _KIND_WORDS.get(said, said.replace("-", "_").replace(" ", "_"))
        if kind not in KINDS:
            hint = nearest(kind, KINDS)
            raise _bad(
                f"{key}.kind",
                f"is {_shown(value['kind'])}",
                f"{hint} It is one of {', '.join(KINDS)}".strip(),
            )
    return Evaluation(
        kind=kind,
        folds=_whole(f"{key}.folds", value["folds"], 2) if "folds" in value else None,
        repeats=_whole(f"{key}.repeats", value["repeats"], 1) if "repeats" in value else None,
        cutoff=_day(f"{key}.cutoff", value["cutoff"]) if "cutoff" in value else None,
    )


def _whole(key: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _bad(key, f"is {_shown(value)}", f"write a whole number from {least} on")
    return value


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _bad(key, f"is {_shown(value)}", "write a number")
    return float(value)


def _positive(key: str, value: Any) -> float:
    found = _number(key, value)
    if found <= 0:
        raise _bad(key, f"is {_shown(value)}", "write a number above 0")
    return found


def _score(key: str, value: Any) -> tuple[Scaling, tuple[GradeCut, ...]]:
    stated = {name.lower(): each for name, each in _section(key, value).items()}
    one_of(stated, ("base", "odds", "pdo", "grades"), f"[{key}] ")
    usual = Scaling()
    scaling = Scaling(
        base=_number(f"{key}.base", stated.get("base", usual.base)),
        odds=_positive(f"{key}.odds", stated.get("odds", usual.odds)),
        pdo=_positive(f"{key}.pdo", stated.get("pdo", usual.pdo)),
    )
    if "grades" not in stated:
        return scaling, DEFAULT_GRADES
    return scaling, _grades(f"{key}.grades", stated["grades"])


def _grades(key: str, value: Any) -> tuple[GradeCut, ...]:
    remedy = "write grades = { A = 0.0, B = 0.02, C = 0.1 }: PDs that grades begin at, from 0 up"
    if isinstance(value, list) and all(isinstance(i, list) and len(i) == 2 for i in value):
        pairs = [(str(name), pd_from) for name, pd_from in value]
    elif isinstance(value, dict):
        pairs = list(value.items())
    else:
        raise _bad(key, f"is {_shown(value)}", remedy)
    cuts = tuple(GradeCut(name, _number(f"{key}.{name}", pd_from)) for name, pd_from in pairs)
    begins = [cut.pd_from for cut in cuts]
    if not cuts or begins[0] != 0 or begins != sorted(set(begins)) or begins[-1] >= 1:
        raise _bad(key, "do not ascend from 0 to below 1", remedy)
    if len({cut.grade for cut in cuts}) != len(cuts) or len(cuts) > _MOST_GRADES:
        raise _bad(key, f"are not up to {_MOST_GRADES} different names", remedy)
    if any(not 0 < len(cut.grade) <= LONGEST_GRADE for cut in cuts):
        raise _bad(key, f"have a name of none or more than {LONGEST_GRADE} characters", remedy)
    return cuts


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


_READERS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "label": _text,
    "positive": _value,
    "exclude": _texts,
    "time": _text,
    "group": _text,
    "weight": _text,
    "categorical": _texts,
    "monotone": _monotone,
    "groups": _groups,
    "reasons": _reasons,
    "outcome": _outcome,
    "evaluation": _evaluation,
    "score": _score,
}


def write_spec(
    spec: TableSpec, remarks: Mapping[str, str] | None = None, notes: Sequence[str] = ()
) -> str:
    """Return a spec as the TOML document that gives it.

    Args:
        spec: to write.
        remarks: what to say beside a key or section, e.g. that it was inferred.
        notes: comments at its end.
    """
    said = remarks or {}
    lines: list[str] = []

    def line(key: str, value: str, remark: str = "") -> None:
        lines.append(f"{key} = {value}" + (f"  # {remark}" if remark else ""))

    for key in ("label", "positive", "time", "group", "weight"):
        value = getattr(spec, key)
        if value is not None:
            line(key, _quoted(value), said.get(key, ""))
    for key in ("exclude", "categorical"):
        if getattr(spec, key):
            line(key, _list(getattr(spec, key)), said.get(key, ""))

    def section(name: str, values: Mapping[str, str]) -> None:
        if values:
            lines.extend(["", f"[{name}]" + (f"  # {said[name]}" if name in said else "")])
            for key, value in values.items():
                line(_key(key), value)

    section("monotone", {column: str(way) for column, way in spec.monotone.items()})
    section("groups", {group: _list(columns) for group, columns in spec.groups.items()})
    section(
        "reasons",
        {
            group: f"{{ zh = {_quoted(words.zh)}, en = {_quoted(words.en)} }}"
            for group, words in spec.reasons.items()
        },
    )
    section("outcome", _outcome_lines(spec.outcome))
    judged = spec.evaluation
    section(
        "evaluation",
        {
            key: _quoted(value) if isinstance(value, str) else str(value)
            for key in ("kind", "folds", "repeats", "cutoff")
            if (value := getattr(judged, key)) is not None
        },
    )
    grades = ", ".join(f"{_key(cut.grade)} = {cut.pd_from!r}" for cut in spec.grades)
    section(
        "score",
        {
            "base": repr(spec.scaling.base),
            "odds": repr(spec.scaling.odds),
            "pdo": repr(spec.scaling.pdo),
            "grades": f"{{ {grades} }}",
        },
    )
    lines.extend(["", *(f"# {note}" for note in notes)] if notes else [])
    return "\n".join(lines) + "\n"


def _outcome_lines(outcome: Outcome) -> dict[str, str]:
    found = {
        key: _quoted(getattr(outcome, key))
        for key in ("definition", "observation", "performance")
        if getattr(outcome, key)
    }
    for key, stated in (
        ("indeterminates", outcome.indeterminates),
        ("rejected", outcome.rejected),
    ):
        parts = []
        if isinstance(stated, Rejected) and stated.column:
            parts.append(f"column = {_quoted(stated.column)}")
        if stated.values:
            parts.append(f"values = {_list(stated.values)}")
            parts.append(f"treated = {_quoted(stated.treated)}")
        if stated.words:
            parts.append(f"words = {_quoted(stated.words)}")
        if parts:
            found[key] = f"{{ {', '.join(parts)} }}"
    return found


_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _quoted(text: str) -> str:
    kept = (
        _ESCAPES.get(c) or (f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c) for c in text
    )
    return f'"{"".join(kept)}"'


def _key(name: str) -> str:
    bare = name.replace("-", "").replace("_", "")
    return name if bare.isascii() and bare.isalnum() else _quoted(name)


def _list(values: Iterable[str]) -> str:
    return f"[{', '.join(map(_quoted, values))}]"
