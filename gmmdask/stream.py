"""A mixture learned from rows as they come, in flat memory: what `partial_fit` and `gmmdask stream` keep."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gmmdask.algorithms import Beginning, Online, Stochastic, enough_rows
from gmmdask.competition import Ground, best_start
from gmmdask.covariance import FAMILIES
from gmmdask.covariance._base import Array
from gmmdask.estep import EStep, ESteps
from gmmdask.execution import Threads, one_thread
from gmmdask.frame import Frame, Prior
from gmmdask.initialise import in_memory
from gmmdask.kernels import block_rows
from gmmdask.mixture import Mixture
from gmmdask.moments import Moments
from gmmdask.outcome import Callback, Reason
from gmmdask.pilot import LARGEST
from gmmdask.sources import DataError
from gmmdask.sources._base import checked_shape
from gmmdask.start import Start
from gmmdask.stats import Stats
from gmmdask.task import Block

START_FACTOR = 20  # rows a parameter that a start is found on
MOST_COUNT = 1 << 20  # larger whole numbers are no counts of rows
MEMORY = 0.99  # of the running score from step to step: it speaks of the last hundred or so


@dataclass(frozen=True, eq=False)
class Stream:
    """What has been learned of a stream, and rows that wait: a value that `taking` rows turns into the next.

    Rows wait until a start can be found on them, then until a step is full; so the model does not depend on how the
    stream is cut into calls.

    Parameters
    ----------
    start : covariance type, number of components and how to begin.
    algorithm : its `rate` and `power` are used; "auto" is "power" here.
    seed : keys the start.
    start_rows : rows that the start is found on; None for twenty a parameter.
    kernel : the fast one, "products" or "compiled".
    rows, weights : that wait, (m, d) and (m,).
    taken : rows that have come so far, those that wait among them.
    frame, prior, online : since the start; before it None.
    seen : log likelihood (nats, data units) and weight of recent rows, each under the mixture before it learned them.

    Raises
    ------
    DataError
        If a start is to be found on fewer rows than components.
    ValueError
        If it is to be found by passes over all rows.
    """

    start: Start
    algorithm: Stochastic
    reg_covar: float = 1e-6
    n_init: int = 1
    seed: int = 0
    start_rows: int | None = None
    kernel: str = "products"
    rows: Array | None = None
    weights: Array | None = None
    taken: int = 0
    frame: Frame | None = None
    prior: Prior | None = None
    online: Online | None = None
    seen: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        k = self.start.n_components
        if self.start.by_passes:
            raise ValueError(
                f"init_params={self.start.method!r} reads all rows several times, which a stream does not have. Choose "
                "'kmeans' (--init kmeans), or use fit on stored rows."
            )
        if self.start_rows is not None and self.start_rows < k:
            raise DataError(
                f"sample_rows={self.start_rows} rows cannot start {k} components. Set sample_rows (--sample-rows) to "
                f"{k} or more, better {100 * k}."
            )

    @property
    def settings(self) -> dict[str, Any]:
        """What may not change under a stream: JSON values."""
        return {
            "n_components": self.start.n_components,
            "covariance_type": self.start.covariance_type,
            "init_params": self.start.method,
            "algorithm": self.algorithm.describe(),
            "reg_covar": self.reg_covar,
            "n_init": self.n_init,
            "sample_rows": self.start_rows,
            "seed": self.seed,
        }

    @property
    def waiting(self) -> int:
        """Rows that came and are not learned yet."""
        return 0 if self.rows is None else len(self.rows)

    @property
    def needed(self) -> int:
        """Rows that a start is found on, or that a step learns."""
        assert self.rows is not None
        k, parameters = self.start.n_components, self.start.n_parameters(self.rows.shape[1])
        if self.online is None:
            return self.start_rows or max(START_FACTOR * parameters, enough_rows(k, parameters))
        return max(256, enough_rows(k, parameters))

    @property
    def mixture(self) -> Mixture:
        """What the stream has taught since its start, in data units."""
        assert self.online is not None
        assert self.frame is not None
        assert self.prior is not None
        with one_thread():
            return self.frame.mixture_out(self.online.result(self.prior))

    def describe(self) -> dict[str, Any]:
        """Provenance of the mixture so far: JSON values."""
        assert self.online is not None
        learned = self.taken - self.waiting
        words = f"a stream: {learned} rows were learned in {self.online.steps} steps, {self.waiting} wait for the next."
        return {
            "data": {"kind": "stream"},
            "rows": self.taken,
            "steps": self.online.steps,
            "settings": self.settings,
            "outcome": {"reason": Reason.STREAM.value, "sentence": words, "predicted_gain": None},
            "history": [],
        }

    @property
    def score(self) -> float:
        """Mean log density of recent rows under the mixtures that had not learned them yet, nats per row."""
        return self.seen[0] / self.seen[1] if self.seen[1] else -np.inf

    def taking(self, rows: np.ndarray, weights: Any = None, emit: Callback = lambda event: None) -> "Stream":
        """The stream after some more rows (m, d), with weights (m,).

        Raises
        ------
        DataError
            If there are none, or one is not finite, or they have another number of features, or are no real numbers;
            or a weight is negative.
        IllDefinedCovariance
            If a component collapsed.
        """
        rows, given = self._checked(rows, weights)
        taken, kept = self.taken + len(rows), given > 0
        rows, given = np.array(rows[kept], dtype=np.float64, order="C"), given[kept]
        if self.rows is not None and self.weights is not None:
            rows, given = np.concatenate([self.rows, rows]), np.concatenate([self.weights, given])
        stream = replace(self, rows=rows, weights=given, taken=taken)
        with one_thread():
            if stream.online is None and counts(given).sum() >= stream.needed:
                stream = stream._started(emit)
            return stream if stream.online is None else stream._learning()

    def _checked(self, rows: np.ndarray, weights: Any) -> tuple[np.ndarray, Array]:
        d = None if self.rows is None else self.rows.shape[1]
        checked_shape("the rows", rows.shape, rows.dtype)
        if d is not None and rows.shape[1] != d:
            raise DataError(
                f"X has {rows.shape[1]} features, but GaussianMixture is expecting {d} features as input: the stream "
                "began with that many."
            )
        bad = ~(np.abs(rows) <= np.float64(LARGEST)).all(axis=1)
        if bad.any():
            at = int(np.argmax(bad))
            raise DataError(
                f"Input contains NaN or infinity (or numbers beyond {LARGEST:g}), first in row {at} of this call (row "
                f"{self.taken + at} of all). None of its rows were taken: drop or impute such rows, and send the "
                "others again."
            )
        given = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)
        if given.shape != (len(rows),) or not np.isfinite(given).all() or (given < 0).any():
            raise DataError(
                f"sample_weight: expected {len(rows)} finite numbers that are not negative, one a row; found an array "
                f"of shape {given.shape}. None of the rows were taken."
            )
        return rows, given

    def _started(self, emit: Callback) -> "Stream":
        """With a mixture fitted to the first rows, which are learned by that. Weighted rows stand for as many."""
        assert self.rows is not None
        assert self.weights is not None
        m, start, queue = self.needed, self.start, Queue.of(self.rows, self.weights)
        rows, weights = queue.between(0, m)
        reach = np.cumsum(weights)
        chosen = np.searchsorted(reach, (np.arange(m) + 0.5) * (reach[-1] / m))  # all of them, where all weigh alike
        drawn = rows[np.minimum(chosen, m - 1)]
        moments = Moments.of(drawn)
        frame = Frame.of(FAMILIES[start.covariance_type], moments.mean, moments.covariance)
        prior = Prior.of(start.covariance_type, start.n_components, frame, self.reg_covar)
        with Threads() as executor:
            data = in_memory(drawn, start.covariance_type, start.n_components, executor)
            mixture = best_start(
                start, self.n_init, self.seed, Ground(drawn, data, data, frame, prior, self.kernel), emit
            )
        sample = statistics(rows, weights, mixture, frame, self.kernel)
        online = self.algorithm.begin(mixture, Beginning(sample=sample))
        started = replace(self, frame=frame, prior=prior, online=online)
        rows, weights = queue.between(m, queue.length)
        return replace(started, rows=rows, weights=weights)

    def _learning(self) -> "Stream":
        """With all full steps learned; the rows of the last, broken one wait."""
        online, (log_likelihood, weight), step, at = self.online, self.seen, self.needed, 0
        assert online is not None
        assert self.rows is not None
        assert self.weights is not None
        assert self.frame is not None
        assert self.prior is not None
        queue = Queue.of(self.rows, self.weights)
        while queue.length - at >= step:
            stats = statistics(*queue.between(at, at + step), online.mixture, self.frame, self.kernel)
            online, at = online.after(stats, self.prior), at + step
            nats = stats.log_likelihood + stats.weight * self.frame.log_det
            log_likelihood, weight = MEMORY * log_likelihood + nats, MEMORY * weight + stats.weight
        rows, weights = (part.copy() for part in queue.between(at, queue.length))
        return replace(self, online=online, rows=rows, weights=weights, seen=(log_likelihood, weight))


def counts(weights: Array) -> Array:
    """How many rows each counts for where rows are counted (m,): whole weights are numbers of rows, others are one."""
    whole = (weights >= 1) & (weights <= MOST_COUNT) & (weights == np.floor(weights))
    return np.where(whole, weights, 1.0)


@dataclass(frozen=True, eq=False)
class Queue:
    """Rows that wait (m, d), with weights (m,); cut by what they count for, so that a border may divide a row.

    `reach` (m,) is what rows up to each count for, itself included.
    """

    rows: Array
    weights: Array
    counts: Array
    reach: Array

    @classmethod
    def of(cls, rows: Array, weights: Array) -> "Queue":
        found = counts(weights)
        return cls(rows, weights, found, np.cumsum(found))

    @property
    def length(self) -> int:
        return int(self.reach[-1]) if len(self.reach) else 0

    def between(self, start: int, stop: int) -> tuple[Array, Array]:
        """Rows and weights of what is counted from `start` to `stop`."""
        first, last = np.searchsorted(self.reach, start, side="right"), np.searchsorted(self.reach, stop) + 1
        some = slice(int(first), int(last) if stop > start else int(first))
        reach, counted = self.reach[some], self.counts[some]
        share = np.minimum(reach, stop) - np.maximum(reach - counted, start)
        return self.rows[some], self.weights[some] * (share / counted)


@dataclass(frozen=True, eq=False)
class Streamed:
    """What `gmmdask stream` keeps in a model file: a stream, and how much of its source it has taken.

    `position` is a JSON value, see `gmmdask.feeds`. Both are one value, so that no row can be counted twice or lost
    between them.
    """

    stream: Stream
    position: dict[str, Any]


# Names and types of the frozen values that the state of a model may hold, beside those of a checkpoint.
STATES: dict[str, type] = {kind.__name__: kind for kind in (Stream, Streamed, Start)}


def statistics(rows: Array, weights: Array, mixture: Mixture, frame: Frame, kernel: str) -> Stats:
    """Of rows (m, d) in data units under a mixture in the frame."""
    most = min(len(rows), block_rows(mixture.family, mixture.d, mixture.n_components))
    given = None if (weights == 1).all() else weights
    blocks = (
        Block(rows[at : at + most], None if given is None else given[at : at + most], at)
        for at in range(0, len(rows), most)
    )
    stats: Stats = ESteps(((frame, EStep.of(mixture, kernel)),), most)(blocks).items[0]
    return stats
