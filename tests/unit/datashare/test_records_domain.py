"""Which rows are admitted, and whose."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.datashare.participants.domain import Participant, Role, Standing
from services.datashare.records.domain import (
    Accepted,
    Duplicate,
    History,
    Incoming,
    Rejection,
    admit,
    check_size,
    check_supplier,
)
from services.kit.errors import InvalidArgumentError, PermissionDeniedError

NOW = datetime(2024, 6, 15, tzinfo=UTC)


def incoming(version: int, content: bytes, *, retracted: bool = False) -> Incoming:
    return Incoming(
        row=3,
        uscc="",
        subject_id="sub_1",
        record_type="grant",
        provider_record_id="g1",
        version=version,
        retracted=retracted,
        occurred_from=0,
        occurred_to=0,
        month=197001,
        obtained_at=0,
        schema_version=1,
        content_hash=content,
        payload=b"",
        fact=None,
    )


def history(*contents: bytes, retracted: bool = False) -> History:
    made = History()
    for version, content in enumerate(contents, start=1):
        made.add(version, content, retracted=retracted and version == len(contents))
    return made


@pytest.mark.parametrize(
    ("row", "existing", "expected"),
    [
        (incoming(1, b"a"), None, Accepted(0)),
        (incoming(2, b"a"), None, "VERSION_OUT_OF_ORDER"),
        (incoming(1, b"a", retracted=True), None, "VERSION_OUT_OF_ORDER"),
        (incoming(1, b"a"), history(b"a"), Duplicate()),
        (incoming(2, b"a"), history(b"a"), Duplicate()),
        (incoming(1, b"b"), history(b"a"), "RECORD_CONFLICT"),
        (incoming(2, b"b"), history(b"a"), Accepted(1)),
        (incoming(3, b"b"), history(b"a"), "VERSION_OUT_OF_ORDER"),
        (incoming(1, b"a"), history(b"a", b"b"), Duplicate()),
        (incoming(2, b"a"), history(b"a", b"b"), "RECORD_CONFLICT"),
        (incoming(3, b"a"), history(b"a", b"b"), Accepted(2)),
        (incoming(2, b"r", retracted=True), history(b"a"), Accepted(1)),
        (incoming(2, b"r", retracted=True), history(b"a", b"r", retracted=True), Duplicate()),
        (incoming(3, b"a"), history(b"a", b"r", retracted=True), Accepted(0)),
    ],
)
def test_admission(
    row: Incoming, existing: History | None, expected: Accepted | Duplicate | str
) -> None:
    verdict = admit(row, existing)
    if isinstance(expected, str):
        assert isinstance(verdict, Rejection)
        assert (verdict.row, verdict.reason) == (3, expected)
    else:
        assert verdict == expected
        assert type(verdict) is type(expected)


def test_size() -> None:
    check_size(1_000)
    with pytest.raises(InvalidArgumentError) as caught:
        check_size(1_001)
    assert caught.value.reason == "BATCH_TOO_LARGE"


def test_suppliers() -> None:
    tax = Participant("par_tax", Role.PROVIDER, "Tax", "tax", None, False, Standing.ACTIVE, NOW)
    assert check_supplier(tax, historical=False) is tax
    for role in (Role.FIRM, Role.BANK):
        other = replace(tax, role=role, provider_kind="")
        assert check_supplier(other, historical=False) is other
    source = replace(tax, historical_source=True)
    assert check_supplier(source, historical=True) is source
    for participant, historical, reason in (
        (None, False, "NOT_YOURS"),
        (replace(tax, role=Role.REGULATOR, provider_kind=""), False, "NOT_YOURS"),
        (replace(tax, standing=Standing.SUSPENDED), False, "PARTICIPANT_SUSPENDED"),
        (tax, True, "BACKFILL_NOT_ALLOWED"),
    ):
        with pytest.raises(PermissionDeniedError) as caught:
            check_supplier(participant, historical=historical)
        assert caught.value.reason == reason
