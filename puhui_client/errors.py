"""What a call can fail with: one class per canonical code, and one for everything about consent.

Every error carries `reason`, a name of `puhui.common.v1.ErrorReason` without its prefix. Programs
decide by class or reason; `message` is for people and says the problem and the remedy.
"""

from dataclasses import dataclass
from datetime import timedelta

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from puhui.common.v1.errors_pb2 import ErrorReason

_DETAILS = "grpc-status-details-bin"
# The block of ErrorReason that is about consents.
_CONSENT_REASONS = frozenset((*range(60, 80), 90, 91))


@dataclass(frozen=True)
class FieldProblem:
    """What is wrong with one field of the request.

    Args:
        field: its path, as in the .proto, e.g. `terms.data_period.from`.
        problem: what is wrong and the remedy.
    """

    field: str
    problem: str


@dataclass(frozen=True)
class Violation:
    """A state that does not allow the call, of several.

    Args:
        type: what kind of state, e.g. "NOT_CONSENTED".
        subject: what is in it, e.g. a record type.
        description: what would suffice.
    """

    type: str
    subject: str
    description: str


class PuhuiError(Exception):
    """A call failed.

    Args:
        code: canonical code, e.g. "NOT_FOUND".
        reason: name of the `ErrorReason` without its prefix.
        message: the problem and the remedy.
        fields: the fields at fault, if any.
        retry_after: when to try again, if the platform said so.
        violations: states that do not allow it, where there are several, e.g. one per record type.

    Attributes:
        trace_id: leads the operator to what happened; empty for a row of a batch.
    """

    def __init__(
        self,
        code: str,
        reason: str,
        message: str,
        *,
        fields: tuple[FieldProblem, ...] = (),
        retry_after: timedelta | None = None,
        violations: tuple[Violation, ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.fields = fields
        self.retry_after = retry_after
        self.violations = violations
        self.trace_id = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class InvalidArgumentError(PuhuiError):
    """The request is wrong whatever the state of the platform; `fields` names where."""


class UnauthenticatedError(PuhuiError):
    """The API key is missing, unknown, wrong or revoked."""


class PermissionDeniedError(PuhuiError):
    """The caller may not do this."""


class NotFoundError(PuhuiError):
    """It does not exist, or the caller may not know that it does."""


class AlreadyExistsError(PuhuiError):
    """The name is taken, or the request_id was used with another body."""


class FailedPreconditionError(PuhuiError):
    """A state does not allow it now."""


class ConsentError(PuhuiError):
    """There is no consent that allows this: not active, withdrawn, expired, or not for this."""


class ReferralError(PuhuiError):
    """No score is given while scoring is stopped: a person decides; `message` says why."""


class OutOfRangeError(PuhuiError):
    """A position that does not follow on the last one."""


class DeadlineExceededError(PuhuiError):
    """The time that was allowed for the call is over; a write may have happened all the same."""


class ResourceExhaustedError(PuhuiError):
    """Too much at once; `retry_after` says when to try again."""


class UnavailableError(PuhuiError):
    """The platform does not answer now; trying again may help."""


class InternalError(PuhuiError):
    """A fault of the platform's; give the operator the `trace_id`."""


_BY_CODE: dict[str, type[PuhuiError]] = {
    "INVALID_ARGUMENT": InvalidArgumentError,
    "UNAUTHENTICATED": UnauthenticatedError,
    "PERMISSION_DENIED": PermissionDeniedError,
    "NOT_FOUND": NotFoundError,
    "ALREADY_EXISTS": AlreadyExistsError,
    "FAILED_PRECONDITION": FailedPreconditionError,
    "OUT_OF_RANGE": OutOfRangeError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "RESOURCE_EXHAUSTED": ResourceExhaustedError,
    "UNAVAILABLE": UnavailableError,
}
# What gRPC itself reports, without details of ours.
_BARE: dict[str, tuple[str, str]] = {
    "UNAVAILABLE": ("UNAVAILABLE", "nobody answers at this address: check it, or try again later"),
    "DEADLINE_EXCEEDED": ("DEADLINE_EXCEEDED", "no answer in time: allow more or ask for less"),
    "UNIMPLEMENTED": ("UNKNOWN_METHOD", "no such method there: check the address and versions"),
    "RESOURCE_EXHAUSTED": ("OVERLOADED", "too much at once: send less, or try again later"),
}

# Why no connection came about, by what gRPC says of it.
_UNCONNECTED = "last error: "
_WHY_UNCONNECTED: tuple[tuple[str, str], ...] = (
    (
        "WRONG_VERSION_NUMBER",
        "there is no TLS at this address: name the port that has it; only a sandbox's plain port "
        "on this machine is called without a CA",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "the certificate at this address is of another host or authority: check the address "
        "and the CA",
    ),
    (
        "Socket closed",
        "this address closes the connection: if its port has TLS, give the CA and, for "
        "institutions, a certificate that it accepts",
    ),
)


def error_of(status: status_pb2.Status) -> PuhuiError:
    """Return the error that a `google.rpc.Status` tells about."""
    reason = ""
    fields: tuple[FieldProblem, ...] = ()
    retry_after: timedelta | None = None
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
    code = code_pb2.Code.Name(status.code) if status.code in code_pb2.Code.values() else "UNKNOWN"
    bare_reason, _ = _BARE.get(code, ("INTERNAL", ""))
    reason = reason or bare_reason
    cls = _class_of(code, reason)
    return cls(
        code,
        reason,
        status.message,
        fields=fields,
        retry_after=retry_after,
        violations=violations,
    )


def error_of_call(error: grpc.aio.AioRpcError) -> PuhuiError:
    """Return the error that a failed call tells about, also where gRPC itself made it."""
    trailing = error.trailing_metadata() or ()
    details = next((value for key, value in trailing if key == _DETAILS), None)
    if isinstance(details, bytes):
        try:
            return error_of(status_pb2.Status.FromString(details))
        except DecodeError:
            pass  # not the platform's: a proxy's; what gRPC says is left
    code = error.code().name
    reason, message = _BARE.get(code, ("INTERNAL", "an answer that this client does not know"))
    said = error.details() or ""
    if code == "UNAVAILABLE" and _UNCONNECTED in said:
        message = next((why for sign, why in _WHY_UNCONNECTED if sign in said), message)
    return _class_of(code, reason)(code, reason, message)


def _class_of(code: str, reason: str) -> type[PuhuiError]:
    if code in {"FAILED_PRECONDITION", "PERMISSION_DENIED"}:
        name = f"ERROR_REASON_{reason}"
        if name in ErrorReason.keys() and ErrorReason.Value(name) in _CONSENT_REASONS:  # noqa: SIM118 - an EnumTypeWrapper is no mapping
            return ConsentError
    return _BY_CODE.get(code, InternalError)
