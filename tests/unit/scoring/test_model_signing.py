"""Keys and signatures of models."""

import base64
import json
import multiprocessing
import os
from contextlib import nullcontext
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey

from services.kit.config import ConfigError
from services.scoring.models.signing import (
    PUBLIC,
    ModelKey,
    SignatureError,
    key_at,
    read_public,
    trusted_keys,
    verify,
)

CONTENT = '{"version": "企业"}\n'.encode()


def p256() -> ModelKey:
    made = generate_private_key(SECP256R1())
    return ModelKey(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.mark.parametrize(("key", "algorithm"), [(ModelKey.new(), "EdDSA"), (p256(), "ES256")])
def test_a_signature_is_a_detached_jws_that_others_can_check(key: ModelKey, algorithm: str) -> None:
    signature = key.sign(CONTENT)
    assert verify(signature, CONTENT) == key.key_id
    header = json.loads(base64.urlsafe_b64decode(signature.partition("..")[0] + "=="))
    assert header == {"alg": algorithm, "jwk": json.loads(key.jwk), "kid": key.key_id}
    public = (OKPKey if algorithm == "EdDSA" else ECKey).import_key(header["jwk"])
    assert public.thumbprint() == key.key_id
    payload = base64.urlsafe_b64encode(CONTENT).rstrip(b"=").decode()
    whole = signature.replace("..", f".{payload}.")
    with pytest.warns(match="deprecated") if algorithm == "EdDSA" else nullcontext():
        read = jws.deserialize_compact(whole, public, algorithms=[algorithm])
    assert read.payload == CONTENT


def header_of(key: ModelKey, **changes: object) -> str:
    """A signature whose header says something else."""
    header, _, signature = key.sign(CONTENT).partition("..")
    stated = json.loads(base64.urlsafe_b64decode(header + "==")) | changes
    stated = {name: value for name, value in stated.items() if value is not None}
    changed = base64.urlsafe_b64encode(json.dumps(stated).encode()).rstrip(b"=").decode()
    return f"{changed}..{signature}"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"alg": "none"}, "another key"),
        ({"alg": "ES256"}, "another key"),
        ({"alg": "HS256"}, "another key"),
        ({"kid": ModelKey.new().key_id}, "another key"),
        ({"kid": None}, "other members"),
        ({"jwk": None}, "other members"),
        ({"crit": ["exp"]}, "other members"),
        ({"jwk": "text"}, "holds no public key"),
        ({"jwk": {"kty": "oct", "k": "AAAA"}}, "holds no public key"),
        ({"jwk": json.loads(ModelKey.new().jwk)}, "another key"),
    ],
)
def test_a_header_that_says_something_else_is_refused(
    changes: dict[str, object], problem: str
) -> None:
    with pytest.raises(SignatureError, match=problem):
        verify(header_of(ModelKey.new(), **changes), CONTENT)


def test_a_private_key_in_the_header_is_refused() -> None:
    key = ModelKey.new()
    stated = json.loads(key.jwk) | {"d": "AAAA"}
    with pytest.raises(SignatureError, match="holds no public key"):
        verify(header_of(key, jwk=stated), CONTENT)


def test_a_signature_of_other_bytes_is_refused() -> None:
    with pytest.raises(SignatureError, match="not a signature of these bytes"):
        verify(ModelKey.new().sign(CONTENT), CONTENT + b" ")


def test_a_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model-key.pem"
    key = key_at(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert key_at(path).key_id == key.key_id
    assert read_public(path.with_name(path.name + PUBLIC)) == key.key_id
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name, path.name + PUBLIC]
    with pytest.raises(FileExistsError):
        ModelKey.new().write(path)
    assert ModelKey.read(path).key_id == key.key_id


def test_of_two_that_make_a_key_at_once_both_get_the_same(tmp_path: Path) -> None:
    path = tmp_path / "model-key.pem"
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.map(_id_at, [path] * 6)
    assert set(found) == {ModelKey.read(path).key_id}


def _id_at(path: Path) -> str:
    return key_at(path).key_id


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "model-key.pem"
    key_at(path)
    path.chmod(mode)
    with pytest.raises(SignatureError, match="chmod 600"):
        ModelKey.read(path)


def test_what_is_no_private_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    other = generate_private_key(SECP384R1())
    for content in (
        b"",
        b"nothing",
        other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        ModelKey.new().jwk.encode(),
    ):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        with pytest.raises(SignatureError, match="no Ed25519 or P-256 private key"):
            ModelKey.read(path)
    with pytest.raises(SignatureError, match="cannot be read"):
        ModelKey.read(tmp_path / "absent")


def test_trusted_keys_are_public_ones_in_jwk_or_pem(tmp_path: Path) -> None:
    key, other = key_at(tmp_path / "a.pem"), p256()
    pem = load_pem_private_key((tmp_path / "a.pem").read_bytes(), None).public_key()
    (tmp_path / "a.pub.pem").write_bytes(
        pem.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "b.jwk").write_text(other.jwk)
    named = [str(tmp_path / name) for name in ("a.pub.pem", f"a.pem{PUBLIC}", "b.jwk")]
    assert trusted_keys("s", named) == frozenset({key.key_id, other.key_id})
    assert trusted_keys("s", []) is None
    for path in (tmp_path / "a.pem", tmp_path / "absent"):
        with pytest.raises(ConfigError, match=r"scoring\.trusted_model_keys"):
            trusted_keys("scoring.trusted_model_keys", [str(path)])
