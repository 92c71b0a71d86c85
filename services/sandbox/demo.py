"""The demo: a simulated city on an embedded platform, and the main job for three of its firms.

The model learns from who defaulted in the past year and what was known before it, and scores every
firm with what is known today. What becomes of the firms in the year to come, and their latent
health, only the simulator knows; the platform is never told.
"""

import asyncio
import json
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from puhui.datashare.v1.accesses_pb2 import Access, AccessOutcome
from puhui.scoring.v1.scoring_pb2 import Decision, ScoreOrder
from puhui_client import PuhuiError, score_order
from puhui_client.values import from_timestamp
from services.cli.output import error_document, plain
from services.cli.training import Label
from services.sandbox.city import PROVIDERS, City, CityPlan, Firm
from services.sandbox.embedded import Embedded, embedded, end_on_sigterm
from services.sandbox.learning import learn
from services.sandbox.members import Ask, Member, Members, Pushed
from services.sandbox.months import end_of_day, first_day, last_complete_month, last_day
from services.sandbox.stages import Stages
from services.scoring.models.domain import Manifest
from services.scoring.training.domain import Settings

FIRMS = 300
SEED = 1
# Features look back three years: so can training, from a year ago. Fewer invoices make up for it.
MONTHS, ACTIVITY = 48, 0.75
BANK = "Simulated Bank 模拟银行"
RECORD_TYPES = ("vat_invoice", "tax_filing", "social_insurance", "credit_facility")
"""What firms consent to; the other types are open by law."""

# Places in the order of PD, lowest first, among firms that have not defaulted yet.
CASES = {"good 好": 0.06, "middling 中": 0.85, "bad 差": 0.99}
REASONS_SHOWN = 4
PURPOSE = "credit_application"
PLAIN_WIDTH = 110  # of the output where it does not go to a terminal


@dataclass(frozen=True)
class Case:
    """A firm that has not defaulted yet, and its score."""

    firm: Firm
    member: Member
    order: ScoreOrder
    decision: Decision
    outcome: bool


def demo(*, stay: bool, as_json: bool = False, firms: int = FIRMS, seed: int = SEED) -> None:
    """Runs the demo; progress goes to stderr, results to stdout.

    Args:
        stay: keeps the platform running at the end, until it is interrupted.
        as_json: the results are one JSON document; what people read goes to stderr.
        firms: size of the city.
        seed: picks the city.
    """
    out = Console(stderr=as_json)
    if not out.is_terminal:
        out = Console(width=PLAIN_WIDTH, stderr=as_json)
    end_on_sigterm()
    started = time.monotonic()
    last_month = last_complete_month(datetime.now(UTC).date())
    with tempfile.TemporaryDirectory(prefix="puhui-demo-") as folder:
        with embedded(Path(folder)) as platform:
            plan = CityPlan(seed, last_month, firms, months=MONTHS, activity=ACTIVITY)
            show = _Show(platform, City(plan), out)
            document = asyncio.run(show.run())
            if as_json:
                print(json.dumps(document, ensure_ascii=False, indent=2), flush=True)
            out.print(f"\nDone in {time.monotonic() - started:.0f} s.")
            if stay:
                show.how_to_call()
                with suppress(KeyboardInterrupt, SystemExit):
                    signal.pause()
        out.print("The platform has ended cleanly.")


class _Show:
    """One run of the demo."""

    def __init__(self, platform: Embedded, city: City, out: Console) -> None:
        self._platform = platform
        self._city = city
        self._out = out
        self._members = Members(platform.gateway, platform.operator_key)
        self._year_ago = last_day(city.plan.last_month - 12)
        self._today = last_day(city.plan.last_month)
        self._bank: Member
        self._cases: dict[str, Case] = {}

    async def run(self) -> dict[str, Any]:
        """Returns what was shown, for programs."""
        city, members = self._city, self._members
        self._out.print(
            f"[bold]A simulated city 模拟城市:[/] {len(city.firms)} technology firms, "
            f"{len(PROVIDERS)} providers, {city.plan.months} months. Nobody in it exists."
        )
        with Stages(Console(stderr=True)) as stages:
            with stages.stage("join", "Registering firms", len(city.firms)) as advance:
                providers = await members.join_providers(PROVIDERS)
                self._bank = await members.join_bank(BANK)
                firms = await members.join_firms([(f.uscc, f.name) for f in city.firms], advance)
            pushed = await self._push(providers, stages)
            ids = [provider.participant_id for provider in providers.values()]
            trained = await self._train(firms, ids, stages)
            refused = await self._score(firms, ids, stages)
        self._out.print(
            f"{pushed.sent:,} records pushed by {len(PROVIDERS)} providers: {pushed.accepted:,} "
            f"accepted, {pushed.duplicate:,} duplicate, {sum(pushed.rejected.values()):,} rejected"
        )
        auc = trained.metrics["auc"]
        self._out.print(
            f"Model {trained.version}: {trained.data.rows} firms, {trained.data.events} of which "
            f"defaulted; AUC {auc.value:.3f} ± {auc.deviation or 0:.3f} out of fold"
        )
        told = ", ".join(f"{count} {reason}" for reason, count in refused.items()) or "none"
        self._out.print(f"Scored {len(firms) - refused.total()} firms; refused: {told}")
        self._print_scores()
        refusals, accesses = await self._withdraw(self._cases["middling 中"])
        return {
            "firms": len(firms),
            "records": asdict(pushed),
            "model": {"version": trained.version, "auc": asdict(auc)},
            "scored": len(firms) - refused.total(),
            "refused": dict(refused),
            "scores": {
                label: {"firm": case.firm.name, "decision": plain(case.decision)}
                for label, case in self._cases.items()
            },
            "after_withdrawal": [error_document(error) for error in refusals],
            "accesses": [plain(access) for access in accesses],
        }

    async def _push(self, providers: dict[str, Member], stages: Stages) -> Pushed:
        """Every provider over a stream of its own, all at once."""
        deliveries, total = self._city.deliveries(), Pushed()

        async def push(key: str, member: Member) -> None:
            mine = [d for d in deliveries if d.provider.key == key]
            rows = sum(len(delivery) for delivery in mine)
            english, _ = member.name.rsplit(" ", 1)
            with stages.stage(f"push {key}", english, rows) as advance:
                await self._members.push(member, chain.from_iterable(mine), advance, total)

        await asyncio.gather(*(push(key, member) for key, member in providers.items()))
        return total

    async def _train(
        self, firms: Sequence[Member], providers: Sequence[str], stages: Stages
    ) -> Manifest:
        """Trains on who defaulted in the past year and on what was known before it."""
        city, year_ago = self._city, self._year_ago
        outcomes = [city.defaults_after(firm, year_ago) for firm in city.firms]
        ask = Ask(
            purpose="model_training",
            providers=providers,
            record_types=RECORD_TYPES,
            data_from=first_day(city.plan.first_month),
            data_to=self._today,  # so that what lenders say of the year is open, too
        )
        with stages.stage("consent", "Consents for training", len(firms)) as advance:
            consents = await self._members.consents(self._bank, firms, ask, advance)
        as_of = end_of_day(year_ago)
        labels = [
            Label(consent.subject_id, consent.consent_id, as_of, int(defaulted))
            for consent, defaulted in zip(consents, outcomes, strict=True)
            if defaulted is not None
        ]
        settings = Settings(
            outcome="default of a simulated firm within 12 months",
            population=f"{len(labels)} simulated firms",
            repeats=1,
            candidates=1,
            members=1,
            baselines=False,
            resamples=200,
        )
        version = f"demo-{year_ago:%Y%m}"
        async with self._members.client(self._bank.api_key) as bank:
            _, model = await learn(
                bank,
                labels,
                settings,
                self._platform,
                version,
                stages,
                source=f"a simulated city of {len(city.firms)} firms",
                as_of=year_ago.isoformat(),
            )
        return model

    async def _score(
        self, firms: Sequence[Member], providers: Sequence[str], stages: Stages
    ) -> Counter[str]:
        """Asks every firm for its consent, scores them all, picks three; returns refusals."""
        city = self._city
        ask = Ask(
            purpose=PURPOSE,
            providers=providers,
            record_types=RECORD_TYPES,
            data_from=first_day(city.plan.first_month),
            data_to=self._today,
        )
        with stages.stage("ask", "Consents for credit", len(firms)) as advance:
            consents = await self._members.consents(self._bank, firms, ask, advance)
        orders = [
            score_order(
                consent.subject_id,
                consent.consent_id,
                purpose=PURPOSE,
                officer="officer-7",
                file_reference=f"loan-{firm.number}",
            )
            for firm, consent in zip(city.firms, consents, strict=True)
        ]
        with stages.stage("score", "Scoring", len(orders)) as advance:
            results = await self._members.scores(self._bank, orders, advance)

        refused = Counter(result.error.reason for result in results if result.error is not None)
        scored = []
        for firm, member, result in zip(city.firms, firms, results, strict=True):
            outcome = city.defaults_after(firm, self._today)
            if result.decision is not None and outcome is not None:
                scored.append(Case(firm, member, result.order, result.decision, outcome))
        scored.sort(key=lambda case: case.decision.pd)
        self._cases = {label: scored[round(at * (len(scored) - 1))] for label, at in CASES.items()}
        return refused

    def _print_scores(self) -> None:
        table = Table(title="Scores under consent 授权评分", title_justify="left")
        for name in (
            "",
            "firm 企业",
            "health*",
            "PD 违约概率",
            "score 评分",
            "grade 等级",
            "default*",
        ):
            left = name in ("", "firm 企业")
            table.add_column(name, justify="left" if left else "right", no_wrap=left)
        for label, case in self._cases.items():
            decision = case.decision
            table.add_row(
                label,
                case.firm.name,
                f"{self._city.health(case.firm, self._today):+.2f}",
                f"{decision.pd:.2%}",
                str(decision.score),
                decision.grade,
                "yes 是" if case.outcome else "no 否",
            )
        self._out.print()
        self._out.print(table)
        self._out.print(
            "[dim]* what only the simulator knows: latent health now, default within a year[/]"
        )
        for label, case in self._cases.items():
            self._out.print(f"\n[bold]{case.firm.name}[/] ({label}), strongest reasons:")
            reasons = Table.grid(padding=(0, 1))
            for reason in case.decision.reasons[:REASONS_SHOWN]:
                colour = "green" if reason.points > 0 else "red"
                reasons.add_row(f"[{colour}]{reason.points:+7.1f}[/]", reason.text_zh)
                reasons.add_row("", f"[dim]{reason.text_en}[/]")
            self._out.print(reasons)
        for notice in self._cases["good 好"].decision.notices:
            self._out.print(f"\n[yellow]{notice.text_zh}\n{notice.text_en}[/]")

    async def _withdraw(self, case: Case) -> tuple[list[PuhuiError], list[Access]]:
        """Shows that a withdrawal holds at once, and what the firm sees of it all."""
        self._out.print(f"\n[bold]{case.firm.name}[/] withdraws its consent 撤回授权.")
        async with self._members.client(case.member.api_key) as firm:
            await firm.withdraw_consent(case.order.consent_id, note="no loan needed any more")
            again = ScoreOrder()
            again.CopyFrom(case.order)
            again.request_id = "after-withdrawal"
            refusals = [
                await self._refused("A new call", again),
                await self._refused("A replay of the old one", case.order),
            ]
            accesses = [access async for access in firm.accesses()]
        table = Table(
            title=f"Accesses to the data of {case.firm.name} 访问记录", title_justify="left"
        )
        for name in ("time 时间", "who 谁", "officer", "purpose 用途", "types", "outcome 结果"):
            table.add_column(name)
        for access in accesses:
            released = access.outcome == AccessOutcome.ACCESS_OUTCOME_RELEASED
            table.add_row(
                f"{from_timestamp(access.accessed_at).astimezone():%H:%M:%S}",
                access.recipient_name,
                access.officer.name,
                access.purpose,
                str(len(access.record_types)),
                "[green]released[/]" if released else f"[red]refused: {access.refusal_reason}[/]",
            )
        self._out.print()
        self._out.print(table)
        return refusals, accesses

    async def _refused(self, what: str, order: ScoreOrder) -> PuhuiError:
        (result,) = await self._members.scores(self._bank, [order], lambda _: None)
        if result.error is None:
            raise RuntimeError("a score was given after the withdrawal")
        error = result.error
        self._out.print(f"{what} is refused: [red]{error.code} {error.reason}[/], {error.message}")
        return error

    def how_to_call(self) -> None:
        """Prints commands that work while the platform runs."""
        case, platform = self._cases["good 好"], self._platform
        order = {
            "request_id": "try-1",
            "subject_id": case.member.subject_id,
            "consent_id": case.order.consent_id,
            "purpose": PURPOSE,
            "officer": {"name": "officer-7", "file_reference": "loan-try"},
        }
        body = json.dumps({"order": order})
        header = f"authorization: Bearer {self._bank.api_key}"
        lines = (
            "",
            f"# {case.firm.name}, as the bank, over gRPC and over HTTP:",
            f"grpcurl -plaintext -H '{header}' -d '{body}' \\",
            f"  {platform.gateway} puhui.scoring.v1.ScoringService/Score",
            f"curl -s http://{platform.http}/v1/scores -H '{header}' \\",
            f"  -H 'content-type: application/json' -d '{body}'",
            "# Its accesses, as the firm:",
            f"curl -s http://{platform.http}/v1/accesses \\",
            f"  -H 'authorization: Bearer {case.member.api_key}'",
            f"# All methods: http://{platform.http}/docs",
            f"# The operator's key is in {platform.data_dir / 'operator.key'}",
            "",
            "Running until Ctrl-C.",
        )
        for line in lines:
            self._out.print(line, soft_wrap=True, highlight=False, markup=False)
