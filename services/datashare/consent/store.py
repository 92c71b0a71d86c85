"""The table of consents.

The subject leads the primary key, so that the table can be distributed by it. The terms are kept
once, as the canonical bytes; the columns beside them are what lists and locks look for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.bulk import Relation, ask, once, relation
from services.datashare.consent.document import core_of
from services.datashare.consent.domain import (
    OPEN_STATES,
    TRANSITIONS,
    Action,
    Consent,
    Receipt,
    Signature,
    State,
)
from services.datashare.gates import close_gate, through_gates
from services.datashare.participants.domain import Standing
from services.datashare.participants.store import participant
from services.datashare.quota.domain import LIFE, Wish
from services.datashare.quota.store import QuotaStore, consent_use
from services.datashare.schema import metadata
from services.datashare.wanted.domain import WantedState
from services.datashare.wanted.store import wanted
from services.kit.db import UtcTime

consent = sa.Table(
    "consent",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("consent_id", sa.String(64), primary_key=True),
    sa.Column("recipient_id", sa.String(64), nullable=False),
    sa.Column("state", sa.String(32), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
    sa.Column("canonical", sa.LargeBinary, nullable=False),
    sa.Column("sha256", sa.LargeBinary(32), nullable=False),
    # A list of signer_id and jws, as JSON.
    sa.Column("signatures", sa.LargeBinary, nullable=False),
    sa.Column("requested_at", UtcTime, nullable=False),
    sa.Column("changed_at", UtcTime, nullable=False),
    sa.Column("note", sa.String(500), nullable=False),
    sa.Column("notice", sa.Text, nullable=False, server_default=sa.text("''")),
    sa.Column("platform_jws", sa.String(1024), nullable=False, server_default=sa.text("''")),
    # None of version 1, which never lapses.
    sa.Column("answer_by", UtcTime),
    sa.Column("one_time", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("superseded_by", sa.String(64), nullable=False, server_default=sa.text("''")),
    # None until it ended by an act.
    sa.Column("termination", sa.LargeBinary),
    sa.Column("termination_jws", sa.String(1024), nullable=False, server_default=sa.text("''")),
    sa.Column("end_told", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index(None, "consent_id"),
    sa.Index(None, "recipient_id", "consent_id"),
    sa.Index(None, "recipient_id", "state", "consent_id"),
)

# Receipts of the ends that uses made. They are apart, as who uses a consent shares its row.
consent_consumption = sa.Table(
    "consent_consumption",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("consent_id", sa.String(64), primary_key=True),
    sa.Column("termination", sa.LargeBinary, nullable=False),
    sa.Column("termination_jws", sa.String(1024), nullable=False),
)

# Those whose end is still to be told: by when they expire, and by when they lapse.
_TO_TELL = sa.text("NOT end_told")
_WAITING = (State.REQUESTED, State.PARTIALLY_APPROVED)
_TO_ANSWER = sa.text("NOT end_told AND state IN ('REQUESTED', 'PARTIALLY_APPROVED')")
sa.Index(
    "ix_consent_expires_at_to_tell",
    consent.c.expires_at,
    postgresql_where=_TO_TELL,
    sqlite_where=_TO_TELL,
)
sa.Index(
    "ix_consent_answer_by_to_tell",
    consent.c.answer_by,
    postgresql_where=_TO_ANSWER,
    sqlite_where=_TO_ANSWER,
)

_KEY = {"subject_id": sa.String(), "consent_id": sa.String()}
_ASKED = Relation("asked", _KEY)
_DUE = {"subject_id": sa.String(), "record_type": sa.String()}
# A gate is an entry of PostgreSQL's lock table, which has room for 64 a connection. A batch about
# so many firms shares each one's consent a moment only; what gates are for is one that is shared
# without pause.
_MOST_GATED = 64
_BY_SELF = (Action.CONSUME, Action.LAPSE, Action.EXPIRE, Action.SUSPEND)
_ITEM = ("subject_id", "provider_id", "record_type", "consent_id")
_HELD = (
    consent.c.canonical,
    consent.c.sha256,
    consent.c.state,
    consent.c.revision,
    consent.c.requested_at,
    consent.c.changed_at,
)
# One look into the index for each consent: of an EXISTS that it expects to ask often PostgreSQL
# makes a hash of all uses there are.
_USED = sa.func.coalesce(
    sa.select(consent_use.c.used > 0)
    .where(
        consent_use.c.subject_id == consent.c.subject_id,
        consent_use.c.consent_id == consent.c.consent_id,
        consent_use.c.period == LIFE,
    )
    .correlate(consent)
    .scalar_subquery(),
    sa.false(),
)
_SUSPENDED = (
    sa.exists()
    .where(
        participant.c.participant_id == consent.c.recipient_id,
        participant.c.standing != Standing.ACTIVE,
    )
    .correlate(consent)
)
_COLUMNS = (
    *_HELD,
    consent.c.signatures,
    consent.c.note,
    consent.c.notice,
    consent.c.platform_jws,
    consent.c.superseded_by,
    consent.c.termination,
    consent.c.termination_jws,
    consent.c.end_told,
)


class ConsentStore:
    """Consents in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn
        self._quotas = QuotaStore(conn)

    async def add(self, added: Consent) -> None:
        """Add a consent."""
        await self._conn.execute(
            sa.insert(consent).values(
                subject_id=added.core.subject_id,
                consent_id=added.core.consent_id,
                recipient_id=added.core.recipient_id,
                expires_at=added.core.terms.expires_at,
                canonical=added.canonical,
                sha256=added.sha256,
                requested_at=added.requested_at,
                notice=added.notice,
                platform_jws=added.platform_jws,
                answer_by=added.core.answer_by,
                one_time=added.core.terms.one_time,
                **_state(added),
            )
        )

    async def get(self, consent_id: str, now: datetime) -> Consent | None:
        """Return a consent, with its use at a time."""
        return await self._one(sa.select(*_COLUMNS).where(consent.c.consent_id == consent_id), now)

    async def lock(self, consent_id: str, now: datetime) -> Consent | None:
        """Return a consent under which nobody else fetches or acts until the end.

        Its use, which is read after the lock was waited for, is that at a time.
        """
        await close_gate(self._conn, consent_id)
        return await self._one(
            sa.select(*_COLUMNS).where(consent.c.consent_id == consent_id).with_for_update(), now
        )

    async def hold(self, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Consent]:
        """Return the consents of (subject_id, consent_id), which cannot change until the end.

        They are held in the order of their keys, so that two batches cannot wait for each other.
        Signatures and note are left out: they may be large and say nothing about a fetch.

        Args:
            keys: ascending.
        """
        rows = await ask(self._conn, _holding(self._conn), _ASKED.values(self._conn, keys))
        return {(row[0], row[1]): _consent(row[2:]) for row in rows}

    async def given_to(
        self, recipient_id: str, now: datetime, after: str, limit: int
    ) -> Sequence[tuple[str, str]]:
        """Return subject_id and consent_id of a recipient's consents that are in force, by id.

        Args:
            recipient_id: whose.
            now: the time.
            after: only with an id greater than this; "" is any.
            limit: most consents.
        """
        rows = await self._conn.execute(
            sa.select(consent.c.subject_id, consent.c.consent_id)
            .where(
                consent.c.recipient_id == recipient_id,
                consent.c.state == State.ACTIVE,
                consent.c.expires_at > now,
                sa.not_(sa.and_(consent.c.one_time, _USED)),
                consent.c.consent_id > after,
            )
            .order_by(consent.c.consent_id)
            .limit(limit)
        )
        return [(row[0], row[1]) for row in rows]

    async def is_over(self, now: datetime) -> bool:
        """Tell whether there is one whose time is over and whose end is to be told."""
        return bool(await self._conn.scalar(sa.select(sa.or_(*map(sa.exists, _over(now))))))

    async def over(self, now: datetime, limit: int) -> Sequence[Consent]:
        """Return those, held for a change: one that somebody else holds once there are no others.

        None where somebody else tells of it meanwhile.
        """
        found: list[Consent] = []
        for query in _over(now):
            rows = await self._conn.execute(
                query.limit(limit - len(found)).with_for_update(skip_locked=True)
            )
            found += [_consent(row) for row in rows]
        if found:
            return await self._with_use(found, now)
        # Who asks for it without pause, though in vain, would keep its end from being told.
        for query in _over(now):
            held = (await self._conn.execute(query.limit(1))).first()
            if held is not None:
                taken = await self.lock(_consent(held).core.consent_id, now)
                return [] if taken is None or taken.end_told else [taken]
        return []

    async def hold_due(
        self, provider_id: str, asked: Sequence[tuple[str, str]], now: datetime
    ) -> Mapping[str, Sequence[Consent]]:
        """Return the consents under which something is due, which cannot change until the end.

        Args:
            provider_id: from whom.
            asked: sorted (subject_id, record_type).
            now: those that end before are left out.

        Returns:
            The consents by subject_id.
        """
        ended = wanted.alias("ended")
        same = (ended.c[name] == wanted.c[name] for name in _ITEM)
        due = (
            self._made_due(provider_id, asked)
            .where(
                wanted.c.until > now,
                ~sa.exists().where(ended.c.state == WantedState.ENDED, *same),
            )
            .order_by(wanted.c.subject_id, wanted.c.consent_id)
            .subquery("due")
        )
        few = len({subject_id for subject_id, _ in asked}) <= _MOST_GATED
        keys = through_gates(self._conn, due, "consent_id", "gated") if few else due
        return await self._by_subject(_held(keys).with_for_update(read=True, of=consent))

    async def once_due(
        self, provider_id: str, asked: Sequence[tuple[str, str]]
    ) -> Mapping[str, Sequence[Consent]]:
        """Return the consents under which something was ever due; they are not held.

        Args:
            provider_id: from whom.
            asked: sorted (subject_id, record_type).

        Returns:
            The consents by subject_id.
        """
        return await self._by_subject(_held(self._made_due(provider_id, asked).subquery("due")))

    def _made_due(self, provider_id: str, asked: Sequence[tuple[str, str]]) -> sa.Select[Any]:
        rows = relation(self._conn, "asked", _DUE, asked)
        return (
            sa.select(wanted.c.subject_id, wanted.c.consent_id)
            .distinct()
            .join(rows, sa.and_(*(wanted.c[name] == rows.c[name] for name in _DUE)))
            .where(wanted.c.provider_id == provider_id, wanted.c.state == WantedState.DUE)
        )

    async def _by_subject(self, query: sa.Select[Any]) -> Mapping[str, Sequence[Consent]]:
        found: dict[str, list[Consent]] = {}
        for subject_id, suspended, *held in await self._conn.execute(query):
            consent_held = replace(_consent(held), suspended=bool(suspended))
            found.setdefault(subject_id, []).append(consent_held)
        return found

    async def update(self, changed: Consent) -> None:
        """Write the new state of a locked consent."""
        await self._conn.execute(
            sa.update(consent)
            .where(
                consent.c.subject_id == changed.core.subject_id,
                consent.c.consent_id == changed.core.consent_id,
            )
            .values(**_state(changed))
        )

    async def consume(self, used: Consent, receipt: Receipt) -> None:
        """Keep the receipt of the end of a held one-time consent, which is used now."""
        await self._conn.execute(
            sa.insert(consent_consumption).values(
                subject_id=used.core.subject_id,
                consent_id=used.core.consent_id,
                termination=receipt.canonical,
                termination_jws=receipt.jws,
            )
        )

    async def page(
        self,
        *,
        subject_id: str | None,
        recipient_id: str | None,
        state: State | None,
        now: datetime,
        before: str,
        limit: int,
    ) -> Sequence[Consent]:
        """Return consents, newest first.

        Args:
            subject_id: of this firm; None is any.
            recipient_id: given to this bank; None is any.
            state: only in this state at `now`; None is any.
            now: the time at which the state is computed.
            before: only with an id less than this; "" is any.
            limit: most consents.
        """
        query = sa.select(*_COLUMNS).order_by(consent.c.consent_id.desc()).limit(limit)
        if subject_id is not None:
            query = query.where(consent.c.subject_id == subject_id)
        if recipient_id is not None:
            query = query.where(consent.c.recipient_id == recipient_id)
        if before:
            query = query.where(consent.c.consent_id < before)
        if state is not None:
            # Those that may be in it, which an index tells, and of them those that are.
            query = query.where(consent.c.state.in_(_stored(state)), _state_at(now) == state)
        found = [_consent(row) for row in await self._conn.execute(query)]
        return await self._with_use(found, now)

    async def _one(self, query: sa.Select[Any], now: datetime) -> Consent | None:
        found = [_consent(row) for row in await self._conn.execute(query)]
        return next(iter(await self._with_use(found, now)), None)

    async def _with_use(self, found: Sequence[Consent], now: datetime) -> Sequence[Consent]:
        """Return consents with what was used of them, and whether the recipient is suspended."""
        if not found:
            return found
        limits = {each.core.consent_id: each.core.terms.fetch_limit for each in found}
        keys = [
            Wish(each.core.subject_id, each.core.consent_id, limit).key(now)
            for each in found
            if (limit := limits[each.core.consent_id]) is not None
        ]
        used = {key[1]: count for key, count in (await self._quotas.used(sorted(keys))).items()}
        suspended = set(
            await self._conn.scalars(
                sa.select(participant.c.participant_id).where(
                    participant.c.participant_id.in_({each.core.recipient_id for each in found}),
                    participant.c.standing != Standing.ACTIVE,
                )
            )
        )
        receipts = await self._consumed(
            [
                (each.core.subject_id, each.core.consent_id)
                for each in found
                if each.core.terms.one_time and used.get(each.core.consent_id)
            ]
        )
        return [
            replace(
                each,
                used=used.get(each.core.consent_id, 0),
                suspended=each.core.recipient_id in suspended,
                termination=each.termination or receipts.get(each.core.consent_id),
            )
            for each in found
        ]

    async def _consumed(self, keys: Sequence[tuple[str, str]]) -> Mapping[str, Receipt]:
        """Return the receipts of consents that were used up, by consent_id."""
        if not keys:
            return {}
        asked = relation(self._conn, "asked", _KEY, sorted(keys))
        same = sa.and_(*(consent_consumption.c[name] == asked.c[name] for name in _KEY))
        rows = await self._conn.execute(sa.select(consent_consumption).join(asked, same))
        return {row.consent_id: Receipt(row.termination, row.termination_jws) for row in rows}


def _stored(state: State) -> Sequence[State]:
    """Return the stored states of which time, use and the recipient's standing can make one."""
    led = {at for (at, action), then in TRANSITIONS.items() if then is state and action in _BY_SELF}
    return sorted({state, *led})


def _state_at(now: datetime) -> sa.ColumnElement[str]:
    """Return `domain.state_at` of the row as an expression."""
    happened = {
        Action.CONSUME: sa.and_(consent.c.one_time, _USED),
        Action.LAPSE: consent.c.answer_by <= now,
        Action.EXPIRE: consent.c.expires_at <= now,
        Action.SUSPEND: _SUSPENDED,
    }
    # The first that applies, as nothing leads on from a state that one of them ends in.
    return sa.case(
        *(
            (sa.and_(consent.c.state == at, happened[action]), TRANSITIONS[at, action].value)
            for action in happened
            for at in sorted(OPEN_STATES)
            if (at, action) in TRANSITIONS
        ),
        else_=consent.c.state,
    )


def _over(now: datetime) -> tuple[sa.Select[Any], sa.Select[Any]]:
    """Return the queries of consents that lapsed and that expired, whose end is to be told."""
    lapsed = sa.select(*_COLUMNS).where(_TO_ANSWER, consent.c.answer_by <= now)
    expired = sa.select(*_COLUMNS).where(
        _TO_TELL,
        consent.c.expires_at <= now,
        # No answer is waited for past the end, so those that wait for one have lapsed.
        sa.or_(consent.c.answer_by.is_(None), consent.c.state.not_in(_WAITING)),
    )
    return lapsed.order_by(consent.c.answer_by), expired.order_by(consent.c.expires_at)


@once
def _holding(conn: AsyncConnection) -> sa.Select[Any]:
    wanted = through_gates(conn, _ASKED.of(conn), "consent_id", "wanted")
    return (
        sa.select(consent.c.subject_id, consent.c.consent_id, *_HELD)
        .join(wanted, sa.and_(*(consent.c[name] == wanted.c[name] for name in _KEY)))
        .order_by(consent.c.subject_id, consent.c.consent_id)
        .with_for_update(read=True, of=consent)
    )


def _held(keys: sa.FromClause) -> sa.Select[Any]:
    """Return the query of consents by their keys, in the order in which they are held."""
    return (
        sa.select(consent.c.subject_id, _SUSPENDED.label("suspended"), *_HELD)
        .join(keys, sa.and_(*(consent.c[name] == keys.c[name] for name in _KEY)))
        .order_by(consent.c.subject_id, consent.c.consent_id)
    )


def _state(changed: Consent) -> dict[str, Any]:
    return {
        "state": changed.state,
        "revision": changed.revision,
        "signatures": orjson.dumps([(s.signer_id, s.jws) for s in changed.signatures]),
        "changed_at": changed.changed_at,
        "note": changed.note,
        "superseded_by": changed.superseded_by,
        "termination": None if changed.termination is None else changed.termination.canonical,
        "termination_jws": "" if changed.termination is None else changed.termination.jws,
        # An act is told in its own transaction.
        "end_told": changed.end_told or changed.state not in OPEN_STATES,
    }


def _consent(row: Sequence[Any]) -> Consent:
    """Return a consent from `_HELD`, or from `_COLUMNS`."""
    canonical, sha256, state, revision, requested_at, changed_at, *rest = row
    (
        signatures,
        note,
        notice,
        platform_jws,
        superseded_by,
        termination,
        termination_jws,
        end_told,
    ) = rest or (b"[]", "", "", "", "", None, "", False)
    return Consent(
        core=core_of(canonical),
        canonical=canonical,
        sha256=sha256,
        state=State(state),
        revision=revision,
        signatures=tuple(Signature(*pair) for pair in orjson.loads(signatures)),
        requested_at=requested_at,
        changed_at=changed_at,
        note=note,
        notice=notice,
        platform_jws=platform_jws,
        superseded_by=superseded_by,
        termination=None if termination is None else Receipt(termination, termination_jws),
        end_told=bool(end_told),
    )
