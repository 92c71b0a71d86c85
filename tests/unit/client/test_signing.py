import base64
import json
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from puhui.datashare.v1.records_pb2 import Record
from puhui_client.canonical import canonical_batch
from puhui_client.signing import PublicKey, SigningError, SigningKey, key_id_of, new_key
from tests.conftest import CHECKOUT
from tests.golden.batch_signature import FILE, golden, pem_of

GOLDEN = json.loads(FILE.read_text("utf-8"))
BATCHES = [pytest.param(batch, id=batch["name"]) for batch in GOLDEN["batches"]]


def rows(batch: dict[str, Any]) -> list[Record]:
    return [Record.FromString(base64.b64decode(record)) for record in batch["records"]]


def private(folder: Path, content: str, mode: int = 0o600) -> Path:
    path = folder / "key.pem"
    path.write_text(content)
    path.chmod(mode)
    return path


def test_the_golden_file_is_fresh() -> None:
    assert golden() == GOLDEN, "python -m tests.golden.batch_signature writes it"


@pytest.mark.parametrize("batch", BATCHES)
def test_golden_batches(batch: dict[str, Any], tmp_path: Path) -> None:
    canonical = canonical_batch(batch["delivery_id"], batch["sequence"], rows(batch))
    assert canonical.decode() == batch["canonical"]
    golden = GOLDEN["keys"][batch["key"]]
    public = PublicKey.parse(json.dumps(golden["public_jwk"]))
    public.verify(batch["jws"], canonical)
    assert public.key_id == key_id_of(batch["jws"]) == golden["key_id"]
    key = SigningKey.read(private(tmp_path, pem_of(batch["key"])))
    assert json.loads(key.public.jwk) == golden["public_jwk"]
    public.verify(key.sign(canonical), canonical)
    if batch["key"] == "ed25519":  # the other signs differently each time
        assert key.sign(canonical) == batch["jws"]


def test_every_part_of_a_batch_is_covered() -> None:
    one, other = Record(provider_record_id="1"), Record(provider_record_id="2")
    batches: list[tuple[str, int, list[Record]]] = [
        ("d", 1, [one, other]),
        ("d", 1, [other, one]),
        ("d", 1, [one]),
        ("d", 2, [one, other]),
        ("e", 1, [one, other]),
    ]
    assert len({canonical_batch(*batch) for batch in batches}) == len(batches)


def test_another_spelling_of_a_signature_is_refused() -> None:
    key = new_key()
    jws = key.sign(b"content")
    # The last letter of 64 bytes in base64 has four bits that say nothing.
    letters = string.ascii_letters + string.digits
    other = next(c for c in letters if same_bytes(jws, jws[:-1] + c))
    key.public.verify(jws, b"content")
    with pytest.raises(SigningError, match="not a detached JWS"):
        key.public.verify(jws[:-1] + other, b"content")


def same_bytes(jws: str, other: str) -> bool:
    def content(text: str) -> bytes:
        return base64.urlsafe_b64decode(text.rpartition(".")[2] + "==")

    return jws != other and content(jws) == content(other)


@pytest.mark.parametrize(
    "jws", ["", "a..b", "a.b.c", "..", "é..é", "eyJhbGciOiJub25lIn0..", "eyJhbGciOiJub25lIn0..AAAA"]
)
def test_what_is_no_signature_is_refused(jws: str) -> None:
    with pytest.raises(SigningError):
        new_key().public.verify(jws, b"content")


def test_a_signature_by_another_key_or_over_other_content_is_refused() -> None:
    key = new_key()
    with pytest.raises(SigningError, match="not by this key"):
        new_key().public.verify(key.sign(b"content"), b"content")
    with pytest.raises(SigningError, match="over this content"):
        key.public.verify(key.sign(b"content"), b"Content")


@pytest.mark.parametrize("text", ["", "...", "e30..x", "W10..x", "eyJraWQiOjF9..x", "=..x", "é"])
def test_a_header_that_names_no_key(text: str) -> None:
    assert key_id_of(text) == ""


def test_keys_are_read_from_pem_and_jwk(tmp_path: Path) -> None:
    key = new_key()
    assert SigningKey.read(private(tmp_path, key.pem)).key_id == key.key_id
    jwk = private(tmp_path, key.public.jwk)
    assert PublicKey.read(jwk).key_id == key.key_id
    with pytest.raises(SigningError, match="a public key"):
        SigningKey.read(jwk)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not a key",
        "{}",
        '{"kty": "oct", "k": "AAAA"}',
        '{"kty": "OKP"}',
        "[]",
        '{"kty": []}',
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ],
)
def test_files_without_a_key(tmp_path: Path, content: str) -> None:
    path = private(tmp_path, content)
    with pytest.raises(SigningError, match="there is no Ed25519 or P-256 key in"):
        SigningKey.read(path)
    with pytest.raises(SigningError, match="there is no Ed25519 or P-256 key in"):
        PublicKey.read(path)


def test_a_key_on_another_curve_is_refused() -> None:
    from joserfc.jwk import ECKey

    jwk = json.dumps(ECKey.generate_key("P-384").as_dict(private=False))
    with pytest.raises(SigningError, match="on the curve P-384"):
        PublicKey.parse(jwk)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SigningError, match="chmod 600"):
        SigningKey.read(private(tmp_path, new_key().pem, 0o640))


def test_a_public_key_is_named_so_whoever_can_read_it(tmp_path: Path) -> None:
    with pytest.raises(SigningError, match="this is a public key"):
        SigningKey.read(private(tmp_path, new_key().public.jwk, 0o644))


def test_the_client_does_without_the_packages_for_signing() -> None:
    code = """
import sys
sys.modules["joserfc"] = None
import puhui_client, puhui_client.canonical
try:
    import puhui_client.signing
except ImportError as error:
    print(error)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT
    )
    assert "pip install 'puhui[signing]'" in ran.stdout
