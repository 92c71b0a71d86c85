"""Errors as problem details (RFC 9457), with all that a gRPC status says of them."""

import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

from services.kit.errors import (
    FailedPreconditionError,
    PuhuiError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)

MEDIA_TYPE = "application/problem+json"

# google/rpc/code.proto says which status each code has.
STATUSES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


# Where HTTP has a better one than the code's.
_BY_REASON = {("INVALID_ARGUMENT", "BATCH_TOO_LARGE"): HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
_UNAVAILABLE_SECONDS = 1


@dataclass(frozen=True)
class Problem:
    """A problem as it is told over HTTP.

    Args:
        error: what is wrong.
        status: the HTTP status, where it is not that of the error's code.
    """

    error: PuhuiError
    status: int | None = None

    def details(self) -> dict[str, Any]:
        """Return the members of the problem object."""
        error, wait = self.error, self._wait()
        violations = error.violations if isinstance(error, FailedPreconditionError) else ()
        return {
            "type": f"/docs#{error.reason}",
            "title": error.reason.replace("_", " ").capitalize(),
            "status": self._status(),
            "detail": error.message,
            "code": error.code,
            "reason": error.reason,
            "retryable": wait is not None,
            **({"retryAfterSeconds": wait} if wait is not None else {}),
            "fields": [{"field": f.field, "problem": f.problem} for f in error.fields],
            "violations": [
                {"type": v.type, "subject": v.subject, "description": v.description}
                for v in violations
            ],
            "traceId": error.trace_id,
        }

    def response(self, headers: dict[str, str] | None = None) -> Response:
        """Return the problem as a response."""
        status, wait = self._status(), self._wait()
        headers = {"cache-control": "no-store", **(headers or {})}
        if isinstance(self.error, UnauthenticatedError):
            headers["www-authenticate"] = _challenge(self.error)
        if wait is not None:
            headers["retry-after"] = str(wait)
        return Response(orjson.dumps(self.details()), status, headers, MEDIA_TYPE)

    def _status(self) -> int:
        error = self.error
        by_reason = _BY_REASON.get((error.code, error.reason))
        return self.status or by_reason or STATUSES[error.code]

    def _wait(self) -> int | None:
        """Return after how many seconds the same call may succeed, None if only another would."""
        if isinstance(self.error, ResourceExhaustedError):
            return max(1, math.ceil(self.error.retry_after.total_seconds()))
        return _UNAVAILABLE_SECONDS if isinstance(self.error, UnavailableError) else None


def _challenge(error: UnauthenticatedError) -> str:
    """Return how to come in (RFC 6750): to who brought nothing, no error is told."""
    if error.reason == "CREDENTIALS_MISSING":
        return 'Bearer realm="puhui"'
    description = error.message.translate({ord('"'): "'", ord("\\"): "/"})
    return f'Bearer realm="puhui", error="invalid_token", error_description="{description}"'
