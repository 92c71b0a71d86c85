"""Telling parties: by a stream that goes on from a cursor, or by asking and acknowledging.

Each party is told its own only. A stream goes on from a cursor, in the order of commit; it looks
anew every second, and checks each time that who speaks for a firm still may. Its standing is not
asked for: the gateway lets no call of a suspended participant through, and its webhook goes on, as
what it has to erase does not rest.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from services.datashare.mandates.acting import HeldMandates
from services.datashare.mandates.domain import Power, require_power
from services.datashare.notices.domain import Entry
from services.datashare.notices.texts import Texts, Words
from services.datashare.participants.domain import Participant, Role
from services.kit.clock import Clock
from services.kit.errors import InvalidArgumentError, invalid_field
from services.kit.identity import Caller
from services.kit.transactions import Transactions

PAGE: Final = 200
"""Notices that a stream tells at a time."""
POLL_S: Final = 1.0
"""How long a stream waits before it looks anew, seconds."""
SIGN_OF_LIFE: Final = 15
"""Looks that find nothing before the stream tells so: what lies between notices who is gone, and
asks again whether the caller's key still holds."""


class Notices(Protocol):
    """What parties are told."""

    async def after(self, party_id: str, position: int, limit: int) -> Sequence[Entry]:
        """Return the first `limit` notices of a party behind a position, in their order."""
        ...

    async def last(self, party_id: str) -> int:
        """Return the position of a party's newest notice, kept or not; 0 is none."""
        ...

    async def pruned(self, party_id: str) -> int:
        """Return the position of a party's last notice that is not kept any more; 0 is none."""
        ...

    async def acknowledged(self, party_id: str) -> int:
        """Return the position up to which a party has dealt with its notices; 0 is none."""
        ...

    async def acknowledge(self, party_id: str, position: int) -> None:
        """Say that a party has dealt with its notices up to a position; it never goes back."""
        ...


class Participants(Protocol):
    """The directory of participants."""

    async def among(self, participant_ids: Collection[str]) -> Mapping[str, Participant]:
        """Return those of the ids that are registered, by id."""
        ...


class Work(Protocol):
    """What telling needs in a transaction."""

    @property
    def notices(self) -> Notices:
        """What parties are told."""
        ...

    @property
    def participants(self) -> Participants:
        """The directory of participants."""
        ...

    @property
    def mandates(self) -> HeldMandates:
        """Who speaks for which firm."""
        ...


class Told(NamedTuple):
    """A notice and its sentence."""

    entry: Entry
    words: Words


class Page(NamedTuple):
    """Notices of a party, and the position behind them; without notices only a sign of life."""

    party_id: str
    notices: Sequence[Told]
    position: int


class TellNotices:
    """What parties are told.

    Args:
        transactions: opens transactions.
        texts: the sentences.
        clock: the time.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        transactions: Transactions[Work],
        texts: Texts,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._transactions = transactions
        self._texts = texts
        self._clock = clock
        self._sleep = sleep

    async def stream(
        self, caller: Caller, position: int | None, *, follow: bool
    ) -> AsyncIterator[Page]:
        """Yield what is behind a position; it ends with the mandate, also where another follows.

        Args:
            caller: who is told.
            position: of the last notice that was dealt with; None is of the last acknowledged one.
            follow: go on when everything up to now has been told.

        Raises:
            InvalidArgumentError: PAGE_TOKEN_INVALID, what follows is not kept any more.
            PermissionDeniedError: MANDATE_REQUIRED, also in the midst of it.
        """
        if position is not None:
            await self._require_kept(caller, position)
        idle = 0
        page = first = await self._look(caller, position, PAGE)
        while page.party_id == first.party_id:
            idle += 1
            if page.notices or (follow and idle == SIGN_OF_LIFE):
                idle = 0
                yield page
            if len(page.notices) < PAGE:
                if not follow:
                    return
                await self._sleep(POLL_S)
            page = await self._look(caller, page.position, PAGE)

    async def party(self, caller: Caller) -> str:
        """Return whose notices a caller reads.

        Raises:
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        async with self._transactions.read() as work:
            return await self._reading_party(work, caller)

    async def list(self, caller: Caller, limit: int) -> Page:
        """Return the first notices that are not acknowledged yet.

        Raises:
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        return await self._look(caller, None, limit)

    async def acknowledge(self, caller: Caller, position: int) -> None:
        """Say that everything up to a position was dealt with.

        Raises:
            InvalidArgumentError: PAGE_TOKEN_INVALID, nothing was told up to there yet.
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        async with self._transactions.begin() as work:
            party_id = await acting_party(work.mandates, caller, self._clock)
            if position > await work.notices.last(party_id):
                raise no_cursor()
            await work.notices.acknowledge(party_id, position)

    async def _look(self, caller: Caller, position: int | None, limit: int) -> Page:
        async with self._transactions.read() as work:
            party_id = await self._reading_party(work, caller)
            if position is None:
                position = await work.notices.acknowledged(party_id)
            entries = await work.notices.after(party_id, position, limit)
            told = await worded(work.participants, self._texts, entries)
        return Page(party_id, told, entries[-1].position if entries else position)

    async def _require_kept(self, caller: Caller, position: int) -> None:
        async with self._transactions.read() as work:
            pruned = await work.notices.pruned(await self._reading_party(work, caller))
        if position < pruned:
            raise invalid_field(
                "PAGE_TOKEN_INVALID",
                "cursor",
                "is from so long ago that notices behind it are not kept any more: begin without "
                "one, and look anew at your consents, disputes and duties",
            )

    async def _reading_party(self, work: Work, caller: Caller) -> str:
        if caller.role != Role.FIRM:
            return caller.participant_id
        mandate = await work.mandates.get(caller.participant_id)
        return require_power(mandate, Power.READ, self._clock.now()).subject_id


def no_cursor() -> InvalidArgumentError:
    """Return the refusal of a cursor that nobody was given."""
    problem = "is none that these notices gave you: send it as it was given, or none"
    return invalid_field("PAGE_TOKEN_INVALID", "cursor", problem)


async def acting_party(mandates: HeldMandates, caller: Caller, clock: Clock) -> str:
    """Return the party for which a caller changes how it is told.

    Raises:
        PermissionDeniedError: MANDATE_REQUIRED.
    """
    if caller.role != Role.FIRM:
        return caller.participant_id
    mandate = await mandates.hold(caller.participant_id)
    return require_power(mandate, Power.READ, clock.now()).subject_id


async def worded(
    participants: Participants, texts: Texts, entries: Sequence[Entry]
) -> Sequence[Told]:
    """Return notices with their sentences, in which institutions are called by their names."""
    named = {entry.notice.participant_id for entry in entries} - {""}
    people = await participants.among(named) if named else {}
    return [
        Told(entry, texts.of(entry.notice, people.get(entry.notice.participant_id)))
        for entry in entries
    ]
