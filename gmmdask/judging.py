"""Held-out rows that judge candidates: which rows they are, what they say of each run, and who drops out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import hypot, inf

import numpy as np

from gmmdask.algorithms._stopping import predicted_gain
from gmmdask.covariance._base import Array
from gmmdask.criteria import leader, mean_and_error
from gmmdask.estep import EStep, LogDensities
from gmmdask.execution import Executor
from gmmdask.initialise import in_memory
from gmmdask.kernels import numpy_of
from gmmdask.moments import Moments
from gmmdask.outcome import Callback, CandidateDropped, Outcome, Reason
from gmmdask.pilot import FirstLook
from gmmdask.run import Run
from gmmdask.sampling import split

BEHIND = 3.0  # paired standard errors behind the best: then a candidate drops out


@dataclass(frozen=True, eq=False)
class Apart:
    """The sample in two: rows (m, d) that starts are fitted to, and rows (h, d) that judge, which no pass sees.

    `numbers` (h,) are those of the latter in the data; `moments` are of all rows of the data but them, as far as known:
    where values are missing, only the weight is.
    """

    fit: np.ndarray
    fit_weights: Array | None
    judges: np.ndarray
    judge_weights: Array | None
    numbers: np.ndarray
    moments: Moments

    @classmethod
    def of(cls, look: FirstLook, seed: int, judges: int, gaps: bool = False) -> "Apart":
        """So many rows of the sample, drawn at random, judge."""
        rows, weights = look.sample, look.sample_weights
        fit, judge = split(len(rows) - judges, len(rows), seed)
        of_fit, of_judges = (None if weights is None else weights[part] for part in (fit, judge))
        own = None if look.own_weights is None else look.own_weights[judge]
        assert look.numbers is not None
        if gaps:
            rest = replace(look.moments, weight=look.moments.weight - (len(judge) if own is None else float(own.sum())))
        else:
            rest = look.moments.without(Moments.of(rows[judge], own))
        return cls(rows[fit], of_fit, rows[judge], of_judges, look.numbers[judge], rest)


class Judges:
    """Evaluates runs on the held-out rows, each mixture once, and ends those that are too far behind the best.

    Parameters
    ----------
    tol : gaps below it (nats per row) are none: passes end where less than that is left to gain.
    """

    def __init__(self, apart: Apart, executor: Executor, tol: float, emit: Callback) -> None:
        self.apart, self.executor, self.tol, self.emit = apart, executor, tol, emit
        self.known: dict[str, tuple[str, Array]] = {}

    @property
    def weights(self) -> Array | None:
        return self.apart.judge_weights

    def line(self, run: Run) -> Array | None:
        """Log densities (h,) of the held-out rows in nats, in data units; None where there is no mixture."""
        if has_no_start(run):
            return None
        mixture = run.state.mixture
        if self.known.get(run.name, ("",))[0] != mixture.digest:
            of = (mixture.covariance_type, mixture.n_components)
            rows = in_memory(self.apart.judges, *of, self.executor, self.weights)
            work = LogDensities(((run.frame, EStep.of(mixture, numpy_of(run.fast))),), rows.plan.block_rows)
            self.known[run.name] = mixture.digest, rows.sums(work).values[0] + run.frame.log_det
        return self.known[run.name][1]

    def judged(self, runs: Sequence[Run], hopes: Mapping[str, tuple[float, float]] | None = None) -> tuple[Run, ...]:
        """The runs, of which those that go on but are too far behind have an outcome now.

        Parameters
        ----------
        hopes : what passes over all rows should bring each run beyond its start, and the standard deviation of that, in
            nats per row; None for runs that are under way, which may still bring what their last passes promise.
        """
        lines = [self.line(run) for run in runs]
        due = [(0.0, 0.0) if hopes is None else hopes[run.name] for run in runs]
        pairs = zip(lines, due, strict=True)
        scores = [None if line is None else mean_and_error(line, self.weights)[0] + gain for line, (gain, _) in pairs]
        if all(score is None for score in scores):
            return tuple(runs)
        best = leader(scores)
        first, judged = lines[best], []
        for run, line, (gain, spread) in zip(runs, lines, due, strict=True):
            judged.append(run)
            if run.going and line is not None and first is not None:
                behind, error = mean_and_error(first - line + (due[best][0] - gain), self.weights)
                error = hypot(error, spread, due[best][1])
                if behind - (still_to_gain(run) if hopes is None else 0.0) > max(BEHIND * error, self.tol):
                    judged[-1] = self._dropped(run, behind, error, runs[best].name)
        return tuple(judged)

    def _dropped(self, run: Run, behind: float, error: float, best: str) -> Run:
        laps = run.state.laps
        self.emit(CandidateDropped(run.name, laps, behind, error))
        when = f"after pass {laps}" if laps else "on the sample"
        words = f"dropped {when}: {behind:.2g} ± {error:.1g} nats per row behind {best} on held-out rows."
        return replace(run, state=replace(run.state, outcome=Outcome(Reason.DROPPED, words, None)))


def still_to_gain(run: Run) -> float:
    """What the passes to come may bring a run, nats per row: its last gain, or what that promises; not yet known after
    one pass.
    """
    bounds: tuple[float, ...] = getattr(run.state, "bounds", ())
    if len(bounds) < 2:
        return inf
    return max(bounds[-1] - bounds[-2], getattr(run.state, "predicted", None) or predicted_gain(bounds) or 0.0)


def has_no_start(run: Run) -> bool:
    """Whether its start has failed: the mixture of such a run stands for none."""
    state = run.state
    return state.outcome is not None and state.outcome.reason is Reason.FAILED and state.laps == 0
