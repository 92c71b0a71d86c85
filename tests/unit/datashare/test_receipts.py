"""What the platform signs can be checked by anybody who has its public keys."""

import base64
import json
import secrets
from datetime import timedelta
from pathlib import Path

import pytest

from puhui_client.signing import PublicKey, SigningError, key_id_of
from services.datashare.log.domain import LeafKind, Sealer
from services.datashare.receipts.app import PlatformKeys
from services.datashare.receipts.domain import Suite
from services.datashare.receipts.keyfile import FileSigner, new_key, read_signer
from services.kit.clock import FixedClock
from services.kit.config import ConfigError
from services.kit.ids import SequentialIds
from tests.fakes.datashare import FakeTransactions
from tests.fakes.datashare_world import NOW

PAYLOAD = b'{"consent_id":"con_1"}'


def signer(suite: Suite = Suite.EDDSA) -> FileSigner:
    return FileSigner(new_key(suite).encode(), suite)


@pytest.mark.parametrize("suite", Suite)
def test_a_signature_is_by_the_named_suite_and_key(suite: Suite) -> None:
    ours = signer(suite)
    jws = ours.sign(PAYLOAD)
    header, dots, _ = jws.partition("..")
    assert dots
    named = json.loads(base64.urlsafe_b64decode(header + "=="))
    assert named == {"alg": str(suite), "kid": ours.key.key_id}
    # The client's own check, which shares no code with the signer.
    public = PublicKey.parse(ours.key.public_jwk)
    assert public.key_id == ours.key.key_id == key_id_of(jws)
    public.verify(jws, PAYLOAD)
    for other in (PAYLOAD + b" ", b""):
        with pytest.raises(SigningError):
            public.verify(jws, other)
    with pytest.raises(SigningError):
        PublicKey.parse(signer(suite).key.public_jwk).verify(jws, PAYLOAD)
    assert "d" not in json.loads(ours.key.public_jwk)


@pytest.mark.parametrize(
    ("content", "suite"),
    [
        (new_key(Suite.ES256), Suite.EDDSA),
        (new_key(Suite.EDDSA), Suite.ES256),
        ("no key", Suite.EDDSA),
    ],
)
def test_a_key_of_another_kind_is_refused(tmp_path: Path, content: str, suite: Suite) -> None:
    path = tmp_path / "signing.pem"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError) as told:
        read_signer(path, suite)
    assert "datashare.signing_key" in str(told.value)
    assert f"datashare.signing_suite is {suite}" in str(told.value)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    path.write_text(new_key(Suite.EDDSA))
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="others"):
        read_signer(path, Suite.EDDSA)


async def test_every_key_is_told_once_and_for_ever() -> None:
    transactions, clock = FakeTransactions(), FixedClock(NOW)
    sealer = Sealer(SequentialIds(), secrets.token_bytes)

    def started_with(key: FileSigner) -> PlatformKeys:
        return PlatformKeys(transactions=transactions, clock=clock, sealer=sealer, signer=key)

    old, new = signer(Suite.EDDSA), signer(Suite.ES256)
    await started_with(old).register()
    await started_with(old).register()
    clock.advance(timedelta(days=1))
    # Started while the database was away: the question for keys writes it down.
    assert [known.key for known in await started_with(new).list()] == [old.key, new.key]
    assert [known.key for known in await started_with(old).list()] == [old.key, new.key]
    leaves = transactions.memory.leaves.values()
    assert [leaf.kind for leaf in leaves] == [LeafKind.SIGNING_KEY] * 2
