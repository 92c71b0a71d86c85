from datetime import timedelta

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from puhui.common.v1.errors_pb2 import ErrorReason
from puhui_client import (
    ConsentError,
    FailedPreconditionError,
    FieldProblem,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    PuhuiError,
    ResourceExhaustedError,
    UnavailableError,
)
from puhui_client.errors import error_of, error_of_call
from tests.fakes.platform import refusal


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        ("INVALID_ARGUMENT", "FIELD_INVALID", InvalidArgumentError),
        ("FAILED_PRECONDITION", "DATA_INSUFFICIENT", FailedPreconditionError),
        ("FAILED_PRECONDITION", "CONSENT_EXPIRED", ConsentError),
        ("FAILED_PRECONDITION", "TYPE_NOT_CONSENTED", ConsentError),
        ("PERMISSION_DENIED", "PURPOSE_NOT_CONSENTED", ConsentError),
        ("PERMISSION_DENIED", "NOT_YOURS", PermissionDeniedError),
        ("PERMISSION_DENIED", "A_REASON_OF_TOMORROW", PermissionDeniedError),
        ("NOT_FOUND", "CONSENT_NOT_FOUND", NotFoundError),
        ("UNIMPLEMENTED", "UNKNOWN_METHOD", InternalError),
    ],
)
def test_code_and_reason_choose_the_class(
    code: str, reason: str, expected: type[PuhuiError]
) -> None:
    error = error_of(refusal(code, reason, "the problem: the remedy"))
    assert type(error) is expected
    assert (error.code, error.reason, error.message) == (code, reason, "the problem: the remedy")


def test_fields_and_pause_are_there() -> None:
    invalid = error_of(
        refusal("INVALID_ARGUMENT", "FIELD_INVALID", fields=[("terms.purpose", "is empty")])
    )
    assert invalid.fields == (FieldProblem("terms.purpose", "is empty"),)
    overload = error_of(
        refusal("RESOURCE_EXHAUSTED", "OVERLOADED", retry_after=timedelta(seconds=2))
    )
    assert isinstance(overload, ResourceExhaustedError)
    assert overload.retry_after == timedelta(seconds=2)


def test_a_code_of_tomorrow_is_no_crash() -> None:
    status = refusal("INTERNAL", "")
    status.code = 99
    error = error_of(status)
    assert (type(error), error.reason) == (InternalError, "INTERNAL")


@pytest.mark.parametrize(
    ("code", "trailing", "expected", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, Metadata(), UnavailableError, "UNAVAILABLE"),
        (grpc.StatusCode.UNIMPLEMENTED, Metadata(), InternalError, "UNKNOWN_METHOD"),
        (
            grpc.StatusCode.UNAVAILABLE,
            Metadata(("grpc-status-details-bin", b"\xff\xff")),
            UnavailableError,
            "UNAVAILABLE",
        ),
    ],
)
def test_what_grpc_itself_or_a_proxy_says(
    code: grpc.StatusCode, trailing: Metadata, expected: type[PuhuiError], reason: str
) -> None:
    error = error_of_call(AioRpcError(code, Metadata(), trailing, "socket closed"))
    assert (type(error), error.reason) == (expected, reason)


def test_consent_reasons_are_the_block_of_the_protocol() -> None:
    consent = {
        name.removeprefix("ERROR_REASON_")
        for name in ErrorReason.keys()  # noqa: SIM118 - not a dict
        if isinstance(
            error_of(refusal("FAILED_PRECONDITION", name.removeprefix("ERROR_REASON_"))),
            ConsentError,
        )
    }
    assert consent >= {"CONSENT_REQUIRED", "PURPOSE_NOT_CONSENTED", "CONSENT_REVOKED"}
    assert all("CONSENT" in reason or reason == "PURPOSE_UNKNOWN" for reason in consent)
    assert not consent & {"CONSENT_SIGNATURE_INVALID", "NOT_A_SIGNER", "MANDATE_REQUIRED"}
