"""Deliveries over both databases: signatures, evidence, control totals, reconciliation."""

import asyncio
import base64
import hashlib
import json
import warnings
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc import jws as rfc7515
from joserfc.jwk import ECKey, OKPKey

from puhui.datashare.v1 import records_pb2 as pb
from puhui_client.canonical import canonical_batch
from puhui_client.signing import SigningKey as PrivateKey
from puhui_client.signing import new_key
from puhui_client.totals import Totals
from services.datashare.china import day_number
from services.datashare.deliveries.domain import (
    SHOWN_DIFFERENCES,
    Group,
    Reconciliation,
    Sum,
)
from services.datashare.deliveries.store import batch_evidence, delivery, intake_reject
from services.datashare.deliveries.wire import control_fields
from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.domain import Sealer
from services.datashare.participants.app import ParticipantDirectory
from services.datashare.participants.domain import (
    Participant,
    Role,
    SigningKey,
    Standing,
    bootstrap_operator,
)
from services.datashare.participants.jwk import public_key
from services.datashare.participants.servicer import (
    ParticipantCodec,
    SigningKeyCodec,
    TimeCodec,
)
from services.datashare.subjects.uscc import make
from services.kit.db import Database, retry_on_conflict
from services.kit.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
    PermissionDeniedError,
    PuhuiError,
)
from services.kit.identity import Caller
from services.kit.ids import SequentialIds
from tests.fakes.datashare_records import (
    NOW,
    USCC,
    Datashare,
    batch,
    close,
    filing,
    header,
    invoice,
    provider,
    record,
)

TAX = "par_tax"
OPERATOR = Caller("operator", "OPERATOR")
TODAY = date(2024, 6, 15)
OTHER_FIRM = make("91", "110108", "MA01RXYA")


@pytest.fixture
async def datashare(database: Database) -> Datashare:
    built = Datashare(database)
    await built.register(provider("tax"), provider("tax", suffix="2"))
    return built


async def registered(datashare: Datashare, of: str = TAX) -> PrivateKey:
    """Register a new key of a provider."""
    key = new_key()
    public = public_key(key.public.jwk)
    async with datashare.transactions.begin() as work:
        added = SigningKey(public.key_id, of, public.jwk, NOW)
        assert await work.participants.add_signing_key(added)
    return key


async def revoke(datashare: Datashare, key: PrivateKey) -> None:
    async with datashare.transactions.begin() as work:
        await work.participants.revoke_signing_key(key.key_id, NOW)


def signed(
    key: PrivateKey, sequence: int, *rows: pb.Record, delivery_id: str = "d"
) -> pb.PushRecordsRequest:
    """Return a batch with a signature over it."""
    content = canonical_batch(delivery_id, sequence, rows)
    return batch(sequence, *rows, jws=key.sign(content))


async def reconciled(datashare: Datashare, delivery_id: str, of: str = TAX) -> Reconciliation:
    return await datashare.reconciliations.get(OPERATOR, of, delivery_id)


def counts(found: Reconciliation) -> tuple[int, ...]:
    return tuple(found.counted[:5])


class TestSignatures:
    async def test_a_signed_batch_is_taken_in_and_proved_later(self, datashare: Datashare) -> None:
        key = await registered(datashare)
        rows = [invoice("a"), invoice("b", counterparty="91110000MA00000077")]
        sent = signed(key, 1, *rows)
        _, ack = await datashare.push(TAX, header("d"), sent)
        assert list(ack.ack.accepted) == [0, 1]

        caller = Caller(TAX, "PROVIDER")
        kept = await datashare.reconciliations.evidence(caller, TAX, "d", 1)
        assert kept.jws == sent.batch.jws
        assert kept.recorded_at == NOW
        # What was kept proves the batch without the platform: the signature covers it, and it
        # names every record, as it was sent, by its hash.
        key.public.verify(kept.jws, kept.canonical)
        lines = kept.canonical.decode().splitlines()
        assert lines[:3] == ["puhui batch v1", "d", "1"]
        for row, line in zip(rows, lines[3:], strict=True):
            content = row.SerializeToString(deterministic=True)
            assert hashlib.sha256(content).hexdigest() == line
        assert b"91110000MA00000077" not in kept.canonical

    async def test_evidence_is_shown_to_those_who_may_see_it(self, datashare: Datashare) -> None:
        key = await registered(datashare)
        await datashare.push(TAX, header("d"), signed(key, 1, invoice("a")))
        for role in ("OPERATOR", "REGULATOR"):
            kept = await datashare.reconciliations.evidence(Caller("x", role), TAX, "d", 1)
            assert kept.key_id == key.key_id
        for caller, delivery_id, sequence in (
            (Caller("par_tax2", "PROVIDER"), "d", 1),
            (OPERATOR, "d", 2),
            (OPERATOR, "e", 1),
        ):
            with pytest.raises(NotFoundError):
                await datashare.reconciliations.evidence(caller, TAX, delivery_id, sequence)

    async def test_a_submission_is_signed_too(self, datashare: Datashare) -> None:
        key = await registered(datashare)
        row = invoice("a")
        covered = canonical_batch("", 0, [row])
        with pytest.raises(InvalidArgumentError) as caught:
            await datashare.submit(TAX, row)
        assert caught.value.reason == "SIGNATURE_MISSING"
        await datashare.submit(TAX, row, jws=key.sign(covered))
        # Sent again, it is kept once.
        ack = await datashare.submit(TAX, row, jws=key.sign(covered))
        assert list(ack.duplicates) == [0]
        name = hashlib.sha256(covered).hexdigest()
        kept = await datashare.reconciliations.evidence(OPERATOR, TAX, name, 0)
        assert kept.canonical == covered
        key.public.verify(kept.jws, kept.canonical)

    async def test_evidence_tells_nothing_without_the_keys(self, datashare: Datashare) -> None:
        key = await registered(datashare)
        row = invoice("a", counterparty="91110000MA00000077")
        await datashare.push(TAX, header("d"), sent := signed(key, 1, row))
        covered = canonical_batch("", 0, [row])
        await datashare.submit(TAX, row, jws=key.sign(covered))
        async with datashare.database.read() as conn:
            stored = (await conn.execute(sa.select(batch_evidence))).all()
        clear = repr(stored).encode() + b"".join(bytes(each.content) for each in stored)
        # Whoever has all of a row but a firm's number finds that by any of these.
        record = hashlib.sha256(row.SerializeToString(deterministic=True))
        batch_jws = sent.batch.jws.encode()
        single = hashlib.sha256(covered)
        assert len(stored) == 2
        for guess in (record.digest(), single.digest(), batch_jws, key.sign(covered).encode()):
            assert guess not in clear
            assert guess.hex().encode() not in clear
        kept = await datashare.reconciliations.evidence(OPERATOR, TAX, single.hexdigest(), 0)
        key.public.verify(kept.jws, kept.canonical)

    async def test_an_unsigned_batch_is_refused_once_a_key_is_registered(
        self, datashare: Datashare
    ) -> None:
        await datashare.push(TAX, header("d"), batch(1, invoice("a")))
        key = await registered(datashare)
        with pytest.raises(InvalidArgumentError) as caught:
            await datashare.push(TAX, header("d"), batch(2, invoice("b")))
        assert caught.value.reason == "SIGNATURE_MISSING"
        assert caught.value.fields[0].field == "jws"
        # Also the last one sent again, of which all is known.
        with pytest.raises(InvalidArgumentError):
            await datashare.push(TAX, header("d"), batch(1, invoice("a")))
        await datashare.push(TAX, header("d"), signed(key, 2, invoice("b")))
        # The other provider goes on as it was.
        await datashare.push("par_tax2", header("d"), batch(1, invoice("a")))

    async def test_the_last_revoked_key_opens_no_door(self, datashare: Datashare) -> None:
        key = await registered(datashare)
        await revoke(datashare, key)
        with pytest.raises(InvalidArgumentError) as caught:
            await datashare.push(TAX, header("d"), batch(1, invoice("a")))
        assert caught.value.reason == "SIGNATURE_MISSING"

    async def test_a_signature_that_nobody_can_check_is_refused(self, datashare: Datashare) -> None:
        with pytest.raises(InvalidArgumentError, match="no signing key of yours") as caught:
            await datashare.push(TAX, header("d"), signed(new_key(), 1, invoice("a")))
        assert caught.value.reason == "SIGNATURE_INVALID"

    async def test_a_provider_changes_over_to_another_key(self, datashare: Datashare) -> None:
        old = await registered(datashare)
        new = await registered(datashare)
        await datashare.push(
            TAX, header("d"), signed(old, 1, invoice("a")), signed(new, 2, invoice("b"))
        )
        await revoke(datashare, old)
        with pytest.raises(InvalidArgumentError, match="revoked"):
            await datashare.push(TAX, header("d"), signed(old, 3, invoice("c")))
        await datashare.push(TAX, header("d"), signed(new, 3, invoice("c")))
        # What the old one signed is evidence for ever.
        kept = await datashare.reconciliations.evidence(OPERATOR, TAX, "d", 1)
        old.public.verify(kept.jws, kept.canonical)

    @pytest.mark.parametrize(
        "wrong",
        [
            "another sequence",
            "another delivery",
            "other rows",
            "a row more",
            "reordered rows",
            "a submission's",
            "another key",
            "another provider's key",
            "a revoked key",
            "alg none",
            "alg of a MAC",
            "critical header",
            "unencoded payload",
            "unknown header",
            "attached content",
            "no kid",
            "kid of another key",
            "kid that is no text",
            "no signature",
            "cut signature",
            "another spelling",
            "not base64",
            "header not JSON",
            "header not an object",
        ],
    )
    async def test_wrong_signatures(self, datashare: Datashare, wrong: str) -> None:
        key = await registered(datashare)
        other = await registered(datashare, "par_tax2")
        revoked = await registered(datashare)
        await revoke(datashare, revoked)
        rows = [invoice("a"), invoice("b")]
        content = canonical_batch("d", 1, rows)
        jws = _wrong(wrong, rows, content, key, other, revoked)
        with pytest.raises(InvalidArgumentError) as caught:
            await datashare.push(TAX, header("d"), batch(1, *rows, jws=jws))
        assert caught.value.reason == "SIGNATURE_INVALID"
        with pytest.raises(NotFoundError):
            await reconciled(datashare, "d")
        await datashare.push(TAX, header("d"), batch(1, *rows, jws=key.sign(content)))

    @pytest.mark.parametrize("change", ["register", "revoke"])
    async def test_keys_change_between_batches_and_not_within(
        self, datashare: Datashare, change: str
    ) -> None:
        directory = ParticipantDirectory(
            transactions=datashare.transactions,
            retry=retry_on_conflict,
            clock=datashare.clock,
            ids=SequentialIds(),
            sealer=Sealer(SequentialIds(), bytes),
            random_bytes=bytes,
            participant_codec=ParticipantCodec(),
            time_codec=TimeCodec(),
            signing_key_codec=SigningKeyCodec(),
            provider_kinds=(),
            bootstrap=None,
            operator=bootstrap_operator(datashare.clock.now(), ()),
            products=(),
            sandbox=True,
        )
        key = await registered(datashare) if change == "revoke" else new_key()
        request = RequestKey("operator", "r1", b"f" * 32)
        async with datashare.transactions.begin() as batch_under_way:
            held = await batch_under_way.participants.hold(TAX)
            changing = asyncio.create_task(
                directory.revoke_signing_key(request, TAX, key.key_id)
                if change == "revoke"
                else directory.register_signing_key(request, TAX, key.public.jwk)
            )
            await asyncio.wait({changing}, timeout=0.3)
            assert not changing.done()
        assert held
        assert held.signs == (change == "revoke")
        changed = await changing
        assert (changed.revoked_at is not None) == (change == "revoke")
        async with datashare.transactions.begin() as next_batch:
            held = await next_batch.participants.hold(TAX)
        assert held
        assert held.signs

    async def test_a_batch_sent_again_may_be_signed_anew(self, datashare: Datashare) -> None:
        # ES256 gives another signature each time; what was sent is the same.
        first, second = await registered(datashare), await registered(datashare)
        _, ack = await datashare.push(TAX, header("d"), signed(first, 1, invoice("a")))
        _, again = await datashare.push(TAX, header("d"), signed(second, 1, invoice("a")))
        assert again == ack
        kept = await datashare.reconciliations.evidence(OPERATOR, TAX, "d", 1)
        assert kept.key_id == first.key_id


def _wrong(
    wrong: str,
    rows: list[pb.Record],
    content: bytes,
    key: PrivateKey,
    other: PrivateKey,
    revoked: PrivateKey,
) -> str:
    """Return a signature that is not one over the batch 1 of delivery "d" by a valid key."""
    right = key.sign(content)
    protected, _, signature = right.partition("..")
    named = {"kid": key.key_id}
    match wrong:
        case "another sequence":
            return key.sign(canonical_batch("d", 2, rows))
        case "another delivery":
            return key.sign(canonical_batch("e", 1, rows))
        case "other rows":
            return key.sign(canonical_batch("d", 1, [invoice("a"), invoice("b", net=1)]))
        case "a row more":
            return key.sign(canonical_batch("d", 1, [*rows, invoice("c")]))
        case "reordered rows":
            return key.sign(canonical_batch("d", 1, rows[::-1]))
        case "a submission's":
            return key.sign(canonical_batch("", 0, rows))
        case "another key":
            return new_key().sign(content)
        case "another provider's key":
            return other.sign(content)
        case "a revoked key":
            return revoked.sign(content)
        case "alg none":
            return f"{_base64({'alg': 'none', **named})}..{signature}"
        case "alg of a MAC":
            return f"{_base64({'alg': 'HS256', **named})}..{signature}"
        case "critical header":
            return _signed_with(key, content, {**named, "crit": ["exp"], "exp": 1})
        case "unencoded payload":
            return _signed_with(key, content, {**named, "crit": ["b64"], "b64": False})
        case "unknown header":
            return _signed_with(key, content, {**named, "puhui": "x"})
        case "attached content":
            return f"{protected}.{_base64(content)}.{signature}"
        case "no kid":
            return _signed_with(key, content, {})
        case "kid of another key":
            return _signed_with(key, content, {"kid": other.key_id})
        case "kid that is no text":
            return _signed_with(key, content, {"kid": [key.key_id]})
        case "no signature":
            return f"{protected}.."
        case "cut signature":
            return right[:-4]
        case "another spelling":
            return right + "="
        case "not base64":
            return f"{protected}..{signature[:-1]}!"
        case "header not JSON":
            return f"{_base64(b'{')}..{signature}"
        case _:
            return f"{_base64([])}..{signature}"


def _base64(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _signed_with(key: PrivateKey, content: bytes, header: dict[str, Any]) -> str:
    """Return a detached signature that is right but for what its header says."""
    protected = _base64({"alg": "Ed25519", **header})
    private = load_pem_private_key(key.pem.encode(), None)
    assert isinstance(private, Ed25519PrivateKey)
    signature = private.sign(f"{protected}.{_base64(content)}".encode())
    return f"{protected}..{_base64(signature)}"


@pytest.mark.parametrize("alg", ["Ed25519", "EdDSA", "ES256"])
async def test_algorithms(datashare: Datashare, alg: str) -> None:
    private = ECKey.generate_key("P-256") if alg == "ES256" else OKPKey.generate_key("Ed25519")
    public = public_key(json.dumps(private.as_dict(private=False)))
    async with datashare.transactions.begin() as work:
        await work.participants.add_signing_key(SigningKey(public.key_id, TAX, public.jwk, NOW))
    content = canonical_batch("d", 1, [invoice("a")])
    header_ = {"alg": alg, "kid": public.key_id}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # EdDSA is the older name, which others still use
        whole = rfc7515.serialize_compact(header_, content, private, algorithms=[alg])
    await datashare.push(
        TAX, header("d"), batch(1, invoice("a"), jws=rfc7515.detach_content(whole))
    )
    kept = await datashare.reconciliations.evidence(OPERATOR, TAX, "d", 1)
    assert kept.key_id == public.key_id


async def test_the_chain_tells_every_batch(datashare: Datashare) -> None:
    batches = [batch(1, invoice("a")), batch(2, invoice("b"), filing("f")), batch(3)]
    chain = b""
    for sent in batches:
        await datashare.push(TAX, header("d"), sent)
        content = pb.PushBatch(records=sent.batch.records).SerializeToString(deterministic=True)
        chain = hashlib.sha256(chain + hashlib.sha256(content).digest()).digest()
        (ready,) = await datashare.push(TAX, header("d"))
        assert ready.ready.chain_sha256 == chain
    (fresh,) = await datashare.push(TAX, header("e"))
    assert fresh.ready.chain_sha256 == b""


async def test_the_chain_ends_where_the_version_before_went_on(datashare: Datashare) -> None:
    await datashare.push(TAX, header("d"), batch(1, invoice("a")))
    async with datashare.database.begin() as conn:
        later = {"last_sequence": 2, "last_ack": pb.PushAck(sequence=2).SerializeToString()}
        await conn.execute(sa.update(delivery).values(**later))
    (ready,) = await datashare.push(TAX, header("d"))
    assert (ready.ready.last_sequence, ready.ready.chain_sha256) == (2, b"")
    await datashare.push(TAX, header("d"), batch(3, invoice("b")))
    (ready,) = await datashare.push(TAX, header("d"))
    assert (ready.ready.last_sequence, ready.ready.chain_sha256) == (3, b"")


async def test_a_delivery_of_the_version_before_goes_on(datashare: Datashare) -> None:
    ack = pb.PushAck(sequence=4, accepted=[0]).SerializeToString()
    async with datashare.database.begin() as conn:
        await conn.execute(
            sa.text(
                "INSERT INTO delivery (provider_id, delivery_id, historical, last_sequence, "
                "last_ack, last_sha256) VALUES (:provider, 'd', false, 4, :ack, :sha256)"
            ),
            {"provider": TAX, "ack": ack, "sha256": b"4" * 32},
        )
    # It says of no day that it was opened on it, so that no report has it for ever.
    assert await TestReport().listed(datashare, TODAY) == []
    ready, done = await datashare.push(TAX, header("d"), batch(5, invoice("a")))
    assert (ready.ready.last_sequence, ready.ready.chain_sha256) == (4, b"")
    assert list(done.ack.accepted) == [0]
    # What came in before was not counted, so that the ends do not agree.
    *_, closed = await datashare.push(
        TAX, header("d"), close(2, {("vat_invoice", 202401): (2, 226_00)})
    )
    assert not closed.closed.reconciliation.agrees
    assert await TestReport().listed(datashare, TODAY) == [(TAX, "d")]


class TestTotals:
    async def test_both_ends_agree(self, datashare: Datashare) -> None:
        first = [invoice("a", 100_00), invoice("b", -50_00, on="2024-02-29"), invoice("a", 100_00)]
        second = [
            invoice("a", 9_99),  # another content under the same id
            filing("f", on="2024-02-29"),
            record("x", "2024-01-03", record_type="vat_invoice"),
            record("y", "2024-01-03", record_type="no such type"),
        ]
        totals = Totals(control_fields(datashare.catalogue))
        totals.add(first)
        totals.add(second)
        said = pb.PushRecordsRequest(close=totals.close())
        *_, closed = await datashare.push(
            TAX, header("d"), batch(1, *first), batch(2, *second), said
        )
        told = closed.closed.reconciliation
        assert told.agrees
        assert told.closed_at.ToDatetime(NOW.tzinfo) == NOW
        assert (told.rows_sent, told.rows_received) == (7, 7)
        assert (told.accepted, told.duplicates, told.held, told.rejected) == (3, 1, 0, 3)
        assert {
            (total.record_type, total.month): (total.rows_sent, total.sum_sent)
            for total in told.totals
        } == {
            # gross is the control field of vat_invoice: net and 13 % tax
            ("vat_invoice", 202401): (4, 2 * 113_00 + 11_28),
            ("vat_invoice", 202402): (1, -56_50),
            ("tax_filing", 202402): (1, told.totals[1].sum_received),
            ("", 202401): (1, 0),
        }
        for total in told.totals:
            assert (total.rows_sent, total.sum_sent) == (total.rows_received, total.sum_received)
        found = await reconciled(datashare, "d")
        assert found.delivery.agrees
        assert counts(found) == (7, 3, 1, 0, 3)

    async def test_what_differs_is_shown_first(self, datashare: Datashare) -> None:
        rows = [invoice("a", 100_00), invoice("b", 100_00, on="2024-02-29")]
        said = close(
            2, {("vat_invoice", 202401): (1, 113_00), ("vat_invoice", 202402): (1, 113_01)}
        )
        *_, closed = await datashare.push(TAX, header("d"), batch(1, *rows), said)
        told = closed.closed.reconciliation
        assert not told.agrees
        assert [(total.month, total.sum_sent, total.sum_received) for total in told.totals] == [
            (202402, 113_01, 113_00),
            (202401, 113_00, 113_00),
        ]

    @pytest.mark.parametrize(
        ("rows", "totals"),
        [
            (2, {("vat_invoice", 202401): (1, 113_00)}),
            (1, {}),
            (1, {("vat_invoice", 202402): (1, 113_00)}),
            (1, {("vat_invoice", 202401): (1, 113_00), ("grant", 202401): (1, 0)}),
            (1, {("vat_invoice", 202401): (2, 113_00)}),
        ],
    )
    async def test_any_difference_shows(
        self, datashare: Datashare, rows: int, totals: dict[tuple[str, int], tuple[int, int]]
    ) -> None:
        *_, closed = await datashare.push(
            TAX, header("d"), batch(1, invoice("a")), close(rows, totals)
        )
        assert not closed.closed.reconciliation.agrees
        assert not (await reconciled(datashare, "d")).delivery.agrees

    async def test_a_batch_sent_again_counts_once(self, datashare: Datashare) -> None:
        for _ in range(3):
            await datashare.push(TAX, header("d"), batch(1, invoice("a"), invoice("b")))
        assert counts(await reconciled(datashare, "d")) == (2, 2, 0, 0, 0)

    async def test_the_same_close_again_gets_the_same_answer(self, datashare: Datashare) -> None:
        said = close(1, {("vat_invoice", 202401): (1, 113_00)})
        *_, first = await datashare.push(TAX, header("d"), batch(1, invoice("a")), said)
        datashare.clock.advance(timedelta(hours=1))
        _, again = await datashare.push(TAX, header("d"), said)
        assert again == first
        for other in (
            close(2, {("vat_invoice", 202401): (1, 113_00)}),
            close(1, {("vat_invoice", 202401): (1, 113_01)}),
            close(1, {}),
        ):
            with pytest.raises(AlreadyExistsError, match="closed before with other totals"):
                await datashare.push(TAX, header("d"), other)
        assert (await reconciled(datashare, "d")).delivery.agrees

    async def test_a_closed_delivery_takes_no_more(self, datashare: Datashare) -> None:
        said = close(1, {("vat_invoice", 202401): (1, 113_00)})
        _, ack, _ = await datashare.push(TAX, header("d"), batch(1, invoice("a")), said)
        with pytest.raises(FailedPreconditionError) as caught:
            await datashare.push(TAX, header("d"), batch(2, invoice("b")))
        assert caught.value.reason == "DELIVERY_CLOSED"
        # Whoever lost the ack gets it, and nothing is counted twice.
        _, again, _ = await datashare.push(TAX, header("d"), batch(1, invoice("a")), said)
        assert again == ack
        assert counts(await reconciled(datashare, "d")) == (1, 1, 0, 0, 0)

    async def test_nothing_follows_a_close(self, datashare: Datashare) -> None:
        with pytest.raises(InvalidArgumentError) as caught:
            await datashare.push(TAX, header("d"), close(0, {}), batch(1, invoice("a")))
        assert caught.value.reason == "HEADER_EXPECTED"

    async def test_an_empty_delivery_agrees(self, datashare: Datashare) -> None:
        _, closed = await datashare.push(TAX, header("d"), close(0, {}))
        assert closed.closed.reconciliation.agrees

    async def test_single_submissions_are_counted_by_day(self, datashare: Datashare) -> None:
        await datashare.submit(TAX, invoice("a"), invoice("b", on="2024-02-29"))
        await datashare.submit(TAX, invoice("a"), record("x", record_type="grant"))
        found = await reconciled(datashare, "submitted-2024-06-15")
        assert counts(found) == (4, 2, 1, 0, 1)
        assert found.delivery.agrees
        assert found.delivery.rows_sent == 4
        assert all(total.agrees for total in found.totals)
        assert found.delivery.closed_at is None
        datashare.clock.advance(timedelta(days=1))
        await datashare.submit(TAX, invoice("c"))
        assert counts(await reconciled(datashare, "submitted-2024-06-16")) == (1, 1, 0, 0, 0)
        ended = await reconciled(datashare, "submitted-2024-06-15")
        assert ended.delivery.closed_at == datetime(2024, 6, 15, 16, tzinfo=NOW.tzinfo)
        with pytest.raises(InvalidArgumentError):
            await datashare.push(TAX, header("submitted-2024-06-15"))

    async def test_refusals_are_counted_by_day_type_and_reason(self, datashare: Datashare) -> None:
        bad = [record("x", record_type="grant"), invoice("b", version=2), record("y")]
        await datashare.submit(TAX, invoice("a"), *bad)
        await datashare.push(TAX, header("d"), batch(1, *bad[:2]))
        datashare.clock.advance(timedelta(hours=12))  # past midnight in China
        await datashare.push(TAX, header("d"), batch(2, bad[0]))
        async with datashare.database.read() as conn:
            rows = (await conn.execute(sa.select(intake_reject))).all()
        day = day_number(TODAY)
        assert sorted(map(tuple, rows)) == [
            (TAX, "", day, "TYPE_UNKNOWN", 1),
            (TAX, "grant", day, "TYPE_NOT_YOURS", 2),
            (TAX, "grant", day + 1, "TYPE_NOT_YOURS", 1),
            (TAX, "vat_invoice", day, "VERSION_OUT_OF_ORDER", 2),
        ]


class TestReport:
    async def test_a_day_has_what_was_opened_or_closed_on_it_or_is_open(
        self, datashare: Datashare
    ) -> None:
        total = {("vat_invoice", 202401): (1, 113_00)}
        await datashare.push(TAX, header("agrees"), batch(1, invoice("a")), close(1, total))
        await datashare.push(TAX, header("differs"), batch(1, invoice("b")), close(2, total))
        await datashare.push(TAX, header("open"), batch(1, invoice("c")))
        await datashare.push("par_tax2", header("late"), batch(1, invoice("d")))
        await datashare.submit(TAX, invoice("e"))
        datashare.clock.advance(timedelta(days=2))
        await datashare.push("par_tax2", header("late"), close(1, total))

        assert await self.listed(datashare, TODAY) == [
            (TAX, "differs"),
            (TAX, "open"),
            (TAX, "agrees"),
            (TAX, "submitted-2024-06-15"),
            ("par_tax2", "late"),
        ]
        assert await self.listed(datashare, date(2024, 6, 14)) == []
        assert await self.listed(datashare, date(2024, 6, 16)) == [(TAX, "open")]
        assert await self.listed(datashare, None) == [(TAX, "open"), ("par_tax2", "late")]
        assert await self.listed(datashare, TODAY, provider_id="par_tax2") == [("par_tax2", "late")]

    async def listed(
        self,
        datashare: Datashare,
        day: date | None,
        provider_id: str = "",
        caller: Caller = OPERATOR,
    ) -> list[tuple[str, str]]:
        """Return what a report lists, read in pages of one and at once, which are the same."""
        whole, end = await datashare.reconciliations.list(caller, day, provider_id, None, 50)
        assert end is None
        found: list[Reconciliation] = []
        after = None
        while True:
            page, after = await datashare.reconciliations.list(caller, day, provider_id, after, 1)
            found += page
            if after is None:
                break
        assert found == list(whole)
        return [(each.delivery.provider_id, each.delivery.delivery_id) for each in whole]

    async def test_a_provider_sees_its_own(self, datashare: Datashare) -> None:
        for who in (TAX, "par_tax2"):
            await datashare.push(who, header("d"), batch(1, invoice("a")))
        me = Caller(TAX, "PROVIDER")
        assert await self.listed(datashare, TODAY, caller=me) == [(TAX, "d")]
        assert await self.listed(datashare, TODAY, TAX, me) == [(TAX, "d")]
        assert await self.listed(datashare, TODAY, "par_tax2", me) == []
        assert (await datashare.reconciliations.get(me, TAX, "d")).delivery.provider_id == TAX
        with pytest.raises(NotFoundError):
            await datashare.reconciliations.get(me, "par_tax2", "d")

    async def test_a_list_has_the_first_differences(self, datashare: Datashare) -> None:
        months = [year * 100 + month for year in range(2010, 2020) for month in range(1, 13)]
        said = {("vat_invoice", month): (1, 1) for month in months}
        said["vat_invoice", 202401] = (1, 113_00)
        await datashare.push(TAX, header("d"), batch(1, invoice("a")), close(121, said))
        (listed,), _ = await datashare.reconciliations.list(OPERATOR, TODAY, "", None, 50)
        assert [total.group for total in listed.totals] == [
            Group("vat_invoice", month) for month in months[:SHOWN_DIFFERENCES]
        ]
        whole = await reconciled(datashare, "d")
        assert len(whole.totals) == 121
        assert whole.totals[-1].sent == Sum(1, 113_00)
        assert whole.totals[-1].agrees


class TestSeveralStreams:
    async def test_two_deliveries_of_one_provider_at_once(self, datashare: Datashare) -> None:
        async def push(delivery_id: str) -> list[int]:
            rows = [
                [invoice(f"{delivery_id}-{number}-{row}") for row in range(20)]
                for number in range(5)
            ]
            _, *acks = await datashare.push(
                TAX,
                header(delivery_id),
                *(batch(number, *part) for number, part in enumerate(rows, start=1)),
                close(100, {("vat_invoice", 202401): (100, 100 * 113_00)}),
            )
            assert acks.pop().closed.reconciliation.agrees
            return [len(ack.ack.accepted) for ack in acks]

        done = await asyncio.gather(push("d"), push("e"), push("f"))
        assert list(done) == [[20] * 5] * 3
        (series,) = await datashare.read("vat_invoice")
        assert dict(zip(series.months, series.columns[0].values, strict=True))[202401] in (0, 300)

    async def test_one_delivery_from_two_streams_takes_effect_once(
        self, datashare: Datashare
    ) -> None:
        batches = [batch(number, invoice(f"i{number}")) for number in range(1, 6)]

        async def push() -> list[tuple[int, ...]] | str:
            try:
                _, *acks = await datashare.push(TAX, header("d"), *batches)
            except PuhuiError as error:
                return error.reason
            return [(ack.ack.sequence, *ack.ack.accepted) for ack in acks]

        done = await asyncio.gather(push(), push())
        # One is ahead; the other is told where the delivery is, and goes on there.
        assert [(number, 0) for number in range(1, 6)] in done or "OUT_OF_SEQUENCE" in done
        (ready,) = await datashare.push(TAX, header("d"))
        rest = batches[ready.ready.last_sequence :]
        await datashare.push(TAX, header("d"), *rest)
        assert counts(await reconciled(datashare, "d")) == (5, 5, 0, 0, 0)
        with pytest.raises(OutOfRangeError):
            await datashare.push(TAX, header("d"), batches[1])


class TestFirmsAndBanks:
    @pytest.fixture
    async def members(self, datashare: Datashare) -> Datashare:
        async with datashare.transactions.begin() as work:
            ids = await work.subjects.resolve_or_create_many([USCC, OTHER_FIRM])
        firm = provider("firm")
        await datashare.register(
            replace(firm, role=Role.FIRM, provider_kind="", subject_id=ids[USCC]),
            replace(provider("bank"), role=Role.BANK, provider_kind=""),
            Participant(
                "par_rival", Role.FIRM, "B", "", ids[OTHER_FIRM], False, Standing.ACTIVE, NOW
            ),
            Participant("par_reg", Role.REGULATOR, "R", "", None, False, Standing.ACTIVE, NOW),
        )
        return datashare

    async def test_a_firm_supplies_what_firms_do_about_itself_alone(
        self, members: Datashare
    ) -> None:
        by_id = declaration("by-id")
        by_id.subject.subject_id = await members.subject_id(USCC)
        foreign_id = declaration("foreign-id")
        foreign_id.subject.subject_id = await members.subject_id(OTHER_FIRM)
        unknown = declaration("unknown", uscc=make("91", "110108", "MA09NEWX"))
        hinted = declaration("hinted")
        hinted.ClearField("subject")
        hinted.hint.name = "甲公司"
        ack = await members.submit(
            "par_firm",
            declaration("own"),
            by_id,
            declaration("foreign", uscc=OTHER_FIRM),
            foreign_id,
            unknown,
            invoice("i"),
            hinted,
        )
        assert list(ack.accepted) == [0, 1]
        reasons = {rejection.row: rejection.reason for rejection in ack.rejections}
        assert {row: reasons[row] for row in (2, 3, 4, 5)} == {
            2: "NOT_YOURS",
            3: "NOT_YOURS",
            4: "NOT_YOURS",
            5: "TYPE_NOT_YOURS",
        }
        assert 6 in reasons
        async with members.transactions.read() as work:
            assert await work.subjects.resolve(unknown.subject.uscc) is None
        (series,) = await members.read("declaration")
        assert series.provider_id == "par_firm"
        found = await reconciled(members, "submitted-2024-06-15", "par_firm")
        assert counts(found) == (7, 2, 0, 0, 5)

    async def test_a_bank_supplies_what_visiting_banks_do(self, members: Datashare) -> None:
        ack = await members.submit("par_bank", declaration("d"), invoice("i"), filing("f"))
        assert [(item.row, item.reason) for item in ack.rejections] == [
            (row, "TYPE_NOT_YOURS") for row in range(3)
        ]

    async def test_nobody_else_supplies(self, members: Datashare) -> None:
        for who in ("par_reg", "par_nobody"):
            with pytest.raises(PermissionDeniedError) as caught:
                await members.submit(who, declaration("d"))
            assert caught.value.reason == "NOT_YOURS"

    async def test_a_firm_that_has_a_key_signs(self, members: Datashare) -> None:
        key = await registered(members, "par_firm")
        row = declaration("d")
        with pytest.raises(InvalidArgumentError) as caught:
            await members.submit("par_firm", row)
        assert caught.value.reason == "SIGNATURE_MISSING"
        await members.submit("par_firm", row, jws=key.sign(canonical_batch("", 0, [row])))


def declaration(record_id: str, uscc: str = USCC) -> pb.Record:
    """Return what a firm declares about itself."""
    row = record(record_id, record_type="declaration")
    row.subject.uscc = uscc
    row.declaration.fields.add(name="客户数", value="12")
    row.declaration.pledge = "以上属实"
    row.declaration.pledged_at.CopyFrom(row.date)
    return row
