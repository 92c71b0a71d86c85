"""Wanted: what consents make due from providers, and when it no longer is.

Invariants:

- A grant makes an item DUE for each provider and type of its terms that is shared on consent and
  that the provider's kind supplies; withdrawal and revocation END each of them. Time ends them
  without an item: `until` says when.
- Items are told in the order of commit, so that a reader that keeps its cursor misses nothing. What
  is over when it is told late is not told as due.
- What a firm supplies about itself is due from nobody: it needs no consent.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from services.datashare.catalogue.domain import Catalogue, SharingMode
from services.datashare.consent.domain import Consent, Period


class WantedState(StrEnum):
    """Whether something is due: names of `WantedState` without the prefix."""

    DUE = "DUE"
    ENDED = "ENDED"


@dataclass(frozen=True, slots=True)
class Item:
    """What is due from a provider, or no longer is.

    Args:
        state: which of the two.
        provider_id: from whom.
        subject_id: about whom.
        record_type: of which type.
        consent_id: that makes it due.
        period: of occurrence, as the consent says.
        until: the consent ends then by itself.
        since: from when on it is due, or when it ended.
    """

    state: WantedState
    provider_id: str
    subject_id: str
    record_type: str
    consent_id: str
    period: Period
    until: datetime
    since: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """An item in its place.

    Args:
        position: ascending in the order of commit, with gaps.
        item: what it says.
        over: of an item that was due: its consent has been ended since.
    """

    position: int
    item: Item
    over: bool

    def worth_telling(self, now: datetime) -> bool:
        """Tell whether a provider that reads it now has something to do."""
        return not self.over and now < self.item.until


def due(consent: Consent, kinds: Mapping[str, str], catalogue: Catalogue) -> list[Item]:
    """Return what a consent that was just granted makes due.

    Args:
        consent: as granted.
        kinds: by provider, what kind of supplier it is.
        catalogue: the types.
    """
    core, terms = consent.core, consent.core.terms
    begins = consent.changed_at
    if terms.not_before is not None:
        begins = max(begins, terms.not_before)
    on_consent = [
        policy
        for name in sorted(terms.record_types)
        if (policy := catalogue.types.get(name)) and policy.sharing_mode is SharingMode.ON_CONSENT
    ]
    return [
        Item(
            state=WantedState.DUE,
            provider_id=provider_id,
            subject_id=core.subject_id,
            record_type=policy.name,
            consent_id=core.consent_id,
            period=terms.data_period,
            until=terms.expires_at,
            since=begins,
        )
        for provider_id in sorted(kinds)
        for policy in on_consent
        if kinds[provider_id] in policy.provider_kinds
    ]


def ended(items: Iterable[Item], at: datetime) -> list[Item]:
    """Return what tells that items are no longer due."""
    return [replace(item, state=WantedState.ENDED, since=at) for item in items]
