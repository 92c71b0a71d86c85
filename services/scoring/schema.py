"""The tables of scoring hang on this; each `store.py` defines its own."""

import sqlalchemy as sa

from services.kit.tenant_store import tenant_table

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

tenant = tenant_table(metadata)
