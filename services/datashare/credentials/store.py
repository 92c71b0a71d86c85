"""The table of credentials."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.credentials.domain import Claim, Credential, Kind, PersonAccount
from services.datashare.participants.store import participant
from services.datashare.schema import metadata
from services.kit.db import UtcTime, insert_into

credential = sa.Table(
    "credential",
    metadata,
    sa.Column("credential_id", sa.String(64), primary_key=True),
    sa.Column(
        "participant_id", sa.ForeignKey(participant.c.participant_id), nullable=False, index=True
    ),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("identity", sa.String(64), nullable=False),
    # What nobody else may register: kind and identity; null once a person may be registered anew.
    sa.Column("held", sa.String(96), unique=True),
    sa.Column("public_jwk", sa.String(4096), nullable=False),
    sa.Column("issuer", sa.String(512), nullable=False),
    sa.Column("account", sa.String(255), nullable=False),
    sa.Column("label", sa.String(100), nullable=False),
    sa.Column("registered_at", UtcTime, nullable=False),
    sa.Column("ends_at", UtcTime),
    sa.Column("revoked_at", UtcTime),
)


class CredentialStore:
    """Credentials in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def add(self, added: Credential) -> bool:
        """Add a credential, unless what it stands for is registered; tell whether it did."""
        claim = added.claim
        result = await self._conn.execute(
            insert_into(self._conn, credential)
            .values(
                credential_id=added.credential_id,
                participant_id=added.participant_id,
                kind=claim.kind,
                identity=claim.identity,
                held=_held(claim),
                public_jwk=claim.public_jwk,
                issuer=claim.person.issuer if claim.person else "",
                account=claim.person.subject if claim.person else "",
                label=added.label,
                registered_at=added.registered_at,
                ends_at=claim.ends_at,
                revoked_at=added.revoked_at,
            )
            .on_conflict_do_nothing(index_elements=["held"])
        )
        return bool(result.rowcount)

    async def get(self, participant_id: str, credential_id: str) -> Credential | None:
        """Return a participant's credential."""
        query = sa.select(credential).where(
            credential.c.credential_id == credential_id,
            credential.c.participant_id == participant_id,
        )
        row = (await self._conn.execute(query)).one_or_none()
        return None if row is None else _credential(row)

    async def person(self, person_id: str) -> Credential | None:
        """Return the credential of a person that is not revoked."""
        query = sa.select(credential).where(credential.c.held == f"{Kind.PERSON}:{person_id}")
        row = (await self._conn.execute(query)).one_or_none()
        return None if row is None else _credential(row)

    async def unrevoked(self, participant_id: str) -> Sequence[Credential]:
        """Return what a participant has that is not revoked, by id."""
        rows = await self._conn.execute(
            sa.select(credential)
            .where(credential.c.participant_id == participant_id, credential.c.revoked_at.is_(None))
            .order_by(credential.c.credential_id)
        )
        return [_credential(row) for row in rows]

    async def revoke(self, revoked: Credential, at: datetime) -> None:
        """Mark a credential of a locked participant revoked."""
        changes: dict[str, Any] = {"revoked_at": at}
        if revoked.claim.kind is Kind.PERSON:
            changes["held"] = None
        await self._conn.execute(
            sa.update(credential)
            .where(credential.c.credential_id == revoked.credential_id)
            .values(**changes)
        )

    async def page(self, participant_id: str, after: str, limit: int) -> Sequence[Credential]:
        """Return a participant's credentials whose id is greater, by id."""
        rows = await self._conn.execute(
            sa.select(credential)
            .where(
                credential.c.participant_id == participant_id, credential.c.credential_id > after
            )
            .order_by(credential.c.credential_id)
            .limit(limit)
        )
        return [_credential(row) for row in rows]


def _held(claim: Claim) -> str:
    return f"{claim.kind}:{claim.identity}"


def _credential(row: sa.Row[Any]) -> Credential:
    kind = Kind(row.kind)
    return Credential(
        credential_id=row.credential_id,
        participant_id=row.participant_id,
        claim=Claim(
            kind=kind,
            identity=row.identity,
            public_jwk=row.public_jwk,
            person=PersonAccount(row.issuer, row.account) if kind is Kind.PERSON else None,
            ends_at=row.ends_at,
        ),
        label=row.label,
        registered_at=row.registered_at,
        revoked_at=row.revoked_at,
    )
