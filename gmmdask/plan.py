"""The plan of a fit: a value made before anything runs, from the data and the settings alone."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

PART_BYTES = 64 << 20  # of float64 rows: a task of about half a second
MIN_PARTS = 8


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
    steps = np.arange(wanted + 1)
    nearest = np.maximum.accumulate(nearest - steps) + steps  # no two bounds at one edge
    bounds = edges[np.clip(nearest, steps, chunks - steps[::-1])]
    parts = tuple(Part(i, int(a), int(b)) for i, (a, b) in enumerate(pairwise(bounds)))
    return Plan(parts, block_rows)
