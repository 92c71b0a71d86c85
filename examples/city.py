"""As operator, providers, bank and firms: a simulated city on a platform, ready to train on.

`puhui sandbox simulate --out CITY` wrote the city as files. This registers its providers and firms,
pushes every record, and has the bank ask each firm for its consent to train a model, which all of
them grant. It writes CITY/labels.csv, which `puhui model train` takes. AS_OF is a year before the
city's last day: what was known then is what a model may learn from.

    PUHUI_GATEWAY=host:port PUHUI_API_KEY=(operator's) python examples/city.py CITY BANK.KEY AS_OF
"""

import asyncio
import csv
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from google.protobuf.json_format import Parse

from puhui.datashare.v1.records_pb2 import Record
from puhui_client import Client

GATEWAY = os.environ["PUHUI_GATEWAY"]
KINDS = {
    "registry": "market_regulator",
    "tax": "tax",
    "insurance": "social_insurance",
    "ip": "ip_office",
    "science": "science",
    "courts": "court",
    "lender-a": "lender",
    "lender-b": "lender",
}
# What firms consent to; the other types are open by law.
TYPES = ("vat_invoice", "tax_filing", "social_insurance", "credit_facility")
AT_ONCE = 8


@dataclass(frozen=True)
class Member:
    """A participant and its key."""

    participant_id: str
    subject_id: str
    api_key: str


async def main(city: Path, bank_key: str, as_of: date) -> None:
    """Bring the city onto the platform."""
    with (city / "firms.csv").open(encoding="utf-8", newline="") as file:
        firms = list(csv.DictReader(file))
    async with Client(GATEWAY, os.environ["PUHUI_API_KEY"]) as operator:
        providers = [await join_provider(operator, key) for key in KINDS]
        members = [await join_firm(operator, firm) for firm in firms]
    files = [city / f"{key}.jsonl" for key in KINDS]
    counts = await asyncio.gather(*map(push, providers, files))
    print(f"{sum(counts):,} records of {len(firms)} firms are in")

    limit = asyncio.Semaphore(AT_ONCE)
    async with Client(GATEWAY, bank_key) as bank:

        async def agree(firm: Member) -> str:
            async with limit:
                asked = await bank.request_consent(
                    subject_id=firm.subject_id,
                    purpose="model_training",
                    providers=[provider.participant_id for provider in providers],
                    record_types=TYPES,
                    data_from=first_day(as_of),
                    data_to=as_of,
                    expires_at=datetime.now(UTC) + timedelta(days=90),
                    officer="Wang 王",
                    file_reference="training-1",
                )
                async with Client(GATEWAY, firm.api_key) as granting:
                    read = await granting.get_consent(asked.consent_id)
                    return (await granting.grant_consent(read)).consent_id

        consents = await asyncio.gather(*map(agree, members))
    with (city / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["subject_id", "consent_id", "as_of", "label"])
        for member, consent, firm in zip(members, consents, firms, strict=True):
            if firm["defaulted"]:
                rows.writerow([member.subject_id, consent, as_of, firm["defaulted"]])
    print(f"{len(consents)} consents are granted; outcomes are in {city / 'labels.csv'}")


def first_day(as_of: date) -> date:
    """The first of the 36 whole months before a day's own: as far back as a score looks."""
    month = as_of.year * 12 + as_of.month - 1 - 36
    return date(month // 12, month % 12 + 1, 1)


async def join_provider(operator: Client, key: str) -> Member:
    """Register a provider whose records count as known when it obtained them."""
    member = await operator.register_participant(
        "PROVIDER",
        f"Simulated provider 模拟数据源 {key}",
        provider_kind=KINDS[key],
        historical_source=True,
        simulated_source=True,
    )
    issued = await operator.issue_key(member.participant_id)
    return Member(member.participant_id, "", issued.api_key)


async def join_firm(operator: Client, firm: dict[str, str]) -> Member:
    """Register a firm."""
    member = await operator.register_participant("FIRM", firm["name"], uscc=firm["uscc"])
    issued = await operator.issue_key(member.participant_id)
    return Member(member.participant_id, member.subject_id, issued.api_key)


async def push(provider: Member, path: Path) -> int:
    """Push a file of records; return how many are in."""
    with path.open(encoding="utf-8") as file:
        records: Iterator[Record] = (Parse(line, Record()) for line in file)
        async with Client(GATEWAY, provider.api_key) as client:
            report = await client.push(records, historical=True)
    if report.accepted != report.sent:
        raise SystemExit(f"{path}: not every record was new and right: {report}")
    return report.accepted


if __name__ == "__main__":
    asyncio.run(
        main(
            Path(sys.argv[1]),
            Path(sys.argv[2]).read_text().strip(),
            date.fromisoformat(sys.argv[3]),
        )
    )
