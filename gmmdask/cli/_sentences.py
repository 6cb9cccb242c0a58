"""Events of a fit in words: a line each."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from gmmdask.outcome import (
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
    StartBegun,
    StartChosen,
    StartedOver,
    StepDone,
    StreamWaits,
)


def sentence(event: Event, max_iter: int) -> str:
    """One line for one event of a fit that may take so many passes."""
    if isinstance(event, PassDone):
        return passed(event, max_iter)
    if isinstance(event, StepDone):
        step = f"step {event.step}/{event.steps}  about {event.lower_bound:.5f}"
        return f"{prefix(event, 'fit')}lap {event.lap}/{max_iter}  {step}"
    tell = SENTENCES.get(type(event), lambda other: f"{type(other).__name__}: {asdict(other)}")
    return tell(event)


def prefix(event: Event, usual: str) -> str:
    """The name of the run, where it is not the one that there usually is."""
    return "" if event.run == usual else f"{event.run} "


def passed(event: PassDone, max_iter: int) -> str:
    gain = "" if event.gain is None else f" ({event.gain:+.2e})"
    rate, left = event.rows / max(event.seconds, 1e-9), (max_iter - event.lap) * event.seconds
    bound = f"lower bound {event.lower_bound:.6f}{gain}"
    return f"{prefix(event, 'fit')}pass {event.lap}/{max_iter}  {bound}  {rate:,.0f} rows/s  at most {left:.0f} s left"


def started(event: FitStarted) -> str:
    parts = "1 part" if event.parts == 1 else f"{event.parts} parts"
    return f"{event.n:,} rows x {event.d} features in {parts}, on {event.executor}"


def start_chosen(event: StartChosen) -> str:
    gained = f"{event.score:.5f} nats/row ({event.gained:+.1e} by EM on it)"
    return f"{prefix(event, 'start')}start: best of {event.starts} on the sample, {gained}, {event.seconds:.1f} s"


def moved(event: ComponentsMoved) -> str:
    a, b = event.merged
    score = f"{event.score:.5f} nats/row ({event.gained:+.1e})"
    return f"{event.run}: components {a} and {b} merged, {event.split} split: {score}"


def without_rows(event: ComponentsWithoutRows) -> str:
    lost = f"components {list(event.components)} hold less than one row" if event.components else "all have rows"
    return f"{event.run}: pass {event.lap}: {lost}"


def lost(event: ComponentReseeded | ComponentDropped) -> str:
    fate = "is dropped"
    if isinstance(event, ComponentReseeded):
        fate = f"begins anew as a half of component {event.other}"
    return f"{event.run}: pass {event.lap}: component {event.component} held {event.mass:.2g} rows, and {fate}"


def resumed(event: Resumed) -> str:
    behind = {None: "the first look", 0: "the start"}.get(event.lap, f"pass {event.lap}")
    return f"resuming after {behind}, from {event.path}"


def published(event: Published) -> str:
    score = "" if event.score is None else f"  score of recent rows {event.score:.5f}"
    return f"{event.rows:,} rows{score}  published to {event.path}"


def written(event: RowsWritten) -> str:
    rate = (event.rows - event.before) / max(event.seconds, 1e-9)
    left = (event.total - event.rows) / max(rate, 1e-9)
    return f"{event.rows:,} of {event.total:,} rows written  {rate:,.0f} rows/s  about {left:.0f} s left"


def dropped(event: CandidateDropped) -> str:
    when = f"after pass {event.lap}" if event.lap else "on the sample"
    return f"{event.run}: dropped {when}, {event.behind:.2g} ± {event.error:.1g} nats/row behind the best"


SENTENCES: dict[type[Event], Callable[[Any], str]] = {
    FitStarted: started,
    PilotDone: lambda e: f"first look: {e.seconds:.1f} s, sample of {e.sample_rows:,} rows",
    RowsSorted: lambda e: (
        f"rows are not in random order (means of blocks vary {e.ratio:.0f} times as much as shuffled rows' would): "
        "mini-batches mix parts of the data, passes do not mind"
    ),
    StartBegun: lambda e: f"{e.run}: starting on the sample ({e.number}/{e.of})",
    StartChosen: start_chosen,
    CandidatesDrawn: lambda e: (
        f"k-means||: round {e.round}/{e.rounds}, {e.candidates} candidates (mean squared distance {e.cost:.3g} before "
        "it)"
    ),
    CentresFound: lambda e: f"start: k-means|| on all rows, {e.passes} passes, {e.seconds:.1f} s",
    ComponentsMoved: moved,
    MovesDone: lambda e: f"{e.run}: moves of components: {e.moves} ({e.gained:+.1e} nats/row), {e.seconds:.1f} s",
    KernelReady: lambda e: f"{e.kernel} kernel: ready after {e.seconds:.1f} s",
    KernelChanged: lambda e: f"{e.run}: {e.kernel} kernel from here on (the fast one would err by {e.error:.0e})",
    ComponentsWithoutRows: without_rows,
    ComponentReseeded: lost,
    ComponentDropped: lost,
    DirectionsWithoutSpread: lambda e: f"warning: features {list(e.features)} are constant or linearly dependent",
    FewDistinctRows: lambda e: f"warning: only {e.distinct} different rows for {e.components} components",
    CandidateDropped: dropped,
    CheckpointWritten: lambda e: f"checkpoint written to {e.path}",
    CheckpointDamaged: lambda e: f"warning: {e.problem}",
    Resumed: resumed,
    Published: published,
    StreamWaits: lambda e: f"warning: {e.reason}",
    RowsWritten: written,
    StartedOver: lambda e: f"starting over: {e.reason}",
    RunEnded: lambda e: f"{e.run}: {e.outcome.sentence}",
}
