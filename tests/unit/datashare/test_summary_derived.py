"""Derived measures against a computation that follows their definition word by word."""

from collections import defaultdict
from fractions import Fraction

from hypothesis import example, given
from hypothesis import strategies as st

from services.datashare.summaries.derived import MEASURES, derive, trades

Row = tuple[int, bytes, int, int]


def _back(month: int, by: int) -> int:
    ordinal = month // 100 * 12 + month % 100 - 1 - by
    return ordinal // 12 * 100 + ordinal % 12 + 1


def _naive(rows: list[Row], month: int) -> dict[str, int]:
    def window(last: int) -> tuple[set[bytes], dict[bytes, int]]:
        months = {_back(last, by) for by in range(12)}
        counts: dict[bytes, int] = defaultdict(int)
        nets: dict[bytes, int] = defaultdict(int)
        for at, token, count, net in rows:
            if at in months:
                counts[token] += count
                nets[token] += net
        present = {token for token, count in counts.items() if count > 0}
        return present, {token: max(nets[token], 0) for token in present}

    def ppm(part: Fraction | int, whole: int) -> int:
        return int(Fraction(part) * 1_000_000 / whole) if whole else 0

    present, weights = window(month)
    total = sum(weights.values())
    past_present, past = window(_back(month, 12))
    largest = sorted(weights.values(), reverse=True)
    return {
        "counterparties": len(present),
        "top1": ppm(sum(largest[:1]), total),
        "top5": ppm(sum(largest[:5]), total),
        "hhi": ppm(sum(value * value for value in largest), total * total),
        "churn": ppm(sum(past[token] for token in past_present - present), sum(past.values())),
    }


_months = st.builds(
    lambda year, month: year * 100 + month, st.integers(2017, 2020), st.integers(1, 12)
)
_rows = st.dictionaries(
    st.tuples(_months, st.integers(0, 8).map(lambda number: bytes([number]) * 16)),
    st.tuples(st.integers(0, 3), st.integers(-(10**15), 10**15)),
    max_size=60,
).map(lambda rows: [(month, token, *totals) for (month, token), totals in rows.items()])


@given(rows=_rows, months=st.sets(_months, max_size=12))
@example(rows=[(201801, b"a", 1, 2**50), (201801, b"b", 1, 2**47)], months={201801})
def test_equal_to_the_definition(rows: list[Row], months: set[int]) -> None:
    ascending = sorted(months)
    got = derive(trades(rows), ascending)
    for name in MEASURES:
        assert got[name] == [_naive(rows, month)[name] for month in ascending], name


def test_worked_example() -> None:
    rows = [
        (201801, b"a", 1, 300),
        (201801, b"b", 2, 100),
        (201901, b"a", 1, 600),
        (201901, b"c", 1, 200),
        (201902, b"d", 1, -50),
    ]
    assert derive(trades(rows), [201801, 201901, 201902]) == {
        "counterparties": [2, 2, 3],
        "top1": [750_000, 750_000, 750_000],
        "top5": [1_000_000, 1_000_000, 1_000_000],
        "hhi": [625_000, 625_000, 625_000],
        "churn": [0, 250_000, 250_000],
    }


def test_many_counterparties_stay_exact() -> None:
    rows = [(201801, number.to_bytes(4), 1, 10**13 + number) for number in range(20_000)]
    assert derive(trades(rows), [201801])["hhi"] == [_naive(rows, 201801)["hhi"]]


def test_nothing_gives_nothing() -> None:
    assert derive(trades([]), []) == {name: [] for name in MEASURES}
    assert derive(trades([]), [202001]) == {name: [0] for name in MEASURES}
