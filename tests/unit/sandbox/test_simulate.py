import csv
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from google.protobuf.json_format import Parse

from puhui.datashare.v1.records_pb2 import Record
from services.sandbox.city import PROVIDERS, City, CityPlan
from services.sandbox.months import month_of
from services.sandbox.simulate import simulate

PLAN = CityPlan(seed=3, last_month=month_of(date(2026, 10, 1)), firms=12)


def test_a_city_as_files_is_the_city(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    count = simulate(PLAN, tmp_path / "city")
    city = City(PLAN)
    expected = {
        provider.key: [r for d in city.deliveries() if d.provider == provider for r in d]
        for provider in PROVIDERS
    }
    assert count == sum(map(len, expected.values()))
    for key, records in expected.items():
        lines = (tmp_path / "city" / f"{key}.jsonl").read_text("utf-8").splitlines()
        assert [Parse(line, Record()) for line in lines] == records
    with (tmp_path / "city" / "firms.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["uscc"] for row in rows] == [firm.uscc for firm in city.firms]
    assert set(Counter(row["defaulted"] for row in rows)) <= {"0", "1"}
    assert capfd.readouterr().out == ""  # progress goes to stderr
