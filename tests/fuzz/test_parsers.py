"""Parsers of what strangers send, on seeds, on what hypothesis makes, and by atheris."""

import base64
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puhui.common.v1 import relay_pb2
from tests.fuzz.targets import TARGETS


def _part(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def _jws(header: bytes, payload: bytes) -> bytes:
    return b".".join((_part(header), _part(payload), _part(b"x" * 64)))


DEEP = b"[" * 100_000
CLAIMS = b'{"sub": "a", "iat": 1795000000, "exp": 1795000060, "cnf": {"x5t#S256": "y"}}'
SEEDS = (
    b"",
    b"{}",
    b"null",
    b"\xff\xfe",
    DEEP,
    b'{"a":' * 50_000,
    b'{"order": {"subjectId": "s", "subject_id": "t"}}',
    b'{"order": 1e999, "x": NaN}',
    b'{"exp": ' + b"9" * 5000 + b"}",
    b'{"exp": 1e400, "iat": -1}',
    b'{"kty": "OKP", "crv": "Ed25519", "x": "AA"}',
    b'{"kty": "EC", "crv": "P-256", "x": "", "y": 1}',
    b'{"kty": "RSA", "n": "AQAB", "e": ""}',
    b'{"kty": [], "alg": {}, "kid": 1}',
    b'{"kty": "OKP", "crv": "Ed25519", "x": "AA", "key_ops": 1}',
    b'{"kty": "OKP", "crv": "Ed25519", "x": "AA", "alg": []}',
    b"order.subject_id=1&order.subject_id=2&order..=&order.officer.name=%00",
    b"a." * 5000,
    b"..",
    CLAIMS,
    _jws(b'{"alg": "EdDSA"}', CLAIMS),
    _jws(b'{"alg": null}', b"[]"),
    _jws(b'{"alg": "none", "alg": "EdDSA"}', b"{}"),
    _jws(b'{"alg": "EdDSA", "crit": []}', DEEP),
    _jws(b'{"alg": "EdDSA", "b64": false}', b'{"iat": true}'),
    relay_pb2.RelayRequest(
        calls=[relay_pb2.RelayedCall(method="/x", identity="a.b.c", body=b"\xff")]
    ).SerializeToString(),
)


@pytest.mark.parametrize("target", TARGETS)
def test_seeds(target: str) -> None:
    for seed in SEEDS:
        TARGETS[target](seed)
        for cut in range(0, min(len(seed), 60), 7):
            TARGETS[target](seed[cut:])
            TARGETS[target](seed[: len(seed) - cut])


@given(data=st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_anything(data: bytes) -> None:
    for target in TARGETS.values():
        target(data)


@pytest.mark.heavy
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: it has wheels for Linux on x86-64 alone",
)
@pytest.mark.parametrize("target", TARGETS)
def test_what_atheris_finds(target: str, tmp_path: Path, checkout: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS):
        (corpus / str(number)).write_bytes(seed[:8192])
    bounds = ["-max_total_time=5", "-max_len=8192", "-rss_limit_mb=1500", "-timeout=10"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", target, *bounds, str(corpus)],
        cwd=checkout,
        env={"PYTHONPATH": str(checkout), "PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
