"""What keeps registration numbers out of PostgreSQL's files once their mapping is sealed.

A trigger before the row is written drops the plain text, so that it reaches neither the table nor
the write-ahead log. A row that has no token comes from a program of the version before: dropping
its number would lose it, so that program is told.

Used by the migration, too: what it does must stay as it is.
"""

from typing import Final

import sqlalchemy as sa

_FUNCTION: Final = """
CREATE OR REPLACE FUNCTION puhui_drop_plain_uscc() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.uscc IS NOT NULL AND NEW.uscc_token IS NULL THEN
    RAISE EXCEPTION 'the mapping of subjects is sealed: this program is of a version before it'
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  NEW.uscc := NULL;
  RETURN NEW;
END
$$
"""
_TRIGGER: Final = """
CREATE TRIGGER puhui_drop_plain_uscc BEFORE INSERT OR UPDATE ON subject
FOR EACH ROW EXECUTE FUNCTION puhui_drop_plain_uscc()
"""
_REMOVE: Final = (
    "DROP TRIGGER IF EXISTS puhui_drop_plain_uscc ON subject",
    "DROP FUNCTION IF EXISTS puhui_drop_plain_uscc()",
)
_INSTALLED: Final = """
SELECT 1 FROM pg_trigger
WHERE tgrelid = to_regclass('subject') AND tgname = 'puhui_drop_plain_uscc'
"""


def install(connection: sa.Connection) -> None:
    """Keep plain text out from now on; SQLite, where one program writes, needs nothing."""
    if connection.dialect.name == "postgresql" and not is_installed(connection):
        connection.exec_driver_sql(_FUNCTION)
        connection.exec_driver_sql(_TRIGGER)


def remove(connection: sa.Connection) -> None:
    """Let plain text in again."""
    if connection.dialect.name == "postgresql":
        for statement in _REMOVE:
            connection.exec_driver_sql(statement)


def is_installed(connection: sa.Connection) -> bool:
    """Tell whether plain text is kept out; on SQLite it always is."""
    if connection.dialect.name == "sqlite":
        return True
    return connection.exec_driver_sql(_INSTALLED).first() is not None
