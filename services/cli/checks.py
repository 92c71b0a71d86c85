"""The platform's rules for rows, as far as they can be told before anything is sent.

They are the rules of shape of the .proto, the catalogue's code lists, amounts in fen, dates that
exist and lie in the past, and the registration number's check. What passes here may still be
refused by the platform, which alone knows what it has; what fails here would be refused.
"""

from calendar import monthrange
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import protovalidate
from google.protobuf.message import Message
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from puhui.datashare.v1.catalogue_pb2 import RecordTypePolicy
from puhui.datashare.v1.records_pb2 import RECORD_STATUS_RETRACTED, Record
from services.cli.inputs import CHINA
from services.cli.rows import UNREADABLE, Reject, Row, Source
from services.datashare.subjects.uscc import UsccError
from services.datashare.subjects.uscc import check as check_uscc
from services.kit.shape import sound

EXAMPLES: Final = 3
"""Rows that a column's report names at most."""
_WHOLE_RECORD: Final = "(row)"
_NANOS_OF_A_FEN: Final = 10**7
_CLOCK_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class Finding:
    """A rule that a record breaks.

    Args:
        reason: name of the `ErrorReason` without its prefix.
        field: path of the field.
        problem: what is wrong and what to do, without the value.
    """

    reason: str
    field: str
    problem: str


class Rules:
    """Checks records.

    Args:
        policies: of the catalogue.
        now: the time.
    """

    def __init__(self, policies: Iterable[RecordTypePolicy], now: datetime) -> None:
        self._codes = {
            policy.record_type: [
                (codes.field, frozenset(code.code for code in codes.codes))
                for codes in policy.code_lists
            ]
            for policy in policies
        }
        self._today = now.astimezone(CHINA).date()
        self._month_end = self._today.replace(
            day=monthrange(self._today.year, self._today.month)[1]
        )
        self._latest = now + _CLOCK_SKEW
        self._validator = protovalidate.Validator()
        self._sound = sound(Record.DESCRIPTOR)

    def findings(self, record: Record) -> Iterator[Finding]:
        """Go through what is wrong with a record."""
        if record.record_type not in self._codes:
            problem = "not in the catalogue: `puhui catalogue list` names the types"
            yield Finding("TYPE_UNKNOWN", "record_type", problem)
            return
        if not self._sound(record):
            for violation in self._validator.collect_violations(record):
                yield Finding("FIELD_INVALID", _path(violation.proto), _problem(violation.proto))
        yield from self._subject(record)
        yield from self._dates(record)
        name = record.WhichOneof("payload")
        if name == record.record_type:
            if record.status != RECORD_STATUS_RETRACTED:  # what that says is not read
                payload = getattr(record, name)
                yield from _amounts(payload, name)
                yield from self._coded(payload, name)
        elif name is not None or record.status != RECORD_STATUS_RETRACTED:
            problem = f"the payload of this type is `{record.record_type}`"
            yield Finding("TYPE_MISMATCH", name or record.record_type, problem)

    def _subject(self, record: Record) -> Iterator[Finding]:
        if record.subject.uscc:
            if wrong := _problem_of_uscc(record.subject.uscc):
                yield Finding("USCC_MALFORMED", "subject.uscc", wrong)
        elif not record.subject.subject_id and not (
            record.hint.name or record.hint.registration_number
        ):
            problem = "missing: say whom the record is about, or what is known of it by `hint`"
            yield Finding("FIELD_INVALID", "subject", problem)

    def _dates(self, record: Record) -> Iterator[Finding]:
        first: date | None = None
        if record.WhichOneof("occurred") == "date":
            first = _day(record.date)
            yield from _past("date", first, self._today)
        elif record.WhichOneof("occurred") == "period":
            first, last = _day(getattr(record.period, "from")), _day(record.period.to)
            yield from _past("period.from", first, self._today)
            yield from _past("period.to", last, self._month_end)
            if first and last and last < first:
                yield Finding("DATE_INVALID", "period.to", "the period ends before it begins")
        if not record.HasField("obtained_at"):
            return
        try:
            obtained = record.obtained_at.ToDatetime(UTC)
        except (ValueError, OverflowError):
            yield Finding("DATE_INVALID", "obtained_at", "no such time")
            return
        if obtained > self._latest:
            problem = "lies in the future: check the clock"
            yield Finding("DATE_IN_FUTURE", "obtained_at", problem)
        elif first and obtained.astimezone(CHINA).date() < first:
            yield Finding("DATE_INVALID", "obtained_at", "obtained before it happened")

    def _coded(self, payload: Message, name: str) -> Iterator[Finding]:
        for path, codes in self._codes[name]:
            for text in _texts(payload, path.split(".")):
                if text and text not in codes:
                    choices = ", ".join(sorted(codes))
                    problem = f"not among the codes {choices}: correct it, or map it by `codes`"
                    yield Finding("CODE_UNKNOWN", f"{name}.{path}", problem)


def _day(day: Date) -> date | None:
    try:
        return date(day.year, day.month, day.day)
    except ValueError:
        return None


def _past(path: str, day: date | None, latest: date) -> Iterator[Finding]:
    if day is None:
        yield Finding("DATE_INVALID", path, "there is no such day: correct it")
    elif day > latest:
        yield Finding("DATE_IN_FUTURE", path, "lies in the future: correct it")


@lru_cache(1 << 16)
def _problem_of_uscc(code: str) -> str:
    try:
        check_uscc(code)
    except UsccError as error:
        return str(error)
    return ""


def _amounts(message: Message, path: str) -> Iterator[Finding]:
    for descriptor, value in message.ListFields():
        here = f"{path}.{descriptor.name}"
        if isinstance(value, Money):
            if not value.currency_code:
                yield Finding("CURRENCY_MISSING", here, "no currency: name it")
            elif value.currency_code != "CNY":
                yield Finding("CURRENCY_UNSUPPORTED", here, "not CNY: convert it at the source")
            if value.nanos % _NANOS_OF_A_FEN:
                yield Finding("AMOUNT_INVALID", here, "more than two decimals: round at the source")
        elif descriptor.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _amounts(part, here)


def _texts(message: Any, path: Sequence[str]) -> Iterator[str]:
    value = getattr(message, path[0])
    for part in [value] if isinstance(value, str | Message) else value:
        if isinstance(part, Message) and len(path) > 1:
            yield from _texts(part, path[1:])
        elif isinstance(part, str):
            yield part


def _problem(violation: Any) -> str:
    if violation.rule_id == "required" or violation.message == "must be at least 1 characters":
        return "missing: fill it in, or map it"
    return str(violation.message)


def _path(violation: Any) -> str:
    path = ""
    for element in violation.field.elements if violation.field else ():
        path += f".{element.field_name}" if path else element.field_name
        if element.subscript and element.subscript.field == "index":
            path += f"[{element.subscript.value}]"
    return path


@dataclass
class ColumnReport:
    """What was found in one column.

    Args:
        column: its name; `(row)` stands for what is wrong with no column of the file.
        field: the field that it fills.
        filled: rows that have something in it.
        empty: rows that have not.
        converted: filled rows that nothing is wrong with here.
        failed: rows that something is wrong with here.
        examples: the first of them, and what.
    """

    column: str
    field: str
    filled: int = 0
    empty: int = 0
    converted: int = 0
    failed: int = 0
    examples: list[tuple[int, str]] = attribute(default_factory=list)


@dataclass
class CheckReport:
    """What was found in a file.

    Args:
        rows: how many it has.
        good: those that can be sent.
        columns: what was found in each.
        bad: why the others cannot be, by number of the row.
    """

    rows: int
    good: int
    columns: list[ColumnReport]
    bad: dict[int, Reject]


def check(source: Source, rules: Rules, advance: Callable[[int], None]) -> CheckReport:
    """Go through all rows of a source.

    Args:
        source: what is checked.
        rules: what holds.
        advance: told of the size of every row.
    """
    columns = [ColumnReport(name, path) for name, path in source.columns]
    whole = ColumnReport(_WHOLE_RECORD, "")
    bad: dict[int, Reject] = {}
    filled: Counter[int] = Counter()
    interned: dict[Reject, Reject] = {}
    for row in source.rows():
        advance(row.size)
        filled[row.filled] += 1
        findings = list(_findings(row, rules))
        if findings:
            reject = rejected(findings)
            bad[row.number] = interned.setdefault(reject, reject)
            _count(row, findings, columns, whole)
    rows = filled.total()
    for index, report in enumerate(columns):
        report.filled = sum(count for bits, count in filled.items() if bits >> index & 1)
        report.empty = rows - report.filled
        report.converted += report.filled
    shown = [*columns, whole] if whole.failed or not columns else columns
    if not columns:
        whole.filled, whole.converted = rows, rows - whole.failed
    return CheckReport(rows, rows - len(bad), shown, bad)


def unread(row: Row) -> list[Finding]:
    """Return what of a row cannot be read."""
    return [Finding(UNREADABLE, problem.field, problem.problem) for problem in row.problems]


def _findings(row: Row, rules: Rules) -> Iterator[Finding]:
    yield from unread(row)
    if any(not problem.field for problem in row.problems):
        return  # nothing of the row is known
    paths = [problem.field for problem in row.problems]
    for finding in rules.findings(row.record):
        if not any(_touches(finding.field, path) for path in paths):
            yield finding


def _touches(found: str, path: str) -> bool:
    """Whether what was found is about a field that could not be read, or about what holds it."""
    if found in {"", "occurred"}:
        return True
    return found == path or path.startswith(f"{found}.") or found.startswith(f"{path}.")


def rejected(findings: Sequence[Finding]) -> Reject:
    """Return why a row is not sent: all that is wrong with it, for one round of mending."""
    fields = "; ".join(dict.fromkeys(finding.field for finding in findings if finding.field))
    if len(findings) == 1:
        return Reject(findings[0].reason, fields, findings[0].problem)
    problems = "; ".join(
        f"{finding.field}: {finding.problem}" if finding.field else finding.problem
        for finding in findings
    )
    return Reject(findings[0].reason, fields, problems)


def _count(
    row: Row, findings: Sequence[Finding], columns: Sequence[ColumnReport], whole: ColumnReport
) -> None:
    touched: dict[int, str] = {}
    for finding in findings:
        at = next(
            (
                index
                for index, column in enumerate(columns)
                if finding.field == column.field or finding.field.startswith(f"{column.field}[")
            ),
            -1,
        )
        problem = finding.problem
        if at == -1 and finding.field:
            problem = f"{finding.field}: {problem}"
        touched.setdefault(at, problem)
    for at, problem in touched.items():
        column = whole if at == -1 else columns[at]
        column.failed += 1
        if at != -1 and row.filled >> at & 1:
            column.converted -= 1
        if len(column.examples) < EXAMPLES:
            column.examples.append((row.number, problem))
