"""Consents against a small model: whatever is done in whatever order, both agree.

The model is written anew from the documented table and knows nothing of the code.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from services.datashare.access.domain import Outcome, Released
from services.datashare.consent.domain import Action, Consent, State, state_at
from services.kit.errors import PuhuiError
from tests.fakes.datashare_world import BANK, FIRM, World, caller

T = TypeVar("T")

NEXT = {
    "REQUESTED": {
        "grant": "ACTIVE",
        "reject": "REJECTED",
        "withdraw": "WITHDRAWN",
        "revoke": "REVOKED",
    },
    "ACTIVE": {"withdraw": "WITHDRAWN", "revoke": "REVOKED"},
}
REFUSALS = {
    "REQUESTED": "CONSENT_NOT_ACTIVE",
    "REJECTED": "CONSENT_NOT_ACTIVE",
    "WITHDRAWN": "CONSENT_WITHDRAWN",
    "REVOKED": "CONSENT_REVOKED",
    "EXPIRED": "CONSENT_EXPIRED",
}


@dataclass
class Modelled:
    """What the model knows of a consent."""

    consent: Consent
    expires_at: datetime
    state: str = "REQUESTED"
    revision: int = 1

    def at(self, now: datetime) -> str:
        return "EXPIRED" if self.state in NEXT and now >= self.expires_at else self.state


class ConsentMachine(RuleBasedStateMachine):
    """Random parties doing random things."""

    consents = Bundle("consents")
    fetches = Bundle("fetches")

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.world = World()
        self.modelled: list[Modelled] = []
        self.decisions: list[str] = []
        self.released: dict[int, Released] = {}

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T | PuhuiError:
        try:
            return self.loop.run_until_complete(work)
        except PuhuiError as error:
            return error

    @rule(target=consents, days=st.integers(1, 365))
    def ask(self, days: int) -> Modelled:
        now = self.world.clock.now()
        expires_at = now + timedelta(days=days)
        consent = self.run(self.world.requested(expires_at=expires_at))
        assert isinstance(consent, Consent)
        made = Modelled(consent, expires_at)
        self.modelled.append(made)
        return made

    @rule(made=consents, action=st.sampled_from(Action))
    def act(self, made: Modelled, action: Action) -> None:
        world, consent_id = self.world, made.consent.core.consent_id
        who = caller(BANK if action is Action.REVOKE else FIRM)
        if action is Action.GRANT:
            work = world.consents.grant(who, world.key(who), consent_id, made.consent.sha256, ())
        else:
            work = world.end(who, made.consent, action)
        result = self.run(work)
        target = NEXT.get(made.at(world.clock.now()), {}).get(str(action))
        if target is None:
            assert isinstance(result, PuhuiError)
            assert result.reason == "CONSENT_STATE"
        else:
            assert isinstance(result, Consent)
            made.state, made.revision = target, made.revision + 1
            assert (result.state, result.revision) == (made.state, made.revision)

    @rule(target=fetches, made=consents)
    def fetch(self, made: Modelled) -> tuple[Modelled, Any]:
        item = self.world.item(made.consent)
        self.fetch_item(made, item)
        return made, item

    @rule(fetched=fetches)
    def fetch_again(self, fetched: tuple[Modelled, Any]) -> None:
        self.fetch_item(*fetched)

    def fetch_item(self, made: Modelled, item: Any) -> None:
        results = self.run(self.world.fetched(item))
        assert isinstance(results, list)
        (result,) = results
        earlier = self.released.get(id(item))
        state = made.at(self.world.clock.now())
        if state == "ACTIVE":
            assert isinstance(result, Released)
            if earlier is None:
                self.decisions.append("RELEASED")
                self.released[id(item)] = result
            else:
                assert result == earlier
        else:
            assert isinstance(result, PuhuiError)
            assert result.reason == REFUSALS[state]
            self.decisions.append(result.reason)

    @rule(hours=st.integers(1, 24 * 200))
    def wait(self, hours: int) -> None:
        self.world.clock.advance(timedelta(hours=hours))

    @invariant()
    def states_agree(self) -> None:
        now = self.world.clock.now()
        stored = self.world.transactions.memory.consents
        assert len(stored) == len(self.modelled)
        for made in self.modelled:
            consent = stored[made.consent.core.consent_id]
            assert state_at(consent, now) == made.at(now)
            assert consent.state is not State.EXPIRED
            assert consent.revision == made.revision
            assert consent.canonical == made.consent.canonical

    @invariant()
    def every_decision_is_recorded_and_every_change_told(self) -> None:
        memory = self.world.transactions.memory
        assert [
            access.refusal_reason or str(Outcome.RELEASED) for access in self.world.recorded()
        ] == self.decisions
        changes = sum(made.revision for made in self.modelled)
        assert len(memory.changes) == changes
        assert len(memory.leaves) == changes + len(self.decisions)

    @invariant()
    def nothing_is_released_after_the_end(self) -> None:
        ended: dict[str, datetime] = {
            consent.core.consent_id: consent.changed_at
            for consent in self.world.transactions.memory.consents.values()
            if consent.state not in (State.REQUESTED, State.ACTIVE)
        }
        for access in self.world.recorded():
            if access.outcome is Outcome.RELEASED and access.consent_id in ended:
                assert access.accessed_at <= ended[access.consent_id]


ConsentMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestConsentMachine = ConsentMachine.TestCase
