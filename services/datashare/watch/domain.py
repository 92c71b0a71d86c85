"""The rules of the watch: what of accesses is counted by what, and from when on it is abnormal.

Invariants:

- Counting does not depend on how accesses are cut into steps: each access adds to windows by its
  own time, and what is abnormal follows from the sums.
- Officers, file references and firms are counted by hashes; a finding names none of them.
- Windows follow on one another from midnight in China: a sweep over the end of one may need up to
  twice the threshold to be found.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from services.datashare.china import CHINA
from services.datashare.incidents.domain import MOST_ACCESSES, Severity
from services.datashare.metering.domain import Refused

FEWEST_DAYS: Final = 5
"""Of so many days something has to be known before there is a usual volume."""

_OFFSET: Final = 8 * 3600
_DAY: Final = 86_400


class Name(StrEnum):
    """The rules that there are."""

    VOLUME_BOUND = "volume_bound"
    VOLUME_PAST = "volume_past"
    OUTSIDE_HOURS = "outside_hours"
    REFUSED_RUN = "refused_run"
    REFUSED_CALLS = "refused_calls"
    UNPROVED_CALLS = "unproved_calls"
    NO_FILE = "no_file"
    ONE_FILE = "one_file"
    OFFICER_SWEEP = "officer_sweep"
    PROBING = "probing"


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        name: which.
        severity: of its incidents.
        zh: what it finds.
        en: the same.
        threshold: from so many on it is abnormal; of `volume_past`, times the usual.
        window: over which it counts.
        days: of `volume_past`, how far back the usual is looked for.
        least: of `volume_past`, fewer accesses than this are never abnormal.
        begins: of `outside_hours`, when working hours begin.
        ends: and end.
        except_purposes: accesses for these are not counted.
        reasons: of `probing`, why fetches were refused that count.
        calls: of `probing`, why calls were refused that count.
        dummies: of `no_file`, references that say nothing, in lower case.
    """

    name: Name
    severity: Severity
    zh: str
    en: str
    threshold: float
    window: timedelta
    days: int = 0
    least: int = 0
    begins: time = time.min
    ends: time = time.max
    except_purposes: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()
    dummies: frozenset[str] = frozenset()

    def since(self, at: datetime) -> int:
        """Return when the window begins that a time lies in, seconds since 1970-01-01 UTC."""
        length = int(self.window.total_seconds())
        return (int(at.timestamp()) + _OFFSET) // length * length - _OFFSET

    def span(self, since: int) -> tuple[datetime, datetime]:
        """Return the begin and end of a window."""
        begin = datetime.fromtimestamp(since, UTC)
        return begin, begin + self.window

    @property
    def kept(self) -> timedelta:
        """How long counts are needed."""
        return timedelta(days=self.days + 1) if self.days else 2 * self.window


class Seen(NamedTuple):
    """An access, as the watch sees it.

    Args:
        access_id: opaque.
        at: when.
        recipient_id: who asked.
        subject_id: about whom; empty where there is no such firm.
        purpose: what for.
        refusal_reason: why it was refused; empty of a release.
        officer: who asked there.
        file_reference: for which of their files.
    """

    access_id: str
    at: datetime
    recipient_id: str
    subject_id: str
    purpose: str
    refusal_reason: str
    officer: str
    file_reference: str


class Key(NamedTuple):
    """What is counted by.

    Args:
        rule: name of the rule.
        participant_id: whose doing.
        since: when the window begins, seconds since 1970-01-01 UTC; 0 of a run that goes on.
        who: hash of the officer or of the file reference; empty where it is counted without.
    """

    rule: str
    participant_id: str
    since: int
    who: str = ""


@dataclass
class Notes:
    """What accesses add to windows.

    Args:
        counts: how many more.
        seen: hashes of different firms.
        runs: by participant, refusals at the end of what was seen that have no release behind
            them, and whether all of it was refused.
        evidence: accesses that made it so, the latest ones.
    """

    counts: dict[Key, int] = field(default_factory=dict)
    seen: dict[Key, set[str]] = field(default_factory=dict)
    evidence: dict[Key, list[str]] = field(default_factory=dict)

    def count(self, key: Key, number: int = 1, access_id: str = "") -> None:
        """Add to a count."""
        self.counts[key] = self.counts.get(key, 0) + number
        self._show(key, access_id)

    def meet(self, key: Key, firm: str, access_id: str) -> None:
        """Add a firm to those that were met."""
        self.seen.setdefault(key, set()).add(digest(firm))
        self._show(key, access_id)

    def _show(self, key: Key, access_id: str) -> None:
        if access_id:
            shown = self.evidence.setdefault(key, [])
            shown.append(access_id)
            del shown[:-MOST_ACCESSES]


@dataclass(frozen=True)
class Finding:
    """Something abnormal.

    Args:
        key: the window.
        observed: what was counted.
        threshold: from which on it is abnormal.
        access_ids: some that show it.
    """

    key: Key
    observed: float
    threshold: float
    access_ids: tuple[str, ...] = ()


class Calendar(Protocol):
    """China's working days."""

    def is_working(self, day: date) -> tuple[bool, bool]:
        """Tell whether people work on a day, and whether that is as published."""
        ...


def digest(text: str) -> str:
    """Return 32 characters that stand for a text."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def is_dummy(reference: str, dummies: frozenset[str]) -> bool:
    """Tell whether a file reference says nothing: empty, one of the list, or one character over."""
    text = "".join(reference.casefold().split())
    letters = {character for character in text if character.isalnum()}
    return len(letters) < 2 or text in dummies


def is_outside(at: datetime, rule: Rule, calendar: Calendar) -> bool:
    """Tell whether a time is outside working hours."""
    there = at.astimezone(CHINA)
    working, _published = calendar.is_working(there.date())
    return not (working and rule.begins <= there.time() < rule.ends)


def note(accesses: Iterable[Seen], rules: Mapping[Name, Rule], calendar: Calendar) -> Notes:
    """Return what accesses add to windows, but for runs."""
    notes = Notes()
    for seen in accesses:
        for rule in rules.values():
            if seen.purpose in rule.except_purposes:
                continue
            key = Key(rule.name, seen.recipient_id, rule.since(seen.at))
            match rule.name:
                case Name.VOLUME_BOUND | Name.VOLUME_PAST:
                    notes.count(key, access_id=seen.access_id)
                case Name.OUTSIDE_HOURS if is_outside(seen.at, rule, calendar):
                    notes.count(key, access_id=seen.access_id)
                case Name.NO_FILE if is_dummy(seen.file_reference, rule.dummies):
                    notes.count(key, access_id=seen.access_id)
                case Name.PROBING if seen.refusal_reason in rule.reasons:
                    notes.count(key, access_id=seen.access_id)
                case Name.OFFICER_SWEEP if seen.officer.strip() and seen.subject_id:
                    who = key._replace(who=digest(seen.officer.strip()))
                    notes.meet(who, seen.subject_id, seen.access_id)
                case Name.ONE_FILE if seen.file_reference.strip() and seen.subject_id:
                    who = key._replace(who=digest(seen.file_reference.strip()))
                    notes.meet(who, seen.subject_id, seen.access_id)
                case _:
                    pass
    return notes


def note_calls(refusals: Iterable[Refused], rules: Mapping[Name, Rule]) -> Notes:
    """Return what refusals that gateways reported add to windows."""
    notes = Notes()
    for refused in refusals:
        name = Name.PROBING if refused.participant_id else Name.UNPROVED_CALLS
        rule = rules.get(name)
        if rule and (name is Name.UNPROVED_CALLS or refused.reason in rule.calls):
            key = Key(rule.name, refused.participant_id, rule.since(refused.last_at))
            notes.count(key, refused.times)
    return notes


def runs(before: int, accesses: Sequence[Seen], rule: Rule) -> tuple[int, Mapping[Key, Finding]]:
    """Return how long the run of refusals is at the end, and the windows in which one was too long.

    Args:
        before: how long it was.
        accesses: of one participant, in their order.
        rule: `REFUSED_RUN`.
    """
    length, found = before, dict[Key, Finding]()
    shown: list[str] = []
    for seen in accesses:
        if not seen.refusal_reason:
            length = 0
            shown.clear()
            continue
        length += 1
        shown.append(seen.access_id)
        del shown[:-MOST_ACCESSES]
        if length >= rule.threshold:
            key = Key(rule.name, seen.recipient_id, rule.since(seen.at))
            longest = max(length, found[key].observed) if key in found else length
            found[key] = Finding(key, longest, rule.threshold, tuple(shown))
    return length, found


def long_runs(refusals: Iterable[Refused], rule: Rule) -> Sequence[Finding]:
    """Return the windows in which gateways saw a run of refused calls that was too long."""
    longest: dict[Key, int] = {}
    for refused in refusals:
        if refused.participant_id and refused.in_a_row >= rule.threshold:
            key = Key(rule.name, refused.participant_id, rule.since(refused.last_at))
            longest[key] = max(refused.in_a_row, longest.get(key, 0))
    return [Finding(key, length, rule.threshold) for key, length in longest.items()]


def usual(busy: Mapping[int, int]) -> float | None:
    """Return the mean of the busiest windows of days; None where too few days are known.

    Args:
        busy: accesses by when the window begins.
    """
    days: dict[int, int] = {}
    for since, number in busy.items():
        day = (since + _OFFSET) // _DAY
        days[day] = max(number, days.get(day, 0))
    return sum(days.values()) / len(days) if len(days) >= FEWEST_DAYS else None


def judge(rule: Rule, key: Key, number: int, busy: Mapping[int, int]) -> Finding | None:
    """Return a finding where a window's sum is abnormal.

    Args:
        rule: of the key.
        key: the window.
        number: its sum.
        busy: of `VOLUME_PAST`, the participant's accesses by window of the days before.
    """
    if rule.name is not Name.VOLUME_PAST:
        return Finding(key, number, rule.threshold) if number >= rule.threshold else None
    ordinary = usual(busy)
    if ordinary is None or number < max(rule.least, rule.threshold * ordinary):
        return None
    return Finding(key, number, max(rule.least, rule.threshold * ordinary))


def words(rule: Rule, finding: Finding) -> tuple[str, str]:
    """Return what was seen, in Chinese and English."""
    begin, end = (
        at.astimezone(CHINA).strftime("%Y-%m-%d %H:%M") for at in rule.span(finding.key.since)
    )
    observed, threshold = f"{finding.observed:g}", f"{finding.threshold:g}"
    return (
        f"{rule.zh}：{observed}（阈值 {threshold}），北京时间 {begin} 至 {end}",
        f"{rule.en}: {observed} (threshold {threshold}), {begin} to {end} China Standard Time",
    )
