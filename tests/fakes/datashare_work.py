"""A unit of work over datashare's real stores, for tests of records and summaries."""

from collections.abc import Callable
from functools import cached_property

from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.catalogue.domain import Catalogue
from services.datashare.changes.store import ChangeStore
from services.datashare.participants.store import ParticipantStore
from services.datashare.records.payloads import readers
from services.datashare.records.store import DeliveryStore, RecordStore
from services.datashare.subjects.store import SubjectStore
from services.datashare.summaries.domain import layouts_of
from services.datashare.summaries.reader import SummaryReader
from services.datashare.summaries.store import SeriesStore
from services.kit.ids import Ids


def work_factory(catalogue: Catalogue, ids: Ids) -> "Callable[[AsyncConnection], RecordWork]":
    """Return what makes a unit of work of a transaction."""
    layouts = layouts_of(catalogue)
    by_type = readers(catalogue)

    class Bound(RecordWork):
        def __init__(self, conn: AsyncConnection) -> None:
            self.participants = ParticipantStore(conn)
            self.subjects = SubjectStore(conn, ids)
            self.deliveries = DeliveryStore(conn)
            self.records = RecordStore(conn, by_type)
            self.series = SeriesStore(conn, layouts)
            self.changes = ChangeStore(conn)
            self.summaries = SummaryReader(conn, self.records, layouts)

    return Bound


class RecordWork:
    """Stores bound to one transaction."""

    participants: ParticipantStore
    subjects: SubjectStore
    deliveries: DeliveryStore
    records: RecordStore
    series: SeriesStore
    changes: ChangeStore
    summaries: SummaryReader
