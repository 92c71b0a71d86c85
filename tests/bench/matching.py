"""How fast rows that only hint at their firm find it among a million, and how often.

Names are made at random, so that they are as alike as those of a register: a place, two or three
signs, a line of business, a form. They go into PostgreSQL with its durable defaults. Then hints are
matched that say a name as registered, and ones with one wrong sign among the first six. The last
line is one JSON object.

Environment: BENCH_FIRMS (1,000,000), BENCH_HINTS (1,000).
"""

import asyncio
import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from puhui.datashare.v1.payloads_pb2 import Registration
from services.datashare.catalogue.loader import load as load_catalogue
from services.datashare.main import MIGRATIONS
from services.datashare.records.domain import Incoming
from services.datashare.reviews.app import Hints
from services.datashare.reviews.domain import Candidate, Hint, chosen
from services.datashare.reviews.loader import load
from services.datashare.reviews.store import NameStore
from services.datashare.sealing.store import Seals
from services.kit.clock import SystemClock
from services.kit.db import Database, raw_asyncpg
from services.kit.ids import RandomIds
from services.kit.migrations import upgrade
from tests.bench.rig.processes import say
from tests.bench.rig.stack import postgres
from tests.fakes.sealing import vault

FIRMS = int(os.environ.get("BENCH_FIRMS", "1000000"))
HINTS = int(os.environ.get("BENCH_HINTS", "1000"))
_AT_ONCE = 5_000
_PLACES = ("北京", "上海", "杭州", "深圳", "成都", "武汉", "苏州", "浙江", "")
_DISTRICTS = ("110108", "310115", "330106", "440305", "510107", "420111", "320505", "330106", "")
# Signs that trade names are made of; the first are the most frequent, as they are in a register.
_SIGNS = (
    "华金中天新海瑞鑫信德安泰盛达宏恒丰润佳美康龙东方嘉博创智云科联通源富顺兴利和诚正伟万国"
    "百立明光大亿高力远星凯辉腾飞翔宇晨阳春秋江河山川林森木水火土石玉珠宝银铜铁锦绣文武仁义"
    "礼义忠孝廉耻乐善福禄寿喜吉祥如意平安久长永恒健壮精益求实真卓越超凡优质品牌王者风范领先"
)
_TRADES = ("科技", "网络科技", "电子", "贸易", "商贸", "实业", "信息技术", "机械设备", "餐饮管理")
_FORMS = ("有限公司", "有限公司", "有限公司", "有限责任公司", "股份有限公司")
_OBTAINED = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
_DAY = (date(2025, 1, 1) - date(1970, 1, 1)).days


def names(rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yields names and districts, for ever."""
    while True:
        place = rng.randrange(len(_PLACES))
        size = rng.choice((2, 2, 3, 3, 4))
        signs = [_SIGNS[int(len(_SIGNS) * rng.random() ** 1.5)] for _ in range(size)]
        name = _PLACES[place] + "".join(signs) + rng.choice(_TRADES) + rng.choice(_FORMS)
        yield name, _DISTRICTS[place]


def mistaken(name: str, rng: random.Random) -> str:
    """Returns a name with one wrong sign among the first six."""
    at = rng.randrange(min(6, len(name)))
    return name[:at] + rng.choice(_SIGNS) + name[at + 1 :]


def registration(number: int, name: str, district: str) -> tuple[str, Incoming]:
    """Returns a registration record as it comes in, with its subject_id."""
    payload = Registration(name=name, district=district).SerializeToString()
    row = Incoming(
        row=0,
        uscc="",
        subject_id="",
        record_type="registration",
        provider_record_id="r",
        version=1,
        retracted=False,
        occurred_from=_DAY,
        occurred_to=_DAY,
        month=202501,
        obtained_at=_OBTAINED,
        schema_version=1,
        content_hash=b"",
        payload=payload,
        fact=None,
    )
    return f"sub_{number:09}", row


async def fill(database: Database, store: "_Stores") -> list[tuple[str, str, str]]:
    """Registers the firms; returns subject_id, name and district of some."""
    rng = random.Random(20181022)
    made = names(rng)
    kept = []
    started = time.perf_counter()
    for start in range(0, FIRMS, _AT_ONCE):
        firms = [(n, *next(made)) for n in range(start, min(start + _AT_ONCE, FIRMS))]
        async with database.begin() as conn:
            await store(conn).index("par_market", [registration(*firm) for firm in firms])
        kept += [(f"sub_{n:09}", name, place) for n, name, place in firms if n % 97 == 0]
    say(f"{FIRMS:,} firms indexed in {time.perf_counter() - started:.0f} s")
    async with database.begin() as conn:
        driver = await raw_asyncpg(conn)
        await driver.execute("ANALYZE subject_name")
    return kept


class _Stores:
    """Makes the index of a transaction."""

    def __init__(self) -> None:
        self._vault = vault(load_catalogue(), SystemClock())

    def __call__(self, conn: AsyncConnection) -> NameStore:
        return NameStore(conn, Seals(conn, self._vault))


async def measure(url: str) -> dict[str, float]:
    """Returns the figures."""
    upgrade(url, MIGRATIONS)
    database = Database.open(url)
    store = _Stores()
    firms = await fill(database, store)
    rng = random.Random(7)
    weights = load()
    clock = SystemClock()
    hints = Hints(weights, (), clock, RandomIds(clock))
    asked = rng.sample(firms, min(HINTS, len(firms)))

    async def match(
        wanted: Sequence[Hint],
    ) -> tuple[float, list[Sequence[Candidate]]]:
        started = time.perf_counter()
        found = []
        for start in range(0, len(wanted), 100):
            part = wanted[start : start + 100]
            async with database.read() as conn:
                answers = await hints.match(store(conn), list(dict.fromkeys(part)))
            found += [answers[hint] for hint in part]
        return (time.perf_counter() - started) / len(wanted), found

    exact_s, exact = await match([Hint(name, "", place) for _, name, place in asked])
    wrong_s, wrong = await match([Hint(mistaken(name, rng), "", place) for _, name, place in asked])
    await database.close()

    def taken(found: list[Sequence[Candidate]], *, right: bool) -> float:
        pairs = zip(asked, found, strict=True)
        chose = [(subject, chosen(each, weights)) for (subject, _, _), each in pairs]
        return sum(c is not None and (c == s) == right for s, c in chose) / len(chose)

    shown = sum(
        any(candidate.subject_id == subject for candidate in each)
        for (subject, _, _), each in zip(asked, wrong, strict=True)
    )
    return {
        "exact_ms": round(exact_s * 1000, 2),
        "exact_taken": round(taken(exact, right=True), 4),
        "exact_taken_for_another": round(taken(exact, right=False), 4),
        "misspelt_ms": round(wrong_s * 1000, 2),
        "misspelt_shown": round(shown / len(asked), 4),
        "misspelt_taken_for_another": round(taken(wrong, right=False), 4),
    }


def main() -> None:
    """Measures."""
    with postgres() as server:
        url = server.create("matching")
        print(json.dumps({"name": "matching", "firms": FIRMS, **asyncio.run(measure(url))}))


if __name__ == "__main__":
    main()
