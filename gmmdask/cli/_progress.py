"""Events of a fit as a live line, plain lines or JSON lines on standard error."""

import json
import math
import sys
import time
from dataclasses import asdict, is_dataclass
from enum import Enum
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gmmdask.cli._options import run_id
from gmmdask.cli._tables import peak_memory
from gmmdask.outcome import (
    Callback,
    CandidateDropped,
    CandidatesDrawn,
    CentresFound,
    CheckpointDamaged,
    CheckpointWritten,
    ComponentDropped,
    ComponentReseeded,
    ComponentsMoved,
    ComponentsWithoutRows,
    DirectionsWithoutSpread,
    Event,
    FewDistinctRows,
    FitStarted,
    KernelChanged,
    KernelReady,
    MovesDone,
    PassDone,
    PilotDone,
    Published,
    Resumed,
    RowsSorted,
    RowsWritten,
    RunEnded,
    StartChosen,
    StartedOver,
    StepDone,
    StreamWaits,
)


class Reporter:
    """A callback that tells what happens; a context for as long as it does.

    Parameters
    ----------
    form : {"auto", "plain", "json"}
        "auto" is a live line on a terminal, plain lines elsewhere.

    Attributes
    ----------
    run_id : str
        Of the command that is run.
    """

    def __init__(self, form: str) -> None:
        self.form, self.run_id = form, run_id()
        self.console = Console(stderr=True)
        live = form == "auto" and self.console.is_terminal
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self.live = Progress(*columns, console=self.console, transient=True) if live else None
        self.max_iter = self.rows = 0
        self.seconds, self.began, self.memory = 0.0, time.perf_counter(), peak_memory()

    def __enter__(self) -> Self:
        if self.live is not None:
            self.live.start()
            self.line = self.live.add_task("starting", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, FitStarted):
            self.max_iter, self.memory = event.max_iter, peak_memory()
        if isinstance(event, PassDone):
            self.rows, self.seconds = self.rows + event.rows, self.seconds + event.seconds
        if self.form == "json":
            head = {"event": type(event).__name__, "time": time.time(), "run_id": self.run_id}
            sys.stderr.write(json.dumps({**head, **plain(event)}, allow_nan=False) + "\n")
        elif self.live is not None:
            if isinstance(event, PassDone):
                self.live.update(self.line, description=f"{describe(event, self.max_iter)}, next pass under way")
            elif isinstance(event, StepDone | Published | RowsWritten):
                self.live.update(self.line, description=describe(event, self.max_iter))
            elif not isinstance(event, CheckpointWritten):
                self.console.print(describe(event, self.max_iter), highlight=False)
                self.live.update(self.line, description="working")
        elif not isinstance(event, CheckpointWritten | StepDone):
            sys.stderr.write(describe(event, self.max_iter) + "\n")

    def summary(self, mixture: Any) -> dict[str, Any]:
        """What a fit came to, and what it took; memory since it began, modules apart."""
        return {
            "outcome": mixture.outcome_.sentence,
            "stages": mixture.outcome_.took,
            "passes": mixture.n_iter_,
            "lower_bound": mixture.lower_bound_ if math.isfinite(mixture.lower_bound_) else None,
            "rows_per_second": round(self.rows / self.seconds) if self.seconds else None,
            "seconds": round(time.perf_counter() - self.began, 2),
            "memory_added_bytes": peak_memory() - self.memory,
        }


def once_a_pass(callback: Callback) -> Callback:
    """A callback for runs that share passes: of each pass, one run tells."""
    seen = set[int]()

    def tell(event: Event) -> None:
        if isinstance(event, PassDone):
            if event.lap in seen:
                return
            seen.add(event.lap)
        callback(event)

    return tell


def plain(value: Any) -> Any:
    """Events as JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {key: plain(item) for key, item in vars(value).items()}
    return value.value if isinstance(value, Enum) else value


def describe(event: Event, max_iter: int) -> str:
    """One line for one event."""
    match event:
        case FitStarted():
            parts = "1 part" if event.parts == 1 else f"{event.parts} parts"
            return f"{event.n:,} rows x {event.d} features in {parts}, on {event.executor}"
        case PilotDone():
            return f"first look: {event.seconds:.1f} s, sample of {event.sample_rows:,} rows"
        case StartChosen():
            gained = f"{event.score:.5f} nats/row ({event.gained:+.1e} by EM on it)"
            name = "" if event.run == "start" else f"{event.run} "
            return f"{name}start: best of {event.starts} on the sample, {gained}, {event.seconds:.1f} s"
        case CandidatesDrawn():
            cost = f"mean squared distance {event.cost:.3g} before it"
            return f"k-means||: round {event.round}/{event.rounds}, {event.candidates} candidates ({cost})"
        case CentresFound():
            return f"start: k-means|| on all rows, {event.passes} passes, {event.seconds:.1f} s"
        case ComponentsMoved():
            a, b = event.merged
            score = f"{event.score:.5f} nats/row ({event.gained:+.1e})"
            return f"{event.run}: components {a} and {b} merged, {event.split} split: {score}"
        case MovesDone():
            return (
                f"{event.run}: moves of components: {event.moves} ({event.gained:+.1e} nats/row), {event.seconds:.1f} s"
            )
        case RowsSorted():
            times = f"means of blocks vary {event.ratio:.0f} times as much as shuffled rows' would"
            return f"rows are not in random order ({times}): mini-batches mix parts of the data, passes do not mind"
        case StepDone():
            name = "" if event.run == "fit" else f"{event.run} "
            return f"{name}lap {event.lap}/{max_iter}  step {event.step}/{event.steps}  about {event.lower_bound:.5f}"
        case PassDone():
            gain = "" if event.gain is None else f" ({event.gain:+.2e})"
            left = (max_iter - event.lap) * event.seconds
            rate = event.rows / max(event.seconds, 1e-9)
            name = "" if event.run == "fit" else f"{event.run} "
            return (
                f"{name}pass {event.lap}/{max_iter}  lower bound {event.lower_bound:.6f}{gain}  {rate:,.0f} rows/s  "
                f"at most {left:.0f} s left"
            )
        case KernelReady():
            return f"{event.kernel} kernel: ready after {event.seconds:.1f} s"
        case KernelChanged():
            return f"{event.run}: {event.kernel} kernel from here on (the fast one would err by {event.error:.0e})"
        case ComponentsWithoutRows():
            lost = (
                f"components {list(event.components)} hold less than one row" if event.components else "all have rows"
            )
            return f"{event.run}: pass {event.lap}: {lost}"
        case ComponentReseeded():
            lost = f"component {event.component} held {event.mass:.2g} rows"
            return f"{event.run}: pass {event.lap}: {lost}, and begins anew as a half of component {event.other}"
        case ComponentDropped():
            return (
                f"{event.run}: pass {event.lap}: component {event.component} held {event.mass:.2g} rows, and is dropped"
            )
        case DirectionsWithoutSpread():
            return f"warning: features {list(event.features)} are constant or linearly dependent"
        case FewDistinctRows():
            return f"warning: only {event.distinct} different rows for {event.components} components"
        case Resumed():
            behind = {None: "the first look", 0: "the start"}.get(event.lap, f"pass {event.lap}")
            return f"resuming after {behind}, from {event.path}"
        case CheckpointDamaged():
            return f"warning: {event.problem}"
        case CheckpointWritten():
            return f"checkpoint written to {event.path}"
        case Published():
            score = "" if event.score is None else f"  score of recent rows {event.score:.5f}"
            return f"{event.rows:,} rows{score}  published to {event.path}"
        case RowsWritten():
            rate = (event.rows - event.before) / max(event.seconds, 1e-9)
            left = (event.total - event.rows) / max(rate, 1e-9)
            return f"{event.rows:,} of {event.total:,} rows written  {rate:,.0f} rows/s  about {left:.0f} s left"
        case StartedOver():
            return f"starting over: {event.reason}"
        case StreamWaits():
            return f"warning: {event.reason}"
        case CandidateDropped():
            when = f"after pass {event.lap}" if event.lap else "on the sample"
            return f"{event.run}: dropped {when}, {event.behind:.2g} ± {event.error:.1g} nats/row behind the best"
        case RunEnded():
            return f"{event.run}: {event.outcome.sentence}"
    return f"{type(event).__name__}: {asdict(event)}"
