"""Alembic's environment for datashare's tables."""

import services.datashare.access.store
import services.datashare.changes.store
import services.datashare.consent.duties
import services.datashare.consent.store
import services.datashare.counterparties.store
import services.datashare.deliveries.store
import services.datashare.disputes.store
import services.datashare.idempotency.store
import services.datashare.incidents.store
import services.datashare.log.store
import services.datashare.mandates.store
import services.datashare.metering.store
import services.datashare.participants.store
import services.datashare.quality.tables
import services.datashare.receipts.store
import services.datashare.records.store
import services.datashare.retention.store
import services.datashare.reviews.store
import services.datashare.sealing.store
import services.datashare.subjects.store
import services.datashare.summaries.store
import services.datashare.uses.store
import services.datashare.wanted.store
import services.datashare.watch.store  # noqa: F401 - they add their tables to the metadata
from services.datashare.schema import metadata
from services.kit.migrations import run_environment

run_environment(metadata)
