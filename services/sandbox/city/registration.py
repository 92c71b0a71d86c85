"""What the market regulator registers: one record per firm, obtained the day it was founded."""

from collections.abc import Iterator

from puhui.datashare.v1.payloads_pb2 import Registration
from puhui.datashare.v1.records_pb2 import Record
from services.sandbox.city.population import Population
from services.sandbox.city.providers import REGISTRY
from services.sandbox.delivery import Delivery
from services.sandbox.months import day_number
from services.sandbox.wire import cny, date_of, obtained_on, subject_of


def registrations(population: Population) -> Delivery:
    """The registration of every firm."""

    def build() -> Iterator[Record]:
        for firm in population.firms:
            founded = day_number(firm.founded)
            yield Record(
                provider_record_id=f"registration:{firm.number}",
                subject=subject_of(firm.uscc),
                record_type="registration",
                date=date_of(founded),
                obtained_at=obtained_on(founded),
                registration=Registration(
                    name=firm.name,
                    firm_kind="limited",
                    capital=cny(firm.capital_fen),
                    founded=date_of(founded),
                    industry=firm.industry.code,
                    district=firm.district,
                    status="active",
                ),
            )

    return Delivery(REGISTRY, "registration", len(population.firms), build)
