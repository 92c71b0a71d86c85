"""Posting notices to webhooks, in the background.

Any replica may do it. Whoever does takes a party for `LEASE`, so that nobody else posts for it
meanwhile and its order holds; one that dies is followed by another when that time is over. A turn
ends well before it, whatever a receiver does, and a slow receiver holds up nobody else.
"""

import asyncio
import functools
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol
from urllib.parse import urlsplit

from services.datashare.mandates.acting import Mandates
from services.datashare.mandates.domain import Power, allows
from services.datashare.notices.domain import Entry
from services.datashare.notices.webhooks import (
    PostError,
    Webhook,
    WebhookState,
    body_of,
    failed,
    headers_of,
    parked,
    taken,
)
from services.kit.clock import Clock
from services.kit.transactions import Transactions

LEASE: Final = timedelta(seconds=30)
TURN_S: Final = 10.0
"""How long a turn goes on to begin posts, seconds; the last ends within the timeout of a post."""
AT_ONCE: Final = 32
"""Parties that are posted to at the same time."""
NOTICES_A_TURN: Final = 50
POLL_S: Final = 1.0


class Webhooks(Protocol):
    """Where notices are posted."""

    async def due(self, now: datetime, limit: int) -> Sequence[str]:
        """Return parties for which something may wait, and be posted."""
        ...

    async def claim(self, party_id: str, now: datetime, until: datetime) -> Webhook | None:
        """Take a party's webhook, if it still is due; nobody else does until that time."""
        ...

    async def rest(self, party_id: str, now: datetime, claimed: datetime) -> None:
        """Let a claimed webhook go, behind which nothing waits; it is due with the next notice.

        In a transaction of its own: who tells the party something holds its turn first.
        """
        ...

    async def save(self, webhook: Webhook, claimed: datetime) -> bool:
        """Write what became of a webhook, unless it was changed since it was claimed."""
        ...


class Notices(Protocol):
    """What parties are told."""

    async def after(self, party_id: str, position: int, limit: int) -> Sequence[Entry]:
        """Return the first `limit` notices of a party behind a position, in their order."""
        ...


class Work(Protocol):
    """What posting needs in a transaction."""

    @property
    def webhooks(self) -> Webhooks:
        """Where notices are posted."""
        ...

    @property
    def notices(self) -> Notices:
        """What parties are told."""
        ...

    @property
    def mandates(self) -> Mandates:
        """Who speaks for which firm."""
        ...


class Post(Protocol):
    """Posts to an address."""

    async def __call__(self, url: str, headers: dict[str, str], body: bytes) -> None:
        """Post; returns when the receiver has taken it.

        Raises:
            PostError: it has not.
        """
        ...


class Report(Protocol):
    """Tells the operator how deliveries go."""

    def delivered(self, notices: int) -> None:
        """Notices were taken."""
        ...

    def failed(self, why: str) -> None:
        """An attempt failed."""
        ...

    def broke_off(self, error: BaseException) -> None:
        """Something that no receiver can be blamed for went wrong."""
        ...

    def parked(self, participant_id: str, host: str, why: str) -> None:
        """A webhook is parked."""
        ...


class Deliver:
    """Posts what waits.

    Args:
        transactions: opens transactions.
        post: posts.
        report: tells the operator.
        clock: the time.
        uniform: gives a number from 0 up to 1, for jitter.
    """

    def __init__(
        self,
        transactions: Transactions[Work],
        post: Post,
        report: Report,
        clock: Clock,
        uniform: Callable[[], float],
    ) -> None:
        self._transactions = transactions
        self._post = post
        self._report = report
        self._clock = clock
        self._uniform = uniform
        self._turns: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Go on for ever."""
        try:
            while True:
                await self._begin()
                await asyncio.sleep(POLL_S)
        finally:
            for turn in self._turns.values():
                turn.cancel()
            await asyncio.gather(*self._turns.values(), return_exceptions=True)

    async def __call__(self) -> None:
        """Go on until nothing is due."""
        while await self._begin():
            await asyncio.gather(*self._turns.values())

    async def _begin(self) -> bool:
        """Begin the turns of parties for which something waits; False where there is none."""
        async with self._transactions.read() as work:
            due = await work.webhooks.due(self._clock.now(), AT_ONCE + len(self._turns))
        for party_id in due:
            if party_id not in self._turns and len(self._turns) < AT_ONCE:
                turn = asyncio.create_task(self._turn(party_id))
                self._turns[party_id] = turn
                turn.add_done_callback(functools.partial(self._ended, party_id))
        return bool(due)

    def _ended(self, party_id: str, turn: "asyncio.Task[None]") -> None:
        del self._turns[party_id]
        # Of a database that cannot be had now: somebody goes on when the lease is over.
        if not turn.cancelled() and (error := turn.exception()):
            self._report.broke_off(error)

    async def _turn(self, party_id: str) -> None:
        """Post some of a party's notices, in their order."""
        now = self._clock.now()
        lease = now + LEASE
        async with self._transactions.begin() as work:
            claimed = await work.webhooks.claim(party_id, now, lease)
            if claimed is None:
                return
            entries = await work.notices.after(party_id, claimed.position, NOTICES_A_TURN)
            if entries and not await _may_be_told(work, claimed, now):
                why = "the account that set it may not read for the firm any more"
                await self._save(work, parked(claimed, why), lease)
                return
        if not entries:
            async with self._transactions.begin() as work:
                await work.webhooks.rest(party_id, now, lease)
            return
        webhook = await self._send(claimed, entries)
        async with self._transactions.begin() as work:
            await self._save(work, webhook, lease)

    async def _send(self, webhook: Webhook, entries: Sequence[Entry]) -> Webhook:
        loop = asyncio.get_running_loop()
        until = loop.time() + TURN_S
        done = 0
        try:
            for entry in entries:
                if loop.time() > until:
                    break
                body = body_of(entry)
                headers = headers_of(webhook, entry, body, self._clock.now())
                await self._post(webhook.url, headers, body)
                webhook = taken(webhook, entry.position, self._clock.now())
                done += 1
        except PostError as error:
            webhook = failed(webhook, str(error), self._clock.now(), self._uniform)
            self._report.failed(str(error))
        if done:
            self._report.delivered(done)
        return webhook

    async def _save(self, work: Work, webhook: Webhook, lease: datetime) -> None:
        if await work.webhooks.save(webhook, lease) and webhook.state is WebhookState.PARKED:
            # What follows the host may be a secret.
            host = urlsplit(webhook.url).hostname or ""
            self._report.parked(webhook.participant_id, host, webhook.last_failure)


async def _may_be_told(work: Work, webhook: Webhook, now: datetime) -> bool:
    """Tell whether who set a webhook still is its party, or may read for it."""
    if webhook.participant_id == webhook.party_id:
        return True
    mandate = await work.mandates.get(webhook.participant_id)
    return allows(mandate, webhook.party_id, Power.READ, now)
