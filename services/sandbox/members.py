"""What operator, providers, firms and a bank do on a platform, many at a time.

Everything goes through the gateway with each participant's own key: there is no other way in.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

from puhui.datashare.v1.consents_pb2 import Consent
from puhui.datashare.v1.records_pb2 import Record
from puhui.scoring.v1.scoring_pb2 import ScoreOrder
from puhui_client import Client, ScoreResult
from puhui_client.platform import RoleName
from services.sandbox.delivery import Provider
from services.sandbox.stages import Advance

T = TypeVar("T")
R = TypeVar("R")

CONCURRENCY = 16
PATIENCE_SECONDS = 60.0
"""For a call among many: it may wait for its turn."""


@dataclass(frozen=True)
class Member:
    """A participant with its key.

    Args:
        participant_id: the platform's id.
        name: as registered.
        api_key: a key of its own.
        subject_id: of a firm, itself as a subject; else empty.
    """

    participant_id: str
    name: str
    api_key: str
    subject_id: str


@dataclass(frozen=True)
class Ask:
    """What a bank asks of firms.

    Args:
        purpose: code of the table of purposes.
        providers: ids of the providers.
        record_types: of the catalogue.
        data_from: first day of the records' occurrence.
        data_to: last day.
        days: how long the consent runs.
    """

    purpose: str
    providers: Sequence[str]
    record_types: Sequence[str]
    data_from: date
    data_to: date
    days: int = 90


@dataclass
class Pushed:
    """What became of everything that was pushed; accepted + duplicate + rejected = sent."""

    sent: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: dict[str, int] = field(default_factory=dict)


class Members:
    """The participants of one platform, and what they do.

    Args:
        gateway: its address, "host:port".
        operator_key: API key of the operator.
    """

    def __init__(self, gateway: str, operator_key: str) -> None:
        self._gateway = gateway
        self._operator_key = operator_key

    def client(self, api_key: str) -> Client:
        """A connection with a key; use it as a context."""
        return Client(self._gateway, api_key, timeout=PATIENCE_SECONDS)

    async def join_providers(self, providers: Iterable[Provider]) -> dict[str, Member]:
        """Registers providers as historical sources; by key."""
        async with self.client(self._operator_key) as operator:
            return {
                p.key: await _join(
                    operator,
                    "PROVIDER",
                    p.name,
                    provider_kind=p.kind,
                    historical_source=True,
                    simulated_source=p.simulated,
                )
                for p in providers
            }

    async def join_bank(self, name: str) -> Member:
        """Registers a bank."""
        async with self.client(self._operator_key) as operator:
            return await _join(operator, "BANK", name)

    async def join_firms(self, firms: Sequence[tuple[str, str]], advance: Advance) -> list[Member]:
        """Registers firms.

        Args:
            firms: registration number and name of each.
            advance: told of each that is in.
        """
        async with self.client(self._operator_key) as operator:

            async def join(firm: tuple[str, str]) -> Member:
                return await _join(operator, "FIRM", firm[1], uscc=firm[0])

            return await each(firms, join, advance)

    async def push(
        self, provider: Member, rows: Iterable[Record], advance: Advance, total: Pushed
    ) -> None:
        """Pushes a provider's records over one stream, and closes it with control totals.

        Args:
            provider: whose they are.
            rows: the records.
            advance: told of rows that are settled.
            total: what became of them is added here.

        Raises:
            RuntimeError: the platform counted something else than was sent.
        """
        async with self.client(provider.api_key) as client:
            report = await client.push(
                rows,
                historical=True,
                keep_rejections=0,
                on_ack=lambda ack: advance(ack.rows),
                totals=True,
            )
        if report.reconciliation is None or not report.reconciliation.agrees:
            raise RuntimeError(f"the platform counted {provider.name}'s records otherwise")
        total.sent += report.sent
        total.accepted += report.accepted
        total.duplicate += report.duplicate
        for reason, count in report.rejected.items():
            total.rejected[reason] = total.rejected.get(reason, 0) + count

    async def consents(
        self, bank: Member, firms: Sequence[Member], ask: Ask, advance: Advance
    ) -> list[Consent]:
        """Has the bank ask each firm, and each firm grant what it read."""
        async with self.client(bank.api_key) as asking:

            async def agree(firm: Member) -> Consent:
                requested = await asking.request_consent(
                    subject_id=firm.subject_id,
                    purpose=ask.purpose,
                    providers=ask.providers,
                    record_types=ask.record_types,
                    data_from=ask.data_from,
                    data_to=ask.data_to,
                    expires_at=datetime.now(UTC) + timedelta(days=ask.days),
                    officer="officer-7",
                    file_reference="consents",
                )
                async with self.client(firm.api_key) as granting:
                    read = await granting.get_consent(requested.consent_id)
                    return await granting.grant_consent(read)

            return await each(firms, agree, advance)

    async def scores(
        self, bank: Member, orders: Sequence[ScoreOrder], advance: Advance
    ) -> list[ScoreResult]:
        """Scores a portfolio; for each order a decision, or why there is none."""
        results = []
        async with self.client(bank.api_key) as client:
            async for result in client.batch_score(orders):
                results.append(result)
                advance(1)
        return sorted(results, key=lambda result: result.index)


async def _join(
    operator: Client,
    role: RoleName,
    name: str,
    *,
    provider_kind: str = "",
    uscc: str = "",
    historical_source: bool = False,
    simulated_source: bool = False,
) -> Member:
    participant = await operator.register_participant(
        role,
        name,
        provider_kind=provider_kind,
        uscc=uscc,
        historical_source=historical_source,
        simulated_source=simulated_source,
    )
    key = await operator.issue_key(participant.participant_id)
    return Member(participant.participant_id, name, key.api_key, participant.subject_id)


async def each(items: Sequence[T], work: Callable[[T], Awaitable[R]], advance: Advance) -> list[R]:
    """Works on every item, a few at a time.

    Args:
        items: what to work on.
        work: makes a result of one.
        advance: told of each that is done.

    Returns:
        The results, in the order of the items.

    Raises:
        Exception: the first failure; the others are cancelled.
    """
    results: dict[int, R] = {}
    waiting = iter(enumerate(items))

    async def worker() -> None:
        for place, item in waiting:
            results[place] = await work(item)
            advance(1)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(worker())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [results[i] for i in range(len(items))]
