"""Errors to google.rpc.Status and back: the one place where reasons become wire details.

A status carries one ErrorInfo, with the trace id; BadRequest when fields are at fault;
PreconditionFailure when a state of what the call is about is; RetryInfo when there was too much at
once.
"""

from datetime import timedelta

import grpc
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from services.kit import errors
from services.kit.errors import (
    FailedPreconditionError,
    FieldProblem,
    PuhuiError,
    ResourceExhaustedError,
    Violation,
)

DOMAIN = "puhui"
DETAILS_METADATA = "grpc-status-details-bin"

_BY_CODE = {
    cls.code: cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, PuhuiError) and cls is not PuhuiError
}
GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}


def status_of(error: PuhuiError) -> status_pb2.Status:
    """Return the status that tells a caller about `error`."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    if error.trace_id:
        info.metadata["trace_id"] = error.trace_id
    status.details.add().Pack(info)
    if error.fields:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=f.field, description=f.problem)
            for f in error.fields
        ]
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=violations))
    if isinstance(error, FailedPreconditionError):
        violated = error.violations or (Violation(error.reason, "", error.message),)
        failure = error_details_pb2.PreconditionFailure(
            violations=[
                error_details_pb2.PreconditionFailure.Violation(
                    type=each.type, subject=each.subject, description=each.description
                )
                for each in violated
            ]
        )
        status.details.add().Pack(failure)
    if isinstance(error, ResourceExhaustedError):
        delay = duration_pb2.Duration()
        delay.FromTimedelta(error.retry_after)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def error_from_status(status: status_pb2.Status) -> PuhuiError:
    """Return the error that `status` tells about; an unknown code becomes `InternalError`."""
    reason, retry_after = "INTERNAL", timedelta(seconds=1)
    fields: tuple[FieldProblem, ...] = ()
    violations: tuple[Violation, ...] = ()
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry, failure = error_details_pb2.RetryInfo(), error_details_pb2.PreconditionFailure()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad):
            fields = tuple(FieldProblem(v.field, v.description) for v in bad.field_violations)
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta()
        elif detail.Unpack(failure):
            # One without a subject says no more than the message does.
            violations = tuple(
                Violation(v.type, v.subject, v.description) for v in failure.violations if v.subject
            )
    name = code_pb2.Code.Name(status.code) if status.code in code_pb2.Code.values() else "INTERNAL"
    cls = _BY_CODE.get(name, errors.InternalError)
    if cls is ResourceExhaustedError:
        return ResourceExhaustedError(reason, status.message, retry_after=retry_after)
    if cls is FailedPreconditionError:
        return FailedPreconditionError(reason, status.message, fields=fields, violations=violations)
    return cls(reason, status.message, fields=fields)


def error_from_rpc(error: grpc.aio.AioRpcError) -> PuhuiError:
    """Return the error that a failed gRPC call tells about, also one that gRPC itself made.

    A service's own INTERNAL has details. One without is gRPC's, for a connection that was lost
    while it wrote.
    """
    code = error.code()
    details = next((v for k, v in error.trailing_metadata() or () if k == DETAILS_METADATA), None)
    if isinstance(details, bytes):
        return error_from_status(status_pb2.Status.FromString(details))
    name = "UNAVAILABLE" if code is grpc.StatusCode.INTERNAL else code.name
    cls = _BY_CODE.get(name, errors.InternalError)
    if cls is ResourceExhaustedError:
        return ResourceExhaustedError(
            "BATCH_TOO_LARGE" if "larger than max" in (error.details() or "") else "OVERLOADED",
            "the message is too large or the service is overloaded: send less at once",
            retry_after=timedelta(seconds=1),
        )
    reason = {
        "UNAVAILABLE": "UNAVAILABLE",
        "DEADLINE_EXCEEDED": "DEADLINE_EXCEEDED",
        "UNIMPLEMENTED": "UNKNOWN_METHOD",
        "UNAUTHENTICATED": "IDENTITY_INVALID",
    }.get(name, "INTERNAL")
    return cls(reason, f"{name.lower().replace('_', ' ')}: try again later")
