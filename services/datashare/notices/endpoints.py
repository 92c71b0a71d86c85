"""The tables of webhooks and contacts: where parties are told without asking.

Addresses and secrets are sealed: a firm's under its data key, so that they end with it, those of a
bank or a provider under one of its own.
"""

import base64
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.notices.contacts import Contact, Way
from services.datashare.notices.store import in_turn, notice
from services.datashare.notices.webhooks import LONGEST_DELAY, Webhook, WebhookState, is_put_off
from services.datashare.schema import metadata
from services.datashare.sealing.domain import DataKey, Place, provider_owner
from services.datashare.sealing.store import Seals
from services.kit.db import UtcTime, insert_into

webhook = sa.Table(
    "webhook",
    metadata,
    sa.Column("party_id", sa.String(64), primary_key=True),
    sa.Column("participant_id", sa.String(64), nullable=False),
    # Sealed: the address and the secret, as JSON.
    sa.Column("endpoint", sa.LargeBinary, nullable=False),
    sa.Column("since", UtcTime, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("failing_since", UtcTime),
    sa.Column("last_failure", sa.String(200), nullable=False),
    sa.Column("next_attempt_at", UtcTime, nullable=False),
    # Perhaps there is a notice behind the position; else there is none.
    sa.Column("waits", sa.Boolean, nullable=False, server_default=sa.true()),
)

contact = sa.Table(
    "contact",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("participant_id", sa.String(64), nullable=False),
    # Sealed: address, number and language, as JSON.
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    # Whether something is sent anywhere.
    sa.Column("is_open", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("mailed", sa.BigInteger, nullable=False),
    sa.Column("mail_refused_since", UtcTime),
    sa.Column("mail_parked", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("texted", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("text_refused_since", UtcTime),
    sa.Column("text_parked", sa.Boolean, nullable=False, server_default=sa.false()),
    # Messages since that time, to keep them few.
    sa.Column("window_at", UtcTime, nullable=False),
    sa.Column("messages", sa.Integer, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("next_attempt_at", UtcTime, nullable=False),
    # As of a webhook.
    sa.Column("waits", sa.Boolean, nullable=False, server_default=sa.true()),
)

for _table in (webhook, contact):
    _waiting = _table.c.waits.is_(True)
    sa.Index(
        f"ix_{_table.name}_next_attempt_at_waits",
        _table.c.next_attempt_at,
        postgresql_where=_waiting,
        sqlite_where=_waiting,
    )
_PARKED = sa.or_(contact.c.mail_parked, contact.c.text_parked)


def _is_free(attempt_at: sa.Column[datetime], now: datetime) -> sa.ColumnElement[bool]:
    """Return whether it is not `is_put_off`, as an expression."""
    return sa.or_(attempt_at <= now, attempt_at > now + LONGEST_DELAY)


async def _rest(
    conn: AsyncConnection, party: sa.Column[str], party_id: str, now: datetime, claimed: datetime
) -> None:
    """Let a claimed row of a party go, and look at it no more until there is something new.

    The turn is taken before the row, as by those who note that something waits.
    """
    await in_turn(conn, [party_id])
    table = party.table
    behind = sa.exists().where(notice.c.party_id == party, notice.c.position > table.c.position)
    await conn.execute(
        sa.update(table)
        .where(party == party_id, table.c.next_attempt_at == claimed)
        .values(waits=behind.correlate(table), next_attempt_at=now)
    )


class WebhookStore:
    """Webhooks in one transaction.

    Args:
        conn: the transaction.
        seals: seals addresses and secrets.
    """

    def __init__(self, conn: AsyncConnection, seals: Seals) -> None:
        self._conn = conn
        self._seals = seals

    async def set(self, added: Webhook) -> None:
        """Add a party's webhook, or put it in the place of the one before."""
        content = {"url": added.url, "secret": base64.b64encode(added.secret).decode()}
        sealed = await self._seals.seal(
            _owner(added.party_id, added.participant_id),
            _webhook_place(added.party_id),
            orjson.dumps(content),
        )
        values = {**_state(added), "participant_id": added.participant_id, "endpoint": sealed}
        values |= {"since": added.since, "waits": True}
        insert = insert_into(self._conn, webhook).values(party_id=added.party_id, **values)
        await self._conn.execute(
            insert.on_conflict_do_update(index_elements=["party_id"], set_=values)
        )

    async def lock(self, party_id: str) -> Webhook | None:
        """Return a party's webhook, which nobody else changes until the end."""
        query = sa.select(webhook).where(webhook.c.party_id == party_id).with_for_update()
        found = await self._webhooks((await self._conn.execute(query)).all())
        return found[0] if found else None

    async def remove(self, party_id: str) -> None:
        """Take a party's webhook away."""
        await self._conn.execute(sa.delete(webhook).where(webhook.c.party_id == party_id))

    async def update(self, changed: Webhook) -> None:
        """Write the state of a locked webhook."""
        await self._conn.execute(
            sa.update(webhook)
            .where(webhook.c.party_id == changed.party_id)
            .values(**_state(changed))
        )

    async def due(self, now: datetime, limit: int) -> Sequence[str]:
        """Return parties for which something may wait, and be posted."""
        rows = await self._conn.scalars(
            sa.select(webhook.c.party_id)
            .where(
                webhook.c.waits.is_(True),
                _is_free(webhook.c.next_attempt_at, now),
                webhook.c.state == WebhookState.ACTIVE,
            )
            .order_by(webhook.c.next_attempt_at)
            .limit(limit)
        )
        return list(rows)

    async def claim(self, party_id: str, now: datetime, until: datetime) -> Webhook | None:
        """Take a party's webhook, if it still is due; nobody else does until that time."""
        found = await self.lock(party_id)
        if found is None:
            await self.remove(party_id)  # of a firm that was erased: nobody can read it
            return None
        if found.state is not WebhookState.ACTIVE or is_put_off(found.next_attempt_at, now):
            return None
        await self.update(replace(found, next_attempt_at=until))
        return found

    async def rest(self, party_id: str, now: datetime, claimed: datetime) -> None:
        """Let a claimed webhook go, behind which nothing waits; it is due with the next notice.

        In a transaction of its own: who tells the party something holds its turn first.
        """
        await _rest(self._conn, webhook.c.party_id, party_id, now, claimed)

    async def save(self, changed: Webhook, claimed: datetime) -> bool:
        """Write what became of a webhook, unless it was changed since it was claimed."""
        result = await self._conn.execute(
            sa.update(webhook)
            .where(
                webhook.c.party_id == changed.party_id,
                webhook.c.next_attempt_at == claimed,
                webhook.c.since == changed.since,
            )
            .values(**_state(changed))
        )
        return bool(result.rowcount)

    async def parked(self) -> int:
        """Return how many are parked."""
        query = sa.select(sa.func.count()).select_from(webhook)
        return await self._conn.scalar(query.where(webhook.c.state == WebhookState.PARKED)) or 0

    async def page(
        self, party_id: str | None, after: tuple[str, str] | None, limit: int
    ) -> Sequence[tuple[Webhook, int]]:
        """Return webhooks with how many notices wait, parked ones first.

        Args:
            party_id: of this party; None is all.
            after: state and party behind which the page begins; None is the first page.
            limit: most webhooks.
        """
        waiting = (
            sa.select(sa.func.count())
            .where(notice.c.party_id == webhook.c.party_id, notice.c.position > webhook.c.position)
            .scalar_subquery()
        )
        query = sa.select(webhook, waiting.label("waiting"))
        if party_id is not None:
            query = query.where(webhook.c.party_id == party_id)
        if after is not None:
            state, last = after
            query = query.where(
                sa.or_(
                    webhook.c.state < state,
                    sa.and_(webhook.c.state == state, webhook.c.party_id > last),
                )
            )
        query = query.order_by(webhook.c.state.desc(), webhook.c.party_id).limit(limit)
        rows = (await self._conn.execute(query)).all()
        waiting_for = {row.party_id: row.waiting for row in rows}
        return [(each, waiting_for[each.party_id]) for each in await self._webhooks(rows)]

    async def _webhooks(self, rows: Sequence[Any]) -> Sequence[Webhook]:
        """Return webhooks; without those of firms that were erased."""
        owners = [_owner(row.party_id, row.participant_id) for row in rows]
        keys = await self._seals.keys(owners)
        return [
            _webhook(row, keys[owner])
            for row, owner in zip(rows, owners, strict=True)
            if owner in keys
        ]


class ContactStore:
    """Contacts in one transaction.

    Args:
        conn: the transaction.
        seals: seals them.
    """

    def __init__(self, conn: AsyncConnection, seals: Seals) -> None:
        self._conn = conn
        self._seals = seals

    async def set(self, added: Contact) -> None:
        """Add a firm's contact, or put it in the place of the one before."""
        content = {"email": added.mail.to, "mobile": added.text.to, "language": added.language}
        sealed = await self._seals.seal(
            added.subject_id, _contact_place(added.subject_id), orjson.dumps(content)
        )
        values = {**_sent(added), "participant_id": added.participant_id, "content": sealed}
        values["waits"] = True
        insert = insert_into(self._conn, contact).values(subject_id=added.subject_id, **values)
        await self._conn.execute(
            insert.on_conflict_do_update(index_elements=["subject_id"], set_=values)
        )

    async def get(self, subject_id: str) -> Contact | None:
        """Return a firm's contact."""
        return await self._one(sa.select(contact).where(contact.c.subject_id == subject_id))

    async def due(self, now: datetime, limit: int) -> Sequence[str]:
        """Return firms for which something may wait, and be sent."""
        rows = await self._conn.scalars(
            sa.select(contact.c.subject_id)
            .where(
                contact.c.waits.is_(True),
                _is_free(contact.c.next_attempt_at, now),
                contact.c.is_open,
            )
            .order_by(contact.c.next_attempt_at)
            .limit(limit)
        )
        return list(rows)

    async def claim(self, subject_id: str, now: datetime, until: datetime) -> Contact | None:
        """Take a firm's contact, if it still is due; nobody else does until that time."""
        query = sa.select(contact).where(contact.c.subject_id == subject_id).with_for_update()
        found = await self._one(query)
        if found is None:  # of a firm that was erased: nobody can read it
            await self._conn.execute(sa.delete(contact).where(contact.c.subject_id == subject_id))
            return None
        if is_put_off(found.next_attempt_at, now):
            return None
        await self._conn.execute(
            sa.update(contact)
            .where(contact.c.subject_id == subject_id)
            .values(next_attempt_at=until)
        )
        return found

    async def rest(self, subject_id: str, now: datetime, claimed: datetime) -> None:
        """Let a claimed contact go, behind which nothing waits; it is due with the next notice.

        In a transaction of its own: who tells the firm something holds its turn first.
        """
        await _rest(self._conn, contact.c.subject_id, subject_id, now, claimed)

    async def save(self, changed: Contact, claimed: datetime) -> None:
        """Write what became of a contact, unless it was changed since it was claimed."""
        await self._conn.execute(
            sa.update(contact)
            .where(contact.c.subject_id == changed.subject_id, contact.c.next_attempt_at == claimed)
            .values(**_sent(changed))
        )

    async def parked(self) -> int:
        """Return of how many firms an address or a number is parked."""
        query = sa.select(sa.func.count()).select_from(contact).where(_PARKED)
        return await self._conn.scalar(query) or 0

    async def page(self, after: str, limit: int) -> Sequence[Contact]:
        """Return contacts of which an address or a number is parked, by subject_id.

        Args:
            after: the subject_id behind which the page begins; "" is the first page.
            limit: most contacts.
        """
        query = sa.select(contact).where(_PARKED, contact.c.subject_id > after)
        rows = await self._conn.execute(query.order_by(contact.c.subject_id).limit(limit))
        return await self._contacts(rows.all())

    async def _one(self, query: sa.Select[Any]) -> Contact | None:
        found = await self._contacts((await self._conn.execute(query)).all())
        return found[0] if found else None

    async def _contacts(self, rows: Sequence[Any]) -> Sequence[Contact]:
        """Return contacts; without those of firms that were erased."""
        keys = await self._seals.keys(row.subject_id for row in rows)
        return [_contact(row, keys[row.subject_id]) for row in rows if row.subject_id in keys]


def _owner(party_id: str, participant_id: str) -> str:
    return provider_owner(participant_id) if party_id == participant_id else party_id


def _webhook_place(party_id: str) -> Place:
    return ("webhook", party_id)


def _contact_place(subject_id: str) -> Place:
    return ("contact", subject_id)


def _webhook(row: Any, key: DataKey) -> Webhook:
    endpoint = orjson.loads(key.open(_webhook_place(row.party_id), row.endpoint))
    return Webhook(
        party_id=row.party_id,
        participant_id=row.participant_id,
        url=endpoint["url"],
        secret=base64.b64decode(endpoint["secret"]),
        since=row.since,
        position=row.position,
        next_attempt_at=row.next_attempt_at,
        state=WebhookState(row.state),
        failures=row.failures,
        failing_since=row.failing_since,
        last_failure=row.last_failure,
    )


def _contact(row: Any, key: DataKey) -> Contact:
    asked = orjson.loads(key.open(_contact_place(row.subject_id), row.content))
    return Contact(
        subject_id=row.subject_id,
        participant_id=row.participant_id,
        language=asked["language"],
        position=row.position,
        window_at=row.window_at,
        next_attempt_at=row.next_attempt_at,
        mail=Way(asked["email"], row.mailed, row.mail_refused_since, row.mail_parked),
        text=Way(asked["mobile"], row.texted, row.text_refused_since, row.text_parked),
        messages=row.messages,
        failures=row.failures,
    )


def _state(changed: Webhook) -> dict[str, Any]:
    return {
        "position": changed.position,
        "state": changed.state,
        "failures": changed.failures,
        "failing_since": changed.failing_since,
        "last_failure": changed.last_failure,
        "next_attempt_at": changed.next_attempt_at,
    }


def _sent(changed: Contact) -> dict[str, Any]:
    return {
        "position": changed.position,
        "is_open": changed.is_open,
        "mailed": changed.mail.position,
        "mail_refused_since": changed.mail.refused_since,
        "mail_parked": changed.mail.parked,
        "texted": changed.text.position,
        "text_refused_since": changed.text.refused_since,
        "text_parked": changed.text.parked,
        "window_at": changed.window_at,
        "messages": changed.messages,
        "failures": changed.failures,
        "next_attempt_at": changed.next_attempt_at,
    }
