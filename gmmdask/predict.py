"""Labels, posteriors and log densities of rows, block by block: NumPy for rows in memory, else lazy dask."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dask.array
import numpy as np
from dask._task_spec import Task
from dask.highlevelgraph import HighLevelGraph
from scipy.special import entr

from gmmdask.densities import Incomplete, LogJoint, check_features
from gmmdask.execution import Executor, Threads, one_thread
from gmmdask.frame import Frame
from gmmdask.kernels import block_rows, soft_assignment
from gmmdask.missing import floats_for
from gmmdask.mixture import Mixture
from gmmdask.pilot import first_look
from gmmdask.plan import make_plan
from gmmdask.quantiles import Quantiles
from gmmdask.sources import ArraySource, Source
from gmmdask.sources.dask import DaskSource
from gmmdask.sources.weights import no_weight
from gmmdask.task import Block, Data, cut_blocks

WHATS = ("labels", "proba", "score")
REFERENCE_ROWS = 100_000  # of a sample that a quantile is taken from


@dataclass(frozen=True, eq=False)
class Prediction:
    """What of a mixture (in data units) is wanted for each row.

    Parameters
    ----------
    what : {"labels", "proba", "score", "outlier", "imputed", "entropy"}
        Most probable component (-1 for noise), posterior probabilities (K,), which leave that of the noise, log density
        in nats, whether it is below `threshold`, the row itself (d,) with expected values in the place of missing ones,
        or the entropy of the posterior probabilities, that of the noise among them, in nats.
    missing : whether NaN is a missing value; "imputed" takes it for one anyhow.
    stored : dtype of the rows.
    """

    mixture: Mixture
    what: str
    threshold: float | None = None
    missing: bool = False
    stored: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float64))

    @property
    def gaps(self) -> bool:
        return self.missing or self.what == "imputed"

    @cached_property
    def frame(self) -> Frame:
        """The frame that suits the mixture itself: predictions must not depend on which rows are asked for."""
        mean, covariance = self.mixture.moments()
        if self.gaps:
            return Frame.by_feature(self.mixture.family, mean, np.diag(covariance))
        return Frame.of(self.mixture.family, mean, covariance)

    @property
    def columns(self) -> tuple[int, ...]:
        return {"proba": (self.mixture.n_components,), "imputed": (self.mixture.d,)}.get(self.what, ())

    @property
    def block_rows(self) -> int:
        return block_rows(self.mixture.family, self.mixture.d, self.mixture.n_components)

    @property
    def dtype(self) -> np.dtype[Any]:
        if self.what == "imputed":
            return floats_for(self.stored)
        return np.dtype({"labels": np.int64, "outlier": np.bool_}.get(self.what, np.float64))

    def of(self, rows: np.ndarray, name: str = "the array") -> np.ndarray:
        """Values (m,) or (m, K) of rows (m, d) in memory."""
        values, evaluate = np.empty((len(rows), *self.columns), self.dtype), Evaluator((self,), name)
        for block in cut_blocks([rows], 0, self.block_rows):
            values[block.first_row : block.first_row + len(block.rows)] = evaluate(block)[0]
        return values


class Evaluator:
    """Predictions of one mixture with the scratch memory of one task: densities are evaluated once for all of them."""

    def __init__(self, predictions: tuple[Prediction, ...], name: str) -> None:
        first = next((prediction for prediction in predictions if prediction.gaps), predictions[0])
        frame, self.k, self.noise = first.frame, first.mixture.n_components, first.mixture.noise is not None
        self.predictions, self.log_det = predictions, frame.log_det
        whats = {prediction.what for prediction in predictions}
        self.labels, self.soft = "labels" in whats, bool(whats - {"labels", "imputed"})
        self.entropy = "entropy" in whats
        self.log_joint: LogJoint | Incomplete
        known = frame.mixture_in(first.mixture), first.block_rows, name
        if first.gaps:
            self.log_joint = Incomplete(frame, *known, impute="imputed" in whats)
        else:
            self.log_joint = LogJoint(frame, *known)

    def __call__(self, block: Block) -> list[np.ndarray]:
        """Values (b,) or (b, K) of a block, for each prediction; they are overwritten by the next call."""
        rows, joint = self.log_joint(block)
        found = {"imputed": rows, **({"labels": joint.argmax(axis=0)} if self.labels else {})}
        if self.labels and self.noise:
            found["labels"][found["labels"] == self.k] = -1
        if self.soft:
            found["score"] = soft_assignment(joint) + self.log_det
            found["proba"] = joint[: self.k].T
        if self.entropy:
            found["entropy"] = entr(joint).sum(axis=0)
        return [
            found["score"] < prediction.threshold if prediction.what == "outlier" else found[prediction.what]
            for prediction in self.predictions
        ]


@dataclass(frozen=True, eq=False)
class Fill:
    """The work of a pass over rows in memory: values go to an array of this process, and the number of rows adds."""

    prediction: Prediction
    values: np.ndarray
    name: str

    def __call__(self, blocks: Iterable[Block]) -> int:
        evaluate, count = Evaluator((self.prediction,), self.name), 0
        for block in blocks:
            count += len(block.rows)
            self.values[block.first_row : block.first_row + len(block.rows)] = evaluate(block)[0]
        return count


def predict(mixture: Mixture, source: Source, what: str, threshold: float | None = None, missing: bool = False) -> Any:
    """Values for every row: a NumPy array for rows in memory, else a lazy dask array, aligned with storage chunks."""
    check_features(mixture, source)
    prediction = Prediction(mixture, what, threshold, missing, source.dtype)
    if isinstance(source, ArraySource):
        values = np.empty((source.n, *prediction.columns), prediction.dtype)
        with one_thread():
            _data(source, prediction, Threads()).sums(Fill(prediction, values, source.name))
        return values
    if isinstance(source, DaskSource):
        columns = tuple((width,) for width in prediction.columns)
        shape = {"chunks": (source.array.chunks[0], *columns)} if columns else {"drop_axis": 1}
        meta = np.empty((0,) * (1 + len(prediction.columns)), prediction.dtype)
        return source.array.map_blocks(prediction.of, dtype=prediction.dtype, meta=meta, **shape)
    return _lazy(prediction, source)


def _data(source: Source, prediction: Prediction, executor: Executor) -> Data:
    return Data(source, make_plan(source.edges, source.d, prediction.block_rows), executor)


def _lazy(prediction: Prediction, source: Source) -> Any:
    """A dask array with one block a storage chunk (or several small ones together)."""
    plan = make_plan(source.edges, source.d, prediction.block_rows, part_bytes=8 << 20)
    name = f"gmmdask-{prediction.what}-{uuid.uuid4().hex[:12]}"
    tail = (0,) if prediction.columns else ()
    graph = {
        (name, part.index, *tail): Task(
            (name, part.index, *tail), predict_rows, prediction, source, part.start, part.stop
        )
        for part in plan.parts
    }
    chunks = (tuple(part.stop - part.start for part in plan.parts), *((k,) for k in prediction.columns))
    layers = HighLevelGraph.from_collections(name, graph, dependencies=[])
    return dask.array.Array(layers, name, chunks, dtype=prediction.dtype)


def predict_rows(prediction: Prediction, source: Source, start: int, stop: int) -> np.ndarray:
    """Values of rows [start, stop) of a stored source: a task of the lazy array."""
    pieces = [prediction.of(rows, source.name) for rows in source.read(start, stop)]
    return np.concatenate(pieces)


def total_score(mixture: Mixture, source: Source, executor: Executor, missing: bool = False) -> tuple[float, float]:
    """Σ w log p(x) over all rows, in nats, and W = Σ w; see `totals`."""
    total, weight = totals(mixture, source, executor, missing)
    return total, weight


def totals(
    mixture: Mixture, source: Source, executor: Executor, missing: bool = False, whats: tuple[str, ...] = ("score",)
) -> list[float]:
    """Σ w v over all rows of each value v, log densities by default (nats), and W = Σ w, by one pass.

    Raises
    ------
    DataError
        If a row holds infinity, or NaN that is no `missing` value, or no row has weight.
    """
    check_features(mixture, source)
    predictions = tuple(Prediction(mixture, what, missing=missing) for what in whats)
    with one_thread():
        found: list[float] = _data(source, predictions[0], executor).sums(Score(predictions, source.name)).tolist()
    if not found[-1]:
        raise no_weight(source)
    return found


@dataclass(frozen=True, eq=False)
class Score:
    """The work of a scoring pass: values of each prediction and weights add."""

    predictions: tuple[Prediction, ...]
    name: str

    def __call__(self, blocks: Iterable[Block]) -> np.ndarray:
        evaluate, found = Evaluator(self.predictions, self.name), np.zeros(len(self.predictions) + 1)
        for block in blocks:
            each, weights = evaluate(block), block.weights
            if weights is None:
                found += [*(values.sum() for values in each), len(block.rows)]
            else:
                found += [*(weights @ values for values in each), weights.sum()]
        return found


def reference_quantiles(mixture: Mixture, source: Source, executor: Executor, missing: bool = False) -> Quantiles:
    """Quantiles of the log densities of a source's rows: of all, or of a uniform sample of 100,000, by one pass.

    Raises
    ------
    DataError
        If a row holds infinity, or NaN that is no `missing` value.
    """
    check_features(mixture, source)
    prediction = Prediction(mixture, "score", missing=missing)
    with one_thread():
        sample = first_look(_data(source, prediction, executor), 0, REFERENCE_ROWS, 0, missing=missing).sample
        return Quantiles.of(prediction.of(sample, source.name))
