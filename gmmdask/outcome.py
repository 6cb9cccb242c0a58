"""Why a run ended, in words that say what to do; and the events of a fit."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum


class Reason(Enum):
    """Why a run ended."""

    CONVERGED = "converged"
    MAX_ITER = "max_iter"
    STREAM = "stream"  # it has not ended: more rows may come
    DROPPED = "dropped"  # one of several candidates, and others are better
    FAILED = "failed"  # one of several candidates, which go on without it


@dataclass(frozen=True)
class Outcome:
    """Why a run ended, and a sentence that says what to do about it.

    `predicted_gain` is what Aitken extrapolation expects of all further passes together, in nats per row; None
    where the gains do not shrink geometrically yet. `took` says what each stage bought: nats per row, passes, seconds.
    """

    reason: Reason
    sentence: str
    predicted_gain: float | None
    took: str = field(default="", compare=False)

    @property
    def converged(self) -> bool:
        return self.reason is Reason.CONVERGED


@dataclass(frozen=True)
class Event:
    """Something that happened in a fit; `run` names the run it happened to."""

    run: str


@dataclass(frozen=True)
class FitStarted(Event):
    """Rows, features and parts of the data; passes that are allowed."""

    n: int
    d: int
    parts: int
    max_iter: int
    executor: str


@dataclass(frozen=True)
class PilotDone(Event):
    """The first look ended: rows of the sample and the held-out rows, seconds."""

    sample_rows: int
    held_out_rows: int
    seconds: float


@dataclass(frozen=True)
class RowsSorted(Event):
    """The order of rows is far from random: means of blocks vary `ratio` times as much as those of shuffled rows."""

    ratio: float


@dataclass(frozen=True)
class StartBegun(Event):
    """A candidate's start is looked for on the sample: the `number`th of so many."""

    number: int
    of: int


@dataclass(frozen=True)
class StartChosen(Event):
    """A start was chosen among several on the sample by `score` (nats per row, on held-out rows if there are any).

    `gained` is what EM on the sample has added to the best start's score. `ends` are the starts that were run to their
    end, best first: "score", and "agreement", the adjusted Rand index of the labels they give with those of the best.
    """

    starts: int
    score: float
    gained: float
    seconds: float
    ends: tuple[dict[str, float], ...] = ()


@dataclass(frozen=True)
class CandidatesDrawn(Event):
    """A round of k-means|| over all rows ended: how many candidates there are now, and the mean squared distance (in
    the frame) that rows had to the nearest of those before it.
    """

    round: int
    rounds: int
    candidates: int
    cost: float
    seconds: float


@dataclass(frozen=True)
class CentresFound(Event):
    """k-means|| has made a start of so many candidates, after so many passes over all rows."""

    candidates: int
    passes: int
    seconds: float


@dataclass(frozen=True)
class ComponentsMoved(Event):
    """A move was accepted: components `merged` became one, and the place that was free took a half of `split`.

    `score` is in nats per row: of held-out rows, or, if there are none, of all rows, with the log prior.
    """

    merged: tuple[int, int]
    split: int
    score: float
    gained: float


@dataclass(frozen=True)
class MovesDone(Event):
    """No more moves of components raise the score: how many have, and by how much together (nats per row)."""

    moves: int
    gained: float
    seconds: float


@dataclass(frozen=True)
class PassDone(Event):
    """One pass of a run: its lap, lower bound and gain in nats per row (data units), seconds, rows and bytes read.

    Under a prior the lower bound has the log prior in it, per row; `log_likelihood` is the bound without.
    """

    lap: int
    lower_bound: float
    gain: float | None
    seconds: float
    rows: int
    bytes: int
    log_likelihood: float


@dataclass(frozen=True)
class KernelReady(Event):
    """The compiled kernel can run in this process: seconds of loading it and, once a machine, of compiling it."""

    kernel: str
    seconds: float


@dataclass(frozen=True)
class StepDone(Event):
    """One step of a lap that takes several: how many of `steps` are behind, and the algorithm's estimate of the lower
    bound so far, in nats per row (data units).
    """

    lap: int
    step: int
    steps: int
    lower_bound: float


@dataclass(frozen=True)
class KernelChanged(Event):
    """Another kernel evaluates the mixture from here on; `error` is what the fast one would have lost, relative."""

    kernel: str
    error: float


@dataclass(frozen=True)
class ComponentsWithoutRows(Event):
    """Components (numbers) that hold less than one row each since this lap; empty when all have rows again."""

    lap: int
    components: tuple[int, ...]


@dataclass(frozen=True)
class ComponentReseeded(Event):
    """A component that held too few rows (`mass`) in this lap began anew as one half of component `other`."""

    lap: int
    component: int
    mass: float
    other: int


@dataclass(frozen=True)
class ComponentDropped(Event):
    """A component that held too few rows (`mass`) in this lap is gone; those after it are counted anew."""

    lap: int
    component: int
    mass: float


@dataclass(frozen=True)
class DirectionsWithoutSpread(Event):
    """Features (numbers) in which the data is constant or linearly dependent: only `reg_covar` carries them."""

    features: tuple[int, ...]


@dataclass(frozen=True)
class FewDistinctRows(Event):
    """Rows are mostly the same: only so many of them (all, or the sample) differ, for so many components."""

    distinct: int
    components: int


@dataclass(frozen=True)
class CandidateDropped(Event):
    """A candidate is not fitted further after this lap, 0 for its start on the sample: it scores so much worse than the
    best, plus or minus the paired standard error, in nats per row.
    """

    lap: int
    behind: float
    error: float


@dataclass(frozen=True)
class CheckpointWritten(Event):
    """A checkpoint was written to `path`."""

    path: str


@dataclass(frozen=True)
class Resumed(Event):
    """A fit goes on from the checkpoint at `path`, after so many laps; None where no start had been chosen yet."""

    path: str
    lap: int | None


@dataclass(frozen=True)
class CheckpointDamaged(Event):
    """The newer of two checkpoints cannot be read, and the fit goes on from the older; `problem` says why."""

    problem: str


@dataclass(frozen=True)
class Published(Event):
    """A stream's model was written to `path`, after so many rows; `score` is the mean log density of the recent ones
    before each was learned, in nats per row, None before there are any.
    """

    path: str
    rows: int
    score: float | None


@dataclass(frozen=True)
class StreamWaits(Event):
    """A stream has no new rows, and not because none were written: `reason` says what is missing."""

    reason: str


@dataclass(frozen=True)
class RowsWritten(Event):
    """Predictions of `rows` of `total` rows are written, `before` of them by an earlier run; seconds of this one."""

    rows: int
    total: int
    before: int
    seconds: float


@dataclass(frozen=True)
class StartedOver(Event):
    """What an interrupted run has left cannot be gone on with, and was removed; `reason` says why."""

    reason: str


@dataclass(frozen=True)
class RunEnded(Event):
    """A run ended."""

    outcome: Outcome


Callback = Callable[[Event], None]
