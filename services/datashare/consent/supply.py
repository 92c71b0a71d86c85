"""What may come in on consent: a row of a type that is shared on consent needs one that stands.

Invariants:

- A row comes in only while a consent is active that names its provider and type, and whose period
  holds the row's occurrence. What a firm supplies about itself needs none.
- A retraction without payload needs none: it says nothing about the firm, and taking back what
  should not be there must stay possible.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from services.datashare.consent.domain import Consent, Period, State, state_at

CONSENT_REQUIRED: Final = (
    "CONSENT_REQUIRED",
    "record_type",
    "the firm allows you nothing of this type: supply what StreamWanted says is due",
)
# The further down, the closer is a consent to covering the row.
_REASONS: Final = (
    CONSENT_REQUIRED,
    (
        "TYPE_NOT_CONSENTED",
        "record_type",
        "the firm's consent does not name this type from you: StreamWanted says what is due",
    ),
    (
        "CONSENT_WITHDRAWN",
        "record_type",
        "the firm withdrew its consent: stop supplying this about it",
    ),
    (
        "CONSENT_REVOKED",
        "record_type",
        "the firm's consent was revoked: stop supplying this about it",
    ),
    (
        "CONSENT_SUPERSEDED",
        "record_type",
        "a later version of the firm's consent is active, which does not cover this: supply what "
        "StreamWanted says is due",
    ),
    (
        "CONSENT_EXPIRED",
        "record_type",
        "the time of the firm's consent is over: wait until StreamWanted says that it is due again",
    ),
    (
        "CONSENT_PAUSED",
        "record_type",
        "the firm's consent is paused: send it once the firm lets it go on",
    ),
    (
        "CONSENT_NOT_YET_VALID",
        "record_type",
        "the time of the firm's consent has not begun: send it once it has, as StreamWanted says",
    ),
    (
        "PERIOD_NOT_CONSENTED",
        "occurred",
        "the firm's consent does not hold all of this period: send what lies within it",
    ),
)
_NEVER_GRANTED: Final = (
    State.REQUESTED,
    State.PARTIALLY_APPROVED,
    State.REJECTED,
    State.LAPSED,
)
_RANK: Final = {reason[0]: rank for rank, reason in enumerate(_REASONS)}


def why_not(
    consents: Iterable[Consent],
    provider_id: str,
    record_type: str,
    occurred: Period,
    now: datetime,
) -> tuple[str, str, str] | None:
    """Return why a row may not come in, or None when a consent covers it.

    Args:
        consents: of the row's subject.
        provider_id: whose row it is.
        record_type: a type that is shared on consent.
        occurred: when what it says happened.
        now: the time at which a consent must stand.

    Returns:
        Reason, field and message: by the consent that comes closest.
    """
    closest = 0
    for consent in consents:
        reason = _reason(consent, provider_id, record_type, occurred, now)
        if not reason:
            return None
        closest = max(closest, _RANK[reason])
    return _REASONS[closest]


def _reason(
    consent: Consent, provider_id: str, record_type: str, occurred: Period, now: datetime
) -> str:
    terms = consent.core.terms
    state = state_at(consent, now)
    if provider_id not in terms.provider_ids or state in _NEVER_GRANTED:
        return "CONSENT_REQUIRED"
    if record_type not in terms.record_types:
        return "TYPE_NOT_CONSENTED"
    if state is not State.ACTIVE:
        return f"CONSENT_{state}"
    if terms.not_before is not None and now < terms.not_before:
        return "CONSENT_NOT_YET_VALID"
    return "" if terms.data_period.covers(occurred) else "PERIOD_NOT_CONSENTED"
