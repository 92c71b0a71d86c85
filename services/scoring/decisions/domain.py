"""What a decision is, and who may read it.

Invariants: a decision names the access under which its data was read; it is never changed; it
carries the names and units of its features, so that it can be told whatever becomes of its model;
the same features under the same model version give the same outcome again, to the last byte. A
model built by judgement claims no PD: none is in what it is said to have answered.
"""

import enum
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import attrgetter
from typing import Any

from services.kit.errors import (
    AlreadyExistsError,
    FieldProblem,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
)
from services.kit.identity import Caller
from services.scoring.decisions.canonical import Json, canonical
from services.scoring.features.domain import Coverage, FeatureVector, Relation
from services.scoring.models.points import whole
from services.scoring.products.domain import Declared

REGULATOR = "REGULATOR"
EXPERT = "EXPERT"


class NoticeCode(enum.StrEnum):
    """What the reader of a decision must know."""

    MODEL_SIMULATED = "MODEL_SIMULATED"
    MODEL_EXPERT = "MODEL_EXPERT"
    MODEL_UNVALIDATED = "MODEL_UNVALIDATED"
    DATA_SIMULATED = "DATA_SIMULATED"
    DATA_WITHHELD = "DATA_WITHHELD"
    DISPUTED_DATA = "DISPUTED_DATA"


class Use(enum.StrEnum):
    """What a stored decision is read for."""

    EXPLANATION = "EXPLANATION"
    DISPUTE = "DISPUTE"
    SUPERVISION = "SUPERVISION"


@dataclass(frozen=True, slots=True)
class Linked:
    """Another firm whose data is to enter.

    Args:
        relation: what it is to the firm that is scored.
        subject_id: which firm.
        consent_id: its consent.
    """

    relation: Relation
    subject_id: str
    consent_id: str


@dataclass(frozen=True, slots=True)
class Order:
    """What a bank asks.

    Args:
        request_id: unique per caller.
        subject_id: the firm.
        consent_id: empty when only data that is open by law is to be used.
        purpose: code of the table of purposes.
        as_of: data known by then; None is now.
        model_version: None is the model in service.
        officer: who asks, within the bank.
        file_reference: the bank's file.
        linked: whose data is to enter beside the firm's own.
        product: code of the score product; empty names none.
        declared: what the bank itself says of the firm.
    """

    request_id: str
    subject_id: str
    consent_id: str
    purpose: str
    as_of: datetime | None = None
    model_version: str | None = None
    officer: str = ""
    file_reference: str = ""
    linked: tuple[Linked, ...] = ()
    product: str = ""
    declared: tuple[Declared, ...] = ()

    def fingerprint(self) -> bytes:
        """Return what tells a replay from another order under the same request_id."""
        said: list[object] = [
            self.subject_id,
            self.consent_id,
            self.purpose,
            self.as_of.isoformat() if self.as_of else None,
            self.model_version,
            *((each.relation, each.subject_id, each.consent_id) for each in self.linked),
        ]
        if self.product:
            # Sorted: some callers hold them in maps that have no order.
            declared = {
                each.name: each.value for each in sorted(self.declared, key=attrgetter("name"))
            }
            said.append({"product": self.product, "declared": declared})
        return hashlib.sha256(json.dumps(said).encode()).digest()


@dataclass(frozen=True, slots=True)
class Reason:
    """One group of features and how it moves the score.

    Args:
        code: of the catalogue of reasons.
        points: against the mean of the reference population; negative lowers the score.
        text_zh: in Chinese.
        text_en: in English.
        features: names of the group's features.
        improve_zh: what would improve it, in Chinese; empty where the firm cannot do anything.
        improve_en: likewise in English.
    """

    code: str
    points: float
    text_zh: str
    text_en: str
    features: tuple[str, ...]
    improve_zh: str = ""
    improve_en: str = ""

    @property
    def raises(self) -> bool:
        """Whether it raises the score against the mean of the reference population."""
        return self.points > 0


@dataclass(frozen=True, slots=True)
class Interval:
    """Within which bounds a PD lies.

    Args:
        low: the lower one.
        high: the upper one.
        method: how they are found, in words.
    """

    low: float
    high: float
    method: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a model says.

    Args:
        pd: probability of default, 0 to 1; None where the model claims none.
        score: points, rounded.
        grade: by the model's grade cuts.
        base_points: the part that no feature moves.
        group_points: by group; base plus their sum is the unrounded score.
        reasons: strongest first.
        interval: of the PD; None where the model has none.
        refer: the PD is too uncertain to go by; a person has to decide.
        words: version of the catalogue that the reasons are worded by; 0 of an outcome from before
            it was kept.
    """

    pd: float | None
    score: int
    grade: str
    base_points: float
    group_points: Mapping[str, float]
    reasons: tuple[Reason, ...]
    interval: Interval | None = None
    refer: bool = False
    words: int = 0

    def whole_points(self) -> tuple[int, dict[str, int]]:
        """Return the base and the groups' points as whole numbers, which add up to the score."""
        return whole(self.base_points, self.group_points, self.score)

    def said(self) -> "Said":
        """Return it as canonical bytes."""
        outcome = canonical(self._document)
        return Said(outcome, canonical(self._detail) if self.words else b"")

    def _document(self, number: Callable[[float], float]) -> Mapping[str, Json]:
        return {
            "pd": None if self.pd is None else number(self.pd),
            "score": self.score,
            "grade": self.grade,
            "base_points": number(self.base_points),
            "group_points": {group: number(each) for group, each in self.group_points.items()},
            "reasons": [
                {
                    "code": reason.code,
                    "points": number(reason.points),
                    "text_zh": reason.text_zh,
                    "text_en": reason.text_en,
                    "features": reason.features,
                }
                for reason in self.reasons
            ],
        }

    def _detail(self, number: Callable[[float], float]) -> Mapping[str, Json]:
        base, points = self.whole_points()
        within = self.interval
        return {
            "interval": None
            if within is None
            else {
                "low": number(within.low),
                "high": number(within.high),
                "method": within.method,
            },
            "refer": self.refer,
            "whole_points": {"base": base, "groups": points},
            "improve": [
                {"zh": reason.improve_zh, "en": reason.improve_en} for reason in self.reasons
            ],
            "words": self.words,
        }


@dataclass(frozen=True, slots=True)
class Said:
    """An outcome as RFC 8785 canonical JSON, in two parts.

    Args:
        outcome: what every release reads.
        detail: what was added since; empty of an outcome from before.
    """

    outcome: bytes
    detail: bytes = b""

    @property
    def whole(self) -> bytes:
        """Both in one document, which is canonical, too."""
        if not self.detail:
            return b'{"outcome":' + self.outcome + b"}"
        return b'{"detail":' + self.detail + b',"outcome":' + self.outcome + b"}"

    @property
    def sha256(self) -> bytes:
        """Of the whole."""
        return hashlib.sha256(self.whole).digest()


def claimed(outcome: Outcome, model_class: str) -> Outcome:
    """Return what of an outcome a model of this class may be said to have answered."""
    if model_class != EXPERT:
        return outcome
    return replace(outcome, pd=None, interval=None, refer=False)


def outcome_of(
    outcome: Mapping[str, Any], detail: Mapping[str, Any] | None, groups: Sequence[str] = ()
) -> Outcome:
    """Return the outcome of its two documents.

    Args:
        outcome: the first.
        detail: the second; None of an outcome from before there was one.
        groups: in the order of the model; canonical JSON has them by name. Empty keeps theirs.
    """
    points = outcome["group_points"]
    improve = [{"zh": "", "en": ""}] * len(outcome["reasons"]) if not detail else detail["improve"]
    found = Outcome(
        pd=None if outcome["pd"] is None else float(outcome["pd"]),
        score=outcome["score"],
        grade=outcome["grade"],
        # What is whole is an integer in canonical JSON.
        base_points=float(outcome["base_points"]),
        group_points={group: float(points[group]) for group in groups or points},
        reasons=tuple(
            Reason(
                reason["code"],
                float(reason["points"]),
                reason["text_zh"],
                reason["text_en"],
                tuple(reason["features"]),
                words["zh"],
                words["en"],
            )
            for reason, words in zip(outcome["reasons"], improve, strict=True)
        ),
    )
    if not detail:
        return found
    within = detail["interval"]
    return replace(
        found,
        interval=within and Interval(float(within["low"]), float(within["high"]), within["method"]),
        refer=detail["refer"],
        words=detail["words"],
    )


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the values of a decision's features are.

    Args:
        version: of the features' definitions.
        names: in the order of the values.
        units: in the same order.
        titles: of groups of features: group, title in Chinese, title in English.
    """

    version: int
    names: tuple[str, ...]
    units: tuple[str, ...]
    titles: tuple[tuple[str, str, str], ...] = ()

    def __hash__(self) -> int:
        """What is remembered by inputs is looked up for each decision: not by all their words."""
        return hash((self.version, len(self.names), len(self.titles)))

    def same_as(self, other: "Inputs") -> bool:
        """Tell whether the values mean the same, whatever their groups are called."""
        mine, others = (self.version, self.names, self.units), (other.version, other.names)
        return mine == (*others, other.units)


@dataclass(frozen=True, slots=True)
class DisputeMark:
    """That a record which counted was in dispute, or its dispute had ended without proof.

    Args:
        dispute_id: which dispute.
        record_type: of the record.
        provider_id: whose record.
        month: yyyymm in whose summary it counts.
        field: of the record; empty is all of it.
        state: OPEN, UNVERIFIABLE or UPHELD.
        statement: the subject's.
    """

    dispute_id: str
    record_type: str
    provider_id: str
    month: int
    field: str
    state: str
    statement: str

    @property
    def in_doubt(self) -> bool:
        """Whether nobody has proved the record; of an UPHELD one the subject's words are told."""
        return self.state != "UPHELD"


@dataclass(frozen=True, slots=True)
class Entered:
    """What of a linked subject entered a decision.

    Args:
        linked: as the order names it.
        access_id: under which its data was read; empty when nothing was, because the model has no
            feature of the relation.
        as_of: its data known by then was used.
        pd: what the model said of it alone; None when there was too little data.
        coverage: which of its record types were there, and why others not.
        notices: what a reader must know of its data.
        disputes: about its records that counted.
        sources: type and provider of its records that counted.
    """

    linked: Linked
    access_id: str = ""
    as_of: datetime | None = None
    pd: float | None = None
    coverage: Mapping[str, Coverage] = field(default_factory=dict)
    notices: tuple[NoticeCode, ...] = ()
    disputes: tuple[DisputeMark, ...] = ()
    sources: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Decision:
    """A score that was given.

    Args:
        decision_id: opaque.
        caller_id: the bank.
        order: what it asked.
        access_id: the access under which the data was read.
        as_of: data known by then was used.
        decided_at: when.
        model_version: which model.
        model_class: SIMULATED, EXPERT, UNVALIDATED or VALIDATED.
        inputs: what the features are.
        features: their values.
        coverage: which record types were there, and why others not.
        notices: what its reader must know of the model and the firm's own data.
        outcome: what the model said.
        disputes: about records that counted in it.
        sources: type and provider of what counted in it; None of a decision from before these were
            kept.
        linked: what of linked subjects entered, in the order in which they were named.
        said: the outcome's canonical bytes as they were kept; None of a decision from before.
    """

    decision_id: str
    caller_id: str
    order: Order
    access_id: str
    as_of: datetime
    decided_at: datetime
    model_version: str
    model_class: str
    inputs: Inputs
    features: FeatureVector
    coverage: Mapping[str, Coverage]
    notices: tuple[NoticeCode, ...]
    outcome: Outcome
    disputes: tuple[DisputeMark, ...] = ()
    sources: frozenset[tuple[str, str]] | None = None
    linked: tuple[Entered, ...] = ()
    said: Said | None = None

    @property
    def answered(self) -> Said:
        """What the model said then, as canonical bytes."""
        return self.said or self.outcome.said()

    @property
    def all_notices(self) -> tuple[NoticeCode, ...]:
        """What its reader must know of all data in it, that of linked subjects too."""
        found = {*self.notices, *(code for each in self.linked for code in each.notices)}
        return tuple(code for code in NoticeCode if code in found)

    @property
    def key(self) -> tuple[str, str]:
        """What the request was known by: caller_id and request_id."""
        return self.caller_id, self.order.request_id


def check_linked(order: Order) -> None:
    """Refuse linked subjects that are named twice, or are the firm itself.

    Raises:
        InvalidArgumentError: FIELD_INVALID, naming each.
    """
    problems = []
    seen: set[str] = set()
    for at, each in enumerate(order.linked):
        field_name = f"order.linked[{at}].subject_id"
        if each.subject_id == order.subject_id:
            problem = "is the firm that is scored: name another firm, or leave it out"
            problems.append(FieldProblem(field_name, problem))
        elif each.subject_id in seen:
            problem = "was named before: name each firm once, by the relation that matters most"
            problems.append(FieldProblem(field_name, problem))
        seen.add(each.subject_id)
    if problems:
        message = "; ".join(f"{found.field} {found.problem}" for found in problems)
        raise InvalidArgumentError("FIELD_INVALID", message, fields=tuple(problems))


def replayed(order: Order, earlier: Decision) -> Decision:
    """Return the decision that `order` got before under its request_id.

    Raises:
        AlreadyExistsError: REQUEST_ID_REUSED, the order is another one.
    """
    if order.fingerprint() != earlier.order.fingerprint():
        raise AlreadyExistsError(
            "REQUEST_ID_REUSED", "this request_id belongs to another order: use a new one"
        )
    return earlier


def as_disputed(
    decision: Decision,
    disputes: Sequence[DisputeMark],
    of_linked: Mapping[int, Sequence[DisputeMark]],
) -> Decision:
    """Return a stored decision as it is answered again, with what was disputed since.

    Args:
        decision: as it was made.
        disputes: about what counts in it, as they stand now.
        of_linked: those about linked subjects, by their places.
    """
    marks = _with_new(decision.disputes, disputes)
    linked = []
    for at, entered in enumerate(decision.linked):
        mine = _with_new(entered.disputes, of_linked.get(at, ()))
        linked.append(replace(entered, disputes=mine, notices=_doubting(entered.notices, mine)))
    return replace(
        decision,
        disputes=marks,
        notices=_doubting(decision.notices, marks),
        linked=tuple(linked),
    )


def _with_new(
    known: tuple[DisputeMark, ...], standing: Sequence[DisputeMark]
) -> tuple[DisputeMark, ...]:
    ids = {mark.dispute_id for mark in known}
    return known + tuple(mark for mark in standing if mark.dispute_id not in ids)


def _doubting(
    codes: tuple[NoticeCode, ...], marks: Sequence[DisputeMark]
) -> tuple[NoticeCode, ...]:
    if NoticeCode.DISPUTED_DATA in codes or not any(mark.in_doubt for mark in marks):
        return codes
    return (*codes, NoticeCode.DISPUTED_DATA)


@dataclass(frozen=True, slots=True)
class Read:
    """A reading of a stored decision.

    Args:
        read_id: opaque.
        decision_id: which.
        subject_id: the firm that it is about.
        reader_id: who read it.
        role: in which role.
        use: what for.
        read_at: when.
    """

    read_id: str
    decision_id: str
    subject_id: str
    reader_id: str
    role: str
    use: Use
    read_at: datetime


@dataclass(frozen=True, slots=True)
class Referred:
    """That no score is given: a person decides.

    Args:
        since: when scoring was stopped.
    """

    since: datetime


@dataclass(frozen=True, slots=True)
class Replay:
    """A decision and what its model says now.

    Args:
        decision: as it was stored.
        stored: canonical bytes of what the model said then.
        again: of what it says now; empty when it cannot be computed.
        remark: why the two differ, or what of them is not computed again.
    """

    decision: Decision
    stored: bytes
    again: bytes
    remark: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A stored decision, and whether its model gives it again.

    Args:
        decision: as it was stored.
        remark: why it was not reproduced; empty when it was.
    """

    decision: Decision
    remark: str


def notices(
    model_class: str, *, simulated_data: bool, withheld_data: bool, disputed_data: bool = False
) -> tuple[NoticeCode, ...]:
    """Return what the reader of a decision must know of a model, "" for none, and some data."""
    of_model = f"MODEL_{model_class}"
    found = [NoticeCode(of_model)] if of_model in NoticeCode.__members__ else []
    if simulated_data:
        found.append(NoticeCode.DATA_SIMULATED)
    if withheld_data:
        found.append(NoticeCode.DATA_WITHHELD)
    if disputed_data:
        found.append(NoticeCode.DISPUTED_DATA)
    return tuple(found)


def check_use(use: Use, role: str) -> None:
    """Refuse a use that is not the role's.

    Raises:
        PermissionDeniedError: ROLE_NOT_ALLOWED.
    """
    if (use is Use.SUPERVISION) != (role == REGULATOR):
        raise PermissionDeniedError(
            "ROLE_NOT_ALLOWED",
            "a regulator reads decisions for supervision, banks and firms read theirs for "
            "explanation or dispute: name that use",
        )


def readable(decision: Decision | None, caller: Caller) -> Decision:
    """Return the decision if the caller supervises, took it, or is the firm that it is about.

    Raises:
        NotFoundError: NOT_FOUND, also for one that belongs to others: nobody learns that it exists.
    """
    if decision is None or not (
        caller.role == REGULATOR
        or decision.caller_id == caller.participant_id
        or (caller.subject_id is not None and decision.order.subject_id == caller.subject_id)
    ):
        raise NotFoundError("NOT_FOUND", "there is no such decision of yours: check the id")
    return decision


def comparable(stored: Outcome, again: Outcome) -> tuple[Outcome, str]:
    """Return an outcome as it can be held against a stored one, and what is not computed again.

    Words belong to a version of their catalogue: of another one than the release has, those that
    were answered count. An outcome from before intervals were kept is held against without.
    """
    remark = ""
    if stored.words != again.words:
        remark = (
            f"the words of the reasons are of version {stored.words} of their catalogue and this "
            f"release has version {again.words}: they are those that were answered"
            if stored.words
            else "it is from before intervals and words were kept: they are not compared"
        )
        known = {reason.code: reason for reason in stored.reasons}
        reasons = tuple(
            replace(
                known[reason.code], code=reason.code, points=reason.points, features=reason.features
            )
            if reason.code in known
            else reason
            for reason in again.reasons
        )
        again = replace(again, reasons=reasons, words=stored.words)
        if not stored.words:
            again = replace(again, interval=None, refer=False)
    return again, remark


def difference(stored: Outcome, again: Outcome) -> str:
    """Return in words what a model says differently now; empty when it says the same.

    The wording of reasons may change, their codes may not.
    """
    parts = (
        ("PD", stored.pd == again.pd),
        ("interval", (stored.interval, stored.refer) == (again.interval, again.refer)),
        ("score", stored.score == again.score),
        ("grade", stored.grade == again.grade),
        ("base points", stored.base_points == again.base_points),
        ("points of groups", dict(stored.group_points) == dict(again.group_points)),
        (
            "reasons",
            [reason.code for reason in stored.reasons] == [reason.code for reason in again.reasons],
        ),
    )
    differing = [name for name, same in parts if not same]
    return f"the model gives another result now: {', '.join(differing)}" if differing else ""
