"""Filed reports: what passes, and what a changed byte anywhere comes to."""

import base64
import hashlib
import json
import re

import pytest
from rfc8785 import dumps as canonical

from puhui_client.report_files import carried, read_keys, verify
from puhui_client.signing import PublicKey, SigningError
from services.scoring.models.signing import ModelKey
from services.scoring.reports import html
from services.scoring.reports.content import CONTENT
from services.scoring.reports.domain import Language, Proof, document
from services.scoring.reports.pdf import Typesetter
from services.scoring.reports.view import view
from tests.fakes.reports import AS_OF, basis

KEY, OTHER = ModelKey.new(), ModelKey.new()
KEYS = {KEY.key_id: PublicKey.parse(KEY.jwk)}
DOCUMENT = document(basis(), CONTENT)
RAW = canonical(DOCUMENT)
PROOF = Proof(hashlib.sha256(RAW).hexdigest(), KEY.sign(RAW), KEY.key_id)
HTML = html.render(view(DOCUMENT, Language.ZH, PROOF), RAW)
FILES = {"json": RAW, "html": HTML}


@pytest.fixture(scope="module")
def pdf() -> bytes:
    return Typesetter().render(view(DOCUMENT, Language.EN, PROOF), RAW, AS_OF)


@pytest.mark.parametrize("kind", ["json", "html"])
def test_a_file_passes_with_its_signature_and_not_with_a_byte_changed(kind: str) -> None:
    content = FILES[kind]
    jws = KEY.sign(content)
    filed = verify(content, jws, KEYS)
    assert filed.whole
    assert filed.document == json.loads(RAW)
    for at in range(0, len(content), len(content) // 40):
        changed = bytearray(content)
        changed[at] ^= 1
        with pytest.raises(SigningError):
            verify(bytes(changed), jws, KEYS)


def test_a_page_without_its_signature_proves_what_it_carries_and_says_so() -> None:
    assert not verify(HTML, "", KEYS).whole
    forged = HTML.replace(b'"score":690', b'"score":790', 1)
    with pytest.raises(SigningError):
        verify(forged, "", KEYS)


def test_a_pdf_carries_the_same(pdf: bytes) -> None:
    assert carried(pdf) == (RAW, PROOF.jws)
    assert not verify(pdf, "", KEYS).whole
    assert verify(pdf, KEY.sign(pdf), KEYS).whole
    with pytest.raises(SigningError):
        verify(pdf + b" ", KEY.sign(pdf), KEYS)


def test_a_broken_pdf_is_no_report(pdf: bytes) -> None:
    broken = re.sub(
        rb"/EF<<.*?>>", lambda held: b"/EF<</F 7/UF 7".ljust(len(held[0]) - 2) + b">>", pdf
    )
    with pytest.raises(SigningError, match="does not carry"):
        verify(broken, "", KEYS)
    # Nor is it looked into when its signature says that it is not ours.
    with pytest.raises(SigningError, match="signature"):
        verify(broken, KEY.sign(pdf), KEYS)


def test_json_alone_proves_nothing() -> None:
    with pytest.raises(SigningError, match="signature is not there"):
        verify(RAW, "", KEYS)


def test_a_key_that_nobody_named_is_not_believed() -> None:
    with pytest.raises(SigningError, match="not among those named"):
        verify(RAW, OTHER.sign(RAW), KEYS)


def test_a_key_in_the_signature_does_not_stand_in_for_the_named_one() -> None:
    header, _, signature = OTHER.sign(RAW).partition("..")
    stated = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    stated["kid"] = KEY.key_id
    forged = base64.urlsafe_b64encode(json.dumps(stated).encode()).rstrip(b"=").decode()
    with pytest.raises(SigningError):
        verify(RAW, f"{forged}..{signature}", KEYS)


def test_a_receipt_of_another_access_does_not_pass() -> None:
    stated = json.loads(RAW)
    stated["decision"]["access_id"] = "acc_another"
    raw = canonical(stated)
    with pytest.raises(SigningError, match="another access"):
        verify(raw, KEY.sign(raw), KEYS)


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"%PDF-1.7\n", b"[]", b'{"a":1}'])
def test_what_is_no_report_is_told_as_such(content: bytes) -> None:
    with pytest.raises(SigningError):
        verify(content, KEY.sign(content), KEYS)


def test_keys_are_read_from_a_set_or_alone() -> None:
    alone, together = read_keys(KEY.jwk), read_keys(f'{{"keys": [{KEY.jwk}, {OTHER.jwk}]}}')
    assert list(alone) == [KEY.key_id]
    assert set(together) == {KEY.key_id, OTHER.key_id}
    with pytest.raises(SigningError):
        read_keys("no keys")


def test_a_backslash_of_the_document_is_not_taken_for_one_of_the_page() -> None:
    stated = document(basis(officer="\\u003c <b> \\ & \u2028", file_reference='"\\"'), CONTENT)
    raw = canonical(stated)
    page = html.render(view(stated, Language.EN, PROOF), raw)
    assert carried(page)[0] == raw
