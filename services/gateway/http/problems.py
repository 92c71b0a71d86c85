"""Errors as problem details (RFC 9457), with the same reasons and fields as over gRPC."""

import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

from services.kit.errors import PuhuiError, ResourceExhaustedError, UnauthenticatedError

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
        error = self.error
        return {
            "type": f"/docs#{error.reason}",
            "title": error.reason.replace("_", " ").capitalize(),
            "status": self.status
            or _BY_REASON.get((error.code, error.reason))
            or STATUSES[error.code],
            "detail": error.message,
            "reason": error.reason,
            "fields": [{"field": f.field, "problem": f.problem} for f in error.fields],
            "traceId": error.trace_id,
        }

    def response(self, headers: dict[str, str] | None = None) -> Response:
        """Return the problem as a response."""
        details = self.details()
        headers = {"cache-control": "no-store", **(headers or {})}
        if isinstance(self.error, UnauthenticatedError):
            headers["www-authenticate"] = 'Bearer realm="puhui"'
        if isinstance(self.error, ResourceExhaustedError):
            headers["retry-after"] = str(math.ceil(self.error.retry_after.total_seconds()))
        if details["status"] == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["retry-after"] = "1"
        return Response(orjson.dumps(details), details["status"], headers, MEDIA_TYPE)
