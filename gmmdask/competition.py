"""Starts compete on the sample: EM on a part of it, round by round, judged by held-out rows."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.metrics import adjusted_rand_score

from gmmdask.algorithms import Algorithm, Batch, Beginning, Squarem
from gmmdask.covariance._base import Array
from gmmdask.estep import EStep, ESteps, LogDensities, most_likely
from gmmdask.fit import advance
from gmmdask.frame import Frame, Prior
from gmmdask.initialise import START_FACTOR, in_memory, one_start, stats_of, thinning, without_gaps
from gmmdask.kernels import numpy_of
from gmmdask.mixture import Mixture
from gmmdask.outcome import Callback, StartChosen
from gmmdask.run import Run
from gmmdask.start import Start
from gmmdask.stats import Layout, Stats
from gmmdask.task import Data

START = 21  # what a generator is for: the middle of its key
LEAST_STARTS = 8
ROUNDS = (10, 20)  # laps of EM before starts are compared: after ten the best may still look poor, after thirty not
FINALISTS = 3
SAMPLE_LAPS = 500
TIE = 1e-6  # nats per row between scores that are as good as equal
SAMPLE_TOL = 1e-5  # nats per row: passes over the sample are cheap, and what they do passes over all rows need not


@dataclass(frozen=True, eq=False)
class Ground:
    """What a start is found on, and with: the sample (as stored, and as data), held-out rows, frame, prior, kernel.

    `weights` (m,) are those of the sample's rows, None where all weigh one. `gaussian` is what is known of gaps, where
    the sample may have some.
    """

    rows: np.ndarray
    sample: Data
    held_out: Data
    frame: Frame
    prior: Prior
    kernel: str = "products"
    weights: Array | None = None
    gaussian: Mixture | None = None

    def one_start(self, start: Start, random: np.random.RandomState) -> Mixture:
        """One draw on the sample."""
        return one_start(start, self.rows, self.frame, self.prior, random, self.weights, self.gaussian)

    @property
    def points(self) -> Array:
        """The sample (m, d) in the frame; where it has gaps, with what is known of these."""
        return self.frame.points_in(without_gaps(self.rows, self.frame, self.gaussian).astype(np.float64))

    def assigned(self, layout: Layout, assigned: np.ndarray) -> Stats:
        """Statistics of the sample's rows where these are assigned to components."""
        return stats_of(layout, self.frame, self.rows, assigned, self.weights, self.gaussian)

    def fit(self, mixtures: Sequence[Mixture], algorithm: Algorithm) -> list[Mixture]:
        """Each mixture after the algorithm has run on the sample, one after another: only one takes memory."""
        found = []
        for mixture in mixtures:
            state = algorithm.start(mixture, Beginning())
            run = Run("start", algorithm, state, self.frame, self.prior, self.kernel)
            found += [run.state.mixture for run in advance((run,), self.sample, emit=lambda event: None)]
        return found

    def thinned(self, start: Start, factor: int) -> "Ground":
        """With every so manieth row of the sample: about `factor` rows a parameter, 10,000 at least."""
        step = thinning(len(self.rows), factor, start.n_parameters(self.frame.d))
        if step < 2:
            return self
        rows, weights = self.rows[::step], None if self.weights is None else self.weights[::step]
        data = in_memory(rows, start.covariance_type, start.n_components, self.sample.executor, weights)
        return replace(self, rows=rows, weights=weights, sample=data)

    def best(self, mixtures: Sequence[Mixture], most: int) -> list[Mixture]:
        """So many at most of the best by held-out score; they stay in their order."""
        scores = self.scores(mixtures)
        return [mixtures[i] for i in sorted(ranked(scores)[:most])]

    def scores(self, mixtures: Sequence[Mixture]) -> list[float]:
        """Mean log density of the held-out rows under each mixture, nats per row in data units."""
        found = [self._sums(mixture, self.held_out) for mixture in mixtures]
        return [stats.log_likelihood / stats.weight + self.frame.log_det for stats in found]

    def statistics(self, mixture: Mixture) -> Stats:
        """Of the sample under a mixture."""
        return self._sums(mixture, self.sample)

    def _sums(self, mixture: Mixture, data: Data) -> Stats:
        work = ESteps(((self.frame, EStep.of(mixture, self.kernel)),), data.plan.block_rows)
        stats: Stats = data.sums(work).items[0]
        return stats


def best_start(
    start: Start,
    n_init: int,
    seed: int,
    ground: Ground,
    emit: Callback,
    least: int = LEAST_STARTS,
    more: Sequence[Mixture] = (),
) -> Mixture:
    """The best of several starts, fitted to the sample by EM: what passes over all data then begin with.

    Starts are cheap beside a pass over all rows, so there are `least` at least. They compete on a part of the
    sample, in rounds of EM after which the best by held-out score go on; the last few run to convergence on all of
    it, and the best of those is returned, in frame coordinates. k-means alternates between the rows as they are and the
    frame. A start that the user gave is returned as it is. Mixtures that are found elsewhere compete too: `more`.
    """
    began = time.perf_counter()
    if start.given:
        return ground.one_start(start, generator(seed, 0))
    arena, mixtures = ground.thinned(start, START_FACTOR), list(more)
    for index in range(max(n_init, least)):
        alternate = start.method == "kmeans" and index % 2 == 1
        this = replace(start, method="kmeans-whitened") if alternate else start
        mixtures.append(arena.one_start(this, generator(seed, index)))
    n_starts, first = len(mixtures), max(ground.scores(mixtures))
    for laps in ROUNDS:
        mixtures = arena.fit(mixtures, Squarem(Batch(tol=0, max_iter=laps)))
        mixtures = ground.best(mixtures, max(FINALISTS, len(mixtures) // 2))
    mixtures = ground.fit(mixtures[:FINALISTS], Squarem(Batch(tol=SAMPLE_TOL, max_iter=SAMPLE_LAPS, stop="predicted")))
    final = ground.scores(mixtures)
    best = ranked(final)[0]
    seconds = time.perf_counter() - began
    found = [labels(mixture, ground.frame, arena.sample, ground.kernel) for mixture in mixtures]
    ends = compared(final, found, best)
    emit(StartChosen("start", n_starts, final[best], final[best] - first, seconds, ends))
    return mixtures[best]


def labels(mixture: Mixture, frame: Frame, data: Data, fast: str) -> Array:
    """The component of highest probability of each row, (m,), of data in the driver's process.

    `fast` is the kernel of passes over all rows.
    """
    step = (frame, EStep.of(mixture, numpy_of(fast)))
    found: Array = data.sums(LogDensities((step,), data.plan.block_rows, most_likely)).values[0]
    return found


def compared(scores: Sequence[float], found: Sequence[Array], best: int) -> tuple[dict[str, float], ...]:
    """Where starts ended, best first: their scores, and how far the labels (m,) that they give agree with the best's.

    Agreement is the adjusted Rand index (Hubert and Arabie 1985): 1 for the same partition of the rows, about 0 for
    partitions that have nothing in common.
    """
    order = sorted(range(len(scores)), key=lambda at: (at != best, -scores[at]))
    return tuple(
        {"score": float(scores[at]), "agreement": float(adjusted_rand_score(found[best], found[at]))} for at in order
    )


def ranked(scores: Sequence[float]) -> list[int]:
    """Indices, best first. Of scores that are as good as equal, which leads depends on no rounding: the first does.

    Starts that end in the same optimum order its components differently.
    """
    left, order = list(range(len(scores))), []
    while left:
        top = max(scores[i] for i in left)
        order.append(next(i for i in left if scores[i] >= top - TIE))
        left.remove(order[-1])
    return order


def generator(seed: int, index: int) -> np.random.RandomState:
    """What draws the start of this number."""
    return np.random.RandomState(np.random.SeedSequence([seed, START, index]).generate_state(4))
