"""The pages of a report: the same in both languages, nothing in them that was not signed."""

import hashlib
import itertools
import json
import re
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pypdf import PdfReader
from rfc8785 import dumps as canonical

from puhui_client.report_files import carried
from services.kit.errors import FailedPreconditionError
from services.scoring.features.domain import Coverage, FirmSummary, SubjectSeries
from services.scoring.reports import html
from services.scoring.reports.content import CONTENT
from services.scoring.reports.domain import Basis, Json, Language, Proof, document
from services.scoring.reports.pdf import Typesetter
from services.scoring.reports.view import score_bands, view
from tests.fakes.reports import AS_OF, basis, decision, summary

BOTH = pytest.mark.parametrize("language", list(Language))
SCHEMA = json.loads((files("services.scoring.reports") / "credit-report.schema.json").read_text())


def made(of: Basis) -> tuple[Json, bytes]:
    stated = document(of, CONTENT)
    return stated, canonical(stated)


def seen(of: Basis, language: Language) -> tuple[Json, bytes]:
    stated, raw = made(of)
    proof = Proof(hashlib.sha256(raw).hexdigest(), "eyJ9..c2ln", "kid")
    return view(stated, language, proof), raw


def page(of: Basis, language: Language = Language.EN) -> str:
    return html.render(*seen(of, language)).decode()


class Reader(HTMLParser):
    """What a browser would show of a page, its elements, and its tables' headers."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.shown: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.shown.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def test_the_document_meets_the_published_schema() -> None:
    stated, raw = made(basis())
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(raw))
    assert raw == canonical(document(basis(), CONTENT))
    bare = basis(scale=None, summary=FirmSummary((), {"vat_invoice": Coverage.NOT_SUPPLIED}))
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(made(bare)[1]))
    assert stated["figures"][0]["value"] == "12850909.16"


def test_every_type_and_measure_of_the_content_is_in_the_catalogue() -> None:
    policies = Path("services/datashare/catalogue/policies")
    known: dict[str, set[str]] = {}
    for path in policies.glob("*.toml"):
        policy = tomllib.loads(path.read_text("utf-8"))
        known[path.stem] = {each["name"] for each in policy["measures"]}
        known[path.stem] |= set(policy["attributes"])
    assert set(CONTENT.types) == set(known)
    facts = [fact for section in CONTENT.sections for fact in section.facts]
    named = [(each.record_type, each.measure or each.attribute) for each in facts]
    named += [(each.record_type, each.measure) for each in CONTENT.figures.values()]
    named += [
        (line.record_type, line.measure)
        for section in CONTENT.sections
        for plot in section.plots
        for line in plot.lines
    ]
    assert [each for each in named if each[1] not in known[each[0]]] == []


def test_open_types_of_the_content_are_those_of_the_catalogue() -> None:
    policies = Path("services/datashare/catalogue/policies")
    for path in policies.glob("*.toml"):
        mode = tomllib.loads(path.read_text("utf-8"))["sharing_mode"]
        assert CONTENT.types[path.stem].open_ == (mode == "OPEN"), path.stem


def shape(value: Any) -> Any:
    """What two languages of a view must have in common."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items() if key not in ("svg", "lang")}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return value != "" if isinstance(value, str) else value


def test_both_languages_show_the_same_parts() -> None:
    chinese, english = (seen(basis(), language)[0] for language in Language)
    assert shape(chinese) == shape(english)
    assert not re.search(r"[\u4e00-\u9fff]", json.dumps(english["labels"], ensure_ascii=False))


@BOTH
def test_no_word_of_the_code_is_left_on_a_page(language: Language) -> None:
    text = "".join(read(page(basis(), language)).shown)
    for word in ("None", "null", "NOT_CONSENTED", "COVERAGE", "REASON_", "{", "undefined"):
        assert word not in text


@BOTH
def test_what_others_wrote_is_shown_as_text(language: Language) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;"
    said = decision(summary())
    said["disputes"][0]["statement"] = evil
    said["reasons"][0]["text_zh"] = said["reasons"][0]["text_en"] = evil
    of = basis(decision=said, officer=evil, file_reference=evil)
    text = page(of, language)
    reader = read(text)
    scripts = [attributes for tag, attributes in reader.tags if tag == "script"]
    assert [each["type"] for each in scripts] == ["application/json"]
    assert not [tag for tag, _ in reader.tags if tag in ("img", "link", "iframe", "object")]
    assert evil in "".join(reader.shown)
    # What is carried is the document all the same, to the last byte.
    assert carried(text.encode()) == (made(of)[1], "eyJ9..c2ln")


def test_a_page_loads_nothing_and_runs_nothing() -> None:
    reader = read(page(basis()))
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert "src" not in attributes
        assert not (attributes.get("href") or "").startswith(("http", "//", "javascript"))
    style = (files("services.scoring.reports") / "templates/report.css").read_text("utf-8")
    assert "url(" not in style
    assert "@import" not in style


def test_pictures_have_words_and_tables_have_headers() -> None:
    reader = read(page(basis()))
    pictures = [attributes for tag, attributes in reader.tags if tag == "svg"]
    told = [each for each in pictures if each.get("role") == "img"]
    assert len(told) == 6
    assert all(each["aria-label"] for each in told)
    assert all(each.get("aria-hidden") for each in pictures if each not in told)
    assert all(attributes.get("scope") for tag, attributes in reader.tags if tag == "th")
    tables = sum(tag == "table" for tag, _ in reader.tags)
    assert tables == sum(tag == "thead" for tag, _ in reader.tags) == 5


@BOTH
def test_an_expert_scorecard_claims_no_probability(language: Language) -> None:
    said = decision(summary())
    del said["pd"]
    said["model"]["model_class"] = "MODEL_CLASS_EXPERT"
    stated, _ = made(basis(decision=said))
    jsonschema.Draft202012Validator(SCHEMA).validate(stated)
    scale = stated["scale"]
    assert {scale[name] for name in ("base", "odds", "pdo")} == {None}
    assert {band["pd_from"] for band in scale["grades"]} == {None}
    shown, _ = seen(basis(decision=said), language)
    assert len(shown["verdict"]["rows"]) == 1
    assert shown["verdict"]["note"]
    assert "Interval" not in shown["scale"]["alt"]


def test_a_referral_stands_on_the_first_page() -> None:
    said = decision(summary())
    said["referral"] = {"code": "THIN_FILE", "text_zh": "档案过薄", "text_en": "a thin file"}
    assert "a thin file" in page(basis(decision=said))


def test_points_and_base_are_shown_and_add_up() -> None:
    shown, _ = seen(basis(), Language.EN)
    (table,) = [each for s in shown["sections"] for each in s["tables"] if each["total"]]
    numbers = [int(row[-1]["text"]) for row in table["rows"]]
    assert sum(numbers[:-1]) == numbers[-1] == 690


def test_a_title_that_ran_out_is_told_as_such() -> None:
    text = page(basis())
    assert "valid until 2027-11-30" in text
    assert "expired on 2026-03-31" in text


def test_a_bare_report_says_what_is_missing() -> None:
    none = FirmSummary((), dict.fromkeys(CONTENT.types, Coverage.NOT_SUPPLIED))
    said = decision(none) | {"reasons": [], "points": [], "disputes": [], "linked": []}
    text = page(basis(summary=none, decision=said, scale=None))
    assert "Not included: VAT invoices (not supplied)" in text


@BOTH
def test_what_ended_before_the_plots_begin_is_left_out_of_them(language: Language) -> None:
    ended = SubjectSeries("social_insurance", "p", (201901, 201902), {"headcount": (3, 4)})
    runs = SubjectSeries("housing_fund", "p", (202601, 202602), {"headcount": (2, 2)})
    for series, lines in (((ended,), []), ((ended, runs), ["housing_fund"])):
        found = FirmSummary(series, {each.record_type: Coverage.SUPPLIED for each in series})
        of = basis(summary=found, decision=decision(summary()))
        trends = next(each for each in made(of)[0]["sections"] if each["name"] == "trends")
        headcount = next(each for each in trends["plots"] if each["name"] == "headcount")
        assert [line["record_type"] for line in headcount["lines"]] == lines
        assert page(of, language)


def test_bands_touch_and_go_from_the_worst_grade_to_the_best() -> None:
    bands = score_bands(made(basis())[0]["scale"]["grades"])
    assert [band.grade for band in bands] == ["C", "CC", "CCC", "B", "BB", "BBB", "A", "AA", "AAA"]
    assert all(one.high == other.low for one, other in itertools.pairwise(bands))


@BOTH
def test_a_pdf_has_its_text_its_structure_and_the_signed_document(language: Language) -> None:
    shown, raw = seen(basis(), language)
    typesetter = Typesetter()
    content = typesetter.render(shown, raw, AS_OF)
    assert content == typesetter.render(shown, raw, AS_OF)
    reader = PdfReader(BytesIO(content))
    text = re.sub(r"\s", "", "".join(each.extract_text() for each in reader.pages))
    for section in shown["sections"]:
        assert re.sub(r"\s", "", section["title"]) in text
    for word in ("该案已于2026年9月和解", shown["proof"]["digest"], "2023-10"):
        assert word in text
    catalogue: Any = reader.trailer["/Root"]
    assert "/StructTreeRoot" in catalogue
    assert str(catalogue["/Lang"]).startswith(shown["lang"][:2])
    assert reader.attachments["report.json"] == [raw]
    assert carried(content) == (raw, "eyJ9..c2ln")
    assert reader.metadata is not None
    assert reader.metadata.creation_date == AS_OF
    # The first page is the overview, and nothing of it runs over.
    assert shown["sections"][0]["title"] not in reader.pages[0].extract_text()
    assert shown["sections"][0]["title"] in reader.pages[1].extract_text()


@pytest.mark.parametrize(
    "words", ["😀", "ภาษาไทย", "\ue000", "a\x00\x07\x1b", "\u202eabc", "#panic() $x$ *b* `c` @d"]
)
def test_there_is_a_pdf_whatever_others_wrote(words: str) -> None:
    said = decision(summary())
    said["disputes"][0]["statement"] = words
    shown, raw = seen(basis(decision=said, officer=words), Language.ZH)
    content = Typesetter().render(shown, raw, AS_OF)
    assert PdfReader(BytesIO(content)).attachments["report.json"] == [raw]
    if words.isascii() and words.isprintable():
        assert "#panic()" in "".join(
            each.extract_text() for each in PdfReader(BytesIO(content)).pages
        )


def test_without_a_font_that_has_chinese_no_pdf_is_made(tmp_path: Path) -> None:
    with pytest.raises(FailedPreconditionError) as refused:
        Typesetter([tmp_path]).check()
    assert refused.value.reason == "REPORT_FONT_MISSING"
    assert "fonts-noto-cjk" in refused.value.message


def test_what_a_consent_opens_in_part_is_marked() -> None:
    found = summary()
    coverage = dict(found.coverage) | {"tax_filing": Coverage.NOT_CONSENTED}
    narrowed = replace(found, coverage=coverage)
    shown, _ = seen(basis(summary=narrowed, decision=decision(narrowed)), Language.EN)
    marks = {each["title"]: each for each in shown["complete"]["marks"]}
    assert marks["Tax filings"]["part"]
    assert not marks["VAT invoices"]["part"]
