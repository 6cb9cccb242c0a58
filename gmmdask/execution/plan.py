"""The plan of a fit: a value made before anything runs, from the data and the settings alone."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from dask._task_spec import List, Task, TaskRef

PART_BYTES = 64 << 20  # of float64 rows: a task of about half a second
MIN_PARTS = 8
FAN_IN = 8


@dataclass(frozen=True)
class Part:
    """A run of whole storage chunks: rows [start, stop). The rows of one task."""

    index: int
    start: int
    stop: int


@dataclass(frozen=True)
class Slice:
    """Every `of`-th block of a part, from the k-th: a mini-batch that needs no shuffle."""

    part: Part
    k: int = 0
    of: int = 1


@dataclass(frozen=True)
class Plan:
    """Which rows form a part, which a block. Never depends on the cluster or the machine's memory."""

    parts: tuple[Part, ...]
    block_rows: int

    @property
    def n(self) -> int:
        return self.parts[-1].stop

    @property
    def everything(self) -> tuple[Slice, ...]:
        return tuple(Slice(part) for part in self.parts)


def make_plan(edges: np.ndarray, d: int, block_rows: int, part_bytes: int = PART_BYTES) -> Plan:
    """Parts of about `part_bytes` of float64 rows, cut at storage chunks, at least 8 where the source can be cut.

    Parameters
    ----------
    edges : (c + 1,) row numbers at which storage chunks begin, and n.
    """
    n, chunks = int(edges[-1]), len(edges) - 1
    wanted = min(chunks, max(MIN_PARTS, -(-n * d * 8 // part_bytes)))
    ideal = np.linspace(0, n, wanted + 1)
    nearest = np.searchsorted((edges[:-1] + edges[1:]) / 2, ideal)
    bounds = np.unique(np.concatenate([[0], edges[nearest], [n]]))
    parts = tuple(Part(i, int(a), int(b)) for i, (a, b) in enumerate(pairwise(bounds)))
    return Plan(parts, block_rows)


def add(values: Sequence[Any]) -> Any:
    """Left to right: floating-point addition has an order, and this is it."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def tree(leaves: dict[int, Hashable], prefix: str) -> tuple[dict[Hashable, Any], Hashable]:
    """Tasks that add leaves, by a tree of fixed fan-in over the plan's part numbers; and the key of the root.

    Parts that are missing are skipped, not closed up, so that what is added to what never depends on company.
    """
    graph: dict[Hashable, Any] = {}
    level = 0
    while len(leaves) > 1 or level == 0:
        level += 1
        groups: dict[int, list[Hashable]] = {}
        for index in sorted(leaves):
            groups.setdefault(index // FAN_IN, []).append(leaves[index])
        leaves = {}
        for group, members in groups.items():
            key = f"{prefix}-add-{level}-{group}"
            graph[key] = Task(key, add, List(*(TaskRef(member) for member in members)))
            leaves[group] = key
    return graph, next(iter(leaves.values()))
