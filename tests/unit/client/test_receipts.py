"""What a bank can tell from a receipt of a release."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from puhui.datashare.v1.accesses_pb2 import FetchSummaryResponse
from puhui.datashare.v1.receipts_pb2 import ListPlatformKeysResponse, PlatformKey
from puhui_client import Client
from puhui_client.receipts import read_promise
from puhui_client.signing import PublicKey, SigningError
from services.datashare.access.domain import Access, Channel, Outcome, Sealed, content
from services.datashare.access.receipts import receipt
from services.datashare.catalogue.domain import ContentLevel
from services.datashare.log.domain import canonical, leaf_hash
from tests.fakes.platform import FakePlatform
from tests.fakes.signing import SIGNER

NOW = datetime(2026, 5, 1, 8, tzinfo=UTC)
ACCESS = Access(
    access_id="acc_1",
    subject_id="sub_1",
    recipient_id="par_bank",
    request_id="r1",
    fingerprint=b"f" * 32,
    accessed_at=NOW,
    as_of=NOW,
    purpose="credit_application",
    record_types=("vat_invoice",),
    content_level=ContentLevel.SUMMARY,
    first_month=202301,
    last_month=202604,
    consent_id="con_1",
    consent_revision=2,
    outcome=Outcome.RELEASED,
    refusal_reason="",
    channel=Channel.DATASHARE,
    officer="王",
    file_reference="F-1",
)


def fetched() -> FetchSummaryResponse:
    salt = b"s" * 16
    made = receipt(Sealed(ACCESS, salt, leaf_hash(salt, canonical(content(ACCESS)))), SIGNER)
    response = FetchSummaryResponse(access_id="acc_1")
    response.summary.subject_id = "sub_1"
    response.receipt.leaf_hash = made.leaf_hash
    response.receipt.salt = made.salt
    response.receipt.content = made.content
    response.receipt.promise = made.promise
    return response


def resealed(response: FetchSummaryResponse, **changes: Any) -> None:
    """Change the content and the leaf's hash with it, which the promise does not cover then."""
    part = response.receipt
    part.content = json.dumps(json.loads(part.content) | changes).encode()
    part.leaf_hash = hashlib.sha256(b"\x00" + part.salt + part.content).digest()


def test_it_says_by_when_the_access_is_in_the_log() -> None:
    promise = read_promise(fetched())
    assert promise.included_by == datetime(2026, 5, 2, 8, tzinfo=UTC)
    PublicKey.parse(SIGNER.key.public_jwk).verify(promise.jws, promise.payload)


def test_what_does_not_belong_together_is_found() -> None:
    for field, value in (("salt", b"t" * 16), ("content", b"{}"), ("leaf_hash", b"h" * 32)):
        changed = fetched()
        setattr(changed.receipt, field, value)
        with pytest.raises(SigningError, match="not the hash"):
            read_promise(changed)
    other = fetched()
    other.access_id = "acc_2"
    with pytest.raises(SigningError, match="another access"):
        read_promise(other)
    another = fetched()
    another.summary.subject_id = "sub_2"
    with pytest.raises(SigningError, match="another access"):
        read_promise(another)
    forged = fetched()
    resealed(forged, officer="somebody else")
    with pytest.raises(SigningError, match="another leaf"):
        read_promise(forged)


@pytest.mark.parametrize("promise", ["", "a.b", "a.!.c", "a.YQ.c", "a.W10.c"])
def test_what_is_no_promise_is_told(promise: str) -> None:
    changed = fetched()
    changed.receipt.promise = promise
    with pytest.raises(SigningError, match="promise"):
        read_promise(changed)


async def test_the_client_checks_the_platforms_signature(
    client: Client, platform: FakePlatform
) -> None:
    key = PlatformKey(key_id=SIGNER.key.key_id, public_jwk=SIGNER.key.public_jwk, suite="EdDSA")
    platform.answer("ListPlatformKeys", ListPlatformKeysResponse(keys=[key]))
    assert await client.verify_receipt(fetched()) == datetime(2026, 5, 2, 8, tzinfo=UTC)
    forged = fetched()
    header, body, signature = forged.receipt.promise.split(".")
    later = base64.urlsafe_b64decode(body + "==").replace(b"2026", b"2027")
    changed = base64.urlsafe_b64encode(later).rstrip(b"=").decode()
    forged.receipt.promise = f"{header}.{changed}.{signature}"
    with pytest.raises(SigningError):
        await client.verify_receipt(forged)
