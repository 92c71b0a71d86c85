"""A report's document in one language, as both pages show it: HTML and PDF say the same.

Invariants: a view is made from the signed document and its signature alone, so a page can show
nothing else; the same document gives the same view. Amounts are in 万元 or CNY, shares in percent,
times in China Standard Time.
"""

import datetime as dt
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from importlib.resources import files
from typing import Any, Final

from services.scoring.reports import plots
from services.scoring.reports.domain import Json, Language, Proof

_LABELS: Final = tomllib.loads((files(__package__) / "labels.toml").read_text("utf-8"))
_CHINA: Final = dt.timezone(dt.timedelta(hours=8))
_LANG: Final = {Language.ZH: "zh", Language.EN: "en"}
_DASH: Final = "—"
# Units of the axis of amounts: from how many CNY, what a unit is, its label.
_AXES: Final = {
    "zh": ((1e8, 1e8, "cny_100m"), (1e4, 1e4, "cny_10k"), (0.0, 1.0, "cny_one")),
    "en": ((1e6, 1e6, "cny_million"), (1e3, 1e3, "cny_thousand"), (0.0, 1.0, "cny_one")),
}


def view(document: Json, language: Language, proof: Proof) -> Json:
    """Return what a page in a language shows of a document."""
    return _View(document, _LANG[language]).whole(proof)


class _View:
    def __init__(self, document: Json, lang: str) -> None:
        self._doc = document
        self._lang = lang
        self._day = document["as_of"]
        self._decision: Json = document["decision"]

    def _name(self) -> str:
        """Return the firm's name at the register; empty where the register was not read."""
        facts = (fact for section in self._doc["sections"] for fact in section["facts"])
        found = next((it for it in facts if it["of"] == "name" and it["value"]), None)
        return "" if found is None else self._words(found["value"])

    def label(self, name: str, **values: str) -> str:
        """Return what is written around the document's words."""
        text: str = _LABELS[name][self._lang]
        return text.format(**values) if values else text

    def _said(self, table: str, code: str, prefix: str = "") -> str:
        known = _LABELS[table].get(code.removeprefix(prefix))
        return known[self._lang] if known else code

    def _words(self, words: Mapping[str, str], stem: str = "") -> str:
        return str(words.get(f"{stem}{self._lang}", ""))

    def whole(self, proof: Proof) -> Json:
        sections = [self._section(each) for each in self._doc["sections"]]
        sections.append(self._disputes())
        sections.append(self._linked())
        if self._decision.get("declared"):
            sections.append(self._declared())
        sections.append(self._sources())
        sections.append(self._made())
        sections.append(self._limits())
        sections.append(self._proof(proof))
        for number, section in enumerate(sections, 1):
            section["number"] = number
        completeness = next(each["number"] for each in sections if each["name"] == "sources")
        decision = self._decision
        return {
            "lang": "zh-CN" if self._lang == "zh" else "en",
            "title": self.label("title"),
            "brand": self.label("brand"),
            "subject": decision["subject_id"],
            "name": self._name(),
            "decision": decision["decision_id"],
            "scored": self._time(decision["decided_at"]),
            "page": self.label("page"),
            "labels": {
                name: self.label(name)
                for name in (
                    *("overview", "figures", "strengths", "weaknesses", "improve", "none_such"),
                    *("refer", "data_there", "not_included"),
                )
            },
            "notices": [
                {"code": each["code"], "text": self._words(each, "text_")}
                for each in decision.get("notices", ())
            ],
            "head": self._head(),
            "verdict": self._verdict(),
            "scale": self._scale(),
            "figures": [self._figure(each) for each in self._doc["figures"]],
            "strengths": self._top(raising=True),
            "weaknesses": self._top(raising=False),
            "complete": self._complete(str(completeness)),
            "sections": sections,
            "proof": {"digest": proof.digest, "jws": proof.jws, "key_id": proof.key_id},
        }

    # The first page.

    def _head(self) -> list[list[str]]:
        decision, asked, period = self._decision, self._doc["asked_by"], self._doc["period"]
        rows = [
            ("subject", decision["subject_id"]),
            ("bank", self._named(asked["bank_id"])),
            ("officer", asked["officer"]),
            ("file", asked["file_reference"]),
            ("purpose", self._said("purposes", decision["purpose"])),
            ("product", decision.get("product", "")),
            ("consent", decision.get("consent_id") or self.label("no_consent")),
            ("access", decision["access_id"]),
            ("decided_at", self._time(decision["decided_at"])),
            ("as_of", self._day),
            (
                "period",
                self.label("period_words", start=period["from"], end=period["to"])
                if period
                else "",
            ),
            ("model", self._model()),
        ]
        return [[self.label(name), value] for name, value in rows if value]

    def _model(self) -> str:
        model = self._decision["model"]
        kind = self._said("model_classes", model["model_class"], "MODEL_CLASS_")
        return f"{model['version']} ({kind})"

    def _verdict(self) -> Json:
        decision = self._decision
        interval, referral = decision.get("interval"), decision.get("referral")
        rows = [[self.label("grade"), decision["grade"]]]
        if "pd" in decision:
            rows.append([self.label("pd"), percent(decision["pd"])])
        if interval and "pd" in decision:
            ends = f"{percent(interval['low'])} – {percent(interval['high'])}"
            rows.append([self.label("interval"), ends])
        return {
            "score": str(decision["score"]),
            "label": self.label("score"),
            "rows": rows,
            "note": "" if "pd" in decision else self.label("no_pd"),
            "referral": self._words(referral, "text_") if referral else "",
        }

    def _scale(self) -> Json | None:
        stated, decision = self._doc["scale"], self._decision
        if stated is None or len(stated["grades"]) < 2:
            return None
        bands = score_bands(stated["grades"])
        score, interval = float(decision["score"]), decision.get("interval")
        ends = None
        if interval and "pd" in decision:
            ends = (points_of(interval["high"], stated), points_of(interval["low"], stated))
        alt = self.label(
            "scale_alt",
            score=str(decision["score"]),
            grade=decision["grade"],
            worst=bands[0].grade,
            best=bands[-1].grade,
        )
        if ends:
            low, high = (plots.number(round(end)) for end in ends)
            alt += " " + self.label("scale_alt_interval", low=low, high=high)
        return {
            "svg": plots.scale(score, bands, ends, alt, decision["grade"]),
            "alt": alt,
            "note": self.label("scale_note" if ends else "scale_note_plain"),
        }

    def _figure(self, fact: Json) -> Json:
        value, note = self._value(fact)
        moved = fact.get("year_on_year")
        if moved is not None:
            told = self.label("year_on_year", value=signed_percent(moved))
            note = f"{note} {told}".strip()
        return {"title": self._words(fact["title"]), "value": value, "note": note}

    def _top(self, *, raising: bool) -> list[Json]:
        reasons = [each for each in self._decision["reasons"] if (each["points"] > 0) is raising]
        return [
            {
                "points": f"{each['points']:+.0f}",
                "text": self._words(each, "text_"),
                "improve": self._words(each, "improve_") if not raising else "",
            }
            for each in reasons[:3]
        ]

    def _complete(self, number: str) -> Json:
        marks = [
            {
                "title": self._words(each["title"]),
                "there": each["state"] in ("SUPPLIED", "NONE_EXISTS"),
                "part": _partly(each),
                "state": self._coverage(each),
            }
            for each in self._doc["completeness"]
        ]
        good = sum(1 for each in marks if each["there"] and not each["part"])
        note = self.label(
            "data_there_note", supplied=str(good), lacking=str(len(marks) - good), number=number
        )
        return {"marks": marks, "note": note}

    # Sections.

    def _section(self, stated: Json) -> Json:
        facts, lacking = [], {}
        for fact in stated["facts"]:
            if fact["missing"] is not None:
                lacking[fact["record_type"]] = fact["missing"]
                continue
            value, note = self._value(fact)
            facts.append({"title": self._words(fact["title"]), "value": value, "note": note})
        there = [plot for plot in stated["plots"] if plot["lines"]]
        # Two beside each other, but for the first, and the last where it would stand alone.
        wide = {0, len(there) - 1} if len(there) % 2 == 0 and len(there) > 2 else {0}
        drawn = [self._plot(plot, wide=at in wide) for at, plot in enumerate(there)]
        for plot in stated["plots"]:
            if plot["missing"]:
                lacking[plot["record_type"]] = plot["missing"]
        section = self._blank(stated["name"], self._words(stated["title"]))
        section |= {"facts": facts, "plots": drawn}
        if lacking:
            told = "; " if self._lang == "en" else "；"
            section["lacking"] = told.join(
                f"{self._type(name)} ({self._said('coverage_states', why)})"
                for name, why in lacking.items()
            )
        if stated["note"]:
            section["note"] = self._words(stated["note"])
        return section

    def _blank(self, name: str, title: str) -> Json:
        return {
            "name": name,
            "title": title,
            "facts": [],
            "plots": [],
            "tables": [],
            "paragraphs": [],
            "lacking": "",
            "proofs": [],
            "note": "",
        }

    def _plot(self, plot: Json, *, wide: bool) -> Json:
        lines = [
            (line, [None if value is None else float(value) for value in line["values"]])
            for line in plot["lines"]
        ]
        most = max(abs(value) for _, values in lines for value in values if value is not None)
        unit, label = self._axis(plot["unit"], most)
        scaled = [
            plots.Line(
                self._words(line["title"]),
                [None if value is None else value / unit for value in values],
            )
            for line, values in lines
        ]
        title = self._words(plot["title"])
        alt = self.label(
            "plot_alt",
            title=title,
            first=plot["months"][0],
            last=plot["months"][-1],
            unit=label,
            lines=" ".join(self._line_alt(line) for line in scaled),
        )
        svg = plots.monthly(plot["kind"], plot["months"], scaled, label, alt, wide=wide)
        return {"title": title, "svg": svg, "alt": alt, "wide": wide}

    def _line_alt(self, line: plots.Line) -> str:
        values = [value for value in line.values if value is not None]
        low, high, recent = (
            plots.number(float(f"{value:.4g}")) for value in (min(values), max(values), values[-1])
        )
        return self.label("line_alt", title=line.title, low=low, high=high, recent=recent)

    def _axis(self, unit: str, most: float) -> tuple[float, str]:
        if unit == "cny":
            _, size, name = next(each for each in _AXES[self._lang] if most >= each[0])
            return size, self.label(name)
        if unit == "kwh":
            size = 1e4 if self._lang == "zh" else 1e3
            return (size, self.label("kwh_k")) if most >= size else (1.0, self.label("kwh"))
        return 1.0, self.label("persons")

    def _disputes(self) -> Json:
        section = self._blank("disputes", self.label("disputes"))
        marks = [("", mark) for mark in self._decision.get("disputes", ())]
        for each in self._decision.get("linked", ()):
            marks += [(each["subject_id"], mark) for mark in each.get("disputes", ())]
        if not marks:
            section["paragraphs"] = [self.label("no_disputes")]
            return section
        rows = [
            [
                "\n".join(filter(None, (mark["dispute_id"], whose, self._record(mark)))),
                self._said("dispute_states", mark["state"], "DISPUTE_STATE_"),
                mark.get("statement", "") or _DASH,
            ]
            for whose, mark in marks
        ]
        section["tables"] = [self._table(("dispute", "state", "statement"), rows)]
        return section

    def _record(self, mark: Json) -> str:
        """Return which record a dispute is about: its type, month and field."""
        parts = (self._type(mark["record_type"]), _dashed(mark["month"]), mark.get("field", ""))
        return " ".join(filter(None, parts))

    def _linked(self) -> Json:
        section = self._blank("linked", self.label("linked"))
        linked = self._decision.get("linked", ())
        if not linked:
            section["paragraphs"] = [self.label("no_linked")]
            return section
        rows = [
            [
                self._said("relations", each["relation"], "SUBJECT_RELATION_"),
                percent(each["pd"]) if "pd" in each else _DASH,
                "\n".join(
                    filter(None, (each["subject_id"], each["consent_id"], each.get("access_id")))
                ),
            ]
            for each in linked
        ]
        section["tables"] = [self._table(("relation", "pd", "linked_ids"), rows, right={1})]
        return section

    def _declared(self) -> Json:
        section = self._blank("declared", self.label("declared"))
        section["note"] = self.label("declared_note")
        section["tables"] = [
            self._table(
                ("name", "value"),
                [
                    [
                        each["name"],
                        plots.number(each["number"]) if "number" in each else each["category"],
                    ]
                    for each in self._decision["declared"]
                ],
                right={1},
            )
        ]
        return section

    def _sources(self) -> Json:
        section = self._blank("sources", self.label("sources"))
        section["note"] = self.label("sources_note", day=self._day)
        sources: dict[str, list[Json]] = {}
        for each in self._doc["sources"]:
            sources.setdefault(each["record_type"], []).append(each)
        rows = []
        for each in self._doc["completeness"]:
            whole = {
                entry["provider_id"]: self._said("completeness", entry["completeness"])
                for entry in each["providers"]
            }
            found = {
                source["provider_id"]: source for source in sources.get(each["record_type"], ())
            }
            for at, provider in enumerate(sorted({*found, *filter(None, whole)}) or [""]):
                source = found.get(provider, {})
                rows.append(
                    [
                        self._words(each["title"]) if not at else "",
                        self._coverage(each) if not at else "",
                        self._doc["names"].get(provider) or provider or _DASH,
                        source.get("first_month") or _DASH,
                        source.get("last_month") or _DASH,
                        str(source["months"]) if source else _DASH,
                        whole.get(provider) or whole.get("") or _DASH,
                    ]
                )
        head = ("type", "coverage", "provider", "first_month", "last_month", "months", "whole")
        section["tables"] = [self._table(head, rows, right={5})]
        return section

    def _coverage(self, each: Json) -> str:
        if _partly(each):
            return self.label("in_part")
        return self._said("coverage_states", each["state"])

    def _made(self) -> Json:
        section = self._blank("reasons", self.label("reasons"))
        section["note"] = self.label("reasons_note")
        decision, stated = self._decision, self._doc["scale"]
        reasons = decision["reasons"]
        most = max((abs(each["points"]) for each in reasons), default=1.0) or 1.0
        table = self._table(
            ("points", "", "reason"),
            [
                [
                    f"{each['points']:+.1f}",
                    {"svg": plots.signed_bar(each["points"], most)},
                    self._reason(each),
                ]
                for each in reasons
            ],
            right={0},
        )
        section["tables"] = [table] if reasons else []
        if decision.get("points"):
            section["tables"].append(self._points())
        model_class = decision["model"]["model_class"]
        facts = [
            ("version", decision["model"]["version"]),
            ("model_class", self._said("model_classes", model_class, "MODEL_CLASS_")),
            ("outcome", stated["outcome"] if stated else ""),
            ("method", decision.get("interval", {}).get("method", "")),
        ]
        section["facts"] = [
            {"title": self.label(name), "value": value, "note": ""}
            for name, value in facts
            if value
        ]
        return section

    def _reason(self, reason: Json) -> str:
        improve = self._words(reason, "improve_")
        text = self._words(reason, "text_")
        return f"{text}\n{self.label('improve')}{improve}" if improve else text

    def _points(self) -> Json:
        decision = self._decision
        groups = sorted(decision["points"], key=lambda each: (each["points"], each["group"]))
        most = max((abs(each["points"]) for each in groups), default=1) or 1
        rows: list[list[Any]] = [[self.label("base"), "", str(decision["base"])]]
        rows += [
            [
                self._words(each, "title_") or each["group"],
                {"svg": plots.signed_bar(float(each["points"]), float(most))},
                f"{each['points']:+d}" if each["points"] else "0",
            ]
            for each in reversed(groups)
        ]
        rows.append([self.label("sum"), "", str(decision["score"])])
        return self._table(("group", "", "points"), rows, right={2}, total=True)

    def _limits(self) -> Json:
        section = self._blank("limits", self.label("limits"))
        section["paragraphs"] = [self._words(each) for each in self._doc["limits"]]
        return section

    def _proof(self, proof: Proof) -> Json:
        section = self._blank("proof", self.label("proof"))
        section["note"] = self.label("proof_note")
        rows = [
            ("digest", proof.digest),
            ("key", proof.key_id),
            ("jws", proof.jws),
            ("access", self._decision["access_id"]),
            ("leaf", self._doc["receipt"]["leaf_hash"]),
            ("report_version", str(self._doc["report_version"])),
        ]
        section["proofs"] = [[self.label(name), value] for name, value in rows]
        return section

    # Values.

    def _value(self, fact: Json) -> tuple[str, str]:
        """Return a value and what stands beside it."""
        note = ""
        for name in ("since", "at"):
            if fact[name]:
                note = self.label(name, month=fact[name])
        if fact["missing"] is not None:
            return _DASH, self._said("coverage_states", fact["missing"])
        value, unit = fact["value"], fact["unit"]
        if value is None:
            return (self.label("none") if unit == "valid_to" else _DASH), (
                "" if unit == "valid_to" else self.label("not_stated")
            )
        if isinstance(value, dict):
            words = self._words(value)
            return words, value["code"] if unit in ("industry", "district") else ""
        shown: Callable[[Any], str] = _SHOWN.get(unit, str)
        if unit == "cny":
            return self._money(value), note
        if unit == "valid_to":
            return self.label("valid" if value >= self._day else "expired", day=value), note
        if unit == "days":
            return self.label("days", value=f"{value:,}"), note
        return shown(value), note

    def _money(self, amount: str) -> str:
        exact = Decimal(amount)
        if not exact:
            return "0"
        if self._lang == "zh":
            scaled = (exact / 10_000).quantize(Decimal("0.01"), ROUND_HALF_EVEN)
        else:
            scaled = exact.quantize(Decimal(1), ROUND_HALF_EVEN)
        return self.label("cny", value=f"{scaled:,}")

    def _named(self, participant_id: str) -> str:
        name = self._doc["names"].get(participant_id)
        return f"{name}\n{participant_id}" if name else participant_id

    def _time(self, stamp: str) -> str:
        at = dt.datetime.fromisoformat(stamp).astimezone(_CHINA)
        return f"{at:%Y-%m-%d %H:%M} UTC+8"

    def _type(self, name: str) -> str:
        return self._words(self._doc["titles"].get(name, {})) or name

    def _table(
        self,
        head: Sequence[str],
        rows: Iterable[Sequence[Any]],
        *,
        right: Iterable[int] = (),
        total: bool = False,
    ) -> Json:
        """Return a table; a cell is a text or a picture that stands for a number beside it."""
        aligned = set(right)
        return {
            "head": [
                {"text": self.label(name) if name else "", "right": at in aligned}
                for at, name in enumerate(head)
            ],
            "rows": [
                [
                    {"text": "", "svg": ""} | (cell if isinstance(cell, dict) else {"text": cell})
                    for cell in row
                ]
                for row in rows
            ],
            "total": total,
        }


def _partly(each: Json) -> bool:
    """Whether some of a type is there although the score counts it as withheld."""
    return each["in_score"] == "NOT_CONSENTED" and any(
        entry["completeness"] in ("COMPLETE", "PARTIAL") for entry in each["providers"]
    )


def _dashed(month: int) -> str:
    return f"{month // 100:04}-{month % 100:02}" if month else _DASH


def percent(share: float) -> str:
    """Return a share in percent, with two decimals below ten.

    >>> percent(0.01234), percent(0.4567)
    ('1.23%', '45.7%')
    """
    hundredths = share * 100
    return f"{hundredths:.2f}%" if abs(hundredths) < 10 else f"{hundredths:.1f}%"


def signed_percent(share: float) -> str:
    """Return growth in percent, with its sign.

    >>> signed_percent(-0.05)
    '−5.0%'
    """
    return f"{share * 100:+.1f}%".replace("-", "−")


_SHOWN: Final[Mapping[str, Callable[[Any], str]]] = {
    "count": lambda value: f"{value:,}",
    "share": percent,
}


def points_of(pd: float, scale: Json) -> float:
    """Return the points of a PD on a scale; of none and of certainty those of nearly so."""
    held = min(max(pd, 1e-9), 1 - 1e-9)
    factor: float = scale["pdo"] / math.log(2)
    odds = (1 - held) / held
    return float(scale["base"] + factor * math.log(odds / scale["odds"]))


def score_bands(grades: Sequence[Json]) -> list[plots.Band]:
    """Return the grades from worst to best, the outermost as wide as the ones beside them.

    Args:
        grades: best first, as the document has them; at least two.
    """
    edges = [each["score_from"] for each in grades if each["score_from"] is not None]
    edges.reverse()
    wide = edges[1] - edges[0] if len(edges) > 1 else 50.0
    ends = [edges[0] - wide, *edges, edges[-1] + wide]
    names = [each["grade"] for each in reversed(grades)]
    return [
        plots.Band(name, low, high)
        for name, low, high in zip(names, ends[:-1], ends[1:], strict=True)
    ]
