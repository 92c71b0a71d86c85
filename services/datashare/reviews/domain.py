"""Whom a row is about that says only a name or a registration number of before.

Invariants:

- A confidence is from 0 to 1. It never falls when evidence is added that speaks for a candidate
  (a name more like one of its names, a name of today instead of a former one, the same district),
  and never rises when another candidate gets stronger.
- Candidates share: where others are as strong within the margin, each has its part only. So two
  that cannot be told apart never reach the threshold, and 1 is for a single one.
- A row is taken in at the threshold or above; below it waits. A name that is only like another
  never gets there, whatever speaks for it.
- What a review waits for is decided once. Its row is kept sealed until then, and not longer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from math import fsum
from typing import NamedTuple

from rapidfuzz import fuzz

from services.datashare.reviews.names import Name, number, read
from services.kit.errors import NotFoundError, invalid_field

NAMING_TYPE = "registration"
"""The record type that says what firms are called."""


class Kind(StrEnum):
    """What an entry of the index says."""

    NAME = "name"
    FORMER_NAME = "former_name"
    NUMBER = "number"


class Evidence(StrEnum):
    """What spoke for a candidate, as named on the wire."""

    NAME = "name"
    FORMER_NAME = "former_name"
    SIMILAR_NAME = "similar_name"
    REGISTRATION_NUMBER = "registration_number"
    DISTRICT = "district"


class Hint(NamedTuple):
    """What a provider knows of whom a row is about.

    Args:
        name: as it has it, or empty.
        registration_number: from before the unified code, or empty.
        district: six digits of GB/T 2260, or empty.
    """

    name: str = ""
    registration_number: str = ""
    district: str = ""


class Entry(NamedTuple):
    """A name or number of a subject, from a registration record.

    Args:
        subject_id: whose.
        provider_id: who registered it.
        kind: what it is in its record.
        text: the name; of a number what it is found by.
        district: of the record.
        order: compares the provider's records of a subject by time.
    """

    subject_id: str
    provider_id: str
    kind: Kind
    text: str
    district: str
    order: tuple[int, int, str]


@dataclass(frozen=True)
class Weights:
    """How much each piece of evidence says; see weights.toml, where each is explained."""

    threshold: float
    margin: float
    registration_number: float
    current_name: float
    former_name: float
    similar_name: float
    least_similarity: float
    same_district: float
    other_district: float
    contradicted: float
    most_candidates: int

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.name != "most_candidates" and not 0 <= getattr(self, each.name) <= 1:
                raise ValueError(f"`{each.name}` should be from 0 to 1")
        if not self.current_name >= self.former_name >= self.similar_name:
            raise ValueError("a name should say no more than one closer to today")
        if self.most_candidates < 2:
            raise ValueError("`most_candidates` should be 2 or more")
        if self.least_doubt(self.similar_name) >= self.threshold:
            raise ValueError("`threshold` should be out of reach of a similar name")
        if self.least_doubt(self.similar_name) >= self.current_name - self.margin:
            raise ValueError("`margin` should keep similar names off the current one")
        if self.threshold <= 1 / (2 - self.margin):
            raise ValueError("`threshold` should be out of reach of two that are equally strong")

    def least_doubt(self, strength: float) -> float:
        """Return the strength of a name with the same district beside it."""
        return 1 - (1 - strength) * (1 - self.same_district)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A subject that a row may be about.

    Args:
        subject_id: the subject.
        name: as registered now.
        district: likewise.
        confidence: from 0 to 1.
        evidence: what spoke for it, in the order of `Evidence`.
    """

    subject_id: str
    name: str
    district: str
    confidence: float
    evidence: tuple[Evidence, ...]


def candidates(
    hint: Hint, number_key: str, entries: Iterable[Entry], weights: Weights
) -> list[Candidate]:
    """Return whom a hint may mean, best first.

    Args:
        hint: what is known.
        number_key: what the hint's number is found by, or empty.
        entries: all entries of every subject that may be meant.
        weights: how much evidence says.
    """
    said = read(hint.name) if hint.name else None
    subjects = _by_subject(entries)
    found = {
        subject_id: _strength(said, hint.district, number_key, mine, weights)
        for subject_id, mine in subjects.items()
    }
    if any(Evidence.REGISTRATION_NUMBER in evidence for _, evidence in found.values()):
        found = {
            subject_id: (strength, evidence)
            if Evidence.REGISTRATION_NUMBER in evidence
            else (strength * weights.contradicted, evidence)
            for subject_id, (strength, evidence) in found.items()
        }
    strengths = [strength for strength, evidence in found.values() if evidence]
    shared = []
    for subject_id, (strength, evidence) in found.items():
        if not evidence:
            continue
        latest = _latest_name(subjects[subject_id])
        # Summed exactly, so that the order of candidates says nothing.
        as_strong = fsum(other for other in strengths if other >= strength - weights.margin)
        shared.append(
            Candidate(
                subject_id,
                "" if latest.kind is Kind.NUMBER else latest.text,
                latest.district,
                strength * (strength / as_strong),
                tuple(each for each in Evidence if each in evidence),
            )
        )
    shared.sort(key=lambda candidate: (-candidate.confidence, candidate.subject_id))
    return shared[: weights.most_candidates]


def chosen(found: Sequence[Candidate], weights: Weights) -> str | None:
    """Return the subject whom a row is taken to be about; None leaves it to a reviewer."""
    if found and found[0].confidence >= weights.threshold:
        return found[0].subject_id
    return None


def _by_subject(entries: Iterable[Entry]) -> Mapping[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.subject_id, []).append(entry)
    return found


def _current(mine: Sequence[Entry]) -> list[Entry]:
    """Return the entries of each provider's latest record of a subject."""
    latest: dict[str, tuple[int, int, str]] = {}
    for entry in mine:
        latest[entry.provider_id] = max(latest.get(entry.provider_id, entry.order), entry.order)
    return [entry for entry in mine if entry.order == latest[entry.provider_id]]


def _latest_name(mine: Sequence[Entry]) -> Entry:
    """Return the entry of today's name, or of what comes closest."""
    return max(mine, key=lambda entry: (entry.kind is Kind.NAME, entry.order, entry))


def _strength(
    said: Name | None,
    district: str,
    number_key: str,
    mine: Sequence[Entry],
    weights: Weights,
) -> tuple[float, set[Evidence]]:
    """Return how much speaks for a subject by itself, and what does."""
    current = _current(mine)
    by_number = bool(number_key) and any(
        entry.kind is Kind.NUMBER and entry.text == number_key for entry in mine
    )
    by_name, similarity, kind = 0.0, 0.0, Evidence.SIMILAR_NAME
    if said is not None:
        by_name, similarity, kind = _by_name(said, mine, current, weights)
    evidence = set()
    if by_name:
        evidence.add(kind)
        by_name, same = _with_district(by_name, district, current, weights)
        if same:
            evidence.add(Evidence.DISTRICT)
    if not by_number:
        return by_name, evidence
    evidence.add(Evidence.REGISTRATION_NUMBER)
    strength = weights.registration_number
    if said is not None and similarity < weights.least_similarity:
        # One of the two is wrong, and nobody but a person can say which.
        strength *= weights.contradicted
    return max(strength, by_name), evidence


def _by_name(
    said: Name, mine: Sequence[Entry], current: Sequence[Entry], weights: Weights
) -> tuple[float, float, Evidence]:
    """Return how much a name says, how similar the most similar one is, and what it is."""
    best = (0.0, 0.0, Evidence.SIMILAR_NAME)
    for entry in mine:
        if entry.kind is Kind.NUMBER:
            continue
        name = read(entry.text)
        if name.key == said.key:
            of_today = entry.kind is Kind.NAME and entry in current
            strength = weights.current_name if of_today else weights.former_name
            kind = Evidence.NAME if of_today else Evidence.FORMER_NAME
            best = max(best, (strength, 1.0, kind))
            continue
        similarity = similar(said, name)
        if similarity >= weights.least_similarity:
            strength = weights.similar_name * similarity**3
            best = max(best, (strength, similarity, Evidence.SIMILAR_NAME))
    return best


def similar(one: Name, other: Name) -> float:
    """Return how similar two names are that are not the same, 0 to 1; whichever comes first.

    Districts that differ, and forms that do, make them less so.
    """
    similarity = fuzz.ratio(one.core, other.core) / 100
    if one.place and other.place and one.place != other.place:
        similarity *= 0.9
    if one.form and other.form and one.form != other.form:
        similarity *= 0.9 if "branch" not in (one.form, other.form) else 0.5
    return similarity


def _with_district(
    strength: float, district: str, current: Sequence[Entry], weights: Weights
) -> tuple[float, bool]:
    """Return a name's strength with what the district says, and whether it is the same."""
    known = {entry.district for entry in current if entry.district}
    if not district or not known:
        return strength, False
    if district in known:
        return weights.least_doubt(strength), True
    if any(each[:4] == district[:4] for each in known):
        return strength, False
    return strength * weights.other_district, False


class ReviewState(StrEnum):
    """Where a review stands: names of `ReviewState` without the prefix."""

    WAITING = "WAITING"
    MATCHED = "MATCHED"
    DISMISSED = "DISMISSED"


@dataclass(frozen=True, slots=True)
class Review:
    """A row that waits, or waited.

    Args:
        review_id: opaque.
        provider_id: whose row.
        record_type: its type.
        provider_record_id: the provider's own id of it.
        version: its version.
        content_hash: of what it says; with what stands before it tells rows apart.
        hint: whom it is about, as far as it says.
        candidates: best first.
        held_at: since when it waits.
        state: where it stands.
        decided_at: when it was decided.
        decided_by: the participant that decided; empty where the platform could in the end.
        subject_id: whom it was matched to.
        note: why it was dismissed.
    """

    review_id: str
    provider_id: str
    record_type: str
    provider_record_id: str
    version: int
    content_hash: bytes
    hint: Hint
    candidates: tuple[Candidate, ...]
    held_at: datetime
    state: ReviewState = ReviewState.WAITING
    decided_at: datetime | None = None
    decided_by: str = ""
    subject_id: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody says about a row that waits: one of the two is set.

    Args:
        subject_id: whom it is about.
        dismiss: why nobody is meant.
    """

    subject_id: str = ""
    dismiss: str = ""

    @property
    def state(self) -> ReviewState:
        """Where it leads."""
        return ReviewState.MATCHED if self.subject_id else ReviewState.DISMISSED


def check_decided(review: Review, decision: Decision) -> None:
    """Refuse to decide a review otherwise than it was decided.

    Raises:
        InvalidArgumentError: FIELD_INVALID.
    """
    if review.state is decision.state and review.subject_id == decision.subject_id:
        return
    field = "subject" if decision.subject_id else "dismiss"
    raise invalid_field(
        "FIELD_INVALID",
        field,
        f"comes too late: the review is {review.state.lower()} already; to say otherwise, have the "
        "provider retract the record or send it with its subject",
    )


def no_review() -> NotFoundError:
    """Return what whoever a review does not concern is told: as if there were none."""
    return NotFoundError("NOT_FOUND", "there is no such review for you: ListReviews names yours")


def check_hint(hint: Hint) -> str:
    """Return the field of a hint that says nobody, or "" where it may say somebody."""
    if not hint.name and not hint.registration_number:
        return "hint"
    if hint.name and not read(hint.name).core:
        return "hint.name"
    if hint.registration_number and not number(hint.registration_number):
        return "hint.registration_number"
    return ""
