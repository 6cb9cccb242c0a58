"""One fit under way, and what happens to it, told as events."""

from dataclasses import dataclass

from gmmdask.algorithms import Algorithm, Note, State
from gmmdask.estep import EStep
from gmmdask.frame import Frame, Prior
from gmmdask.kernels import EPS
from gmmdask.outcome import (
    Callback,
    ComponentDropped,
    ComponentReseeded,
    ComponentsWithoutRows,
    KernelChanged,
    PassDone,
    RunEnded,
    StepDone,
)
from gmmdask.selfcheck import Tally
from gmmdask.task import Data


@dataclass(frozen=True, eq=False)
class Run:
    """One fit under way: a named algorithm, its state, the frame it lives in, its prior and its fast kernel."""

    name: str
    algorithm: Algorithm
    state: State
    frame: Frame
    prior: Prior
    fast: str = "products"

    @property
    def going(self) -> bool:
        return self.state.outcome is None


class Teller:
    """Turns what happens to one run into events."""

    def __init__(self, run: Run, data: Data, emit: Callback) -> None:
        self.run, self.data, self.emit = run, data, emit
        self.tally = Tally(data.source.name, whole=not run.state.step)
        self.last_kernel, self.empty = "fast", tuple[int, ...]()

    def kernel(self, step: EStep) -> None:
        """Tells when a run goes over to the exact kernel from a fast one, or back."""
        step = step.by(self.run.fast)
        if (step.kernel == "centred") != (self.last_kernel == "centred"):
            self.emit(KernelChanged(self.run.name, step.kernel, EPS * step.mixture.cancellation))
        self.last_kernel = step.kernel

    def told(self, state: State, note: Note, lap_done: bool) -> None:
        """One step, and the lap if it ends with it."""
        name, tally, bound = self.run.name, self.tally, note.lower_bound + self.run.frame.log_det
        if lap_done:
            size = self.data.source.row_bytes
            read, plain = (tally.seconds, tally.rows, tally.rows * size), bound - note.log_prior
            self.emit(PassDone(name, state.laps, bound, note.gain, *read, plain))
            self.tally = Tally(self.data.source.name)
        else:
            self.emit(StepDone(name, state.laps + 1, state.step, self.data.plan.steps, bound))
        lap = state.laps if lap_done else state.laps + 1
        for repair in note.repairs:
            what = (name, lap, repair.component, repair.mass)
            self.emit(ComponentDropped(*what) if repair.shift is None else ComponentReseeded(*what, repair.other))
        if note.empty != self.empty:
            self.emit(ComponentsWithoutRows(name, state.laps, note.empty))
            self.empty = note.empty
        if state.outcome is not None:
            self.emit(RunEnded(name, state.outcome))
