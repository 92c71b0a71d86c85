"""Consents: signers, use, versions, receipts and erasure duties."""

revision = "61c7a0d94e21"
down_revision = "5d0c6f1e92b7"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
