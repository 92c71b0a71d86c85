"""A small town on a real platform: participants, a firm with records, a model that answers."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypedDict

import numpy as np
import pytest

from puhui.datashare.v1.consents_pb2 import Consent
from puhui.datashare.v1.records_pb2 import Record
from puhui_client import Client, records
from puhui_client.platform import RoleName
from puhui_client.values import month
from services.datashare.subjects import uscc
from services.sandbox.embedded import Embedded, embedded
from services.sandbox.governance import put_in_service
from services.scoring.features.registry import FEATURES
from services.scoring.models.inputs import PLATFORM
from services.scoring.models.signing import key_at, platform_key
from services.scoring.training.app import train
from services.scoring.training.domain import Parameters, Settings, TrainingTable

USCC = uscc.make("91", "110108", "MA01TE5T")
OTHER_USCC = uscc.make("91", "110105", "MA02TE5T")
TYPES = ("vat_invoice", "tax_filing", "social_insurance")
MODEL: Final = "town-1"
FIRST, LAST = date(2023, 1, 1), date(2026, 12, 31)
NOW = datetime.now(UTC)


class Asked(TypedDict):
    """Who of a bank asks, and for what."""

    officer: str
    file_reference: str


ASKED: Final[Asked] = {"officer": "王", "file_reference": "F-1"}


@dataclass(frozen=True)
class Person:
    """A participant and its key."""

    participant_id: str
    subject_id: str
    api_key: str


@dataclass(frozen=True)
class Town:
    """The platform and who is on it."""

    platform: Embedded
    people: dict[str, Person]

    def client(self, who: str) -> Client:
        """A connection as somebody; use it as a context."""
        return Client(self.platform.gateway, self.key(who), timeout=20)

    def key(self, who: str) -> str:
        """Somebody's API key."""
        return self.platform.operator_key if who == "operator" else self.people[who].api_key

    @property
    def subject_id(self) -> str:
        """The firm as a subject."""
        return self.people["firm"].subject_id

    async def consent(self, *, grant: bool = True, **changes: Any) -> Consent:
        """A consent of the firm to the bank, which names the tax bureau and all of TYPES."""
        terms: dict[str, Any] = {
            "subject_id": self.subject_id,
            "purpose": "credit_application",
            "providers": [self.people["tax"].participant_id, self.people["hr"].participant_id],
            "record_types": TYPES,
            "data_from": FIRST,
            "data_to": LAST,
            "expires_at": datetime.now(UTC) + timedelta(days=30),
            "officer": "Wang 王",
            "file_reference": "A-17",
        }
        async with self.client("bank") as bank, self.client("firm") as firm:
            asked = await bank.request_consent(**(terms | changes))
            return await firm.grant_consent(asked) if grant else asked


def invoices(count: int = 40, uscc: str = USCC) -> list[Record]:
    """Sales and purchases of a firm over the last years."""
    made = []
    for number in range(count):
        day = (NOW - timedelta(days=20 * number + 2)).date()
        made.append(
            records.vat_invoice(
                record_id=f"output:{number:08}",
                uscc=uscc,
                occurred=day,
                obtained_at=datetime(day.year, day.month, day.day, tzinfo=UTC),
                number=f"{number:08}",
                side="output" if number % 3 else "input",
                net="1000.10",
                tax="130.01",
                gross="1130.11",
                counterparty=f"客户{number % 5}",
            )
        )
    return made


def headcount(number: int, *, record_id: str = "2025-01") -> Record:
    """A month of social insurance."""
    return records.social_insurance(
        record_id=record_id,
        uscc=USCC,
        occurred=month(2025, 1),
        obtained_at=NOW - timedelta(days=1),
        headcount=number,
    )


@contextmanager
def running_town(folder: Path, model: Callable[[Path], None] | None = None) -> Iterator[Town]:
    """Starts it and ends it.

    Args:
        folder: for its data.
        model: writes the folder of the model that answers; None is `a_model`.
    """
    (folder / "models").mkdir(parents=True)
    (model or a_model)(folder / "models" / MODEL)
    with ExitStack() as running:
        with pytest.MonkeyPatch.context() as environ:
            environ.setenv("PUHUI_DATASHARE_INSPECTION_INTERVAL", "500ms")
            platform = running.enter_context(embedded(folder))
        yield asyncio.run(settle(platform))


async def settle(platform: Embedded, *, scores: bool = True) -> Town:
    """Registers everybody and pushes the firm's invoices.

    Args:
        platform: that runs.
        scores: puts the model in service, which lies in its folder.
    """
    people = {}
    async with Client(platform.gateway, platform.operator_key, timeout=20) as operator:
        wanted: list[tuple[str, RoleName, dict[str, Any]]] = [
            ("tax", "PROVIDER", {"provider_kind": "tax", "historical_source": True}),
            ("hr", "PROVIDER", {"provider_kind": "social_insurance"}),
            ("bank", "BANK", {}),
            ("other_bank", "BANK", {}),
            ("firm", "FIRM", {"uscc": USCC}),
            ("other_firm", "FIRM", {"uscc": OTHER_USCC}),
            ("second_operator", "OPERATOR", {}),
        ]
        for name, role, more in wanted:
            member = await operator.register_participant(role, f"test {name}", **more)
            key = await operator.issue_key(member.participant_id)
            people[name] = Person(member.participant_id, member.subject_id, key.api_key)
    town = Town(platform, people)
    if scores:
        async with town.client("operator") as first, town.client("second_operator") as second:
            await put_in_service(first, second, MODEL)
    async with town.client("tax") as tax:
        report = await tax.push(invoices(), historical=True)
        assert report.accepted == report.sent, report
    return town


def a_model(folder: Path, *, by: str = "") -> None:
    """Trains a model on noise and a signal: enough to answer, and no more.

    Args:
        folder: to write.
        by: the feature, from 0 to 1, that the outcome goes by; empty is all of them.
    """
    rng = np.random.default_rng(7)
    matrix = rng.normal(size=(160, len(FEATURES)))
    signal = matrix @ np.array([feature.monotone for feature in FEATURES])
    if by:
        column = [feature.name for feature in FEATURES].index(by)
        matrix[:] = 0  # what does not vary moves nothing, whatever a firm withholds
        matrix[:, column] = rng.random(160)
        # Who is at the adverse end defaults often, but not so often as to stand there as somebody
        # else's guarantor.
        signal = np.where(matrix[:, column] > 0.85, 1.0, -2.0)
    labels = (rng.random(160) < 1 / (1 + np.exp(1 - signal))).astype(np.int64)
    train(
        TrainingTable(
            matrix,
            PLATFORM.features,
            labels,
            source="random numbers",
            as_of="2026-01-01",
            simulated=True,
        ),
        Settings(
            outcome="nothing real",
            folds=3,
            repeats=1,
            tried=(Parameters(20, 3, 0.1, 0.7, 0.4, 1.0, 16, exactly=True),),
            members=1,
            baselines=False,
            resamples=0,
        ),
        folder,
        trained_at=NOW,
        key=key_at(platform_key(folder.parent.parent)),
    )
