"""The simulated city of one seed, byte for byte.

A change here means that the simulator changed, or that NumPy's streams did: look why, then put the
new values in.
"""

import hashlib
from datetime import date

from services.sandbox.city import City, CityPlan
from services.sandbox.months import month_of

EXPECTED = {
    "registry registration": "e8750ecce2c5a44a",
    "tax vat_invoice": "389dfa39907305ce",
    "tax tax_filing": "dd09ce1f2147f759",
    "insurance social_insurance": "1b2aa1485f687ce5",
    "ip ip_right": "6deff6d31b47641e",
    "science tech_status": "70dc1de82526ec92",
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
