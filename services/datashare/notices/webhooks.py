"""Webhooks: where a party has its notices posted, how they are signed, when they are tried again.

Invariants:

- A party has one webhook at most. Notices are posted one by one in their order, each until it was
  taken, so the webhook's position is behind the last that was.
- What fails is tried again after a time that doubles, with jitter; after `PARK_AFTER` without a
  success nothing is sent until somebody resumes it. Nothing is lost either way.
- A notice is signed as Standard Webhooks says, under a secret that its party alone was shown. It
  names what happened by ids and codes: no sentence, no name.
"""

import base64
import hmac
import ipaddress
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from services.datashare.notices.domain import Entry
from services.kit.errors import InvalidArgumentError, invalid_field

SECRET_BYTES: Final = 32
FIRST_DELAY: Final = timedelta(seconds=5)
LONGEST_DELAY: Final = timedelta(hours=1)
PARK_AFTER: Final = timedelta(days=1)
"""How long a webhook may fail, without a success, before it is parked."""
PARK_FAILURES: Final = 10
"""And how often at least: a pause of datashare itself is nobody's failure."""

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4: Final = ipaddress.IPv6Network("2002::/16")
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""All of IPv6 that is assigned to hosts of the internet; what carries an IPv4 address is apart."""


class WebhookState(StrEnum):
    """Whether something is sent: names of `puhui.datashare.v1.WebhookState` without the prefix."""

    ACTIVE = "ACTIVE"
    PARKED = "PARKED"


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where a party's notices are posted.

    Args:
        party_id: whose.
        participant_id: who set it.
        url: the address.
        secret: signs.
        since: when it was set.
        position: of the last notice that was taken.
        next_attempt_at: when the next one may be posted.
        state: whether something is sent.
        failures: in a row.
        failing_since: when the first of them was.
        last_failure: why the last one failed.
    """

    party_id: str
    participant_id: str
    url: str
    secret: bytes
    since: datetime
    position: int
    next_attempt_at: datetime
    state: WebhookState = WebhookState.ACTIVE
    failures: int = 0
    failing_since: datetime | None = None
    last_failure: str = ""


class PostError(Exception):
    """A notice was not taken; the message says why, without the address."""


def check_url(url: str, *, private: bool) -> None:
    """Check what can be seen in an address; where it leads is looked at with each delivery.

    Args:
        url: as given.
        private: whether receivers on private addresses are allowed, and on loopback by http.

    Raises:
        InvalidArgumentError: FIELD_INVALID.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _bad_url("is no address: send https://host/path") from None
    if not host or port == 0 or not url.isascii() or not url.isprintable() or " " in url:
        raise _bad_url("is no address: send https://host/path, in ASCII")
    if parts.username is not None or parts.fragment:
        raise _bad_url("must have neither a user name nor a fragment")
    address = _address(host)
    if parts.scheme != "https" and not (
        parts.scheme == "http" and private and address is not None and address.is_loopback
    ):
        raise _bad_url("must begin with https://")
    if address is not None and not may_reach(address, private=private):
        raise _bad_url("is on a private address: notices are only posted to public ones")


def may_reach(address: IpAddress, *, private: bool) -> bool:
    """Tell whether a delivery may connect to an address.

    Args:
        address: to which the host's name leads.
        private: whether private ones are allowed.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return may_reach(address.ipv4_mapped, private=private)
        if address in _NAT64:
            return may_reach(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF), private=private)
        if not private and (address not in _UNICAST or address in _6TO4):
            return False
    if address.is_multicast or address.is_unspecified:
        return False
    # Link-local ones are where clouds answer with a machine's credentials.
    return address.is_global or (private and not address.is_link_local)


def is_put_off(attempt_at: datetime, now: datetime) -> bool:
    """Tell whether to wait until a time before the next attempt.

    Nothing is put off for longer than `LONGEST_DELAY`: such a time is of a clock that was set back.
    """
    return now < attempt_at <= now + LONGEST_DELAY


def taken(webhook: Webhook, position: int, now: datetime) -> Webhook:
    """Return a webhook after notices up to a position were taken."""
    return replace(
        webhook,
        position=position,
        next_attempt_at=now,
        failures=0,
        failing_since=None,
        last_failure="",
    )


def failed(webhook: Webhook, why: str, now: datetime, uniform: Callable[[], float]) -> Webhook:
    """Return a webhook after a failure.

    Args:
        webhook: as it was.
        why: as `PostError` says.
        now: the time.
        uniform: gives a number from 0 up to 1.
    """
    failures = webhook.failures + 1
    since = webhook.failing_since or now
    parked = failures >= PARK_FAILURES and now - since >= PARK_AFTER
    delay = min(FIRST_DELAY * 2 ** min(failures - 1, 20), LONGEST_DELAY)
    return replace(
        webhook,
        state=WebhookState.PARKED if parked else WebhookState.ACTIVE,
        failures=failures,
        failing_since=since,
        last_failure=why,
        next_attempt_at=now + delay * (0.5 + uniform() / 2),
    )


def parked(webhook: Webhook, why: str) -> Webhook:
    """Return a webhook to which nothing is sent until it is resumed."""
    return replace(webhook, state=WebhookState.PARKED, last_failure=why)


def resumed(webhook: Webhook, now: datetime) -> Webhook:
    """Return a webhook that goes on at once, with what waited."""
    return replace(
        webhook,
        state=WebhookState.ACTIVE,
        failures=0,
        failing_since=None,
        last_failure="",
        next_attempt_at=now,
    )


def shown_secret(secret: bytes) -> str:
    """Return a secret as its party is shown it."""
    return "whsec_" + base64.b64encode(secret).decode()


def body_of(entry: Entry) -> bytes:
    """Return what is posted: the notice as the HTTP interface shows it, without sentences."""
    notice = entry.notice
    said = {
        "subjectId": notice.subject_id,
        "consentId": notice.consent_id,
        "disputeId": notice.dispute_id,
        "recordType": notice.record_type,
        "participantId": notice.participant_id,
        "mandateId": notice.mandate_id,
        "incidentId": notice.incident_id,
        "dueAt": _stamp(notice.due_at) if notice.due_at else "",
    }
    data: dict[str, Any] = {
        "noticeId": entry.notice_id,
        "kind": f"NOTICE_KIND_{notice.kind}",
        "occurredAt": _stamp(notice.occurred_at),
        **{name: value for name, value in said.items() if value},
    }
    document = {
        "type": notice.kind.lower().replace("_", ".", 1),
        "timestamp": data["occurredAt"],
        "data": data,
    }
    return json.dumps(document, separators=(",", ":")).encode()


def headers_of(webhook: Webhook, entry: Entry, body: bytes, now: datetime) -> dict[str, str]:
    """Return the headers of Standard Webhooks.

    Args:
        webhook: whose secret signs.
        entry: the notice; its id is the same in every attempt.
        body: what is posted.
        now: the time of this attempt.
    """
    stamp = str(int(now.timestamp()))
    signed = f"{entry.notice_id}.{stamp}.".encode() + body
    signature = base64.b64encode(hmac.digest(webhook.secret, signed, "sha256")).decode()
    return {
        "content-type": "application/json",
        "webhook-id": entry.notice_id,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{signature}",
    }


def _address(host: str) -> IpAddress | None:
    if host == "localhost":
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _bad_url(problem: str) -> InvalidArgumentError:
    return invalid_field("FIELD_INVALID", "url", problem)


def _stamp(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
