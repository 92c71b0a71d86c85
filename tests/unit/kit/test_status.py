from datetime import timedelta

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from puhui.common.v1 import errors_pb2
from services.kit import errors
from services.kit.errors import FieldProblem, PuhuiError, ResourceExhaustedError
from services.kit.status import DETAILS_METADATA, error_from_rpc, error_from_status, status_of

CLASSES = [cls for cls in PuhuiError.__subclasses__() if cls is not ResourceExhaustedError]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_survives_the_wire(cls: type[PuhuiError]) -> None:
    fields = (FieldProblem("terms.period", "ends before it begins: swap them"),)
    error = error_from_status(status_of(cls("FIELD_INVALID", "wrong: mend it", fields=fields)))
    assert type(error) is cls
    assert (error.reason, error.message, error.fields) == (
        "FIELD_INVALID",
        "wrong: mend it",
        fields,
    )


def test_too_much_says_when_to_come_back() -> None:
    error = error_from_status(
        status_of(ResourceExhaustedError("OVERLOADED", "later", retry_after=timedelta(seconds=3)))
    )
    assert isinstance(error, ResourceExhaustedError)
    assert error.retry_after == timedelta(seconds=3)


def test_a_state_is_told_as_a_precondition_failure() -> None:
    status = status_of(errors.FailedPreconditionError("CONSENT_EXPIRED", "over"))
    failure = error_details_pb2.PreconditionFailure()
    assert any(detail.Unpack(failure) for detail in status.details)
    assert failure.violations[0].type == "CONSENT_EXPIRED"


def test_several_states_are_told_apart() -> None:
    violations = (
        errors.Violation("NOT_CONSENTED", "vat_invoice", "ask for a consent that opens it"),
        errors.Violation("NOT_SUPPLIED", "tax_filing", "wait for it"),
    )
    error = error_from_status(
        status_of(errors.FailedPreconditionError("DATA_INSUFFICIENT", "no", violations=violations))
    )
    assert isinstance(error, errors.FailedPreconditionError)
    assert error.violations == violations
    one = error_from_status(status_of(errors.FailedPreconditionError("CONSENT_EXPIRED", "over")))
    assert isinstance(one, errors.FailedPreconditionError)
    assert one.violations == ()


def test_an_unknown_code_is_a_fault() -> None:
    error = error_from_status(status_pb2.Status(code=99, message="?"))
    assert isinstance(error, errors.InternalError)


def test_every_reason_named_in_the_code_is_documented(checkout: object) -> None:
    import re
    from pathlib import Path

    assert isinstance(checkout, Path)
    known = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()}  # noqa: SIM118 - an EnumTypeWrapper is no mapping
    raised = re.compile(
        r"(?:\w+(?:Error|Problem|Rejection|Rejected)|invalid_field)\(\s*\"([A-Z][A-Z_]+)\""
    )
    used = {
        reason: path.name
        for path in (checkout / "services").rglob("*.py")
        for reason in raised.findall(path.read_text())
    }
    assert used
    assert {reason: used[reason] for reason in used if reason not in known} == {}


def test_an_internal_of_grpc_itself_is_a_lost_connection() -> None:
    lost = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), "from core"
    )
    assert isinstance(error_from_rpc(lost), errors.UnavailableError)


def test_an_internal_of_a_service_stays_one() -> None:
    status = status_of(errors.InternalError("INTERNAL", "a fault of ours"))
    told = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL,
        grpc.aio.Metadata(),
        grpc.aio.Metadata((DETAILS_METADATA, status.SerializeToString())),
    )
    assert isinstance(error_from_rpc(told), errors.InternalError)
