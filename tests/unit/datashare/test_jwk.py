"""Which public keys are accepted."""

import base64
import json
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from services.datashare.participants.jwk import imported, public_key
from services.kit.errors import InvalidArgumentError

# Ed25519, RFC 8032, section 5.1; written anew here, to be held against the table in jwk.py.
P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
ORDER = 2**252 + 27742317777372353535851937790883648493
Point = tuple[int, int]


def _add(one: Point, two: Point) -> Point:
    (x1, y1), (x2, y2) = one, two
    product = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P)
    return x % P, y % P


def _times(number: int, point: Point) -> Point:
    found = (0, 1)
    while number:
        if number & 1:
            found = _add(found, point)
        point = _add(point, point)
        number >>= 1
    return found


def _x_of(y: int) -> int | None:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return x if x * x % P == square else None


def _small_order_points() -> set[int]:
    """Return the y of every point whose order divides 8: whatever the prime order leaves over."""
    found: set[int] = set()
    y = 2
    while len(found) < 5:
        x = _x_of(y)
        if x is not None:
            found.add(_times(ORDER, (x, y))[1])
        y += 1
    return found


def _okp(y: int, **more: Any) -> str:
    x = base64.urlsafe_b64encode(y.to_bytes(32, "little")).rstrip(b"=").decode()
    return json.dumps({"kty": "OKP", "crv": "Ed25519", "x": x, **more})


def _refusal(jwk: str) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        public_key(jwk)
    assert caught.value.reason == "FIELD_INVALID"
    (problem,) = caught.value.fields
    assert problem.field == "public_jwk"
    return problem.problem


@pytest.mark.parametrize(
    "private", [OKPKey.generate_key("Ed25519"), ECKey.generate_key("P-256")], ids=["OKP", "EC"]
)
def test_a_public_key_has_one_name_and_one_spelling(private: OKPKey | ECKey) -> None:
    members = dict(private.as_dict(private=False))
    more = {"kid": "mine", "use": "sig", "alg": "x", **members, "x": f"{members['x']}="}
    accepted = public_key(json.dumps(more))
    assert accepted == public_key(json.dumps(members))
    # RFC 7638
    assert accepted.key_id == private.thumbprint()
    assert json.loads(accepted.jwk).keys() <= {"kty", "crv", "x", "y"}
    assert imported(accepted.jwk).thumbprint() == private.thumbprint()


def test_rfc_8037_example() -> None:
    # RFC 8037, appendices A.2 and A.3.
    jwk = '{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'
    assert public_key(jwk).key_id == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_private_key_is_sent_back() -> None:
    for private in (OKPKey.generate_key("Ed25519"), ECKey.generate_key("P-256")):
        problem = _refusal(json.dumps(private.as_dict(private=True)))
        assert "private" in problem
        assert "make a new key" in problem


@pytest.mark.parametrize(
    "jwk",
    [
        json.dumps(RSAKey.generate_key(2048).as_dict(private=False)),
        json.dumps(ECKey.generate_key("P-384").as_dict(private=False)),
        json.dumps(OKPKey.generate_key("X25519").as_dict(private=False)),
        json.dumps({"kty": "OKP", "crv": "P-256", "x": "AAAA"}),
        json.dumps({"kty": ["OKP"], "crv": {}}),
        "{}",
    ],
    ids=["RSA", "P-384", "X25519", "mixed", "no texts", "empty"],
)
def test_other_kinds(jwk: str) -> None:
    assert "Ed25519 key (kty OKP) or a P-256 key (kty EC)" in _refusal(jwk)


def test_a_symmetric_key() -> None:
    assert "secret" in _refusal(json.dumps(OctKey.generate_key(256).as_dict(private=True)))


@pytest.mark.parametrize("text", ["", "x", "[]", "null", "[" * 100_000, '"{}"', '{"keys": []'])
def test_no_key(text: str) -> None:
    assert "send one public JWK" in _refusal(text)


def test_a_key_for_something_else() -> None:
    assert "`use`" in _refusal(_okp(4, use="enc"))


@pytest.mark.parametrize("x", [None, 1, "", "AAAA", "!" * 43, "A" * 44, "é" * 43])
def test_a_coordinate_of_another_length(x: object) -> None:
    assert "`x` of 32 bytes" in _refusal(json.dumps({"kty": "OKP", "crv": "Ed25519", "x": x}))


def test_weak_keys() -> None:
    small = _small_order_points()
    assert len(small) == 5
    for y in small:
        for sign in (0, 1 << 255):
            assert "weak" in _refusal(_okp(y | sign))


def test_points_off_the_curve_or_spelled_otherwise() -> None:
    off = next(y for y in range(2, 100) if _x_of(y) is None)
    for y in (off, P, P + 1, 2**255 - 1):
        assert "no point of its curve" in _refusal(_okp(y))
    members = dict(ECKey.generate_key("P-256").as_dict(private=False))
    members["y"] = members["x"]
    assert "no point of its curve" in _refusal(json.dumps(members))
