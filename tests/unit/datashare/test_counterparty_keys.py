"""The chain of keys that counterparties are named by, and its file."""

import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from services.datashare.counterparties.keyfile import KeyFile
from services.datashare.counterparties.rotation import carried, token_fields
from services.datashare.quality.examine import Fingerprints
from services.datashare.records.intake import Intake, content_hash
from services.datashare.records.payloads import hidden_fields, payload_types
from services.datashare.records.tokens import CounterpartyTokens, chained
from services.kit.config import ConfigError
from tests.fakes.arbitrary import CATALOGUE, copy_of, likely
from tests.fakes.datashare_records import NOW

FIRST, SECOND, THIRD = (bytes([number]) * 32 for number in (1, 2, 3))
SHORT, LONG = (Intake(CATALOGUE, CounterpartyTokens(*keys)) for keys in ((FIRST,), (FIRST, SECOND)))
KEYS = st.lists(st.binary(min_size=16, max_size=64), min_size=2, max_size=5, unique=True)


def test_one_key_makes_the_tokens_that_it_always_made() -> None:
    made = CounterpartyTokens(FIRST).of(" 91110108ma01abcd5x ")
    assert made == hmac.digest(FIRST, b"91110108MA01ABCD5X", hashlib.sha256)[:16]


@given(keys=KEYS, names=st.lists(st.text(max_size=30), max_size=5))
def test_a_stored_token_is_carried_to_what_the_longer_chain_makes(
    keys: list[bytes], names: list[str]
) -> None:
    before, after = CounterpartyTokens(*keys[:-1]), CounterpartyTokens(*keys)
    own_before, own_after = Fingerprints(keys[:-1]), Fingerprints(keys)
    for name in names:
        assert chained((keys[-1],), before.of(name)) == after.of(name)
        assert Fingerprints(keys[-1:]).of(own_before.of(name.encode())) == own_after.of(
            name.encode()
        )
        assert (before.of(name) == before.of(names[0])) == (after.of(name) == after.of(names[0]))


@given(keys=KEYS)
def test_chains_are_told_apart(keys: list[bytes]) -> None:
    chains = [keys, keys[:-1], keys[1:], keys[::-1]]
    assert len({CounterpartyTokens(*chain).check_value for chain in chains}) == len(
        {tuple(chain) for chain in chains}
    )


def test_no_name_has_the_check_value() -> None:
    tokens = CounterpartyTokens(FIRST, SECOND)
    assert tokens.check_value != tokens.of("\0puhui counterparty key")
    assert tokens.check_value != tokens.of("puhui counterparty key")


def test_a_key_is_long_enough_and_there_once() -> None:
    with pytest.raises(ValueError, match="at least 16 bytes"):
        CounterpartyTokens(FIRST, SECOND[:15])
    with pytest.raises(ValueError, match="twice"):
        CounterpartyTokens(FIRST, SECOND, FIRST)


def test_what_the_catalogue_calls_tokens_is_what_intake_makes() -> None:
    made = {
        record_type: {token for _, token in fields}
        for record_type, fields in hidden_fields().items()
        if fields
    }
    assert {name: set(fields) for name, fields in token_fields(CATALOGUE).items()} == made


@pytest.mark.parametrize("record_type", sorted(token_fields(CATALOGUE)))
@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_payload_of_any_type_is_carried_to_what_intake_would_have_made_of_it(
    record_type: str, data: st.DataObject
) -> None:
    sent = data.draw(likely(record_type))
    kind = min(CATALOGUE.types[record_type].provider_kinds)
    taken, _ = SHORT.read([copy_of(sent)], 0, kind, NOW)
    assume(taken)
    (before,) = taken
    (after,) = LONG.read([copy_of(sent)], 0, kind, NOW)[0]
    payload = payload_types()[record_type]()
    fields = token_fields(CATALOGUE)[record_type]
    stored = carried(payload, before.payload, fields, lambda token: chained((SECOND,), token))
    assert stored == after.payload
    assert content_hash(False, before.occurred_from, before.occurred_to, stored) == (
        after.content_hash
    )


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        (FIRST.hex(), (FIRST,)),
        (f"{FIRST.hex()}\n", (FIRST,)),
        (f"{FIRST.hex()}\n{SECOND.hex()}\n", (FIRST + SECOND,)),  # as the version before took it
        (f"# keys\n{FIRST.hex()}\n", (FIRST,)),
        (f"# keys\n{FIRST.hex()}\n\n  {SECOND.hex().upper()}\n# end", (FIRST, SECOND)),
    ],
)
def test_a_file_is_one_key_or_says_that_it_has_several(
    tmp_path: Path, content: str, keys: tuple[bytes, ...]
) -> None:
    path = tmp_path / "counterparty.key"
    path.write_text(content)
    assert KeyFile(path).read().keys == keys


@pytest.mark.parametrize(
    "content",
    ["", "0f0f", "# none", f"# short\n{FIRST.hex()}\n0f0f", f"# twice\n{'0f' * 16}\n{'0f' * 16}"],
)
def test_a_file_that_cannot_be_used_is_told_without_what_it_holds(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "counterparty.key"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"datashare.counterparty_key: .* in hexadecimal") as told:
        KeyFile(path).read()
    assert "0f0f" not in str(told.value)


def test_a_rotated_file_is_one_that_the_version_before_refuses(tmp_path: Path) -> None:
    path = tmp_path / "counterparty.key"
    path.write_text(FIRST.hex())
    path.chmod(0o440)
    files = KeyFile(path)
    assert files.read_next() is None
    files.write_next(CounterpartyTokens(FIRST, SECOND))
    assert path.read_text() == FIRST.hex()
    files.write_next(CounterpartyTokens(FIRST, THIRD))
    files.put_in_place()
    assert files.read().keys == (FIRST, THIRD)
    assert files.read_next() is None
    assert path.stat().st_mode & 0o777 == 0o440
    assert [found.name for found in tmp_path.iterdir()] == ["counterparty.key"]
    with pytest.raises(ValueError, match="hexadecimal"):
        bytes.fromhex(path.read_text())
