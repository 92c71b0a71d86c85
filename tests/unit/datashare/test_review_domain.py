"""How sure it is whom a row is about."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.datashare.reviews.domain import (
    Candidate,
    Entry,
    Evidence,
    Hint,
    Kind,
    Weights,
    candidates,
    chosen,
    similar,
)
from services.datashare.reviews.loader import WeightsError, load
from services.datashare.reviews.names import read

WEIGHTS = load()
NAME = "北京小桔科技有限公司"
NAMES = [
    NAME,
    "北京小桔科技股份有限公司",
    "北京小吉科技有限公司",
    "上海小桔科技有限公司",
    "小桔科技有限公司",
    "北京小桔科技有限公司上海分公司",
    "深圳大象物流有限公司",
]
DISTRICTS = ["", "110108", "110105", "310115"]


def entry(
    subject: str,
    text: str = NAME,
    *,
    kind: Kind = Kind.NAME,
    district: str = "110108",
    order: int = 1,
    provider: str = "par_market",
) -> Entry:
    return Entry(subject, provider, kind, text, district, (order, 0, "r"))


def confidence(hint: Hint, *entries: Entry, key: str = "", of: str = "a") -> float:
    found = candidates(hint, key, entries, WEIGHTS)
    return next((each.confidence for each in found if each.subject_id == of), 0.0)


class TestConfidence:
    @pytest.mark.parametrize(
        ("hint", "entries", "key", "expected", "evidence"),
        [
            (Hint(name=NAME), [entry("a")], "", 0.97, {"name"}),
            (Hint(name=NAME, district="110108"), [entry("a")], "", 0.982, {"name", "district"}),
            (Hint(name=NAME, district="110105"), [entry("a")], "", 0.97, {"name"}),
            (Hint(name=NAME, district="310115"), [entry("a")], "", 0.582, {"name"}),
            (
                Hint(name=NAME),
                [entry("a", kind=Kind.FORMER_NAME)],
                "",
                0.88,
                {"former_name"},
            ),
            (Hint(registration_number="1"), [entry("a", "#1", kind=Kind.NUMBER)], "#1", 1.0, None),
            (
                Hint(NAME, "1"),
                [entry("a", "#1", kind=Kind.NUMBER), entry("a")],
                "#1",
                1.0,
                {"name", "registration_number"},
            ),
            (
                Hint("深圳大象物流有限公司", "1"),
                [entry("a", "#1", kind=Kind.NUMBER), entry("a")],
                "#1",
                0.8,
                {"registration_number"},
            ),
        ],
    )
    def test_what_it_is_made_of(
        self,
        hint: Hint,
        entries: list[Entry],
        key: str,
        expected: float,
        evidence: set[str] | None,
    ) -> None:
        (found,) = candidates(hint, key, entries, WEIGHTS)
        assert found.confidence == pytest.approx(expected)
        assert set(found.evidence) == (evidence or {"registration_number"})

    def test_two_firms_of_one_name_share(self) -> None:
        both = [entry("a"), entry("b", district="310115")]
        assert confidence(Hint(name=NAME), *both) == pytest.approx(0.97 / 2)
        assert confidence(Hint(name=NAME, district="110108"), *both) == pytest.approx(0.982)

    def test_number_and_name_of_two_firms_contradict(self) -> None:
        entries = [
            entry("a", "#1", kind=Kind.NUMBER),
            entry("a", "深圳大象物流有限公司"),
            entry("b"),
        ]
        found = candidates(Hint(NAME, "1"), "#1", entries, WEIGHTS)
        assert chosen(found, WEIGHTS) is None
        assert {each.subject_id for each in found} == {"a", "b"}

    def test_only_the_latest_record_says_todays_name(self) -> None:
        entries = [entry("a", "北京大桔科技有限公司", order=2), entry("a", NAME, order=1)]
        (found,) = candidates(Hint(name=NAME), "", entries, WEIGHTS)
        assert found.evidence == (Evidence.FORMER_NAME,)
        assert found.name == "北京大桔科技有限公司"

    def test_what_is_nothing_like_it_is_no_candidate(self) -> None:
        assert candidates(Hint(name="深圳大象物流有限公司"), "", [entry("a")], WEIGHTS) == []
        assert candidates(Hint(name=NAME), "", [], WEIGHTS) == []

    def test_a_reviewer_is_shown_the_best(self) -> None:
        entries = [entry(f"s{n}", f"北京小桔科技{n}有限公司") for n in range(9)]
        found = candidates(Hint(name="北京小桔科技3有限公司"), "", entries, WEIGHTS)
        assert len(found) == WEIGHTS.most_candidates
        assert found[0].subject_id == "s3"


hints = st.builds(Hint, st.sampled_from(NAMES), st.just(""), st.sampled_from(DISTRICTS))
entries_of = st.builds(
    entry,
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(NAMES),
    kind=st.sampled_from([Kind.NAME, Kind.FORMER_NAME]),
    district=st.sampled_from(DISTRICTS[1:]),
    order=st.integers(1, 3),
)
numbers = st.sampled_from(["#1", "#2"])


class TestProperties:
    @given(hints, st.lists(entries_of, max_size=6), st.lists(numbers, max_size=3), numbers)
    def test_confidences_are_shares_and_two_alike_are_never_certain(
        self, hint: Hint, names: list[Entry], having: list[str], key: str
    ) -> None:
        entries = names + [entry("abc"[n], text, kind=Kind.NUMBER) for n, text in enumerate(having)]
        found = candidates(hint, key, entries, WEIGHTS)
        assert all(0 < each.confidence <= 1 for each in found)
        assert [each.confidence for each in found] == sorted(
            (each.confidence for each in found), reverse=True
        )
        if len(found) > 1 and found[1].confidence >= found[0].confidence - 0.05:
            assert found[0].confidence < 1
            assert chosen(found, WEIGHTS) is None
        assert candidates(hint, key, entries[::-1], WEIGHTS) == found

    @given(st.sampled_from(DISTRICTS), st.sampled_from(NAMES), st.sampled_from(NAMES))
    def test_a_name_closer_to_it_never_says_less(
        self, district: str, said: str, known: str
    ) -> None:
        hint = Hint(name=said, district=district)
        alike = confidence(hint, entry("a", known))
        former = confidence(hint, entry("a", said, kind=Kind.FORMER_NAME))
        current = confidence(hint, entry("a", said))
        assert alike <= current
        assert former <= current
        if read(known).key != read(said).key:
            assert alike <= former

    @given(st.sampled_from(NAMES), st.sampled_from(NAMES))
    def test_a_district_closer_to_it_never_says_less(self, said: str, known: str) -> None:
        near_to_far = ["110108", "110105", "310115"]
        given_ = [
            confidence(Hint(name=said, district=district), entry("a", known))
            for district in near_to_far
        ]
        assert given_ == sorted(given_, reverse=True)
        assert given_[0] >= confidence(Hint(name=said), entry("a", known)) >= given_[2]

    @given(hints, st.lists(entries_of, min_size=1, max_size=5), entries_of)
    def test_another_candidate_never_makes_one_more_certain(
        self, hint: Hint, entries: list[Entry], more: Entry
    ) -> None:
        assume(more.subject_id not in {each.subject_id for each in entries})
        before = {
            each.subject_id: each.confidence for each in candidates(hint, "", entries, WEIGHTS)
        }
        after = {
            each.subject_id: each.confidence
            for each in candidates(hint, "", [*entries, more], WEIGHTS)
        }
        assert all(after[subject] <= before[subject] + 1e-12 for subject in before)

    @given(hints, st.lists(entries_of, max_size=5))
    def test_a_name_that_is_only_like_it_is_never_enough(
        self, hint: Hint, entries: list[Entry]
    ) -> None:
        found = candidates(hint, "", entries, WEIGHTS)
        if chosen(found, WEIGHTS):
            assert Evidence.SIMILAR_NAME not in found[0].evidence

    @given(st.text(min_size=1, max_size=12), st.text(min_size=1, max_size=12))
    def test_likeness_has_no_direction(self, one: str, other: str) -> None:
        assert similar(read(one), read(other)) == similar(read(other), read(one))
        assert 0 <= similar(read(one), read(other)) <= 1


class TestWeights:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("current_name", 1.2),
            ("former_name", 0.99),
            ("similar_name", 0.85),
            ("margin", 0.2),
            ("threshold", 0.5),
            ("most_candidates", 1),
        ],
    )
    def test_what_would_guess_is_refused(self, name: str, value: Any) -> None:
        with pytest.raises(ValueError, match="should"):
            replace(WEIGHTS, **{name: value})

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ("version = 2", "version"),
            ("version = 1", "`contradicted` is missing"),
            ("version = ", "weights.toml"),
        ],
    )
    def test_the_file_is_checked(self, line: str, problem: str) -> None:
        with pytest.raises(WeightsError, match=problem):
            load(line)

    def test_a_key_too_many_and_a_word_are_told(self) -> None:
        text = "\n".join(
            f"{name} = {getattr(WEIGHTS, name)}" for name in Weights.__dataclass_fields__
        )
        assert load(f"version = 1\n{text}") == WEIGHTS
        with pytest.raises(WeightsError, match="`trust` is unknown"):
            load(f"version = 1\n{text}\ntrust = 1")
        with pytest.raises(WeightsError, match="`margin` should be a number"):
            load(f"version = 1\n{text}".replace("margin = 0.08", 'margin = "a"'))


def test_a_candidate_at_the_threshold_is_chosen() -> None:
    one = Candidate("a", NAME, "", WEIGHTS.threshold, (Evidence.NAME,))
    assert chosen([one], WEIGHTS) == "a"
    assert chosen([replace(one, confidence=WEIGHTS.threshold - 1e-9)], WEIGHTS) is None
    assert chosen([], WEIGHTS) is None
