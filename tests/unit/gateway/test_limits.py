import pytest

from services.gateway.limits import Concurrency
from services.kit.errors import ResourceExhaustedError


def test_each_participant_has_its_own_number_of_calls() -> None:
    running = Concurrency(2)
    with running.enter("a"), running.enter("a"), running.enter("b"):
        with pytest.raises(ResourceExhaustedError) as refusal, running.enter("a"):
            pass
        assert refusal.value.reason == "OVERLOADED"
        with running.enter("b"):
            pass
    with running.enter("a"), running.enter("a"):
        pass


def test_a_call_that_fails_makes_room() -> None:
    running = Concurrency(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="x"), running.enter("a"):
            raise ValueError("x")
