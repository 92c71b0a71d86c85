"""Where parties are told: webhooks, and the contacts of firms.

For a firm its representative settles this, and nobody whom it appointed. What was settled once is
not settled again by the same call sent again, so an address of before does not come back.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit, urlunsplit

from services.datashare.idempotency.app import Requests
from services.datashare.idempotency.domain import RequestKey, require_same
from services.datashare.mandates.acting import HeldMandates
from services.datashare.mandates.domain import Power, require_power
from services.datashare.notices.contacts import Contact, Way, check_contact, free_at
from services.datashare.notices.webhooks import (
    SECRET_BYTES,
    Webhook,
    check_url,
    resumed,
)
from services.datashare.participants.domain import Role
from services.kit.clock import Clock
from services.kit.errors import AlreadyExistsError, NotFoundError, PermissionDeniedError
from services.kit.identity import Caller
from services.kit.transactions import Transactions


class Webhooks(Protocol):
    """Where notices are posted."""

    async def set(self, added: Webhook) -> None:
        """Add a party's webhook, or put it in the place of the one before."""
        ...

    async def lock(self, party_id: str) -> Webhook | None:
        """Return a party's webhook, which nobody else changes until the end."""
        ...

    async def update(self, changed: Webhook) -> None:
        """Write the state of a locked webhook."""
        ...

    async def remove(self, party_id: str) -> None:
        """Take a party's webhook away."""
        ...

    async def page(
        self, party_id: str | None, after: tuple[str, str] | None, limit: int
    ) -> Sequence[tuple[Webhook, int]]:
        """Return webhooks with how many notices wait, parked ones first."""
        ...


class Contacts(Protocol):
    """Where firms are told."""

    async def set(self, added: Contact) -> None:
        """Add a firm's contact, or put it in the place of the one before."""
        ...

    async def get(self, subject_id: str) -> Contact | None:
        """Return a firm's contact."""
        ...

    async def page(self, after: str, limit: int) -> Sequence[Contact]:
        """Return contacts of which an address or a number is parked, by subject_id."""
        ...


class Notices(Protocol):
    """What parties are told."""

    async def acknowledged(self, party_id: str) -> int:
        """Return the position up to which a party has dealt with its notices; 0 is none."""
        ...

    async def last(self, party_id: str) -> int:
        """Return the position of a party's newest notice; 0 is none."""
        ...


class Work(Protocol):
    """What settling needs in a transaction."""

    @property
    def requests(self) -> Requests:
        """The request ids that were used."""
        ...

    @property
    def webhooks(self) -> Webhooks:
        """Where notices are posted."""
        ...

    @property
    def contacts(self) -> Contacts:
        """Where firms are told."""
        ...

    @property
    def notices(self) -> Notices:
        """What parties are told."""
        ...

    @property
    def mandates(self) -> HeldMandates:
        """Who speaks for which firm."""
        ...


class Shown(NamedTuple):
    """A webhook as it is shown.

    Args:
        webhook: the webhook; to others than its party without what follows the host.
        waiting: notices that wait.
    """

    webhook: Webhook
    waiting: int


class SettleWebhooks:
    """Where notices are posted.

    Args:
        transactions: opens transactions.
        clock: the time.
        random_bytes: makes secrets.
        private: whether receivers on private addresses are allowed.
    """

    def __init__(
        self,
        transactions: Transactions[Work],
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        *,
        private: bool,
    ) -> None:
        self._transactions = transactions
        self._clock = clock
        self._random_bytes = random_bytes
        self._private = private

    async def set(self, caller: Caller, key: RequestKey, url: str) -> Shown:
        """Have notices posted to an address, in the place of any other.

        It begins behind what was posted before, else behind what was acknowledged.

        Raises:
            InvalidArgumentError: FIELD_INVALID.
            AlreadyExistsError: REQUEST_ID_REUSED, also of the same call, as its secret was shown.
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        check_url(url, private=self._private)
        now = self._clock.now()
        async with self._transactions.begin() as work:
            party_id = await _settling(work.mandates, caller, self._clock)
            if not await _is_new(work, key, now):
                raise AlreadyExistsError(
                    "REQUEST_ID_REUSED",
                    "this webhook was set and its secret is shown once: set it with a new "
                    "request_id if the secret was lost",
                )
            before = await work.webhooks.lock(party_id)
            position = before.position if before else await work.notices.acknowledged(party_id)
            webhook = Webhook(
                party_id=party_id,
                participant_id=caller.participant_id,
                url=url,
                secret=self._random_bytes(SECRET_BYTES),
                since=now,
                position=position,
                next_attempt_at=now,
            )
            await work.webhooks.set(webhook)
            return await _shown(work, party_id)

    async def remove(self, caller: Caller, key: RequestKey) -> None:
        """Have nothing posted any more.

        Raises:
            AlreadyExistsError: REQUEST_ID_REUSED.
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        async with self._transactions.begin() as work:
            party_id = await _settling(work.mandates, caller, self._clock)
            if await _is_new(work, key, self._clock.now()):
                await work.webhooks.remove(party_id)

    async def resume(self, caller: Caller, key: RequestKey) -> Shown:
        """Let a webhook go on at once, with what waited.

        Raises:
            AlreadyExistsError: REQUEST_ID_REUSED.
            NotFoundError: NOT_FOUND.
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        async with self._transactions.begin() as work:
            party_id = await _settling(work.mandates, caller, self._clock)
            found = await work.webhooks.lock(party_id)
            if found is None:
                raise NotFoundError("NOT_FOUND", "there is no webhook: set one")
            if await _is_new(work, key, self._clock.now()):
                # Its account may have changed since: from now on it is the one that resumed it.
                webhook = replace(found, participant_id=caller.participant_id)
                await work.webhooks.set(resumed(webhook, self._clock.now()))
            return await _shown(work, party_id)

    async def list(
        self, caller: Caller, after: tuple[str, str] | None, page_size: int
    ) -> tuple[Sequence[Shown], tuple[str, str] | None]:
        """Return a page of webhooks, parked ones first, and behind what the next one begins.

        Args:
            caller: the operator sees all, everybody else its own.
            after: state and party behind which the page begins; None is the first page.
            page_size: most webhooks.

        Raises:
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        async with self._transactions.read() as work:
            party_id: str | None = caller.participant_id
            if caller.role == Role.FIRM:
                mandate = await work.mandates.get(caller.participant_id)
                party_id = require_power(mandate, Power.READ, self._clock.now()).subject_id
            if caller.role == Role.OPERATOR:
                party_id = None
            found = await work.webhooks.page(party_id, after, page_size + 1)
        page = [Shown(*each) for each in found[:page_size]]
        if party_id is None:
            page = [Shown(_without_secrets(webhook), waiting) for webhook, waiting in page]
        last = page[-1].webhook if len(found) > page_size else None
        return page, (last.state, last.party_id) if last else None


class SettleContacts:
    """Where a firm is told by mail and text message.

    Args:
        transactions: opens transactions.
        clock: the time.
    """

    def __init__(self, transactions: Transactions[Work], clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    async def set(
        self, caller: Caller, key: RequestKey, email: str, mobile: str, language: str
    ) -> Contact:
        """Set a firm's contact; without address and number it is told nothing more.

        What happened before an address was first set is not told there; what waited while it was
        parked is.

        Raises:
            InvalidArgumentError: FIELD_INVALID.
            AlreadyExistsError: REQUEST_ID_REUSED.
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        check_contact(email, mobile)
        now = self._clock.now()
        async with self._transactions.begin() as work:
            subject_id = await _settling(work.mandates, caller, self._clock)
            before = await work.contacts.get(subject_id)
            if not await _is_new(work, key, now) and before is not None:
                return before
            last = await work.notices.last(subject_id)
            mail = _way(before.mail if before else Way(), email, last)
            text = _way(before.text if before else Way(), mobile, last)
            contact = Contact(
                subject_id=subject_id,
                participant_id=caller.participant_id,
                language=language or "zh",
                position=min((way.position for way in (mail, text) if way.to), default=last),
                window_at=before.window_at if before else now,
                next_attempt_at=now,
                mail=mail,
                text=text,
                messages=before.messages if before else 0,
            )
            contact = replace(contact, next_attempt_at=free_at(contact, now))
            await work.contacts.set(contact)
        return contact

    async def get(self, caller: Caller) -> Contact | None:
        """Return a firm's contact.

        Raises:
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        async with self._transactions.read() as work:
            mandate = await work.mandates.get(caller.participant_id)
            held = require_power(mandate, Power.READ, self._clock.now())
            return await work.contacts.get(held.subject_id)

    async def parked(self, after: str, page_size: int) -> tuple[Sequence[Contact], str]:
        """Return a page of contacts of which something is parked, and where the next begins or "".

        Args:
            after: the subject_id behind which the page begins; "" is the first page.
            page_size: most contacts.
        """
        async with self._transactions.read() as work:
            found = await work.contacts.page(after, page_size + 1)
        page = found[:page_size]
        return page, page[-1].subject_id if len(found) > page_size else ""


def _way(before: Way, to: str, last: int) -> Way:
    """Return an address or number as it is set, in the place of the one before."""
    if not to:
        return Way()
    return Way(to, before.position if before.to else last)


async def _is_new(work: Work, key: RequestKey, now: datetime) -> bool:
    """Tell whether a call did not happen before.

    Raises:
        AlreadyExistsError: REQUEST_ID_REUSED.
    """
    stored = await work.requests.claim(key, now)
    if stored is None:
        await work.requests.complete(key, b"")
        return True
    require_same(key, stored.fingerprint)
    return False


async def _settling(mandates: HeldMandates, caller: Caller, clock: Clock) -> str:
    """Return the party for which a caller settles where it is told.

    Raises:
        PermissionDeniedError: MANDATE_REQUIRED.
    """
    if caller.role != Role.FIRM:
        return caller.participant_id
    mandate = await mandates.hold(caller.participant_id)
    held = require_power(mandate, Power.READ, clock.now())
    if not held.is_representative:
        raise PermissionDeniedError(
            "MANDATE_REQUIRED", "only the firm's representative settles where it is told: ask it"
        )
    return held.subject_id


async def _shown(work: Work, party_id: str) -> Shown:
    (shown,) = await work.webhooks.page(party_id, None, 1)
    return Shown(*shown)


def _without_secrets(webhook: Webhook) -> Webhook:
    parts = urlsplit(webhook.url)
    return replace(webhook, url=urlunsplit((parts.scheme, parts.netloc, "", "", "")))
