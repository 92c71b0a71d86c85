"""What may be asked for: terms that name what is there, within the ceilings of their purpose.

Invariant: a refusal names every field at fault, whatever is wrong with each.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from services.datashare.catalogue.domain import Catalogue, ContentLevel, Purpose, RecordType
from services.datashare.consent.domain import Consent, Mode, Terms, refusal
from services.datashare.participants.domain import Participant, Role
from services.datashare.quota.domain import Limit, Unit
from services.kit.errors import FailedPreconditionError, PuhuiError

# Most of the shorter unit that a longer one can hold.
_WITHIN: Final[Mapping[tuple[Unit, Unit], int]] = {
    (Unit.DAY, Unit.MONTH): 31,
    (Unit.DAY, Unit.YEAR): 366,
    (Unit.MONTH, Unit.YEAR): 12,
}


def nameable(
    people: Collection[Participant],
    record_types: Collection[str],
    catalogue: Catalogue,
    *,
    subject_id: str,
    recipient_id: str,
) -> set[str]:
    """Return whom terms may name as providers.

    Args:
        people: participants.
        record_types: the types of the terms.
        catalogue: the types there are.
        subject_id: the firm's; it may be named where it supplies one of the types about itself.
        recipient_id: the bank; it may be named where it supplies one of the types.
    """
    kinds: set[str] = set()
    for name in record_types:
        if name in catalogue.types:
            kinds |= catalogue.types[name].provider_kinds
    return {
        person.participant_id
        for person in people
        if person.role is Role.PROVIDER
        or (
            person.supplies_as in kinds
            and (person.subject_id == subject_id or person.participant_id == recipient_id)
        )
    }


def check_terms(
    terms: Terms,
    now: datetime,
    catalogue: Catalogue,
    known_providers: Collection[str],
    recipient_id: str,
    known_recipients: Collection[str] = (),
    *,
    subject_id: str = "",
    known_subjects: Collection[str] = (),
) -> None:
    """Refuse terms that name what is not there, make no sense, or ask for too much.

    Args:
        terms: lists in the order in which they were sent.
        now: the time of the request.
        catalogue: the types and purposes there are.
        known_providers: those of `terms.provider_ids` that may be named.
        recipient_id: the bank that asks.
        known_recipients: those of `terms.onward_recipient_ids` that may be named.
        subject_id: the firm that is asked.
        known_subjects: `terms.for_subject_id` where there is such a subject.

    Raises:
        InvalidArgumentError: PURPOSE_UNKNOWN, TYPE_UNKNOWN, FIELD_INVALID or CONSENT_OVER_CEILING,
            by the first that applies, naming every field at fault.
    """
    purpose = catalogue.purposes.get(terms.purpose)
    begins = now if terms.not_before is None else terms.not_before
    problems: dict[str, dict[str, str]] = {
        "PURPOSE_UNKNOWN": {}
        if purpose
        else {"terms.purpose": "is not in the table of purposes: ListPurposes names them"},
        "TYPE_UNKNOWN": {
            f"terms.record_types[{index}]": "is not in the catalogue: ListRecordTypes names its "
            "types"
            for index, name in enumerate(terms.record_types)
            if name not in catalogue.types
        },
        "FIELD_INVALID": {
            **_parties(terms, catalogue, known_providers, recipient_id, known_recipients),
            **_fields(terms, catalogue),
            **_other_firm(terms, purpose, subject_id, known_subjects),
        },
        "CONSENT_OVER_CEILING": {},
    }
    if terms.expires_at <= max(begins, now):
        problems["FIELD_INVALID"]["terms.expires_at"] = "must be after now and after not_before"
    if terms.data_life_days and terms.mode is not Mode.STORE:
        problems["FIELD_INVALID"]["terms.data_life_days"] = (
            "must be 0 unless the mode is STORE: what is only viewed is not kept"
        )
    if purpose is not None:
        if begins - now > timedelta(days=purpose.max_days):
            problems["FIELD_INVALID"]["terms.not_before"] = (
                f"lies more than {purpose.max_days} days ahead, longer than a consent for this "
                "purpose may run: ask when it is nearer"
            )
        problems["CONSENT_OVER_CEILING"] = over_ceiling(terms, begins, purpose)
    at_fault: dict[str, str] = {}
    for found in problems.values():
        for name, problem in found.items():
            at_fault.setdefault(name, problem)
    for reason, found in problems.items():
        if found:
            raise refusal(reason, at_fault)


def over_ceiling(terms: Terms, begins: datetime, purpose: Purpose) -> dict[str, str]:
    """Return what of the terms is beyond the ceilings of a purpose: problems by field.

    Args:
        terms: a limit that is not set is that of the purpose.
        begins: when they begin to hold.
        purpose: theirs.
    """
    over = {}
    if terms.expires_at - begins > timedelta(days=purpose.max_days):
        over["terms.expires_at"] = f"is beyond the purpose's ceiling of {purpose.max_days} days"
    if terms.content_level > purpose.max_content_level:
        most = purpose.max_content_level.name
        over["terms.content_level"] = f"is beyond the purpose's ceiling, {most}"
    if (terms.data_period.last - terms.data_period.first).days >= purpose.max_data_days:
        over["terms.data_period"] = (
            f"is longer than the purpose's ceiling of {purpose.max_data_days} days"
        )
    if terms.fetch_limit is not None and not _within(terms.fetch_limit, purpose.max_fetches):
        most_often = purpose.max_fetches
        over["terms.fetch_limit"] = (
            f"may allow more than the purpose's ceiling of {most_often.times} a "
            f"{str(most_often.unit).lower()}"
        )
    return over


def ceiling_lowered(consent: Consent, purpose: Purpose) -> PuhuiError | None:
    """Return why a consent allows nothing though it was granted, or None when it does.

    The table of purposes may have changed since the request; the lower ceiling holds at once. A
    consent of version 1 was granted without ceilings of range and frequency.

    Args:
        consent: that holds otherwise.
        purpose: its purpose, as the table has it now.
    """
    if consent.core.schema_version == 1:
        return None
    terms = consent.core.terms
    if not over_ceiling(terms, terms.not_before or consent.requested_at, purpose):
        return None
    return FailedPreconditionError(
        "CONSENT_OVER_CEILING",
        "the purpose's ceiling is lower now than what the consent allows: ask for a new consent "
        "within it, ListPurposes says what it is",
    )


def _within(limit: Limit, ceiling: Limit) -> bool:
    """Tell whether a limit never allows more in a unit of the ceiling than the ceiling does."""
    if limit.unit is None or ceiling.unit is None:
        return limit.times <= ceiling.times
    # Of a longer unit all may be used within one of the shorter.
    return limit.times * _WITHIN.get((limit.unit, ceiling.unit), 1) <= ceiling.times


def _parties(
    terms: Terms,
    catalogue: Catalogue,
    known_providers: Collection[str],
    recipient_id: str,
    known_recipients: Collection[str],
) -> dict[str, str]:
    problems = {
        f"terms.provider_ids[{index}]": "is no registered provider: ListParticipants names them"
        for index, provider_id in enumerate(terms.provider_ids)
        if provider_id not in known_providers
    }
    if recipient_id not in terms.provider_ids:
        problems |= {
            f"terms.record_types[{index}]": "is kept to the institution that supplies it: leave it "
            "out, or name yourself among the providers to read your own"
            for index, name in enumerate(terms.record_types)
            if name in catalogue.types and catalogue.types[name].kept_to_provider
        }
    return problems | {
        f"terms.onward_recipient_ids[{index}]": "is no other registered institution: "
        "ListParticipants names them"
        for index, onward_id in enumerate(terms.onward_recipient_ids)
        if onward_id not in known_recipients or onward_id == recipient_id
    }


def _other_firm(
    terms: Terms, purpose: Purpose | None, subject_id: str, known_subjects: Collection[str]
) -> dict[str, str]:
    other = terms.for_subject_id
    problem = ""
    if purpose is not None and not purpose.for_another_firm:
        if other:
            problem = "must be empty: the purpose is about the subject alone"
    elif purpose is not None and not other:
        problem = "is needed for this purpose: name the firm whose score the data may enter"
    elif other and other == subject_id:
        problem = "is the subject itself: name the firm that it owns, guarantees or buys from"
    elif other and other not in known_subjects:
        problem = "is no subject of the platform: ResolveSubject gives the id of a firm"
    return {"terms.for_subject_id": problem} if problem else {}


def _fields(terms: Terms, catalogue: Catalogue) -> dict[str, str]:
    problems = {}
    seen: set[str] = set()
    for index, part in enumerate(terms.fields):
        where = f"terms.fields[{index}]"
        if part.record_type not in terms.record_types:
            problems[f"{where}.record_type"] = "is not among record_types: name it there too"
        elif part.record_type in seen:
            problems[f"{where}.record_type"] = "was named before: put all its names in one place"
        elif part.record_type in catalogue.types:
            known = frozenset(_names(catalogue.types[part.record_type], terms.content_level))
            problems |= {
                f"{where}.names[{position}]": "is none that the type has at this content level: "
                "GetRecordType names them"
                for position, name in enumerate(part.names)
                if name not in known
            }
        seen.add(part.record_type)
    return problems


def _names(kind: RecordType, level: ContentLevel) -> Iterator[str]:
    """Give what can be selected of a type: each level includes the ones below it."""
    yield from kind.attributes
    if level >= ContentLevel.SUMMARY:
        yield from (measure.name for measure in kind.measures)
    if level >= ContentLevel.TRANSACTIONS:
        yield from (part.name for part in kind.fields)
