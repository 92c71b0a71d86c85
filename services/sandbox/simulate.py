"""A simulated city as files: `puhui sandbox simulate --firms N --seed S --out DIR`.

`<provider>.jsonl` holds a provider's records, one `puhui.datashare.v1.Record` as JSON on each line,
as `puhui push` reads them. `firms.csv` names the firms and says who defaulted in the last twelve
months of the history.
"""

import csv
from pathlib import Path

from google.protobuf.json_format import MessageToJson
from rich.console import Console

from services.sandbox.city import PROVIDERS, City, CityPlan
from services.sandbox.months import last_day
from services.sandbox.stages import Stages


def simulate(plan: CityPlan, folder: Path) -> int:
    """Writes a city.

    Args:
        plan: what to simulate.
        folder: is made if it is not there.

    Returns:
        The number of records.
    """
    folder.mkdir(parents=True, exist_ok=True)
    city = City(plan)
    year_ago = last_day(plan.last_month - 12)
    with (folder / "firms.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["uscc", "name", "industry", "size", "district", "founded", "defaulted"])
        for firm in city.firms:
            writer.writerow(
                [
                    firm.uscc,
                    firm.name,
                    firm.industry.code,
                    firm.size,
                    firm.district,
                    firm.founded.isoformat(),
                    int(city.defaults_after(firm, year_ago) or False),
                ]
            )
    deliveries = city.deliveries()
    with Stages(Console(stderr=True)) as stages:
        for provider in PROVIDERS:
            mine = [d for d in deliveries if d.provider == provider]
            path = folder / f"{provider.key}.jsonl"
            with (
                stages.stage(provider.key, provider.name, sum(map(len, mine))) as advance,
                path.open("w", encoding="utf-8") as file,
            ):
                for delivery in mine:
                    for record in delivery:
                        line = MessageToJson(
                            record,
                            indent=None,
                            ensure_ascii=False,
                            preserving_proto_field_name=True,
                        )
                        file.write(line + "\n")
                        advance(1)
    return sum(map(len, deliveries))
