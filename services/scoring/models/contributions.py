"""Exact contributions of inputs to a margin: LightGBM's trees as tables of Shapley values.

A tree is cut into blocks: subtrees that have, with the nodes above them, few nodes. Which of these
send a row to the left is a pattern; a block's table has, for each pattern, what its leaves add to
the contribution of each input: path-dependent Shapley values, as `pred_contrib` computes them from
the numbers of training rows in the nodes. So a row costs a comparison for each node and a line of
each table.

Invariants: the contributions are those of `pred_contrib` but for their last bits, on every row;
they sum to the margin. Trees of which that cannot be said are refused. LightGBM is not needed.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.scoring.models.domain import ModelFolderError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BITS: Final = 8
"""Nodes on a way, at most, and so in a block and above it: a table has a line for each pattern."""

CUT: Final = 5
"""A block of more nodes is cut further where it can be. Blocks of 8 are as fast for many rows and
take four times the memory, which a lone row finds far from the processor: 15 us instead of 12.5 for
200 trees of 3 levels, 24 instead of 20 for 4 levels."""

MAX_TABLES: Final = 2**25
"""Numbers in all tables: a quarter of a GiB."""

_AT_ONCE: Final = 2**19
"""Numbers that are worked on at once while tables are made."""

# Of LightGBM's decision_type, by its include/LightGBM/tree.h.
_CATEGORICAL: Final = 1
_DEFAULT_LEFT: Final = 2
_MISSING_ZERO: Final = 1
_MISSING_NAN: Final = 2

# Of columns, by kernel.c.
_PLAIN, _MISSING_LEFT, _READ_AS_ZERO, _ZERO_RIGHT, _ZERO_LEFT, _CATEGORY = range(6)

_REFUSED: Final = "contributions are not exact for trees"


class Column(NamedTuple):
    """What a node compares with its threshold.

    Args:
        feature: whose value.
        kind: how LightGBM reads it there.
        categories: bits of those that go to the left, in words of 32.
    """

    feature: int
    kind: int
    categories: tuple[int, ...] = ()


class Node(NamedTuple):
    """An inner node.

    Args:
        column: what is compared.
        threshold: up to here it goes to the left.
        left: the child; a negative one is a leaf, counted from -1 on.
        right: likewise.
        rows: of the training, that came here.
    """

    column: Column
    threshold: float
    left: int
    right: int
    rows: int


class Leaf(NamedTuple):
    """What a leaf adds to the margin, and how many rows of the training came to it."""

    value: float
    rows: int


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree: its root is the first node, or the only leaf."""

    nodes: tuple[Node, ...]
    leaves: tuple[Leaf, ...]

    def rows(self, at: int) -> int:
        """Rows of the training in a node or a leaf."""
        return self.nodes[at].rows if at >= 0 else self.leaves[~at].rows


@dataclass(frozen=True, slots=True)
class Trees:
    """A model's text, read.

    Args:
        inputs: names, in order.
        trees: in order.
    """

    inputs: tuple[str, ...]
    trees: tuple[Tree, ...]

    @property
    def bias(self) -> float:
        """Mean margin of the training's rows: what no input contributes."""
        total = 0.0
        for tree in self.trees:
            rows = sum(leaf.rows for leaf in tree.leaves)
            total += sum(leaf.rows / rows * leaf.value for leaf in tree.leaves)
        return total


def parse(text: str) -> Trees:
    """Read LightGBM's text.

    Raises:
        ModelFolderError: it is not one, or contributions of its trees are not exact.
    """
    body, end, _ = text.partition("\nend of trees")
    head, *sections = body.split("\nTree=")
    stated = _fields(head)
    try:
        if not end or not sections:
            raise ValueError("its trees do not end")
        inputs = tuple(stated["feature_names"].split(" "))
        if len(inputs) != int(stated["max_feature_idx"]) + 1:
            raise ValueError("its inputs are not as many as their names")
        if stated["num_class"] != "1" or stated["num_tree_per_iteration"] != "1":
            raise ModelFolderError(f"{_REFUSED} of several classes: train on two")
        if "average_output" in head.splitlines():
            raise ModelFolderError(f"{_REFUSED} that are averaged: train with boosting=gbdt")
        return Trees(inputs, tuple(_tree(_fields(each), len(inputs)) for each in sections))
    except ModelFolderError:
        raise
    except (KeyError, ValueError) as error:
        raise ModelFolderError(f"the trees cannot be read ({error}): restore the folder") from error


def tables(trees: Trees) -> dict[str, Any]:
    """Lay trees out for kernel.c.

    Returns:
        What is the trees' of its sizes, arrays and numbers, by name.

    Raises:
        ModelFolderError: the trees are too deep, or too many.
    """
    layout = _Layout()
    for tree in trees.trees:
        if tree.nodes:
            _cut(tree, (), 0, layout)
    columns = list(layout.columns)
    blocks = layout.blocks
    return {
        "features": len(trees.inputs),
        "columns": len(columns),
        "blocks": len(blocks),
        "column_feature": [column.feature for column in columns],
        "column_kind": [column.kind for column in columns],
        "set_from": _starts([len(column.categories) for column in columns]),
        "sets": [word for column in columns for word in column.categories],
        "node_from": _starts([len(block.nodes) for block in blocks]),
        "node_column": [layout.columns[node.column] for block in blocks for node in block.nodes],
        "threshold": [node.threshold for block in blocks for node in block.nodes],
        "entry_from": _starts([len(block.entries) for block in blocks]),
        "entry_feature": [feature for block in blocks for feature in block.entries],
        "table_from": [block.table for block in blocks],
        "table": layout.table(),
        "bias": trees.bias,
    }


def splits(trees: Trees) -> dict[int, Floats]:
    """Where nodes split numbers: ascending thresholds, by place of the input."""
    found: dict[int, set[float]] = {}
    for tree in trees.trees:
        for node in tree.nodes:
            if node.column.kind != _CATEGORY:
                found.setdefault(node.column.feature, set()).add(node.threshold)
    return {at: np.array(sorted(values)) for at, values in found.items()}


# The text


def _fields(section: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in section.splitlines() if "=" in line)


def _tree(stated: Mapping[str, str], features: int) -> Tree:
    def whole(name: str) -> list[int]:
        return [int(each) for each in stated[name].split()]

    def real(name: str) -> list[float]:
        values = [float(each) for each in stated[name].split()]
        if any(math.isnan(value) for value in values):
            raise ValueError(f"{name} has no value somewhere")
        return values

    if stated.get("is_linear", "0") != "0":
        raise ModelFolderError(f"{_REFUSED} with linear leaves: train without linear_tree")
    values = real("leaf_value")
    if len(values) != int(stated["num_leaves"]):
        raise ValueError("leaves are missing")
    if len(values) == 1:
        return Tree((), (Leaf(values[0], 1),))
    sets = _sets(stated, whole)
    nodes = tuple(
        Node(
            _column(feature, decision, threshold, sets),
            0.0 if decision & _CATEGORICAL else threshold,
            left,
            right,
            rows,
        )
        for feature, decision, threshold, left, right, rows in zip(
            whole("split_feature"),
            whole("decision_type"),
            real("threshold"),
            whole("left_child"),
            whole("right_child"),
            whole("internal_count"),
            strict=True,
        )
    )
    leaves = tuple(Leaf(*each) for each in zip(values, whole("leaf_count"), strict=True))
    tree = Tree(nodes, leaves)
    _check(tree, features)
    return tree


def _sets(stated: Mapping[str, str], whole: Any) -> list[tuple[int, ...]]:
    """The categories that a node sends to the left, by the number in its threshold."""
    if stated["num_cat"] == "0":
        return []
    words, bounds = whole("cat_threshold"), whole("cat_boundaries")
    return [tuple(words[a:b]) for a, b in pairwise(bounds)]


def _column(
    feature: int, decision: int, threshold: float, sets: Sequence[tuple[int, ...]]
) -> Column:
    if decision & _CATEGORICAL:
        if not 0 <= threshold < len(sets):
            raise ValueError("categories are missing")
        return Column(feature, _CATEGORY, sets[int(threshold)])
    left = bool(decision & _DEFAULT_LEFT)
    match decision >> 2:
        case 0:
            return Column(feature, _READ_AS_ZERO)
        case kind if kind == _MISSING_ZERO:
            return Column(feature, _ZERO_LEFT if left else _ZERO_RIGHT)
        case kind if kind == _MISSING_NAN:
            return Column(feature, _MISSING_LEFT if left else _PLAIN)
        case _:
            raise ValueError(f"decision_type {decision} is unknown")


def _check(tree: Tree, features: int) -> None:
    """Refuse what is no tree, and numbers of rows that contributions cannot be had from."""
    children = [child for node in tree.nodes for child in (node.left, node.right)]
    # Each but the root is the child of one that comes before it: so all hang on the root.
    if sorted(children) != [*range(-len(tree.leaves), 0), *range(1, len(tree.nodes))] or any(
        0 <= child <= at for at, node in enumerate(tree.nodes) for child in (node.left, node.right)
    ):
        raise ValueError("its nodes are no tree")
    if any(not 0 <= node.column.feature < features for node in tree.nodes):
        raise ValueError("a node splits an input that there is not")
    if any(leaf.rows < 1 for leaf in tree.leaves) or any(
        node.rows != tree.rows(node.left) + tree.rows(node.right) for node in tree.nodes
    ):
        raise ModelFolderError(
            f"{_REFUSED} whose nodes do not have the rows of their leaves: train them anew"
        )


# The tables

_Way = tuple[tuple[int, bool], ...]
"""From the root down: nodes, and whether the way goes on to the left."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Where a block's parts are.

    Args:
        nodes: whose outcomes are the pattern's bits, the lowest first.
        entries: inputs that its table is about.
        table: its place among the numbers of all tables.
    """

    nodes: tuple[Node, ...]
    entries: tuple[int, ...]
    table: int


@dataclass(frozen=True, slots=True)
class _Leaves:
    """Leaves of blocks of as many bits, on whose ways there are as many inputs.

    Args:
        values: what each adds to the margin.
        shares: by input of its way, which part of the rows goes on.
        masks: by input, bits of its nodes.
        wants: by input, what these bits are on this way.
        entries: by input, its place in a line of the table.
        tables: place of the block's table, and the length of its lines.
    """

    values: list[float] = field(default_factory=list)
    shares: list[list[float]] = field(default_factory=list)
    masks: list[list[int]] = field(default_factory=list)
    wants: list[list[int]] = field(default_factory=list)
    entries: list[list[int]] = field(default_factory=list)
    tables: list[tuple[int, int]] = field(default_factory=list)


class _Layout:
    """Blocks one after the other, and the leaves that their tables are made from."""

    def __init__(self) -> None:
        self.columns: dict[Column, int] = {}
        self.blocks: list[_Block] = []
        self._leaves: dict[tuple[int, int], _Leaves] = {}
        self._size = 0

    def add(self, tree: Tree, ways: Sequence[tuple[_Way, Leaf]]) -> None:
        """Add a block, by the ways to its leaves."""
        places = {
            at: bit for bit, at in enumerate(dict.fromkeys(at for w, _ in ways for at, _ in w))
        }
        nodes = tuple(tree.nodes[at] for at in places)
        entries = tuple(sorted({node.column.feature for node in nodes}))
        for node in nodes:
            self.columns.setdefault(node.column, len(self.columns))
        for way, leaf in ways:
            parts: dict[int, tuple[float, int, int]] = {}
            for at, left in way:
                node = tree.nodes[at]
                share, mask, want = parts.get(node.column.feature, (1.0, 0, 0))
                share *= tree.rows(node.left if left else node.right) / node.rows
                bit = 1 << places[at]
                parts[node.column.feature] = (share, mask | bit, want | bit if left else want)
            into = self._leaves.setdefault((len(nodes), len(parts)), _Leaves())
            into.values.append(leaf.value)
            into.shares.append([share for share, _, _ in parts.values()])
            into.masks.append([mask for _, mask, _ in parts.values()])
            into.wants.append([want for _, _, want in parts.values()])
            into.entries.append([entries.index(feature) for feature in parts])
            into.tables.append((self._size, len(entries)))
        self.blocks.append(_Block(nodes, entries, self._size))
        self._size += len(entries) << len(nodes)
        if self._size > MAX_TABLES:
            raise ModelFolderError(
                f"tables of these trees take over {MAX_TABLES >> 17} MB: train fewer or shallower "
                "ones, a depth of 3 or 4 is as good"
            )

    def table(self) -> Floats:
        """The numbers of all tables."""
        made = np.zeros(self._size)
        for (bits, inputs), leaves in self._leaves.items():
            step = max(1, _AT_ONCE >> max(bits, inputs)) // inputs + 1
            for at in range(0, len(leaves.values), step):
                part = slice(at, at + step)
                _fill(
                    made,
                    bits,
                    contributions_of(np.array(leaves.values[part]), np.array(leaves.shares[part])),
                    np.array(leaves.masks[part]),
                    np.array(leaves.wants[part]),
                    np.array(leaves.entries[part]),
                    np.array(leaves.tables[part]),
                )
        return made


def _cut(tree: Tree, above: _Way, root: int, layout: _Layout) -> None:
    """Cut the subtree of `root` into blocks."""
    if len(above) >= BITS and root >= 0:
        raise ModelFolderError(
            f"trees deeper than {BITS} are not explained here: train with max_depth={BITS} or less"
        )
    ways = list(_ways(tree, above, root))
    nodes = len(ways) - 1
    if nodes <= 1 or len(above) + nodes <= CUT:
        layout.add(tree, ways)
        return
    _cut(tree, (*above, (root, True)), tree.nodes[root].left, layout)
    _cut(tree, (*above, (root, False)), tree.nodes[root].right, layout)


def _ways(tree: Tree, above: _Way, root: int) -> Iterator[tuple[_Way, Leaf]]:
    """Yields the ways to the leaves of a subtree."""
    stack = [(above, root)]
    while stack:
        way, at = stack.pop()
        if at < 0:
            yield way, tree.leaves[~at]
        else:
            node = tree.nodes[at]
            stack += [((*way, (at, False)), node.right), ((*way, (at, True)), node.left)]


def contributions_of(values: Floats, shares: Floats) -> Floats:
    """Shapley values of leaves, whichever of the conditions on their ways hold.

    A condition k that is known holds or not, o = 1 or 0; one that is not known is met by the share
    p of the rows. The Shapley value of j weighs all sets of the others by when they are known in a
    random order; with a moment t for each that is v (o_j - p_j) times the integral over t of the
    product over the others of t o_k + (1 - t) p_k, a polynomial, which Gauss's rule integrates
    without error.

    Args:
        values: v, of each leaf.
        shares: p, leaves x conditions.

    Returns:
        Leaves x sets of conditions that hold (bit k of the set's number is condition k) x
        conditions.
    """
    conditions = shares.shape[1]
    moments, weights = np.polynomial.legendre.leggauss((conditions + 1) // 2)
    holds = (np.arange(1 << conditions)[:, None] >> np.arange(conditions) & 1).astype(np.float64)
    missed = shares[:, None, :]
    total = np.zeros((len(values), 1 << conditions, conditions))
    for moment, weight in zip((moments + 1) / 2, weights / 2, strict=True):
        factors = moment * holds + (1 - moment) * missed
        total += weight * factors.prod(axis=2, keepdims=True) / factors
    found: Floats = values[:, None, None] * (holds - missed) * total
    return found


def _fill(
    table: Floats,
    bits: int,
    found: Floats,
    masks: Ints,
    wants: Ints,
    entries: Ints,
    tables_: Ints,
) -> None:
    """Add leaves to their blocks' tables."""
    patterns = np.arange(1 << bits)
    hold = (patterns[:, None] & masks[:, None, :]) == wants[:, None, :]
    sets = (hold << np.arange(masks.shape[1])).sum(axis=2)
    lines = tables_[:, 0, None] + patterns * tables_[:, 1, None]
    np.add.at(
        table,
        lines[:, :, None] + entries[:, None, :],
        np.take_along_axis(found, sets[:, :, None], axis=1),
    )


def _starts(sizes: Sequence[int]) -> Ints:
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
