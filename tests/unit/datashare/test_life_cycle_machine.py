"""The life cycle against a model that knows nothing but what is said of it in the guide."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.datashare.china import china_date
from services.datashare.participants.domain import (
    Participant,
    Role,
    Standing,
    require_good_standing,
    require_product,
)
from services.datashare.participants.life_cycle import Actor, Event, Evidence, Step, take
from services.kit.errors import PermissionDeniedError, PuhuiError
from tests.fakes.standing import PRODUCTS

START = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)
PEOPLE = [Actor("operator", "per_li"), Actor("operator", "per_wang"), Actor("par_2", "per_li")]


class LifeCycle(RuleBasedStateMachine):
    """Any steps by anybody on any day: what is refused changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.participant = Participant(
            "par_1", Role.BANK, "A bank", "", None, False, Standing.APPLIED, START
        )
        self.history = [Event(Step.APPLIED, START, PEOPLE[0])]
        self.approvers: set[str] = set()
        self.licence: tuple[frozenset[str], date | None] | None = None
        self.left = False

    @rule(
        step=st.sampled_from([step for step in Step if step is not Step.APPLIED]),
        by=st.sampled_from(PEOPLE),
        products=st.sets(st.sampled_from(PRODUCTS), min_size=1),
        lasts=st.none() | st.integers(0, 40),
    )
    def try_step(self, step: Step, by: Actor, products: set[str], lasts: int | None) -> None:
        today = china_date(self.now)
        ends = None if lasts is None else today + timedelta(days=lasts)
        evidence = Evidence("paper", "1", b"", today, ends)
        checked = step is Step.LICENCE_CHECKED
        event = Event(step, self.now, by, evidence, tuple(products) if checked else ())
        before = self.participant
        expected = self._expected(step, by)
        try:
            self.participant = take(before, self.history, event, products=PRODUCTS)
        except PuhuiError:
            assert expected is None, (step, before.standing)
            return
        assert self.participant.standing is expected, step
        self.history.append(event)
        if checked:
            self.licence = frozenset(products), ends
        if step is Step.APPROVED:
            self.approvers.add(by.person_id)
        self.left = self.left or step is Step.EXITED

    @rule(days=st.integers(1, 60))
    def wait(self, days: int) -> None:
        self.now += timedelta(days=days)

    @invariant()
    def who_acts_was_approved_by_two_and_licensed(self) -> None:
        if self.participant.standing in (Standing.APPROVED, Standing.ACTIVE, Standing.SUSPENDED):
            assert len(self.approvers) == 2
            assert self.licence is not None

    @invariant()
    def a_product_is_held_while_its_licence_lasts(self) -> None:
        for product in PRODUCTS:
            try:
                require_product(self.participant, product, self.now)
                held = True
            except PermissionDeniedError:
                held = False
            assert held == self._lasts(product)
            assert held == (product in self.participant.today(self.now).products)

    @invariant()
    def only_an_active_one_acts(self) -> None:
        refusals = {Standing.ACTIVE: "", Standing.SUSPENDED: "PARTICIPANT_SUSPENDED"}
        refusal = ""
        try:
            require_good_standing(self.participant.standing)
        except PermissionDeniedError as error:
            refusal = error.reason
        assert refusal == refusals.get(self.participant.standing, "PARTICIPANT_NOT_ACTIVE")
        assert refusal or not self.left

    def _lasts(self, product: str) -> bool:
        if self.licence is None:
            return False
        products, ends = self.licence
        return product in products and (ends is None or china_date(self.now) <= ends)

    def _expected(self, step: Step, by: Actor) -> Standing | None:
        """Return where the step leads, or None where it is refused."""
        standing = self.participant.standing
        licensed = self.licence is not None and any(map(self._lasts, PRODUCTS))
        match step, standing:
            case _, Standing.EXITED:
                return None
            case Step.EXITED, _:
                return Standing.EXITED
            case Step.LICENCE_CHECKED, Standing.APPLIED:
                return Standing.LICENCE_CHECKED
            case Step.LICENCE_CHECKED, _:
                return standing
            case Step.CONFORMANT, Standing.LICENCE_CHECKED if licensed:
                return Standing.CONFORMANT
            case Step.APPROVED, Standing.CONFORMANT if licensed:
                if by.person_id in self.approvers:
                    return None
                return Standing.APPROVED if self.approvers else Standing.CONFORMANT
            case Step.ACTIVATED, Standing.APPROVED if licensed:
                return Standing.ACTIVE
            case Step.SUSPENDED, Standing.ACTIVE:
                return Standing.SUSPENDED
            case Step.REINSTATED, Standing.SUSPENDED if licensed:
                return Standing.ACTIVE
            case _:
                return None


TestLifeCycle = LifeCycle.TestCase
TestLifeCycle.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
