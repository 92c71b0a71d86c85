"""One suite for the watch and the register of incidents, on the fake, SQLite and PostgreSQL."""

import itertools
import secrets
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from services.datashare.access.domain import Access, Channel, Outcome
from services.datashare.catalogue.domain import ContentLevel
from services.datashare.disputes.working_days import ChinaCalendar
from services.datashare.idempotency.domain import RequestKey
from services.datashare.incidents.app import Register
from services.datashare.incidents.domain import Incident, Severity, State, Step
from services.datashare.incidents.servicer import IncidentCodec
from services.datashare.log.domain import LeafKind, Sealer
from services.datashare.metering.domain import Refused
from services.datashare.notices.domain import NoticeKind
from services.datashare.participants.domain import Participant, Role, Standing
from services.datashare.watch.app import SETTLED, Watch
from services.datashare.watch.loader import load
from services.kit.clock import FixedClock
from services.kit.db import retry_on_conflict
from services.kit.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from services.kit.identity import Caller
from services.kit.ids import RandomIds
from tests.contract.datashare.conftest import Stored

# A Monday, 11:00 in China.
NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
RULES = load()
OPERATOR = Caller("par_op", "OPERATOR", person_id="per_1")
BANK = Caller("par_bank", "BANK")
OTHER = Caller("par_other", "BANK")


class World:
    """Some participants, what they ask, and the watch over it."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        self.clock = FixedClock(NOW)
        self.ids = RandomIds(self.clock)
        self.sealer = Sealer(self.ids, secrets.token_bytes)
        self.told: list[tuple[str, Severity]] = []
        self.requests = itertools.count()
        self.register = Register(
            transactions=stored,
            retry=retry_on_conflict,
            clock=self.clock,
            ids=self.ids,
            sealer=self.sealer,
            codec=IncidentCodec(),
        )
        self.watch = self.replica()

    def replica(self) -> Watch:
        return Watch(
            self.stored,
            RULES,
            ChinaCalendar(),
            self.clock,
            self.ids,
            self.sealer,
            lambda rule, severity: self.told.append((rule, severity)),
        )

    async def register_all(self) -> None:
        roles = {"par_op": Role.OPERATOR, "par_bank": Role.BANK, "par_other": Role.BANK}
        async with self.stored.begin() as work:
            for participant_id, role in roles.items():
                await work.participants.add(
                    Participant(participant_id, role, role, "", None, False, Standing.ACTIVE, NOW)
                )

    async def ask(self, number: int = 1, **said: object) -> None:
        """Add accesses, each about another firm unless it is said which."""
        made = []
        for n in range(number):
            self.clock.advance(timedelta(milliseconds=1))
            fields = {"subject_id": f"sub_{n}", "officer": f"officer {n}", **said}
            made.append(self._access(f"request {next(self.requests)}", **fields))
        async with self.stored.begin() as work:
            leaves = [self.sealer.seal(LeafKind.ACCESS, {}, NOW) for _ in made]
            await work.accesses.append(list(zip(made, leaves, strict=True)))

    def _access(self, request_id: str, **said: object) -> Access:
        reason = str(said.pop("refusal_reason", ""))
        values: dict[str, object] = {
            "access_id": self.ids.new("acc"),
            "recipient_id": "par_bank",
            "request_id": request_id,
            "fingerprint": bytes(32),
            "accessed_at": self.clock.now(),
            "as_of": self.clock.now(),
            "purpose": "credit_application",
            "record_types": ("grant",),
            "content_level": ContentLevel.SUMMARY,
            "first_month": 202601,
            "last_month": 202611,
            "consent_id": "con_1",
            "consent_revision": 1,
            "outcome": Outcome.REFUSED if reason else Outcome.RELEASED,
            "refusal_reason": reason,
            "channel": Channel.DATASHARE,
            "file_reference": f"LOAN-2026-{request_id}",
            "score": False,
            "automated_decision": False,
            "for_subject_id": "",
            "product": "",
            **said,
        }
        return Access(**values)  # type: ignore[arg-type]  # a test says any of the fields

    async def look(self) -> None:
        self.clock.advance(SETTLED + timedelta(seconds=1))
        await self.watch()

    async def incidents(self, caller: Caller = OPERATOR) -> Sequence[Incident]:
        found, _ = await self.register.list(caller, None, "", "", 50)
        return found

    async def rules(self) -> Counter[str]:
        return Counter(incident.rule for incident in await self.incidents())

    def key(self) -> RequestKey:
        return RequestKey("par_op", f"key {next(self.requests)}", bytes(32))

    async def handle(
        self, incident_id: str, state: State, note: str = "Seen.", *, share: bool = False
    ) -> Incident:
        step = Step(NOW, "", "", state, note)
        return await self.register.handle(self.key(), OPERATOR, incident_id, step, share=share)


@pytest.fixture
async def world(stored: Stored) -> World:
    world = World(stored)
    await world.register_all()
    return world


async def test_ordinary_work_raises_nothing(world: World) -> None:
    await world.ask(59, officer="Wang")
    await world.ask(200, officer="batch", purpose="portfolio_review", file_reference="REVIEW-7")
    await world.ask(19, refusal_reason="CONSENT_EXPIRED")
    await world.ask()
    await world.ask(19, refusal_reason="CONSENT_EXPIRED")
    await world.look()
    assert await world.incidents() == []


async def test_an_officer_sweeping_firms_raises_one_incident(world: World) -> None:
    await world.ask(60, officer="Wang Fang")
    await world.ask(60, recipient_id="par_other")
    await world.look()
    await world.ask(40, officer="Wang Fang")
    await world.look()
    (incident,) = await world.incidents()
    assert (incident.rule, incident.participant_id) == ("officer_sweep", "par_bank")
    assert (incident.severity, incident.observed, incident.repeats) == (Severity.GRAVE, 60, 0)
    assert len(incident.access_ids) == 60
    assert "Wang" not in f"{incident.summary_en}{incident.summary_zh}"
    assert incident.window_begin == NOW
    assert incident.window_end == NOW + timedelta(hours=1)
    assert world.told == [("officer_sweep", Severity.GRAVE)]
    async with world.stored.read() as work:
        told = [entry.notice for entry in await work.notices.after("par_op", 0, 10)]
    assert [(notice.kind, notice.incident_id) for notice in told] == [
        (NoticeKind.INCIDENT_OPENED, incident.incident_id)
    ]


async def test_a_further_window_repeats_what_is_open_and_reopens_nothing(world: World) -> None:
    await world.ask(60, officer="Wang")
    await world.look()
    world.clock.advance(timedelta(hours=1))
    await world.ask(61, officer="Wang")
    await world.look()
    (incident,) = await world.incidents()
    assert (incident.repeats, incident.observed) == (1, 61)
    assert incident.window_end == NOW + timedelta(hours=2)
    await world.handle(incident.incident_id, State.CLOSED)
    await world.ask(5, officer="Wang")
    await world.look()
    assert len(await world.incidents()) == 1
    world.clock.advance(timedelta(hours=1))
    await world.ask(60, officer="Wang")
    await world.look()
    assert [each.state for each in await world.incidents()] == [State.OPEN, State.CLOSED]


async def test_refusals_in_a_row_over_several_looks(world: World) -> None:
    await world.ask(19, refusal_reason="CONSENT_EXPIRED")
    await world.look()
    assert await world.rules() == Counter()
    await world.ask(1, refusal_reason="CONSENT_EXPIRED")
    await world.look()
    assert await world.rules() == Counter(["refused_run"])


@pytest.mark.parametrize(
    ("number", "said", "rule"),
    [
        (10, {"file_reference": ""}, "no_file"),
        (10, {"file_reference": " TEST "}, "no_file"),
        (10, {"file_reference": "xxxx"}, "no_file"),
        (20, {"file_reference": "LOAN-1"}, "one_file"),
        (30, {"refusal_reason": "CONSENT_NOT_FOUND"}, "probing"),
    ],
)
async def test_each_rule_at_its_threshold(
    world: World, number: int, said: dict[str, str], rule: str
) -> None:
    await world.ask(number - 1, **said)
    await world.look()
    assert rule not in await world.rules()
    fields = {"subject_id": "sub_last", **said}
    await world.ask(1, **fields)
    await world.look()
    assert (await world.rules())[rule] == 1


@pytest.mark.parametrize(
    ("at", "outside"),
    [
        (datetime(2026, 11, 23, 12, 59, tzinfo=UTC), False),  # Monday 20:59
        (datetime(2026, 11, 23, 13, 0, tzinfo=UTC), True),  # Monday 21:00
        (datetime(2026, 11, 22, 3, 0, tzinfo=UTC), True),  # Sunday
        (datetime(2026, 10, 1, 3, 0, tzinfo=UTC), True),  # National Day, a Thursday
        (datetime(2026, 10, 10, 3, 0, tzinfo=UTC), False),  # a Saturday worked for it
    ],
)
async def test_working_hours_are_those_of_china(
    world: World, at: datetime, *, outside: bool
) -> None:
    world.clock.at = at
    await world.ask(50)
    await world.look()
    assert await world.rules() == Counter(["outside_hours"] if outside else [])


async def test_volume_against_the_past(world: World) -> None:
    for _ in range(6):
        await world.ask(200)
        await world.look()
        world.clock.advance(timedelta(days=1) - timedelta(minutes=1))
    assert "volume_past" not in await world.rules()
    world.clock.at = NOW + timedelta(days=7)
    await world.ask(799)
    await world.look()
    assert "volume_past" not in await world.rules()
    await world.ask(1)
    await world.look()
    assert (await world.rules())["volume_past"] == 1


async def test_what_gateways_refused(world: World) -> None:
    refusals = [
        Refused("par_bank", "FIELD_INVALID", 99, 99, NOW),
        Refused("par_other", "NOT_YOURS", 30, 12, NOW),
        Refused("", "CREDENTIALS_INVALID", 999, 0, NOW),
    ]
    async with world.stored.begin() as work:
        await work.metering.note_refused(refusals)
    await world.look()
    assert await world.rules() == Counter(["probing"])
    async with world.stored.begin() as work:
        await work.metering.note_refused(
            [
                Refused("par_bank", "FIELD_INVALID", 1, 100, NOW),
                Refused("", "TOKEN_INVALID", 1, 0, NOW),
            ]
        )
    await world.look()
    await world.look()
    assert await world.rules() == Counter(["probing", "refused_calls", "unproved_calls"])
    async with world.stored.read() as work:
        assert await work.metering.refused_after(0, 1) == []


async def test_counting_does_not_depend_on_steps_or_replicas(world: World) -> None:
    for n in range(1_100):
        reason = "CONSENT_REQUIRED" if n % 90 == 0 else ""
        await world.ask(1, officer="Li", subject_id=f"sub_{n % 70}", refusal_reason=reason)
        if n % 301 == 300:
            await world.look()
            world.watch = world.replica()
    await world.look()
    assert await world.rules() == Counter(["officer_sweep"])


async def test_handling_is_added_and_shared(world: World) -> None:
    opened = await world.register.open(
        world.key(),
        severity=Severity.WARNING,
        participant_id="par_bank",
        summary_zh="疑似密钥泄露",
        summary_en="A key may have leaked.",
        access_ids=["acc_1"],
    )
    assert await world.incidents(BANK) == []
    with pytest.raises(NotFoundError):
        await world.register.get(BANK, opened.incident_id)
    await world.handle(opened.incident_id, State.TAKEN, "Among us.")
    world.clock.advance(timedelta(seconds=1))
    await world.handle(opened.incident_id, State.OPEN, "Told the bank.", share=True)
    world.clock.advance(timedelta(seconds=1))
    closed = await world.handle(opened.incident_id, State.CLOSED, "Key revoked.")
    assert [step.state for step in closed.handling] == [State.TAKEN, State.TAKEN, State.CLOSED]
    assert closed.handling[0].by_person_id == "per_1"
    (seen,) = await world.incidents(BANK)
    assert [(step.note, step.by_person_id) for step in seen.handling] == [
        ("Told the bank.", ""),
        ("Key revoked.", ""),
    ]
    assert await world.incidents(OTHER) == []
    assert await world.incidents(Caller("par_reg", "REGULATOR")) == [closed]
    with pytest.raises(FailedPreconditionError) as refused:
        await world.handle(opened.incident_id, State.TAKEN)
    assert refused.value.reason == "INCIDENT_STATE"
    async with world.stored.read() as work:
        told = [entry.notice.kind for entry in await work.notices.after("par_bank", 0, 10)]
    assert told == [NoticeKind.INCIDENT_SHARED]


async def test_a_step_sent_again_is_taken_once(world: World) -> None:
    await world.ask(60, officer="Wang")
    await world.look()
    (incident,) = await world.incidents()
    key, step = world.key(), Step(NOW, "", "", State.TAKEN, "Called the bank.")
    for _ in range(2):
        again = await world.register.handle(key, OPERATOR, incident.incident_id, step, share=False)
        assert len(again.handling) == 1


async def test_words_name_no_registration_number(world: World) -> None:
    with pytest.raises(InvalidArgumentError):
        await world.register.open(
            world.key(),
            severity=Severity.NOTICE,
            participant_id="",
            summary_zh="",
            summary_en="About 91110108MA01ABCD8X it was.",
            access_ids=[],
        )
    with pytest.raises(InvalidArgumentError):
        await world.register.open(
            world.key(),
            severity=Severity.NOTICE,
            participant_id="",
            summary_zh=" ",
            summary_en="",
            access_ids=[],
        )


async def test_pages_of_incidents(world: World) -> None:
    for n in range(3):
        world.clock.advance(timedelta(seconds=1))
        await world.register.open(
            world.key(),
            severity=Severity.NOTICE,
            participant_id="par_bank" if n else "",
            summary_zh="",
            summary_en=f"Number {n}.",
            access_ids=[],
        )
    page, behind = await world.register.list(OPERATOR, State.OPEN, "", "", 2)
    assert [each.summary_en for each in page] == ["Number 2.", "Number 1."]
    rest, end = await world.register.list(OPERATOR, State.OPEN, "", behind, 2)
    assert ([each.summary_en for each in rest], end) == (["Number 0."], "")
    mine, _ = await world.register.list(OPERATOR, None, "par_bank", "", 9)
    assert len(mine) == 2
    assert await world.register.list(OPERATOR, State.CLOSED, "", "", 9) == ([], "")
