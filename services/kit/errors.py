"""The one tree of errors. Use cases raise them; `kit.server` maps them to gRPC once, at the edge.

`reason` is a name of `puhui.common.v1.ErrorReason` without its prefix. `message` says what is
wrong and what to do about it; it never contains a value that the caller sent, because messages are
logged.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar


@dataclass(frozen=True)
class FieldProblem:
    """What is wrong with one field.

    Args:
        field: its path, as in the .proto, e.g. `terms.data_period.from`.
        problem: what is wrong and the remedy.
    """

    field: str
    problem: str


@dataclass(frozen=True)
class Violation:
    """One state that does not allow it, of several.

    Args:
        type: what kind of state.
        subject: what is in it.
        description: what would suffice.
    """

    type: str
    subject: str
    description: str


class PuhuiError(Exception):
    """Something that the caller is told about.

    Args:
        reason: name of the `ErrorReason` without its prefix.
        message: the problem and the remedy.
        fields: the fields at fault, if any.

    Attributes:
        trace_id: where it can be looked up; known once it leaves the service, else empty.
    """

    code: ClassVar[str] = "UNKNOWN"
    trace_id: str = ""

    def __init__(self, reason: str, message: str, *, fields: tuple[FieldProblem, ...] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.fields = fields


class InvalidArgumentError(PuhuiError):
    """The request is wrong whatever the state of the platform."""

    code = "INVALID_ARGUMENT"


def invalid_field(
    reason: str, field: str, problem: str, *, said: str | None = None
) -> InvalidArgumentError:
    """Return the error of one field.

    Args:
        reason: name of the `ErrorReason` without its prefix.
        field: its path, as in the .proto.
        problem: what is wrong and the remedy; follows on the field's name in the message.
        said: how the message calls the field; None is its path.
    """
    message = f"{said or field} {problem}"
    return InvalidArgumentError(reason, message, fields=(FieldProblem(field, problem),))


class UnauthenticatedError(PuhuiError):
    """The caller did not prove who it is."""

    code = "UNAUTHENTICATED"


class PermissionDeniedError(PuhuiError):
    """The caller is known and may not do this."""

    code = "PERMISSION_DENIED"


class NotFoundError(PuhuiError):
    """There is no such thing, or the caller may not know that there is."""

    code = "NOT_FOUND"


class AlreadyExistsError(PuhuiError):
    """The name or the request_id is taken by something else."""

    code = "ALREADY_EXISTS"


class FailedPreconditionError(PuhuiError):
    """The state of what the call is about does not allow it now.

    Args:
        reason: as in `PuhuiError`.
        message: as in `PuhuiError`.
        fields: as in `PuhuiError`.
        violations: the states, where there are several to be told apart; else the message says it.
    """

    code = "FAILED_PRECONDITION"

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        fields: tuple[FieldProblem, ...] = (),
        violations: tuple[Violation, ...] = (),
    ) -> None:
        super().__init__(reason, message, fields=fields)
        self.violations = violations


class OutOfRangeError(PuhuiError):
    """A position that does not follow on the last one."""

    code = "OUT_OF_RANGE"


class DeadlineExceededError(PuhuiError):
    """The caller's deadline passed."""

    code = "DEADLINE_EXCEEDED"


class ResourceExhaustedError(PuhuiError):
    """Too much at once.

    Args:
        reason: as in `PuhuiError`.
        message: as in `PuhuiError`.
        retry_after: when to try again.
    """

    code = "RESOURCE_EXHAUSTED"

    def __init__(self, reason: str, message: str, *, retry_after: timedelta) -> None:
        super().__init__(reason, message)
        self.retry_after = retry_after


class UnavailableError(PuhuiError):
    """Something that this call needs does not answer now; trying again is safe and may help."""

    code = "UNAVAILABLE"


class UnimplementedError(PuhuiError):
    """There is no such method."""

    code = "UNIMPLEMENTED"


class InternalError(PuhuiError):
    """A fault of ours. The caller learns only that, and the trace id."""

    code = "INTERNAL"
