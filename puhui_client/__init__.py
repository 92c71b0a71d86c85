"""The Python client for banks, data providers, firms and operators.

Depends on the generated `puhui.*` packages alone, never on `services`. `Client` is asynchronous;
`SyncClient` has the same methods for programs without an event loop. An institution comes in by
`oauth.ClientKey` and its certificate, in the sandbox an API key does. What comes back are the
messages of the protocol; `values` turns their amounts, dates and times into Python's.

Example:
    >>> import asyncio
    >>> from datetime import UTC, date, datetime
    >>> from puhui_client import Client, records
    >>>
    >>> async def main(api_key: str) -> None:
    ...     headcount = records.social_insurance(
    ...         record_id="2024-05",
    ...         uscc="91110000MA00000077",
    ...         occurred=(date(2024, 5, 1), date(2024, 5, 31)),
    ...         obtained_at=datetime(2024, 6, 10, tzinfo=UTC),
    ...         headcount=42,
    ...         paid="61320.00",
    ...     )
    ...     async with Client("127.0.0.1:7443", api_key) as provider:
    ...         report = await provider.push([headcount])
    ...     print(report.accepted, report.duplicate, report.rejected)
    >>>
    >>> # asyncio.run(main(open("provider.key").read().strip()))
"""

from puhui_client import records, values, webhooks
from puhui_client.bank import ScoreResult, score_order
from puhui_client.client import Client
from puhui_client.errors import (
    AlreadyExistsError,
    ConsentError,
    DeadlineExceededError,
    FailedPreconditionError,
    FieldProblem,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
    PermissionDeniedError,
    PuhuiError,
    ReferralError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    Violation,
)
from puhui_client.notices import NewWebhook, NoticeItem
from puhui_client.push import MAX_BATCH, BatchAck, Held, PushReport, Rejection
from puhui_client.supply import WantedItem
from puhui_client.sync import SyncClient
from puhui_client.transport import Tls

__all__ = [
    "MAX_BATCH",
    "AlreadyExistsError",
    "BatchAck",
    "Client",
    "ConsentError",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "FieldProblem",
    "Held",
    "InternalError",
    "InvalidArgumentError",
    "NewWebhook",
    "NotFoundError",
    "NoticeItem",
    "OutOfRangeError",
    "PermissionDeniedError",
    "PuhuiError",
    "PushReport",
    "ReferralError",
    "Rejection",
    "ResourceExhaustedError",
    "ScoreResult",
    "SyncClient",
    "Tls",
    "UnauthenticatedError",
    "UnavailableError",
    "Violation",
    "WantedItem",
    "records",
    "score_order",
    "values",
    "webhooks",
]
