import itertools
import re
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.kit.clock import FixedClock, SystemClock
from services.kit.ids import RandomIds, SequentialIds, encode

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**80 - 1))
def test_an_id_holds_its_milliseconds_and_entropy(milliseconds: int, entropy: int) -> None:
    value = 0
    for character in encode(milliseconds, entropy):
        value = value * 32 + CROCKFORD.index(character)
    assert value == (milliseconds << 80) | entropy


def test_it_is_encoded_as_a_ulid() -> None:
    # The example of the ULID specification: 01ARZ3NDEKTSV4RRFFQ69G5FAV.
    assert encode(1469922850259, 0xD6764C61EFB99302BD5B) == "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def test_ids_have_their_prefix_and_never_repeat() -> None:
    ids = RandomIds(SystemClock())
    made = [ids.new("con") for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(re.fullmatch(rf"con_[{CROCKFORD}]{{26}}", one) for one in made)


def test_ids_sort_by_time() -> None:
    clock = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
    bits = itertools.count(2**80 - 1, -1)
    ids = RandomIds(clock, lambda _: next(bits))
    made = []
    for _ in range(50):
        made.append(ids.new("acc"))
        clock.advance(timedelta(milliseconds=1))
    assert made == sorted(made)


def test_sequential_ids_count() -> None:
    ids = SequentialIds()
    assert [ids.new("a"), ids.new("b")] == [f"a_{'0' * 25}1", f"b_{'0' * 25}2"]
