"""What is sealed opens under its key and in its place, and nowhere else."""

import secrets

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.datashare.sealing.domain import (
    Box,
    DataKey,
    Place,
    SealBrokenError,
    SubjectTokens,
    provider_owner,
    record_place,
)

PARTS = st.one_of(st.text(max_size=12), st.integers(-3, 12))
PLACES = st.lists(PARTS, min_size=1, max_size=5).map(tuple)
KEY = DataKey(b"k" * 32, secrets.token_bytes)


@given(PLACES, st.binary(max_size=300))
def test_what_is_sealed_opens_in_its_place(place: Place, content: bytes) -> None:
    sealed = KEY.seal(place, content)
    assert KEY.open(place, sealed) == content
    assert len(sealed) == len(content) + 1 + 12 + 16


@given(PLACES, PLACES)
def test_another_place_is_refused(place: Place, other: Place) -> None:
    assume(place != other)
    sealed = KEY.seal(place, b"content")
    with pytest.raises(SealBrokenError, match="moved"):
        KEY.open(other, sealed)


@given(st.text("ab1", max_size=3), st.text("ab1", max_size=3), st.text("ab1", max_size=3))
def test_parts_cannot_be_shifted(first: str, second: str, third: str) -> None:
    place = record_place("sub_1", first, second, third, 1)
    shifted = record_place("sub_1", first + second[:1], second[1:], third, 1)
    assume(place != shifted)
    with pytest.raises(SealBrokenError):
        KEY.open(shifted, KEY.seal(place, b"content"))


def test_a_number_is_not_its_text() -> None:
    with pytest.raises(SealBrokenError):
        KEY.open(("payload", "1"), KEY.seal(("payload", 1), b"content"))


@given(st.binary(min_size=1, max_size=60), st.data())
def test_an_altered_byte_is_noticed(content: bytes, data: st.DataObject) -> None:
    sealed = bytearray(KEY.seal(("payload",), content))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealBrokenError):
        KEY.open(("payload",), bytes(sealed))


@pytest.mark.parametrize("size", [0, 1, 5, 13, 28])
def test_what_is_cut_off_is_refused(size: int) -> None:
    sealed = KEY.seal(("payload",), b"")[:size]
    with pytest.raises(SealBrokenError):
        KEY.open(("payload",), sealed)


def test_an_unknown_suite_is_named() -> None:
    sealed = b"\x07" + KEY.seal(("payload",), b"content")[1:]
    with pytest.raises(SealBrokenError, match="unknown suite 7"):
        KEY.open(("payload",), sealed)


def test_another_key_is_refused() -> None:
    sealed = KEY.seal(("payload",), b"content")
    with pytest.raises(SealBrokenError):
        DataKey(b"l" * 32, secrets.token_bytes).open(("payload",), sealed)


def test_the_same_content_is_sealed_differently_each_time() -> None:
    assert len({KEY.seal(("payload",), b"content") for _ in range(20)}) == 20


def test_nonces_come_from_the_given_randomness() -> None:
    box = Box(b"k" * 32, lambda size: b"n" * size)
    assert box.seal(("payload",), b"content")[1:13] == b"n" * 12


def test_blinded_hashes_are_equal_for_one_subject_alone() -> None:
    other = DataKey(b"l" * 32, secrets.token_bytes)
    assert KEY.blind(b"h" * 32) == DataKey(b"k" * 32, bytes).blind(b"h" * 32)
    assert KEY.blind(b"h" * 32) != KEY.blind(b"i" * 32)
    assert KEY.blind(b"h" * 32) != other.blind(b"h" * 32)


def test_tokens_depend_on_the_key() -> None:
    one, two = SubjectTokens(b"k" * 32), SubjectTokens(b"l" * 32)
    assert one.of("91110108MA01234537") == one.of("91110108MA01234537")
    assert one.of("91110108MA01234537") != two.of("91110108MA01234537")
    assert one.of("91110108MA01234537") != one.of("91110108MA01ABCD0C")


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_keys_of_another_size_are_refused(size: int) -> None:
    for make in (
        lambda key: Box(key, bytes),
        lambda key: DataKey(key, bytes),
        SubjectTokens,
    ):
        with pytest.raises(ValueError, match="32 bytes"):
            make(b"k" * size)


def test_no_subject_is_a_provider() -> None:
    assert provider_owner("par_1") not in {"par_1", "sub_1"}
