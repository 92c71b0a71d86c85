"""What a decision is, and who may read it.

Invariants: a decision names the access under which its data was read; it is never changed; the same
features under the same model version give the same outcome again, to the last bit.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.kit.errors import AlreadyExistsError, NotFoundError
from services.scoring.features.domain import Coverage, FeatureVector

SIMULATED = "SIMULATED"


@dataclass(frozen=True, slots=True)
class Order:
    """What a bank asks.

    Args:
        request_id: unique per caller.
        subject_id: the firm.
        consent_id: empty when only data that is open by law is to be used.
        purpose: code of the table of purposes.
        as_of: data known by then; None is now.
        model_version: None is the model in service.
        officer: who asks, within the bank.
        file_reference: the bank's file.
    """

    request_id: str
    subject_id: str
    consent_id: str
    purpose: str
    as_of: datetime | None = None
    model_version: str | None = None
    officer: str = ""
    file_reference: str = ""

    def fingerprint(self) -> bytes:
        """Return what tells a replay from another order under the same request_id."""
        said = [
            self.subject_id,
            self.consent_id,
            self.purpose,
            self.as_of.isoformat() if self.as_of else None,
            self.model_version,
        ]
        return hashlib.sha256(json.dumps(said).encode()).digest()


@dataclass(frozen=True, slots=True)
class Reason:
    """One group of features and how it moves the score.

    Args:
        code: of the catalogue of reasons.
        points: against the mean of the reference population; negative lowers the score.
        text_zh: in Chinese.
        text_en: in English.
        features: names of the group's features.
    """

    code: str
    points: float
    text_zh: str
    text_en: str
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a model says.

    Args:
        pd: probability of default, 0 to 1.
        score: points, rounded.
        grade: by the model's grade cuts.
        base_points: the part that no feature moves.
        group_points: by group; base plus their sum is the unrounded score.
        reasons: strongest first.
    """

    pd: float
    score: int
    grade: str
    base_points: float
    group_points: Mapping[str, float]
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """A score that was given.

    Args:
        decision_id: opaque.
        caller_id: the bank.
        order: what it asked.
        access_id: the access under which the data was read.
        as_of: data known by then was used.
        decided_at: when.
        model_version: which model.
        model_class: SIMULATED, EXPERT, UNVALIDATED or VALIDATED.
        features: the model's inputs.
        coverage: which record types were there, and why others not.
        outcome: what the model said.
    """

    decision_id: str
    caller_id: str
    order: Order
    access_id: str
    as_of: datetime
    decided_at: datetime
    model_version: str
    model_class: str
    features: FeatureVector
    coverage: Mapping[str, Coverage]
    outcome: Outcome

    @property
    def key(self) -> tuple[str, str]:
        """What the request was known by: caller_id and request_id."""
        return self.caller_id, self.order.request_id


def replayed(order: Order, earlier: Decision) -> Decision:
    """Return the decision that `order` got before under its request_id.

    Raises:
        AlreadyExistsError: REQUEST_ID_REUSED, the order is another one.
    """
    if order.fingerprint() != earlier.order.fingerprint():
        raise AlreadyExistsError(
            "REQUEST_ID_REUSED", "this request_id belongs to another order: use a new one"
        )
    return earlier


def readable(decision: Decision | None, *, caller_id: str, subject_id: str | None) -> Decision:
    """Return the decision if it is the caller's own or about the caller.

    Raises:
        NotFoundError: NOT_FOUND, also for one that belongs to others: nobody learns that it exists.
    """
    if decision is None or not (
        decision.caller_id == caller_id
        or (subject_id is not None and decision.order.subject_id == subject_id)
    ):
        raise NotFoundError("NOT_FOUND", "there is no such decision of yours: check the id")
    return decision
