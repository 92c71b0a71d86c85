"""The simulated city of one seed, byte for byte.

A change here means that the simulator changed, or that NumPy's streams did: look why, then put the
new values in.
"""

import hashlib
from datetime import date

from services.sandbox.city import City, CityPlan
from services.sandbox.months import month_of

EXPECTED = {
    "registry registration": "74c682439013bf9f",
    "tax vat_invoice": "481c0835304a8e54",
    "tax tax_filing": "6ad4107a2bdad3ab",
    "insurance social_insurance": "0b16f253047b57ee",
    "ip ip_right": "f8e706befa5044f2",
    "science tech_status": "f574ef22fc3182c8",
    "science grant": "3da0ac685c10450b",
    "courts court_case": "08a0185322bf1c4d",
    "lender-a credit_facility": "a8ce53cbdbfb1285",
    "lender-b credit_facility": "959724d9e6eea50f",
}


def test_the_city_of_a_seed_stays_the_same() -> None:
    city = City(CityPlan(seed=20260930, last_month=month_of(date(2026, 9, 30)), firms=24))
    parts: dict[str, hashlib._Hash] = {}
    for delivery in city.deliveries():
        digest = parts.setdefault(
            f"{delivery.provider.key} {delivery.record_type}", hashlib.sha256()
        )
        for record in delivery:
            digest.update(record.SerializeToString(deterministic=True))
    assert {name: digest.hexdigest()[:16] for name, digest in parts.items()} == EXPECTED
