"""What is held about a firm and who may use it, as the firm is told.

Invariants:

- What is told is what counts: of each record the newest version, none that was taken back, none
  that no other reader is shown any more.
- What a withdrawal does is said in one sentence, from the terms of the consent alone.
- Whoever looks at what is held of its firm is noted, with the account for which it does, before
  anything is told. It is no enquiry: only the firm is told of it, and nothing counts it.
- Nothing is held in secret: where the content of records is kept to who supplied them, it is told
  that there are such records, whose they are, and why no more is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from services.datashare.access.domain import Recorded
from services.datashare.catalogue.domain import Catalogue, RecordType, SharingMode, Text
from services.datashare.consent.domain import Consent, Mode
from services.datashare.disputes.domain import Dispute
from services.datashare.log.domain import Json, rfc3339


@dataclass(frozen=True, slots=True)
class Held:
    """What one provider has supplied of one type.

    Args:
        record_type: the type.
        provider_id: who supplied it.
        records: how many count.
        first: first day of their occurrence.
        last: last day of their occurrence.
        received_at: when the latest came in.
    """

    record_type: str
    provider_id: str
    records: int
    first: date
    last: date
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Holding:
    """What one provider has supplied of one type, with names and policy."""

    held: Held
    policy: RecordType
    provider_name: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A consent in force.

    Args:
        consent: as it stands.
        recipient_name: as registered.
        effect: what withdrawing it does.
    """

    consent: Consent
    recipient_name: str
    effect: Text


FACTS: Final = "facts"
RECORDS: Final = "records"


@dataclass(frozen=True, slots=True)
class View:
    """That an account of a firm looked at what is held about it.

    Args:
        subject_id: the firm.
        viewed_at: in which minute, so that no caller can fill the table; of records that in which
            their list was begun.
        participant_id: the account.
        what: `FACTS`, `RECORDS`, or the type of records.
        principal_id: the representative's account, for which it looked.
    """

    subject_id: str
    viewed_at: datetime
    participant_id: str
    what: str
    principal_id: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything on one page.

    Args:
        subject_id: the firm.
        read_at: the time of reading, at which all of it was so.
        holdings: by type and provider.
        accesses: the latest.
        releases: how many there are.
        refusals: how many there are.
        consents: in force, newest first.
        disputes: open ones, soonest due first.
        views: by accounts of the firm, the latest, this one included.
    """

    subject_id: str
    read_at: datetime
    holdings: Sequence[Holding]
    accesses: Sequence[Recorded]
    releases: int
    refusals: int
    consents: Sequence[Standing]
    disputes: Sequence[Dispute]
    views: Sequence[View]


@dataclass(frozen=True, slots=True)
class HeldRecord:
    """A record as it came.

    Args:
        provider_id: who supplied it.
        record_type: its type.
        provider_record_id: the provider's own id.
        version: the newest.
        schema_version: that the payload follows.
        first: first day of its occurrence.
        last: last day of its occurrence.
        obtained_at: by the provider's clock.
        recorded_at: by ours.
        known_at: by which `as_of` selects.
        payload: serialised.
    """

    provider_id: str
    record_type: str
    provider_record_id: str
    version: int
    schema_version: int
    first: date
    last: date
    obtained_at: datetime
    recorded_at: datetime
    known_at: datetime
    payload: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """A record, and what is said against it.

    Args:
        record: as it counts.
        disputes: that are told beside it.
        read_at: the time at which both were read.
    """

    record: HeldRecord
    disputes: Sequence[Dispute]
    read_at: datetime


def minute_of(at: datetime) -> datetime:
    """Return the beginning of a minute."""
    return at.replace(second=0, microsecond=0)


def view_content(view: View) -> Mapping[str, Json]:
    """Return what the leaf of a view attests."""
    return {
        "action": "viewed",
        "at": rfc3339(view.viewed_at),
        "delegate_id": view.participant_id,
        "principal_id": view.principal_id,
        "subject_id": view.subject_id,
        "what": view.what,
    }


def kept_because(policy: RecordType) -> Text:
    """Return why the content of a type's records is not told; empty when it is.

    Args:
        policy: of the type.
    """
    if not policy.kept_to_provider:
        return Text("", "")
    return Text(
        f"此为提供者依{policy.legal_basis}为自身所作的记录，平台仅供其本身查阅，不向贵企业及其他任何人展示内容；"
        "如需了解内容，请向该提供者查询。",
        f"Its supplier made these records for itself ({policy.legal_basis}): the platform shows "
        "their content to nobody else, neither to you nor to another bank. Ask the supplier.",
    )


def effect(consent: Consent, recipient_name: str, catalogue: Catalogue) -> Text:
    """Return what withdrawing a consent does, in a sentence.

    Args:
        consent: in force.
        recipient_name: who loses what it opens.
        catalogue: says which types come in under a consent alone.
    """
    terms = consent.core.terms
    zh = [f"撤回立即生效：{recipient_name}自此不能再凭此授权读取任何数据"]
    en = [f"At once {recipient_name} can read nothing more under this consent"]
    if terms.for_subject_id:
        zh.append(f"企业{terms.for_subject_id}此后的信用评分不再计入您的数据")
        en.append(f"no later score of firm {terms.for_subject_id} counts anything of yours")
    if terms.mode is Mode.STORE:
        days = terms.data_life_days
        zh.append(f"其已留存的数据须在 {days} 天内删除并作出声明")
        en.append(f"what it stored must be erased within {days} days, and it must declare that")
    else:
        zh.append("此前读取的数据只能用于已作出的决定，不得另行留存")
        en.append("what it read before serves the decisions that were made, and is not stored")
    closed = [
        catalogue.type(name).title
        for name in terms.record_types
        if catalogue.type(name).sharing_mode is SharingMode.ON_CONSENT
    ]
    if closed:
        zh.append(f"{'、'.join(each.zh for each in closed)}如无您的其他授权，不再接收")
        names = ", ".join(each.en for each in closed)
        en.append(f"without another consent of yours, no more is taken in of: {names}")
    return Text("；".join(zh) + "。", "; ".join(en) + ".")
