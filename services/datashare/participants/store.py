"""The tables of participants, their API keys and the keys that they sign with."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.bulk import Relation, ask, once
from services.datashare.gates import close_gate, through_gates
from services.datashare.participants.domain import (
    ApiKey,
    Held,
    Participant,
    Role,
    SigningKey,
    Standing,
)
from services.datashare.participants.life_cycle import Actor, Event, Evidence, Step
from services.datashare.schema import metadata
from services.kit.db import UtcTime, insert_into

participant = sa.Table(
    "participant",
    metadata,
    sa.Column("participant_id", sa.String(64), primary_key=True),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("provider_kind", sa.String(64), nullable=False),
    sa.Column("subject_id", sa.String(64), unique=True),
    sa.Column("historical_source", sa.Boolean, nullable=False),
    sa.Column("standing", sa.String(16), nullable=False),
    sa.Column("registered_at", UtcTime, nullable=False),
    sa.Column("simulated_source", sa.Boolean, nullable=False),
    # It has registered a signing key. Here and not only there, as every batch holds this row and
    # so sees it without asking for keys.
    sa.Column("signs", sa.Boolean, nullable=False, server_default=sa.false()),
    # Codes with a space between.
    sa.Column("products", sa.String(1100), nullable=False, server_default=sa.text("''")),
    sa.Column("licence_ends", sa.Date),
)

api_key = sa.Table(
    "api_key",
    metadata,
    sa.Column("key_id", sa.String(64), primary_key=True),
    sa.Column(
        "participant_id", sa.ForeignKey(participant.c.participant_id), nullable=False, index=True
    ),
    sa.Column("secret_sha256", sa.LargeBinary(32), nullable=False),
    sa.Column("issued_at", UtcTime, nullable=False),
    sa.Column("revoked_at", UtcTime),
)

signing_key = sa.Table(
    "signing_key",
    metadata,
    sa.Column("key_id", sa.String(64), primary_key=True),
    sa.Column(
        "participant_id", sa.ForeignKey(participant.c.participant_id), nullable=False, index=True
    ),
    sa.Column("public_jwk", sa.String(512), nullable=False),
    sa.Column("registered_at", UtcTime, nullable=False),
    sa.Column("revoked_at", UtcTime),
)

participant_step = sa.Table(
    "participant_step",
    metadata,
    sa.Column("participant_id", sa.ForeignKey(participant.c.participant_id), primary_key=True),
    # Ascending from 1 in the order of happening.
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("step", sa.String(16), nullable=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("by_participant_id", sa.String(64), nullable=False),
    sa.Column("by_person_id", sa.String(64), nullable=False),
    sa.Column("by_name", sa.String(200), nullable=False),
    sa.Column("evidence_kind", sa.String(64), nullable=False),
    sa.Column("evidence_reference", sa.String(200), nullable=False),
    sa.Column("evidence_sha256", sa.LargeBinary(32), nullable=False),
    sa.Column("evidence_dated", sa.Date),
    sa.Column("evidence_ends", sa.Date),
    sa.Column("products", sa.String(1100), nullable=False),
    sa.Column("note", sa.String(500), nullable=False),
    sa.Column("leaf_id", sa.String(64), nullable=False),
)

_ASKED = Relation("asked", {"participant_id": sa.String()})


class ParticipantStore:
    """Participants and keys in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def add(self, added: Participant) -> bool:
        """Add a participant, unless its subject is registered as a firm; tell whether it did."""
        result = await self._conn.execute(
            insert_into(self._conn, participant)
            .values(
                participant_id=added.participant_id,
                role=added.role,
                name=added.name,
                provider_kind=added.provider_kind,
                subject_id=added.subject_id,
                historical_source=added.historical_source,
                standing=added.standing,
                registered_at=added.registered_at,
                simulated_source=added.simulated_source,
                products=" ".join(added.products),
                licence_ends=added.licence_ends,
            )
            .on_conflict_do_nothing(index_elements=["subject_id"])
        )
        return bool(result.rowcount)

    async def get(self, participant_id: str) -> Participant | None:
        """Return a participant."""
        return await self._one(
            sa.select(participant).where(participant.c.participant_id == participant_id)
        )

    async def lock(self, participant_id: str) -> Participant | None:
        """Return a participant that nobody else reads for a fetch or changes until the end."""
        await close_gate(self._conn, participant_id)
        return await self._one(
            sa.select(participant)
            .where(participant.c.participant_id == participant_id)
            .with_for_update()
        )

    async def change(self, changed: Participant) -> None:
        """Write a locked participant's standing, products and licence."""
        await self._conn.execute(
            sa.update(participant)
            .where(participant.c.participant_id == changed.participant_id)
            .values(
                standing=changed.standing,
                products=" ".join(changed.products),
                licence_ends=changed.licence_ends,
            )
        )

    async def add_steps(self, participant_id: str, first: int, events: Sequence[Event]) -> None:
        """Add what happened to a locked participant, numbered from `first` on."""
        await self._conn.execute(
            sa.insert(participant_step),
            [
                {
                    "participant_id": participant_id,
                    "number": number,
                    "step": event.step,
                    "at": event.at,
                    "by_participant_id": event.by.participant_id,
                    "by_person_id": event.by.person_id,
                    "by_name": event.by.name,
                    "evidence_kind": event.evidence.kind if event.evidence else "",
                    "evidence_reference": event.evidence.reference if event.evidence else "",
                    "evidence_sha256": event.evidence.sha256 if event.evidence else b"",
                    "evidence_dated": event.evidence.dated if event.evidence else None,
                    "evidence_ends": event.evidence.ends if event.evidence else None,
                    "products": " ".join(event.products),
                    "note": event.note,
                    "leaf_id": event.leaf_id,
                }
                for number, event in enumerate(events, first)
            ],
        )

    async def steps(self, participant_id: str) -> Sequence[Event]:
        """Return what happened to a participant, the earliest first."""
        rows = await self._conn.execute(
            sa.select(participant_step)
            .where(participant_step.c.participant_id == participant_id)
            .order_by(participant_step.c.number)
        )
        return [_event(row) for row in rows]

    async def revoke_keys(self, participant_id: str, at: datetime) -> Sequence[str]:
        """Mark a locked participant's API and signing keys revoked; return the former's ids."""
        await self._conn.execute(_revoking(signing_key, participant_id, at))
        ended = _revoking(api_key, participant_id, at).returning(api_key.c.key_id)
        return sorted(await self._conn.scalars(ended))

    async def hold_many(self, participant_ids: Sequence[str]) -> Mapping[str, Held]:
        """Return what of participants matters to a fetch, which cannot change until the end.

        Args:
            participant_ids: ascending.
        """
        asked = _ASKED.values(self._conn, [(each,) for each in participant_ids])
        rows = await ask(self._conn, _held(self._conn), asked)
        return {
            participant_id: Held(Standing(standing), tuple(products.split()), licence_ends)
            for participant_id, standing, products, licence_ends in rows
        }

    async def hold_standings(self, participant_ids: Sequence[str]) -> Mapping[str, Standing]:
        """Return the standing of participants, which cannot change until the end.

        Args:
            participant_ids: ascending.
        """
        held = await self.hold_many(participant_ids)
        return {participant_id: each.standing for participant_id, each in held.items()}

    async def hold(self, participant_id: str) -> Participant | None:
        """Return a participant, whose standing cannot change until the end."""
        result = await self._conn.execute(_holding(self._conn), {"held": participant_id})
        row = result.one_or_none()
        return None if row is None else _participant(row)

    async def among(self, participant_ids: Collection[str]) -> dict[str, Participant]:
        """Return those of the ids that are registered, by id."""
        rows = await self._conn.execute(
            sa.select(participant).where(participant.c.participant_id.in_(participant_ids))
        )
        return {row.participant_id: _participant(row) for row in rows}

    async def page(self, roles: Collection[Role], after: str, limit: int) -> Sequence[Participant]:
        """Return participants of these roles whose id is greater, by id."""
        rows = await self._conn.execute(
            sa.select(participant)
            .where(participant.c.role.in_(roles), participant.c.participant_id > after)
            .order_by(participant.c.participant_id)
            .limit(limit)
        )
        return [_participant(row) for row in rows]

    async def add_key(self, key: ApiKey) -> None:
        """Add a key."""
        await self._conn.execute(
            sa.insert(api_key).values(
                key_id=key.key_id,
                participant_id=key.participant_id,
                secret_sha256=key.secret_sha256,
                issued_at=key.issued_at,
                revoked_at=key.revoked_at,
            )
        )

    async def get_key(self, key_id: str) -> ApiKey | None:
        """Return a key."""
        return await self._one_key(sa.select(api_key).where(api_key.c.key_id == key_id))

    async def lock_key(self, key_id: str) -> ApiKey | None:
        """Return a key that nobody else changes until the end."""
        return await self._one_key(
            sa.select(api_key).where(api_key.c.key_id == key_id).with_for_update()
        )

    async def revoke_key(self, key_id: str, at: datetime) -> None:
        """Mark a locked key revoked."""
        await self._conn.execute(
            sa.update(api_key).where(api_key.c.key_id == key_id).values(revoked_at=at)
        )

    async def add_signing_key(self, key: SigningKey) -> bool:
        """Add a locked participant's signing key, unless it is registered; tell whether it did.

        From then on the participant signs.
        """
        result = await self._conn.execute(
            insert_into(self._conn, signing_key)
            .values(
                key_id=key.key_id,
                participant_id=key.participant_id,
                public_jwk=key.public_jwk,
                registered_at=key.registered_at,
                revoked_at=key.revoked_at,
            )
            .on_conflict_do_nothing()
        )
        if not result.rowcount:
            return False
        await self._conn.execute(
            sa.update(participant)
            .where(participant.c.participant_id == key.participant_id)
            .values(signs=True)
        )
        return True

    async def signing_key(self, participant_id: str, key_id: str) -> SigningKey | None:
        """Return a participant's signing key."""
        query = sa.select(signing_key).where(
            signing_key.c.key_id == key_id, signing_key.c.participant_id == participant_id
        )
        row = (await self._conn.execute(query)).one_or_none()
        return None if row is None else SigningKey(*row)

    async def revoke_signing_key(self, key_id: str, at: datetime) -> None:
        """Mark a signing key of a locked participant revoked."""
        await self._conn.execute(
            sa.update(signing_key).where(signing_key.c.key_id == key_id).values(revoked_at=at)
        )

    async def signing_keys(
        self, participant_id: str, after: str, limit: int
    ) -> Sequence[SigningKey]:
        """Return a participant's signing keys whose id is greater, by id."""
        rows = await self._conn.execute(
            sa.select(signing_key)
            .where(signing_key.c.participant_id == participant_id, signing_key.c.key_id > after)
            .order_by(signing_key.c.key_id)
            .limit(limit)
        )
        return [SigningKey(*row) for row in rows]

    async def _one(self, query: sa.Select[Any]) -> Participant | None:
        row = (await self._conn.execute(query)).one_or_none()
        return None if row is None else _participant(row)

    async def _one_key(self, query: sa.Select[Any]) -> ApiKey | None:
        row = (await self._conn.execute(query)).one_or_none()
        return None if row is None else ApiKey(*row)


@once
def _held(conn: AsyncConnection) -> sa.Select[Any]:
    wanted = through_gates(conn, _ASKED.of(conn), "participant_id", "wanted")
    return (
        sa.select(
            participant.c.participant_id,
            participant.c.standing,
            participant.c.products,
            participant.c.licence_ends,
        )
        .join(wanted, participant.c.participant_id == wanted.c.participant_id)
        .order_by(participant.c.participant_id)
        .with_for_update(read=True, of=participant)
    )


@once
def _holding(conn: AsyncConnection) -> sa.Select[Any]:
    held = sa.select(sa.bindparam("held", type_=sa.String()).label("participant_id"))
    wanted = through_gates(conn, held.subquery("asked"), "participant_id", "wanted")
    return (
        sa.select(participant)
        .join(wanted, participant.c.participant_id == wanted.c.participant_id)
        .with_for_update(read=True, of=participant)
    )


def _participant(row: sa.Row[Any]) -> Participant:
    return Participant(
        participant_id=row.participant_id,
        role=Role(row.role),
        name=row.name,
        provider_kind=row.provider_kind,
        subject_id=row.subject_id,
        historical_source=row.historical_source,
        standing=Standing(row.standing),
        registered_at=row.registered_at,
        simulated_source=row.simulated_source,
        signs=row.signs,
        products=tuple(row.products.split()),
        licence_ends=row.licence_ends,
    )


def _revoking(table: sa.Table, participant_id: str, at: datetime) -> sa.Update:
    return (
        sa.update(table)
        .where(table.c.participant_id == participant_id, table.c.revoked_at.is_(None))
        .values(revoked_at=at)
    )


def _event(row: sa.Row[Any]) -> Event:
    evidence = None
    if row.evidence_dated is not None:
        evidence = Evidence(
            kind=row.evidence_kind,
            reference=row.evidence_reference,
            sha256=row.evidence_sha256,
            dated=row.evidence_dated,
            ends=row.evidence_ends,
        )
    return Event(
        step=Step(row.step),
        at=row.at,
        by=Actor(row.by_participant_id, row.by_person_id, row.by_name),
        evidence=evidence,
        products=tuple(row.products.split()),
        note=row.note,
        leaf_id=row.leaf_id,
    )
