"""Events of a fit as a live line, plain lines or JSON lines on standard error."""

import json
import math
import sys
import time
from dataclasses import is_dataclass
from enum import Enum
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gmmdask.cli._options import run_id
from gmmdask.cli._sentences import sentence
from gmmdask.cli._tables import peak_memory
from gmmdask.outcome import (
    Callback,
    CheckpointWritten,
    Event,
    FitStarted,
    PassDone,
    Published,
    RowsWritten,
    StartBegun,
    StepDone,
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
                self.live.update(self.line, description=f"{sentence(event, self.max_iter)}, next pass under way")
            elif isinstance(event, StepDone | Published | RowsWritten | StartBegun):
                self.live.update(self.line, description=sentence(event, self.max_iter))
            elif not isinstance(event, CheckpointWritten):
                self.console.print(sentence(event, self.max_iter), highlight=False)
                self.live.update(self.line, description="working")
        elif not isinstance(event, CheckpointWritten | StepDone):
            sys.stderr.write(sentence(event, self.max_iter) + "\n")

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
