"""Leaves: their hash and the canonical JSON under it."""

import hashlib
from datetime import UTC, datetime, timedelta, timezone

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from services.datashare.log.domain import LeafKind, Sealer, canonical, leaf_hash, rfc3339
from services.kit.ids import SequentialIds

NOW = datetime(2026, 5, 1, 12, 0, 0, 5, tzinfo=UTC)

keys = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.text(st.characters(exclude_categories=["Cs"])),
)
contents = st.dictionaries(
    keys,
    st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(keys, inner)),
        max_leaves=20,
    ),
)


@given(contents)
def test_contents_are_canonical_as_rfc_8785_says(content: dict[str, object]) -> None:
    assert canonical(content) == rfc8785.dumps(content)  # type: ignore[arg-type]  # JSON of any depth


def test_a_leaf_hash_covers_prefix_salt_and_content() -> None:
    salt = bytes(range(16))
    expected = hashlib.sha256(b"\x00" + salt + b'{"a":1,"b":"x"}').digest()
    assert leaf_hash(salt, canonical({"b": "x", "a": 1})) == expected


def test_a_sealed_leaf_holds_nothing_but_its_hash() -> None:
    sealer = Sealer(SequentialIds(), lambda size: b"s" * size)
    leaf = sealer.seal(LeafKind.ACCESS, {"subject_id": "sub_1"}, NOW)
    assert leaf.salt == b"s" * 16
    assert leaf.hash == leaf_hash(leaf.salt, b'{"subject_id":"sub_1"}')
    assert leaf.created_at == NOW


def test_times_are_written_in_one_way() -> None:
    china = timezone(timedelta(hours=8))
    assert rfc3339(NOW) == rfc3339(NOW.astimezone(china)) == "2026-05-01T12:00:00.000005Z"
    assert rfc3339(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00.000000Z"
