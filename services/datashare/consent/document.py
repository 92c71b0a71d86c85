"""The document of a consent: its core as RFC 8785 canonical JSON, and back.

Invariants:

- These bytes are what is hashed, granted and signed. Lists in them are sorted.
- A core of schema version 1 stays what it was when it was granted: periodic without a limit of its
  own, to be viewed, for a score but for no decision by machine alone, never lapsing.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import rfc8785

from services.datashare.catalogue.domain import ContentLevel
from services.datashare.consent.domain import (
    SCHEMA_VERSION,
    Consent,
    Core,
    Mode,
    Period,
    Selection,
    State,
    Terms,
    Version,
)
from services.datashare.log.domain import rfc3339
from services.datashare.mandates.domain import SigningRule
from services.datashare.quota.domain import Limit, Unit


def canonical(core: Core) -> bytes:
    """Return the core as RFC 8785 canonical JSON: what hashes and signatures cover."""
    return rfc8785.dumps(_version_1(core) if core.schema_version == 1 else _version_2(core))


def _version_1(core: Core) -> dict[str, Any]:
    terms = core.terms
    document: dict[str, Any] = {
        "schema_version": core.schema_version,
        "consent_id": core.consent_id,
        "subject_id": core.subject_id,
        "recipient_id": core.recipient_id,
        "purpose": terms.purpose,
        "provider_ids": sorted(terms.provider_ids),
        "record_types": sorted(terms.record_types),
        "content_level": terms.content_level.name,
        "data_period": {
            "from": terms.data_period.first.isoformat(),
            "to": terms.data_period.last.isoformat(),
        },
        "expires_at": rfc3339(terms.expires_at),
    }
    if terms.not_before is not None:
        document["not_before"] = rfc3339(terms.not_before)
    return document


def _version_2(core: Core) -> dict[str, Any]:
    terms = core.terms
    document = _version_1(core) | {
        "suite": core.suite,
        "signers": {"ids": sorted(core.signers.signer_ids), "required": core.signers.required},
        "purposes_version": core.purposes_version,
        "fields": {part.record_type: sorted(part.names) for part in terms.fields},
        "mode": terms.mode,
        "data_life_days": terms.data_life_days,
        "derived_use": {"score": terms.score, "automated_decision": terms.automated_decision},
        "onward_recipient_ids": sorted(terms.onward_recipient_ids),
        "notice": {"language": terms.notice_language, "sha256": core.notice_sha256.hex()},
        "withdrawal": {
            "rpc": "puhui.datashare.v1.ConsentService/WithdrawConsent",
            "http": f"POST /v1/consents/{core.consent_id}:withdraw",
            "command": f"puhui consent withdraw {core.consent_id}",
        },
    }
    if terms.for_subject_id:
        document["for_subject_id"] = terms.for_subject_id
    limit = terms.fetch_limit
    if limit is not None:
        unit = "ONCE" if limit.unit is None else str(limit.unit)
        document["fetch_limit"] = {"times": limit.times, "unit": unit}
    if core.answer_by is not None:
        document["answer_by"] = rfc3339(core.answer_by)
    if core.supersedes is not None:
        document["supersedes"] = {
            "consent_id": core.supersedes.consent_id,
            "sha256": core.supersedes.sha256.hex(),
        }
    return document


@functools.lru_cache(maxsize=4096)
def core_of(canonical_json: bytes) -> Core:
    """Return the core that canonical JSON states; the inverse of `canonical` up to order in lists.

    Kept for the consents that are in use: each fetch needs it, and it never changes.
    """
    document = json.loads(canonical_json)
    version = document["schema_version"]
    if version not in (1, SCHEMA_VERSION):
        raise ValueError(f"unknown schema version of a consent: {version}")
    period = document["data_period"]
    core = Core(
        consent_id=document["consent_id"],
        subject_id=document["subject_id"],
        recipient_id=document["recipient_id"],
        terms=Terms(
            purpose=document["purpose"],
            provider_ids=tuple(document["provider_ids"]),
            record_types=tuple(document["record_types"]),
            content_level=ContentLevel[document["content_level"]],
            data_period=Period(
                date.fromisoformat(period["from"]), date.fromisoformat(period["to"])
            ),
            not_before=_time(document, "not_before"),
            expires_at=datetime.fromisoformat(document["expires_at"]),
        ),
        schema_version=version,
    )
    return core if version == 1 else _with_version_2(core, document)


def _with_version_2(core: Core, document: Mapping[str, Any]) -> Core:
    limit, use = document.get("fetch_limit"), document["derived_use"]
    signers, earlier = document["signers"], document.get("supersedes")
    return replace(
        core,
        terms=replace(
            core.terms,
            fields=tuple(
                Selection(name, tuple(names)) for name, names in document["fields"].items()
            ),
            mode=Mode(document["mode"]),
            fetch_limit=None if limit is None else _limit(limit),
            data_life_days=document["data_life_days"],
            score=use["score"],
            automated_decision=use["automated_decision"],
            onward_recipient_ids=tuple(document["onward_recipient_ids"]),
            notice_language=document["notice"]["language"],
            for_subject_id=document.get("for_subject_id", ""),
        ),
        suite=document["suite"],
        signers=SigningRule(tuple(signers["ids"]), signers["required"]),
        purposes_version=document["purposes_version"],
        notice_sha256=bytes.fromhex(document["notice"]["sha256"]),
        answer_by=_time(document, "answer_by"),
        supersedes=None
        if earlier is None
        else Version(earlier["consent_id"], bytes.fromhex(earlier["sha256"])),
    )


def _limit(stated: Mapping[str, Any]) -> Limit:
    return Limit(stated["times"], None if stated["unit"] == "ONCE" else Unit(stated["unit"]))


def _time(document: Mapping[str, Any], name: str) -> datetime | None:
    return datetime.fromisoformat(document[name]) if name in document else None


def request(core: Core, now: datetime, *, notice: str = "", platform_jws: str = "") -> Consent:
    """Return a new consent, asked for and not yet granted.

    Args:
        core: what never changes.
        now: when it is asked for.
        notice: the text whose hash is in the core.
        platform_jws: over the canonical core.
    """
    document = canonical(core)
    return Consent(
        core=core_of(document),
        canonical=document,
        sha256=hashlib.sha256(document).digest(),
        state=State.REQUESTED,
        revision=1,
        signatures=(),
        requested_at=now,
        changed_at=now,
        notice=notice,
        platform_jws=platform_jws,
    )
