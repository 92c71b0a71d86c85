"""Find what lists ask for: consents of a recipient by their state, disputes that are open."""

import sqlalchemy as sa
from alembic import op

revision = "f3a7d5c81b20"
down_revision = "b81f63d2a95c"
branch_labels = None
depends_on = None

CONSENTS = "ix_consent_recipient_id_state_consent_id"
DISPUTES = ("answer_due_at", "dispute_id"), ("provider_id", "answer_due_at", "dispute_id")
IS_OPEN = sa.text("state = 'OPEN'")


def upgrade() -> None:
    """Add the indexes; nobody who changes a consent waits for it."""
    columns = ["recipient_id", "state", "consent_id"]
    if op.get_context().dialect.name == "postgresql":
        with op.get_context().autocommit_block():
            # One that was broken off is there, and of no use.
            op.execute(f"DROP INDEX IF EXISTS {CONSENTS}")
            op.create_index(CONSENTS, "consent", columns, postgresql_concurrently=True)
    else:
        op.create_index(CONSENTS, "consent", columns)
    for each in DISPUTES:
        op.create_index(
            f"ix_dispute_{'_'.join(each)}_open",
            "dispute",
            list(each),
            postgresql_where=IS_OPEN,
            sqlite_where=IS_OPEN,
        )


def downgrade() -> None:
    """Take them away."""
    for each in DISPUTES:
        op.drop_index(f"ix_dispute_{'_'.join(each)}_open", "dispute")
    op.drop_index(CONSENTS, "consent")
