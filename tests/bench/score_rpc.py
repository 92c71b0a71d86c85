"""How many scores a second the whole path gives, beside what a bare gRPC echo gives here.

A simulated city on PostgreSQL with its durable defaults, the three services as three processes, a
model trained on what they release, a consent of each firm for each bank. Then `Score` through the
gateway with mutual TLS everywhere, access tokens bound to each bank's certificate, telemetry that a
collector takes and a request id per call, by 1, 16 and 64 callers, and `BatchScore` of a portfolio.
What the entrance itself costs is a call, secured likewise, that the service behind it answers from
memory. The last line is one JSON object.

Environment: BENCH_SECONDS of each measurement after its warm-up (8), BENCH_FIRMS (520),
BENCH_BANKS (4), BENCH_WARMUP seconds (3).
"""

import asyncio
import base64
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import grpc
import uvloop
from joserfc.jwk import OKPKey
from rich.console import Console

from puhui.datashare.v1.catalogue_pb2 import GetRecordTypeRequest
from puhui.datashare.v1.consents_pb2 import Consent
from puhui.datashare.v1.credentials_pb2 import RegisterCredentialRequest
from puhui.scoring.v1.scoring_pb2 import ScoreRequest
from puhui_client import Tls, score_order
from puhui_client.oauth import ClientKey
from services.cli.training import Label
from services.kit.authority import Authority
from services.kit.clock import SystemClock
from services.kit.identity import new_key_pair
from services.sandbox.city import PROVIDERS, City, CityPlan
from services.sandbox.embedded import end_on_sigterm
from services.sandbox.learning import learn
from services.sandbox.members import Ask, Member, Members, Pushed
from services.sandbox.months import end_of_day, first_day, last_complete_month, last_day
from services.sandbox.stages import Stages
from services.scoring.models.domain import ModelClass
from services.scoring.training.domain import Parameters, Settings
from tests.bench.rig import echo
from tests.bench.rig.collector import collector
from tests.bench.rig.load import BATCH_SCORE, HOP, PLACE, SCORE, TYPE
from tests.bench.rig.processes import Measured, measure, running, say
from tests.bench.rig.stack import Stack, postgres, stack

SECONDS = float(os.environ.get("BENCH_SECONDS", "8"))
WARMUP = float(os.environ.get("BENCH_WARMUP", "3"))
FIRMS = int(os.environ.get("BENCH_FIRMS", "520"))
BANKS = int(os.environ.get("BENCH_BANKS", "4"))
CALLERS = (1, 16, 64)
PORTFOLIO = 500
SEED = 2020
PREPARATION_SECONDS = 900.0
RECORD_TYPES = ("vat_invoice", "tax_filing", "social_insurance", "credit_facility")
PURPOSE = "credit_application"
VERSION = "bench"
_REGISTER = "/puhui.datashare.v1.CredentialService/RegisterCredential"
_LOAD = "tests.bench.rig.load"


@dataclass(frozen=True)
class Target:
    """A firm that a bank may score.

    Args:
        bank: whose consent it is, from 0.
        template: the serialised request, with a place for the request id.
    """

    bank: int
    template: bytes

    def told(self, tokens: Sequence[str]) -> tuple[int, str, str]:
        """As the load generator reads it, with the header of each bank."""
        return self.bank, tokens[self.bank], base64.b64encode(self.template).decode()


class Preparation:
    """Fills a platform until it can be asked for scores.

    Args:
        platform: empty.
        stages: shows what happens.
    """

    def __init__(self, platform: Stack, stages: Stages) -> None:
        last_month = last_complete_month(datetime.now(UTC).date())
        self._city = City(CityPlan(SEED, last_month, FIRMS))
        self._platform = platform
        self._members = Members(platform.gateway, platform.operator_key)
        self._stages = stages
        self.secured: list[Secured] = []

    async def run(self) -> list[Target]:
        """Returns what can be scored, the banks in turn; `secured` is how each bank comes in."""
        city, members, stage = self._city, self._members, self._stages.stage
        with stage("join", "Registering firms", FIRMS) as advance:
            providers = await members.join_providers(PROVIDERS)
            banks = [await members.join_bank(f"Bench bank {n + 1}") for n in range(BANKS)]
            self.secured = [await secure(self._platform, bank) for bank in banks]
            firms = await members.join_firms([(f.uscc, f.name) for f in city.firms], advance)
        await self._push(providers)
        ids = [provider.participant_id for provider in providers.values()]
        await self._train(banks[0], firms, ids)
        ask = Ask(
            purpose=PURPOSE,
            providers=ids,
            record_types=RECORD_TYPES,
            data_from=first_day(city.plan.first_month),
            data_to=last_day(city.plan.last_month),
        )
        targets: list[list[Target]] = []
        with stage("consents", "Consents, bank by bank", FIRMS * BANKS) as advance:
            agreed = [await members.consents(bank, firms, ask, advance) for bank in banks]
        with stage("try", "Scoring each once", FIRMS * BANKS) as advance:
            for number, (bank, consents) in enumerate(zip(banks, agreed, strict=True)):
                orders = [
                    score_order(
                        consent.subject_id,
                        consent.consent_id,
                        officer="officer-7",
                        file_reference="bench",
                        purpose=PURPOSE,
                    )
                    for consent in consents
                ]
                results = await members.scores(bank, orders, advance)
                targets.append(
                    [
                        Target(number, _template(consent))
                        for consent, result in zip(consents, results, strict=True)
                        if result.decision
                    ]
                )
        say(f"{sum(map(len, targets))} of {FIRMS * BANKS} consents give a score")
        return list(chain.from_iterable(zip(*targets, strict=True)))

    async def _push(self, providers: Mapping[str, Member]) -> None:
        total = Pushed()
        deliveries = self._city.deliveries()
        with self._stages.stage("push", "Pushing records", sum(map(len, deliveries))) as advance:
            await asyncio.gather(
                *(
                    self._members.push(
                        member,
                        chain.from_iterable([d for d in deliveries if d.provider.key == key]),
                        advance,
                        total,
                    )
                    for key, member in providers.items()
                )
            )
        if total.accepted != total.sent:
            raise RuntimeError(f"not every record was accepted: {total}")

    async def _train(self, bank: Member, firms: Sequence[Member], providers: list[str]) -> None:
        city, members = self._city, self._members
        year_ago = last_day(city.plan.last_month - 12)
        ask = Ask(
            purpose="model_training",
            providers=providers,
            record_types=RECORD_TYPES,
            data_from=first_day(city.plan.first_month),
            data_to=year_ago,
        )
        with self._stages.stage("teach", "Consents for training", len(firms)) as advance:
            consents = await members.consents(bank, firms, ask, advance)
        labels = [
            Label(consent.subject_id, consent.consent_id, end_of_day(year_ago), int(defaulted))
            for firm, consent in zip(city.firms, consents, strict=True)
            if (defaulted := city.defaults_after(firm, year_ago)) is not None
        ]
        settings = Settings(
            outcome="default of a simulated firm within 12 months",
            population=f"{len(labels)} simulated firms",
            model_class=ModelClass.SIMULATED,
            repeats=1,
            tried=(Parameters(200, 3, 0.1, 0.7, 0.4, 1.0, 50, exactly=True),),
            members=1,
            baselines=False,
            resamples=0,
        )
        async with members.client(bank.api_key) as client:
            await learn(
                client,
                labels,
                settings,
                self._platform,
                VERSION,
                self._stages,
                source=f"a simulated city of {FIRMS} firms",
                as_of=year_ago.isoformat(),
            )


@dataclass(frozen=True)
class Secured:
    """How a bank comes in.

    Args:
        tls: its certificate and key, PEM.
        key: gets its tokens.
    """

    tls: tuple[str, str]
    key: ClientKey

    async def token(self) -> str:
        """A header that is good for some minutes."""
        return await self.key.authorization()


async def secure(platform: Stack, bank: Member) -> Secured:
    """Registers a certificate and a key of a bank."""
    authority = Authority.load(
        platform.authority.read_text(), platform.authority_key.read_text(), clock=SystemClock()
    )
    issued = authority.issue(bank.participant_id, server=False, days=1)
    private, _ = new_key_pair()
    jwk = OKPKey.import_key(private).as_dict(private=False)
    async with grpc.aio.insecure_channel(platform.gateway) as channel:
        register: Any = channel.unary_unary(_REGISTER)
        for request in (
            RegisterCredentialRequest(request_id="1", certificate_pem=issued.certificate),
            RegisterCredentialRequest(request_id="2", public_jwk=json.dumps(jwk)),
        ):
            request.request_id += bank.participant_id
            request.participant_id = bank.participant_id
            operator = (("authorization", f"Bearer {platform.operator_key}"),)
            await register(request.SerializeToString(), metadata=operator)
    tls = Tls(
        ca=platform.authority.read_bytes(),
        certificate=issued.certificate.encode(),
        key=issued.key.encode(),
    )
    key = ClientKey(platform.issuer, bank.participant_id, private, tls)
    return Secured((issued.key, issued.certificate), key)


def _template(consent: Consent) -> bytes:
    order = score_order(
        consent.subject_id,
        consent.consent_id,
        officer="officer-7",
        file_reference="bench",
        purpose=PURPOSE,
        request_id=PLACE,
    )
    return ScoreRequest(order=order).SerializeToString()


@contextmanager
def bare_echo() -> Iterator[tuple[str, int]]:
    """Runs the echo server; gives its address and process id."""
    with running(["-m", "tests.bench.rig.echo"]) as process:
        if process.stdout is None or not (port := process.stdout.readline().strip()):
            raise RuntimeError("the echo did not start: its last words are above")
        yield f"127.0.0.1:{port}", process.pid


def press(
    address: str,
    method: str,
    targets: Sequence[Any],
    callers: int,
    watched: Mapping[str, int],
    tls: Mapping[str, Any] | None = None,
) -> Measured:
    """One measurement."""
    job = {
        "address": address,
        "method": method,
        "targets": targets,
        "callers": callers,
        "warmup": WARMUP,
        "seconds": SECONDS,
        "tls": tls,
    }
    measured = measure(_LOAD, job, watched)
    result = measured.result
    cpu = "  ".join(f"{name} {seconds:.1f}" for name, seconds in measured.cpu.items())
    say(
        f"{method.rpartition('/')[2]}, {callers} callers: {result['per_s']:.0f}/s, "
        f"{result['checked']} answers checked; CPU seconds: {cpu}"
    )
    return measured


def _tokens(secured: Sequence[Secured]) -> list[str]:
    """A fresh header of each bank: each measurement is shorter than a token's life."""

    async def get() -> list[str]:
        return [await bank.token() for bank in secured]

    return asyncio.run(get())


def main() -> int:
    """Runs it."""
    end_on_sigterm()
    rows: list[tuple[str, int, dict[str, Any]]] = []
    with bare_echo() as (address, pid):
        body = base64.b64encode(echo.request()).decode()
        targets: list[Any] = [(channel, "", body) for channel in range(BANKS)]
        for callers in CALLERS:
            measured = press(address, echo.METHOD, targets, callers, {"echo": pid})
            rows.append(("echo", callers, measured.result))
    with (
        tempfile.TemporaryDirectory(prefix="puhui-bench-") as folder,
        postgres() as server,
        collector() as (telemetry, _),
        stack(Path(folder), server.create, telemetry) as platform,
    ):
        with (
            Stages(Console(stderr=True)) as stages,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            preparation = Preparation(platform, stages)
            found = runner.run(asyncio.wait_for(preparation.run(), PREPARATION_SECONDS))
        secured = preparation.secured
        tls = {"ca": platform.authority.read_text(), "clients": [bank.tls for bank in secured]}
        watched = {**platform.pids, "postgres": server.pid}
        say("process ids: " + "  ".join(f"{name} {pid}" for name, pid in watched.items()))

        def entered(method: str, told: Sequence[Any], callers: int) -> Measured:
            return press(platform.institutions, method, told, callers, watched, tls)

        asked = base64.b64encode(GetRecordTypeRequest(record_type=TYPE).SerializeToString())
        hops = [(number, token, asked.decode()) for number, token in enumerate(_tokens(secured))]
        rows.append(("hop", CALLERS[-1], entered(HOP, hops, CALLERS[-1]).result))
        for callers in CALLERS:
            tokens = _tokens(secured)
            told = [target.told(tokens) for target in found]
            rows.append(("score", callers, entered(SCORE, told, callers).result))
        tokens = _tokens(secured)
        portfolio = [target.told(tokens) for target in found if target.bank == 0][:PORTFOLIO]
        batch = entered(BATCH_SCORE, portfolio, 1).result
    at = {(name, callers): result for name, callers, result in rows}
    print(f"{'':6} {'callers':>7} {'per s':>9} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8}")
    for name, callers, result in rows:
        times = " ".join(f"{result[f'p{share}_ms']:8.2f}" for share in (50, 95, 99))
        print(f"{name:6} {callers:7} {result['per_s']:9.1f} {times}")
    print(f"batch  {batch['per_s']:17.1f} firms/s, portfolios of {len(portfolio)}")
    full = at["score", 64]["per_s"]
    print(
        json.dumps(
            {
                "name": "score_rpc",
                "full_path_per_s": round(full, 1),
                "vs_echo": round(full / at["echo", 64]["per_s"], 4),
                "p50_ms_16": at["score", 16]["p50_ms"],
                "p95_ms_16": at["score", 16]["p95_ms"],
                "gateway_hop_vs_echo": round(at["hop", 64]["per_s"] / at["echo", 64]["per_s"], 4),
                "batch_firm_vs_single": round(batch["per_s"] / full, 3),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
