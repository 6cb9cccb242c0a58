"""The driver: ask, pass, tell, emit. The only loop of a fit."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice

import numpy as np

from gmmdask.algorithms import Answer, Request
from gmmdask.estep import ESteps, LogDensities
from gmmdask.kernels import numpy_of
from gmmdask.outcome import Callback
from gmmdask.plan import Slice
from gmmdask.run import Run, Teller
from gmmdask.selfcheck import Expected
from gmmdask.task import Data


def advance(
    runs: tuple[Run, ...],
    data: Data,
    emit: Callback,
    expected: Expected | None = None,
    save: Callable[[tuple[Run, ...]], None] = lambda runs: None,
    held_out: Data | None = None,
    judge: Callable[[tuple[Run, ...]], tuple[Run, ...]] = lambda runs: runs,
) -> tuple[Run, ...]:
    """Runs every run to its end, in lock-step: those that ask for the same slices share one read of the data.

    Parameters
    ----------
    emit : receives the events.
    expected : what a lap must add up to; None does not check.
    save : called after every step with all runs.
    held_out : rows that are no part of the data, for algorithms that ask for them.
    judge : given all runs after every step, returns them, some with an outcome that ends them.

    Raises
    ------
    ChangedData
        If a lap contradicts `expected`.
    """
    tellers = {run.name: Teller(run, data, emit) for run in runs}
    while any(run.going for run in runs):
        following = {run.name: run for run in runs}
        requests = [(run, run.algorithm.ask(run.state, data.plan)) for run in runs if run.going]
        for run, request in requests:
            tellers[run.name].kernel(request.steps[0])
        for group in sharing(requests):
            began = time.perf_counter()
            answers = answers_to(group, data, held_out)
            seconds = time.perf_counter() - began
            rows = sum(piece.rows for piece in group[0][1].slices or data.plan.everything)
            for (run, request), answer in zip(group, answers, strict=True):
                teller = tellers[run.name]
                teller.tally.add(seconds, answer[0] if isinstance(answer, tuple) else None, rows)
                state, note = run.algorithm.tell(run.state, answer, run.prior)
                following[run.name] = replace(run, state=state)
                lap_done = state.laps > run.state.laps
                if lap_done and expected is not None and (request.slices is None or run.algorithm.mini_batches):
                    teller.tally.check(run.frame, expected)
                teller.told(state, note, lap_done)
        runs = judge(tuple(following[run.name] for run in runs))
        save(runs)
    return runs


Asked = tuple[Run, Request]


def sharing(requests: Iterable[Asked]) -> list[list[Asked]]:
    """Requests grouped by the rows that they ask for, in order of first appearance."""
    groups: dict[tuple[tuple[Slice, ...] | None, bool], list[Asked]] = {}
    for run, request in requests:
        groups.setdefault((request.slices, request.held_out), []).append((run, request))
    return list(groups.values())


def answers_to(group: list[Asked], data: Data, held_out: Data | None) -> list[Answer]:
    """What runs that ask for the same rows get, by one pass over these."""
    first = group[0][1]
    steps = tuple(
        (run.frame, step.by(numpy_of(run.fast) if first.held_out else run.fast))
        for run, request in group
        for step in request.steps
    )
    if first.held_out:
        assert held_out is not None
        lines = held_out.sums(LogDensities(steps, held_out.plan.block_rows)).values
        values, weights = iter(lines), lines[len(steps) :]
        return [np.stack([*islice(values, len(request.steps)), *weights]) for _, request in group]
    found = iter(data.sums(ESteps(steps, data.plan.block_rows), first.slices).items)
    return [tuple(islice(found, len(request.steps))) for _, request in group]
