"""Alembic's environment for scoring's tables."""

import services.scoring.decisions.store
import services.scoring.reevaluations.store
import services.scoring.registry.store
import services.scoring.shadow.store  # noqa: F401 - they add their tables to the metadata
from services.kit.migrations import run_environment
from services.scoring.schema import metadata

run_environment(metadata)
