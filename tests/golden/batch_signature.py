"""Makes batch_signature.json: batches, their canonical bytes and signatures over them.

Written against RFC 7515 and `PushBatch.jws` alone, with neither end's implementation, which are
both compared with it. The keys are those of a sentence, so that no key is kept; ES256 signs the
same each time by RFC 6979.

    python -m tests.golden.batch_signature
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from puhui.common.v1.types_pb2 import DatePeriod, SubjectRef
from puhui.datashare.v1.payloads_pb2 import (
    INVOICE_SIDE_OUTPUT,
    INVOICE_STATUS_VALID,
    TaxFiling,
    VatInvoice,
)
from puhui.datashare.v1.records_pb2 import Record

FILE = Path(__file__).with_suffix(".json")
SENTENCES = {"ed25519": "a golden key of Ed25519", "p256": "a golden key of P-256"}

_Key = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def key_of(name: str) -> _Key:
    """The private key of a sentence."""
    digest = hashlib.sha256(SENTENCES[name].encode()).digest()
    if name == "ed25519":
        return ed25519.Ed25519PrivateKey.from_private_bytes(digest)
    return ec.derive_private_key(int.from_bytes(digest) >> 1, ec.SECP256R1())


def pem_of(name: str) -> str:
    """The same, as a file has it."""
    content = key_of(name).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return content.decode()


def records() -> list[Record]:
    """An invoice and a filing of one firm."""

    def yuan(units: int) -> Money:
        return Money(currency_code="CNY", units=units)

    subject = SubjectRef(uscc="91110000MA00000077")
    invoice = Record(
        provider_record_id="output:1",
        subject=subject,
        record_type="vat_invoice",
        date=Date(year=2024, month=5, day=3),
        vat_invoice=VatInvoice(
            number="00041",
            side=INVOICE_SIDE_OUTPUT,
            counterparty="甲公司",
            net=yuan(100),
            tax=yuan(13),
            gross=yuan(113),
            status=INVOICE_STATUS_VALID,
        ),
    )
    invoice.obtained_at.seconds = 1_714_788_000
    filing = Record(
        provider_record_id="vat:202405",
        subject=subject,
        record_type="tax_filing",
        tax_filing=TaxFiling(tax_kind="vat", declared_tax=yuan(13), days_late=0),
    )
    month = DatePeriod(to=Date(year=2024, month=5, day=31))
    getattr(month, "from").CopyFrom(Date(year=2024, month=5, day=1))
    filing.period.CopyFrom(month)
    filing.obtained_at.seconds = 1_718_416_800
    return [invoice, filing]


def golden() -> dict[str, Any]:
    """What the file holds."""
    both = records()
    batches = [
        ("a batch of a delivery", "delivery-1", 7, both, "ed25519"),
        ("the same by a P-256 key", "delivery-1", 7, both, "p256"),
        ("SubmitRecords", "", 0, both[:1], "ed25519"),
        ("without rows", "期末-1", 1, [], "ed25519"),
    ]
    return {
        "about": "Made by `python -m tests.golden.batch_signature`; records are in base64.",
        "keys": {
            name: {"public_jwk": _jwk(name), "key_id": _key_id(_jwk(name))} for name in SENTENCES
        },
        "batches": [
            {
                "name": name,
                "delivery_id": delivery_id,
                "sequence": sequence,
                "records": [
                    base64.b64encode(row.SerializeToString(deterministic=True)).decode()
                    for row in rows
                ],
                "canonical": _canonical(delivery_id, sequence, rows),
                "key": key,
                "jws": _sign(key, _canonical(delivery_id, sequence, rows)),
            }
            for name, delivery_id, sequence, rows, key in batches
        ],
    }


def _canonical(delivery_id: str, sequence: int, rows: list[Record]) -> str:
    digests = [
        hashlib.sha256(row.SerializeToString(deterministic=True)).hexdigest() for row in rows
    ]
    return "".join(f"{line}\n" for line in ["puhui batch v1", delivery_id, sequence, *digests])


def _sign(name: str, canonical: str) -> str:
    key = key_of(name)
    algorithm = "Ed25519" if isinstance(key, ed25519.Ed25519PrivateKey) else "ES256"
    header = _base64(_compact({"alg": algorithm, "kid": _key_id(_jwk(name))}))
    covered = f"{header}.{_base64(canonical.encode())}".encode()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        signature = key.sign(covered)
    else:
        made = key.sign(covered, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        signature = b"".join(part.to_bytes(32) for part in decode_dss_signature(made))
    return f"{header}..{_base64(signature)}"


def _jwk(name: str) -> dict[str, str]:
    key = key_of(name)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"crv": "Ed25519", "kty": "OKP", "x": _base64(public)}
    point = key.public_key().public_numbers()
    x, y = (_base64(part.to_bytes(32)) for part in (point.x, point.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def _key_id(jwk: dict[str, str]) -> str:
    """RFC 7638: of the required members, in the order of their names."""
    return _base64(hashlib.sha256(_compact(jwk)).digest())


def _compact(value: dict[str, str]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


if __name__ == "__main__":
    FILE.write_text(json.dumps(golden(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
