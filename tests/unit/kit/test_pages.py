import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.errors import InvalidArgumentError
from services.kit.pages import decode_page_token, encode_page_token, page_size

FILTER = ("accesses", "sub_1", None)


TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]))


@given(st.tuples(st.integers(-(2**63), 2**63 - 1), TEXT))
def test_a_position_comes_back(position: tuple[int, str]) -> None:
    token = encode_page_token(position, FILTER)
    assert decode_page_token(token, FILTER, (int, str)) == position


def test_no_token_is_the_first_page() -> None:
    assert decode_page_token("", FILTER, (int,)) is None


@pytest.mark.parametrize(
    "token",
    [
        encode_page_token((5,), ("accesses", "sub_2", None)),
        encode_page_token((5,), ("accesses", "sub_1", "None")),
        encode_page_token((5,), ("accesses", "sub_1")),
        encode_page_token(("5",), FILTER),
        encode_page_token((5, 6), FILTER),
        encode_page_token((5,), FILTER)[:-1],
        encode_page_token((5,), FILTER)[1:],
        encode_page_token((5,), FILTER) + "!",
        "x",
        "中文",
        base64.urlsafe_b64encode(b"0" * 12 + b"[" * 100_000).decode(),
    ],
)
def test_a_token_of_another_list_or_filter_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        decode_page_token(token, FILTER, (int,))
    assert caught.value.reason == "PAGE_TOKEN_INVALID"
    assert caught.value.fields[0].field == "page_token"


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (1000, 1000), (2**31 - 1, 1000)])
def test_a_page_has_a_bounded_size(asked: int, given: int) -> None:
    assert page_size(asked) == given


def test_a_list_may_have_bounds_of_its_own() -> None:
    assert page_size(0, default=5, largest=10) == 5
    assert page_size(20, default=5, largest=10) == 10


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="negative"):
        page_size(-1)


@pytest.mark.parametrize(
    "payload", [b'["a\\u0000"]', b'["a\\ud800"]', b'["\\n"]', b"[9223372036854775808]"]
)
def test_a_position_that_no_database_takes_is_refused(payload: bytes) -> None:
    good = base64.urlsafe_b64decode(encode_page_token(("a",), FILTER) + "==")
    token = base64.urlsafe_b64encode(good[:12] + payload).decode().rstrip("=")
    kind = int if payload[1:2].isdigit() else str
    with pytest.raises(InvalidArgumentError) as caught:
        decode_page_token(token, FILTER, (kind,))
    assert caught.value.reason == "PAGE_TOKEN_INVALID"
