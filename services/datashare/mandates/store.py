"""The tables of mandates, signing rules and proofs that were used."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.mandates.domain import (
    ALL_POWERS,
    BY_OPERATOR,
    Mandate,
    MandateKind,
    Power,
    SigningRule,
)
from services.datashare.participants.domain import Role
from services.datashare.participants.store import participant
from services.datashare.schema import metadata
from services.datashare.subjects.store import subject
from services.kit.db import UtcTime, insert_into

mandate = sa.Table(
    "mandate",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("mandate_id", sa.String(64), primary_key=True),
    sa.Column("participant_id", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    # A list, as JSON.
    sa.Column("powers", sa.LargeBinary, nullable=False),
    sa.Column("since", UtcTime, nullable=False),
    sa.Column("appointed_by", sa.String(64), nullable=False),
    sa.Column("until", UtcTime),
    sa.Column("suspended_at", UtcTime),
    sa.Column("ended_at", UtcTime),
    sa.Column("proved_by", sa.String(64), nullable=False),
)

_KEPT = timedelta(days=2)
_STANDS = mandate.c.ended_at.is_(None)
_IS_REPRESENTATIVE = mandate.c.kind == sa.literal_column(f"'{MandateKind.REPRESENTATIVE}'")

# An account acts for one firm at most, and a firm has one representative.
sa.Index(
    "uq_mandate_participant_id_stands",
    mandate.c.participant_id,
    unique=True,
    postgresql_where=_STANDS,
    sqlite_where=_STANDS,
)
sa.Index(
    "uq_mandate_subject_id_representative",
    mandate.c.subject_id,
    unique=True,
    postgresql_where=sa.and_(_STANDS, _IS_REPRESENTATIVE),
    sqlite_where=sa.and_(_STANDS, _IS_REPRESENTATIVE),
)

signing_rule = sa.Table(
    "signing_rule",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    # A list, as JSON.
    sa.Column("signer_ids", sa.LargeBinary, nullable=False),
    sa.Column("required", sa.SmallInteger, nullable=False),
)

proof_use = sa.Table(
    "proof_use",
    metadata,
    sa.Column("proof_id", sa.String(128), primary_key=True),
    sa.Column("used_at", UtcTime, nullable=False),
)


class MandateStore:
    """Mandates and signing rules in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def add(self, added: Mandate) -> None:
        """Add a mandate.

        Fails with a unique violation when the account or the firm got another one meanwhile.
        """
        await self._conn.execute(
            sa.insert(mandate).values(
                subject_id=added.subject_id,
                mandate_id=added.mandate_id,
                participant_id=added.participant_id,
                kind=added.kind,
                powers=orjson.dumps(sorted(added.powers)),
                since=added.since,
                appointed_by=added.appointed_by,
                until=added.until,
                suspended_at=added.suspended_at,
                ended_at=added.ended_at,
                proved_by=added.proved_by,
            )
        )

    async def fill(self) -> None:
        """Let registered firms speak for themselves of which no mandate was ever made.

        A replica of the version before, which knows none, may register one during an upgrade. Of a
        firm that was erased there is none any more, and none is made.
        """
        stood = mandate.alias("stood")
        of_it = sa.or_(
            stood.c.participant_id == participant.c.participant_id,
            stood.c.subject_id == participant.c.subject_id,
        )
        # "00" sorts before every id that is made of a time.
        own_id = sa.literal("man_00") + sa.func.substr(participant.c.participant_id, 5)
        values = {
            mandate.c.subject_id: participant.c.subject_id,
            mandate.c.mandate_id: own_id,
            mandate.c.participant_id: participant.c.participant_id,
            mandate.c.kind: sa.literal(MandateKind.REPRESENTATIVE.value),
            mandate.c.powers: sa.literal(orjson.dumps(sorted(ALL_POWERS)), sa.LargeBinary),
            mandate.c.since: participant.c.registered_at,
            mandate.c.appointed_by: sa.literal(""),
            mandate.c.proved_by: sa.literal(BY_OPERATOR),
        }
        await self._conn.execute(
            insert_into(self._conn, mandate)
            .from_select(
                list(values),
                sa.select(*values.values()).where(
                    participant.c.role == Role.FIRM,
                    participant.c.subject_id.is_not(None),
                    ~sa.exists().where(of_it),
                    ~sa.exists().where(
                        subject.c.subject_id == participant.c.subject_id,
                        subject.c.uscc.is_(None),
                        subject.c.uscc_token.is_(None),
                    ),
                ),
            )
            .on_conflict_do_nothing()
        )

    async def get(self, participant_id: str) -> Mandate | None:
        """Return the mandate of an account that nobody ended."""
        return await self._one(_of(participant_id))

    async def hold(self, participant_id: str) -> Mandate | None:
        """Return the mandate of an account that nobody ended, unchangeable until the end."""
        return await self._one(_of(participant_id).with_for_update(read=True))

    async def lock_subject(self, subject_id: str) -> Sequence[Mandate]:
        """Return a firm's mandates that nobody ended; nobody acts under them until the end.

        Whoever was waited for may have added one, which a query that began before does not see. So
        it asks until nothing new is there: adding one takes a lock on those that it then holds.
        """
        query = (
            sa.select(mandate)
            .where(mandate.c.subject_id == subject_id, _STANDS)
            .order_by(mandate.c.mandate_id)
            .with_for_update()
        )
        before, locked = None, None
        while locked is None or locked != before:
            before, locked = locked, (await self._conn.execute(query)).all()
        return [_mandate(row) for row in locked]

    async def spoken_for(self, subject_ids: Collection[str]) -> set[str]:
        """Return those of the firms that have a mandate that stands and is not suspended."""
        rows = await self._conn.scalars(
            sa.select(mandate.c.subject_id)
            .where(
                mandate.c.subject_id.in_(sorted(subject_ids)),
                _STANDS,
                mandate.c.suspended_at.is_(None),
            )
            .distinct()
        )
        return set(rows)

    async def accounts_of(self, subject_id: str, participant_ids: Collection[str]) -> set[str]:
        """Return those of some accounts that speak for a firm or once did."""
        rows = await self._conn.scalars(
            sa.select(mandate.c.participant_id).where(
                mandate.c.subject_id == subject_id,
                mandate.c.participant_id.in_(sorted(participant_ids)),
            )
        )
        return set(rows)

    async def end(self, mandates: Collection[Mandate]) -> None:
        """Write the end of locked mandates."""
        for each in mandates:
            await self._conn.execute(
                sa.update(mandate).where(_is(each)).values(ended_at=each.ended_at)
            )

    async def suspend(self, mandates: Collection[Mandate], at: datetime) -> None:
        """Suspend locked mandates."""
        for each in mandates:
            await self._conn.execute(sa.update(mandate).where(_is(each)).values(suspended_at=at))

    async def page(self, subject_id: str, before: str, limit: int) -> Sequence[Mandate]:
        """Return mandates of a firm, newest first, also ended ones.

        Args:
            subject_id: the firm.
            before: only with an id less than this; "" is any.
            limit: most mandates.
        """
        query = sa.select(mandate).where(mandate.c.subject_id == subject_id)
        if before:
            query = query.where(mandate.c.mandate_id < before)
        rows = await self._conn.execute(query.order_by(mandate.c.mandate_id.desc()).limit(limit))
        return [_mandate(row) for row in rows]

    async def rule(self, subject_id: str) -> SigningRule | None:
        """Return the signing rule of a firm that has set one."""
        query = sa.select(signing_rule).where(signing_rule.c.subject_id == subject_id)
        row = (await self._conn.execute(query)).one_or_none()
        return None if row is None else SigningRule(tuple(orjson.loads(row[1])), row[2])

    async def set_rule(self, subject_id: str, rule: SigningRule | None) -> None:
        """Replace the signing rule of a firm whose mandates are locked; None takes it away."""
        await self._conn.execute(
            sa.delete(signing_rule).where(signing_rule.c.subject_id == subject_id)
        )
        if rule is not None:
            await self._conn.execute(
                sa.insert(signing_rule).values(
                    subject_id=subject_id,
                    signer_ids=orjson.dumps(rule.signer_ids),
                    required=rule.required,
                )
            )

    async def use_proof(self, proof_id: str, at: datetime) -> bool:
        """Take a proof that may be used once; tell whether it was not used before.

        Those of before `_KEPT` are forgotten: they have expired.
        """
        await self._conn.execute(sa.delete(proof_use).where(proof_use.c.used_at < at - _KEPT))
        result = await self._conn.execute(
            insert_into(self._conn, proof_use)
            .values(proof_id=proof_id, used_at=at)
            .on_conflict_do_nothing()
        )
        return bool(result.rowcount)

    async def _one(self, query: sa.Select[Any]) -> Mandate | None:
        row = (await self._conn.execute(query)).one_or_none()
        return None if row is None else _mandate(row)


class Signers:
    """Who must agree before a consent of a firm is active.

    Args:
        mandates: in the transaction.
    """

    def __init__(self, mandates: MandateStore) -> None:
        self._mandates = mandates

    async def of(self, subject_id: str) -> SigningRule:
        """Return the rule of a firm; one that has set none lets any one who may grant agree.

        Whoever agrees needs the power to grant besides, so an account whose mandate ended since
        counts no more, and a rule that cannot be met any more lets nothing become active.
        """
        return await self._mandates.rule(subject_id) or SigningRule()


def _of(participant_id: str) -> sa.Select[Any]:
    return sa.select(mandate).where(mandate.c.participant_id == participant_id, _STANDS)


def _is(one: Mandate) -> sa.ColumnElement[bool]:
    return sa.and_(mandate.c.subject_id == one.subject_id, mandate.c.mandate_id == one.mandate_id)


def _mandate(row: sa.Row[Any]) -> Mandate:
    return Mandate(
        mandate_id=row.mandate_id,
        subject_id=row.subject_id,
        participant_id=row.participant_id,
        kind=MandateKind(row.kind),
        powers=frozenset(map(Power, orjson.loads(row.powers))),
        since=row.since,
        appointed_by=row.appointed_by,
        until=row.until,
        suspended_at=row.suspended_at,
        ended_at=row.ended_at,
        proved_by=row.proved_by,
    )
