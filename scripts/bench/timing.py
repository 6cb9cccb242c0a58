"""Clocks: seconds of calls made in turn, of the passes of a fit, of single passes, and of the fastest arithmetic."""

import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from gmmdask.compiled import fast_kernel
from gmmdask.estep import EStep, ESteps
from gmmdask.execution import Executor, one_thread, setting
from gmmdask.frame import Frame
from gmmdask.kernels import block_rows
from gmmdask.mixture import Mixture
from gmmdask.outcome import Event, PassDone
from gmmdask.plan import make_plan
from gmmdask.sources import Source
from gmmdask.task import Data, Work


def seconds_of(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def in_turn(trials: Mapping[str, Callable[[], float]], repeats: int, fewer: Mapping[str, int] | None = None) -> Any:
    """Medians of what the trials return, which run one after another in every round; some in fewer rounds."""
    found: dict[str, list[float]] = {name: [] for name in trials}
    for turn in range(repeats):
        for name, trial in trials.items():
            if turn < (fewer or {}).get(name, repeats):
                found[name].append(trial())
    return {name: statistics.median(values) for name, values in found.items()}


class Clock:
    """A callback that takes the time of every pass, from the end of one to the end of the next: M-steps count."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, PassDone):
            self.times.append(time.perf_counter())

    @property
    def median(self) -> float:
        return statistics.median(b - a for a, b in pairwise(self.times))


class CountRows:
    """A pass that reads and decodes, and does nothing."""

    def __call__(self, blocks: Any) -> int:
        return sum(len(block.rows) for block in blocks)


def data_of(source: Source, truth: Mixture, executor: Executor) -> Data:
    """A source by the plan of a fit."""
    rows = block_rows(truth.family, truth.d, truth.n_components)
    return Data(source, make_plan(source.edges, source.d, rows), executor)


def e_steps(data: Data, *mixtures: Mixture) -> ESteps:
    """The work of one pass of EM for mixtures of one family, in the frame of the first rows."""
    part = data.plan.parts[0]
    rows = next(iter(data.source.read(part.start, part.stop))).astype(np.float64)
    frame = Frame.of(mixtures[0].family, rows.mean(axis=0), np.atleast_2d(np.cov(rows.T)))
    fast = fast_kernel(setting("kernel"))
    steps = tuple((frame, EStep.of(frame.mixture_in(mixture), fast)) for mixture in mixtures)
    return ESteps(steps, data.plan.block_rows)


def pass_seconds(data: Data, work: Work) -> float:
    with one_thread():
        return seconds_of(lambda: data.sums(work))


def dgemm_rate(threads: int, size: int = 1000, repeats: int = 4) -> float:
    """Floating-point operations a second of as many concurrent chains of matrix products, of one thread each."""
    factors = [np.random.default_rng(i).random((size, size)) for i in range(threads)]
    results = [np.empty((size, size)) for _ in range(threads)]

    def multiply(index: int) -> None:
        for _ in range(repeats):
            np.dot(factors[index], factors[index], out=results[index])

    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        list(pool.map(multiply, range(threads)))
        return threads * repeats * 2 * size**3 / seconds_of(lambda: list(pool.map(multiply, range(threads))))
