"""The driver: ask, pass, tell, emit. The only loop of a fit."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from gmmdask.algorithms import Algorithm, Request, State
from gmmdask.estep import EStep, ESteps
from gmmdask.frame import Frame, Prior
from gmmdask.kernels import EPS
from gmmdask.outcome import Callback, ComponentsWithoutRows, KernelChanged, PassDone, RunEnded
from gmmdask.plan import Slice
from gmmdask.selfcheck import Expected, check
from gmmdask.task import Data


@dataclass(frozen=True, eq=False)
class Run:
    """One fit under way: a named algorithm, its state, the frame it lives in and its prior."""

    name: str
    algorithm: Algorithm
    state: State
    frame: Frame
    prior: Prior

    @property
    def going(self) -> bool:
        return self.state.outcome is None


def advance(
    runs: tuple[Run, ...],
    data: Data,
    emit: Callback,
    expected: Expected | None = None,
    save: Callable[[tuple[Run, ...]], None] = lambda runs: None,
) -> tuple[Run, ...]:
    """Runs every run to its end, in lock-step: those that ask for the same slices share one read of the data.

    Parameters
    ----------
    emit : receives the events.
    expected : what a full pass must add up to; None does not check.
    save : called after every step with all runs.

    Raises
    ------
    ChangedData
        If a full pass contradicts `expected`.
    """
    kernels: dict[str, str] = {}
    empty: dict[str, tuple[int, ...]] = {}
    while any(run.going for run in runs):
        following = {run.name: run for run in runs}
        requests = [(run, run.algorithm.ask(run.state)) for run in runs if run.going]
        for run, request in requests:
            announce_kernel(run, request.work, kernels, emit)
        for slices, group in sharing(requests):
            began = time.perf_counter()
            steps = tuple((run.frame, request.work) for run, request in group)
            sums = data.sums(ESteps(steps, data.plan.block_rows), slices)
            seconds = time.perf_counter() - began
            for (run, _), stats in zip(group, sums.items, strict=True):
                if expected is not None and slices is None:
                    check(stats, run.frame, expected, data.source.name)
                state, note = run.algorithm.tell(run.state, stats, run.prior)
                following[run.name] = replace(run, state=state)
                bound = note.lower_bound + run.frame.log_det
                read = int(stats.weight) * data.source.d * data.source.dtype.itemsize
                emit(PassDone(run.name, state.laps, bound, note.gain, seconds, int(stats.weight), read))
                if note.empty != empty.get(run.name, ()):
                    emit(ComponentsWithoutRows(run.name, state.laps, note.empty))
                    empty[run.name] = note.empty
                if state.outcome is not None:
                    emit(RunEnded(run.name, state.outcome))
        runs = tuple(following[run.name] for run in runs)
        save(runs)
    return runs


def sharing(
    requests: Iterable[tuple[Run, Request]],
) -> list[tuple[tuple[Slice, ...] | None, list[tuple[Run, Request]]]]:
    """Requests grouped by the slices that they ask for, in order of first appearance."""
    groups: dict[tuple[Slice, ...] | None, list[tuple[Run, Request]]] = {}
    for run, request in requests:
        groups.setdefault(request.slices, []).append((run, request))
    return list(groups.items())


def announce_kernel(run: Run, work: EStep, kernels: dict[str, str], emit: Callback) -> None:
    """Tells when a run goes over to the exact kernel from a fast one, or back."""
    if (work.kernel == "centred") != (kernels.get(run.name) == "centred"):
        emit(KernelChanged(run.name, work.kernel, EPS * work.mixture.cancellation))
    kernels[run.name] = work.kernel
