"""The tables of datashare hang on one `MetaData`; each aggregate's store defines its own on it.

Constraints are named by rule, so that migrations name the same ones in every database.
"""

import sqlalchemy as sa

from services.kit.tenant_store import tenant_table

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    }
)

tenant = tenant_table(metadata)
