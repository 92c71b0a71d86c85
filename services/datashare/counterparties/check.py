"""Whether the keys in the file are those that this database's counterparties are named by."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.counterparties.keyfile import SETTING, KeyFile
from services.datashare.counterparties.store import Chain, Chains
from services.datashare.quality.tables import token
from services.datashare.records.tokens import CounterpartyTokens
from services.datashare.sealing.app import Vault
from services.datashare.sealing.store import Seals
from services.datashare.subjects.store import SubjectStore
from services.kit.clock import Clock
from services.kit.config import ConfigError
from services.kit.db import Database
from services.kit.ids import RandomIds

COMMAND: Final = "rotate-counterparty-key"


async def check(
    database: Database, vault: Vault, files: KeyFile, tokens: CounterpartyTokens, clock: Clock
) -> None:
    """Compare the keys with the database's; one that has none noted takes these.

    Before it does, they have to make the token of a firm whose number is known, where there is one:
    a database of the version before may hold everything but the note.

    Args:
        database: datashare's.
        vault: data keys.
        files: the keys' file.
        tokens: what makes tokens by the keys that were read from it.
        clock: the time.

    Raises:
        ConfigError: they are other keys, or are being rotated.
        UnavailableError: the database cannot be had now.
    """
    async with database.begin() as conn:
        chains = Chains(conn)
        if not await chains.alone(rotating=False):
            raise wrong(f"{files.path} is being rotated: start again once `{COMMAND}` has ended")
        noted = await chains.get()
        if noted is None:
            if not await _fits(conn, vault, tokens, clock):
                raise wrong(
                    f"{files.path} does not hold the key that this database's counterparties are "
                    "named by: put back its own file, or the backup that belongs to this one"
                )
            noted = await chains.take(tokens, clock.now())
    if noted.check_value != tokens.check_value:
        raise other_keys(files, noted)


async def _fits(
    conn: AsyncConnection, vault: Vault, tokens: CounterpartyTokens, clock: Clock
) -> bool:
    named = (await conn.execute(sa.select(token).where(token.c.token.is_not(None)).limit(1))).all()
    subjects = SubjectStore(conn, RandomIds(clock), Seals(conn, vault))
    known = await subjects.usccs(row.subject_id for row in named)
    return all(
        tokens.of(known[row.subject_id]) == row.token for row in named if row.subject_id in known
    )


def other_keys(files: KeyFile, noted: Chain) -> ConfigError:
    """Return what to do about a file whose keys are not the database's."""
    if is_pending(files, noted):
        return wrong(
            f"the keys were rotated, and the database rests on {files.next_path}: "
            f"`mv {files.next_path} {files.path}`, or put it in that one's place in the Secret"
        )
    return wrong(
        f"{files.path} does not hold the keys that this database's counterparties are named by: "
        f"put back its file of {noted.since:%Y-%m-%d %H:%M} UTC, with "
        f"{'one key' if noted.links == 1 else f'{noted.links} keys'}, or else the backup of the "
        "database that belongs to this file"
    )


def is_pending(files: KeyFile, noted: Chain) -> bool:
    """Tell whether the database rests on what is to take the file's place."""
    tokens = files.read_next()
    return tokens is not None and tokens.check_value == noted.check_value


def wrong(problem: str) -> ConfigError:
    """Return an error of the setting that names the file."""
    return ConfigError([f"{SETTING}: {problem}"])
