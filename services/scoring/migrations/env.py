"""Alembic's environment for scoring's tables."""

import services.scoring.decisions.store  # noqa: F401 - adds its tables to the metadata
from services.kit.migrations import run_environment
from services.scoring.schema import metadata

run_environment(metadata)
