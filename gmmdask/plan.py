"""The plan of a fit: a value made before anything runs, from the data and the settings alone."""

from dataclasses import dataclass
from itertools import pairwise
from math import isqrt

import numpy as np

PART_BYTES = 64 << 20  # of float64 rows: a task of about half a second
MIN_PARTS = 8
WINDOW = 16  # parts in flight where a lap is made of mini-batches
ORDER = 34  # what a generator is for: the middle of its key


@dataclass(frozen=True)
class Part:
    """A run of whole storage chunks: rows [start, stop). The rows of one task."""

    index: int
    start: int
    stop: int


@dataclass(frozen=True)
class Slice:
    """Every `of`-th row of a part, from the k-th: a mini-batch that needs no shuffle."""

    part: Part
    k: int = 0
    of: int = 1

    @property
    def rows(self) -> int:
        return len(range(self.k, self.part.stop - self.part.start, self.of))


@dataclass(frozen=True)
class Plan:
    """Which rows form a part, which a block. Never depends on the cluster or the machine's memory.

    Parameters
    ----------
    window : parts that are in flight together where a lap is made of mini-batches.
    slices : mini-batches that each of them is cut into.
    """

    parts: tuple[Part, ...]
    block_rows: int
    window: int = 1
    slices: int = 1

    @property
    def n(self) -> int:
        return self.parts[-1].stop

    @property
    def everything(self) -> tuple[Slice, ...]:
        return tuple(Slice(part) for part in self.parts)

    @property
    def steps(self) -> int:
        """Mini-batches of a lap."""
        return -(-len(self.parts) // self.window) * self.slices

    def mini_batch(self, step: int, seed: int, lap: int = 0) -> tuple[Slice, ...]:
        """The slices of one step of a lap: one of each part that is in flight.

        The data is cut into `window` strata of neighbouring parts, and one part of each is in flight, for `slices`
        steps: then the next ones are. Both orders, of the parts of a stratum and of the slices of a part, are drawn
        anew for each (seed, lap): so rows that are sorted come mixed, and yet every part is read once a lap.
        """
        turn, k = divmod(step, self.slices)
        bounds = np.linspace(0, len(self.parts), self.window + 1).astype(int).tolist()
        chosen = []
        for stratum, (start, stop) in enumerate(pairwise(bounds)):
            if turn < stop - start:
                order = np.random.default_rng([seed, ORDER, lap, stratum]).permutation(stop - start)
                part = self.parts[start + int(order[turn])]
                cut = np.random.default_rng([seed, ORDER, lap, self.window + part.index]).permutation(self.slices)
                chosen.append(Slice(part, int(cut[k]), self.slices))
        return tuple(chosen)


@dataclass(frozen=True)
class Memory:
    """Bytes: of one task, of the driver beside its tasks, and tasks at once in the driver's process.

    `cache` says whether decoded rows are kept, `cached` how many bytes of them in the driver's process.
    """

    task: int
    driver: int
    tasks: int
    cache: bool = False
    cached: int = 0

    @property
    def peak(self) -> int:
        return self.task * self.tasks + self.driver + self.cached


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


def interleaved(edges: np.ndarray, d: int, block_rows: int, step_rows: int, window_bytes: int) -> Plan:
    """A plan of mini-batches of about `step_rows` rows, from parts that take `window_bytes` together while in flight.

    Parameters
    ----------
    block_rows : the most that a block should have.
    """
    plan = make_plan(edges, d, block_rows, part_bytes=max(1, window_bytes // WINDOW))
    largest = max(part.stop - part.start for part in plan.parts)
    window = int(np.clip(window_bytes // (largest * d * 8), 1, min(WINDOW, len(plan.parts))))
    slices = next_prime(-(-window * largest // step_rows))  # a prime is no multiple of a period that the rows may have
    return Plan(plan.parts, min(block_rows, -(-largest // slices)), window, slices)


def next_prime(n: int) -> int:
    """The smallest prime that is at least n; 1 for 1."""
    while any(n % factor == 0 for factor in range(2, isqrt(n) + 1)):
        n += 1
    return max(n, 1)
