"""How many consent checks with a logged decision a second, beside bare durable inserts.

A simulated city on PostgreSQL with its durable defaults and the services as processes of their own.
A bank fetches summaries through the gateway with its API key, each call with a request id of its
own, under another consent each time: the consent is held and checked, the quota counted, the
summary read, the access written with its leaf, committed, the receipt signed. Every answer is kept
and checked: it has an access, no access comes twice, and its receipt's hash is that of its content.
The last line is one JSON object.

Environment: BENCH_SECONDS of each measurement after its warm-up (8), BENCH_WARMUP seconds (3),
BENCH_FIRMS (200), BENCH_CALLERS of the decisions and the inserts (64).
"""

import asyncio
import base64
import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.console import Console

from puhui.common.v1.types_pb2 import Officer
from puhui.datashare.v1.accesses_pb2 import FetchSummaryRequest, SummaryFetch
from services.sandbox.city import PROVIDERS, City, CityPlan
from services.sandbox.embedded import end_on_sigterm
from services.sandbox.members import Ask, Members, Pushed
from services.sandbox.months import first_day, last_complete_month, last_day
from services.sandbox.stages import Stages
from tests.bench.rig.load import FETCH, PLACE
from tests.bench.rig.processes import Measured, measure, say
from tests.bench.rig.stack import Stack, postgres, stack

SECONDS: Final = float(os.environ.get("BENCH_SECONDS", "8"))
WARMUP: Final = float(os.environ.get("BENCH_WARMUP", "3"))
FIRMS: Final = int(os.environ.get("BENCH_FIRMS", "200"))
CALLERS: Final = int(os.environ.get("BENCH_CALLERS", "64"))
FETCHING: Final = 16
BANKS: Final = 4
SEED: Final = 2026
PREPARATION_SECONDS: Final = 600.0
PURPOSE: Final = "credit_application"
RECORD_TYPES: Final = ("vat_invoice", "tax_filing", "social_insurance", "credit_facility")
DECIDED: Final = ("tax_filing",)
"""What is read in the measurement of decisions: little, so that it is about deciding."""


async def prepare(platform: Stack, stages: Stages, number: int) -> dict[tuple[str, ...], list[Any]]:
    """Fill a platform with so many firms; return what can be fetched, by types that are read."""
    last_month = last_complete_month(datetime.now(UTC).date())
    city = City(CityPlan(SEED, last_month, number))
    members = Members(platform.gateway, platform.operator_key)
    with stages.stage("join", "Registering firms", number) as advance:
        providers = await members.join_providers(PROVIDERS)
        banks = [await members.join_bank(f"Bench bank {n + 1}") for n in range(BANKS)]
        firms = await members.join_firms([(f.uscc, f.name) for f in city.firms], advance)
    deliveries, total = city.deliveries(), Pushed()
    for key, member in providers.items():
        mine = [delivery for delivery in deliveries if delivery.provider.key == key]
        with stages.stage(f"push {key}", member.name, sum(map(len, mine))) as advance:
            await members.push(member, chain.from_iterable(mine), advance, total)
    ask = Ask(
        purpose=PURPOSE,
        providers=[provider.participant_id for provider in providers.values()],
        record_types=RECORD_TYPES,
        data_from=first_day(city.plan.first_month),
        data_to=last_day(city.plan.last_month),
    )
    with stages.stage("consents", "Consents, bank by bank", number * BANKS) as advance:
        agreed = [await members.consents(bank, firms, ask, advance) for bank in banks]
    targets: dict[tuple[str, ...], list[Any]] = {RECORD_TYPES: [], DECIDED: []}
    for consents in zip(*agreed, strict=True):
        for place, (bank, consent) in enumerate(zip(banks, consents, strict=True)):
            for types, told in targets.items():
                fetch = SummaryFetch(
                    request_id=PLACE,
                    subject_id=consent.subject_id,
                    consent_id=consent.consent_id,
                    purpose=PURPOSE,
                    record_types=types,
                    officer=Officer(name="officer-7", file_reference="bench"),
                )
                body = FetchSummaryRequest(fetch=fetch).SerializeToString()
                told.append((place, f"Bearer {bank.api_key}", base64.b64encode(body).decode()))
    return targets


def told(what: str, callers: int, measured: Measured) -> dict[str, Any]:
    """Say what was measured, and return it."""
    result = measured.result
    cpu = "  ".join(
        f"{name} {1000 * seconds / SECONDS / result['per_s']:.2f}"
        for name, seconds in measured.cpu.items()
    )
    say(f"{what}, {callers} callers: {result['per_s']:.0f}/s; CPU ms each: {cpu}")
    print(
        f"{what:22} {callers:4} callers {result['per_s']:9.1f}/s "
        f"p50 {result['p50_ms']:7.2f} ms  p95 {result['p95_ms']:7.2f} ms"
    )
    return result


def main() -> int:
    """Run it."""
    end_on_sigterm()
    with (
        tempfile.TemporaryDirectory(prefix="puhui-bench-") as folder,
        postgres() as server,
        stack(Path(folder), server.create) as platform,
    ):
        with (
            Stages(Console(stderr=True)) as stages,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            targets = runner.run(
                asyncio.wait_for(prepare(platform, stages, FIRMS), PREPARATION_SECONDS)
            )
        watched = {**platform.pids, "postgres": server.pid}
        timing = {"warmup": WARMUP, "seconds": SECONDS}
        insert = {"url": server.create("bare"), "callers": CALLERS} | timing
        bare = told(
            "bare insert",
            CALLERS,
            measure("tests.bench.rig.inserts", insert, {"postgres": server.pid}),
        )
        load = {"address": platform.gateway, "method": FETCH} | timing

        def press(types: tuple[str, ...], callers: int) -> Measured:
            job = load | {"targets": targets[types], "callers": callers}
            return measure("tests.bench.rig.load", job, watched)

        decisions = told("logged decision", CALLERS, press(DECIDED, CALLERS))
        fetch = told("SUMMARY fetch", FETCHING, press(RECORD_TYPES, FETCHING))
    print(
        json.dumps(
            {
                "name": "consent",
                "logged_decisions_per_s": round(decisions["per_s"], 1),
                "vs_bare_insert": round(decisions["per_s"] / bare["per_s"], 4),
                "fetch_p50_ms": fetch["p50_ms"],
                "fetch_p95_ms": fetch["p95_ms"],
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
