"""Labels, posteriors and log densities of rows, block by block, to NumPy, Dask or Zarr."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import dask.array
import numpy as np
import zarr
from dask._task_spec import Task
from dask.highlevelgraph import HighLevelGraph

from gmmdask.densities import LogJoint, check_features
from gmmdask.execution import Executor, Threads, one_thread
from gmmdask.frame import Frame
from gmmdask.kernels import block_rows, soft_assignment
from gmmdask.mixture import Mixture
from gmmdask.outputs import MARK, check_outputs, replacing
from gmmdask.plan import make_plan
from gmmdask.sources import ArraySource, Source, addresses, regular_edges
from gmmdask.sources.dask import DaskSource
from gmmdask.task import Block, Data, cut_blocks

WHATS = ("labels", "proba", "score")


@dataclass(frozen=True, eq=False)
class Prediction:
    """What of a mixture (in data units) is wanted for each row.

    Parameters
    ----------
    what : {"labels", "proba", "score"}
        Most probable component, posterior probabilities (K,), or log density in nats.
    """

    mixture: Mixture
    what: str

    @cached_property
    def frame(self) -> Frame:
        """The frame that suits the mixture itself: predictions must not depend on which rows are asked for."""
        return Frame.of(self.mixture.family, *self.mixture.moments())

    @property
    def columns(self) -> tuple[int, ...]:
        return (self.mixture.n_components,) if self.what == "proba" else ()

    @property
    def block_rows(self) -> int:
        return block_rows(self.mixture.family, self.mixture.d, self.mixture.n_components)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.int64 if self.what == "labels" else np.float64)

    def of(self, rows: np.ndarray, name: str = "the array") -> np.ndarray:
        """Values (m,) or (m, K) of rows (m, d) in memory."""
        values, evaluate = np.empty((len(rows), *self.columns), self.dtype), Evaluator(self, name)
        for block in cut_blocks([rows], 0, self.block_rows):
            values[block.first_row : block.first_row + len(block.rows)] = evaluate(block)
        return values


class Evaluator:
    """A prediction with the scratch memory of one task."""

    def __init__(self, prediction: Prediction, name: str) -> None:
        frame = prediction.frame
        self.what, self.log_det = prediction.what, frame.log_det
        self.log_joint = LogJoint(frame, frame.mixture_in(prediction.mixture), prediction.block_rows, name)

    def __call__(self, block: Block) -> np.ndarray:
        """Values (b,) or (b, K) of a block; they are overwritten by the next call."""
        _, joint = self.log_joint(block)
        if self.what == "labels":
            return joint.argmax(axis=0)
        log_density = soft_assignment(joint)
        return joint.T if self.what == "proba" else log_density + self.log_det


class Sink(Protocol):
    """Takes the values of a part in the order of its rows."""

    def put(self, first_row: int, values: np.ndarray) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, eq=False)
class ArrayTarget:
    """An array of this process."""

    array: np.ndarray

    def open(self) -> "ArrayTarget":
        return self

    def put(self, first_row: int, values: np.ndarray) -> None:
        self.array[first_row : first_row + len(values)] = values

    def close(self) -> None:
        """Nothing is held back."""


@dataclass(frozen=True)
class ZarrTarget:
    """A Zarr array, by its address: it travels to workers."""

    path: str

    def open(self) -> "ZarrSink":
        # the setting is an open array's, not the store's: without it, a chunk of zeros would be left out
        return ZarrSink(zarr.open_array(self.path, mode="r+").with_config({"write_empty_chunks": True}))


class ZarrSink:
    """Gathers whole chunks before it writes: parts begin on chunk borders, so no two tasks share one."""

    def __init__(self, array: Any) -> None:
        self.array, self.first = array, -1
        self.held: list[np.ndarray] = []

    def put(self, first_row: int, values: np.ndarray) -> None:
        if not self.held:
            self.first = first_row
        self.held.append(np.array(values, self.array.dtype))
        if sum(map(len, self.held)) >= self.array.chunks[0]:
            rows = np.concatenate(self.held)
            whole = len(rows) - len(rows) % self.array.chunks[0]
            self.array[self.first : self.first + whole] = rows[:whole]
            self.first, self.held = self.first + whole, [rows[whole:]] if whole < len(rows) else []

    def close(self) -> None:
        if self.held:
            rows = np.concatenate(self.held)
            self.array[self.first : self.first + len(rows)] = rows


@dataclass(frozen=True, eq=False)
class Write:
    """The work of a predicting pass: values go to their targets, and the number of rows adds."""

    outputs: tuple[tuple[Prediction, ArrayTarget | ZarrTarget], ...]
    name: str

    def __call__(self, blocks: Iterable[Block]) -> int:
        held = [(Evaluator(prediction, self.name), target.open()) for prediction, target in self.outputs]
        count = 0
        for block in blocks:
            count += len(block.rows)
            for evaluate, sink in held:
                sink.put(block.first_row, evaluate(block))
        for _, sink in held:
            sink.close()
        return count


def predict(mixture: Mixture, source: Source, what: str) -> Any:
    """Values for every row: a NumPy array for rows in memory, else a lazy dask array, aligned with storage chunks."""
    check_features(mixture, source)
    prediction = Prediction(mixture, what)
    if isinstance(source, ArraySource):
        values = np.empty((source.n, *prediction.columns), prediction.dtype)
        _pass(source, Write(((prediction, ArrayTarget(values)),), source.name), prediction, Threads())
        return values
    if isinstance(source, DaskSource):
        shape = {"chunks": (source.array.chunks[0], (mixture.n_components,))} if what == "proba" else {"drop_axis": 1}
        meta = np.empty((0,) * (1 + len(prediction.columns)), prediction.dtype)
        return source.array.map_blocks(prediction.of, dtype=prediction.dtype, meta=meta, **shape)
    return _lazy(prediction, source)


def _pass(
    source: Source, work: Write, prediction: Prediction, executor: Executor, edges: np.ndarray | None = None
) -> int:
    plan = make_plan(source.edges if edges is None else edges, source.d, prediction.block_rows)
    with one_thread():
        count: int = Data(source, plan, executor).sums(work)
    return count


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


def write_predictions(
    mixture: Mixture, source: Source, path: str | Path, whats: tuple[str, ...], executor: Executor, overwrite: bool
) -> None:
    """Writes a Zarr group with one array for each of `whats`, chunk by chunk, aligned with the source's chunks.

    Where reads may begin at any row, chunks of unequal size (Parquet's row groups) become equal ones.

    Raises
    ------
    OutputError
        If something is at `path` and `overwrite` is false, or if it is where the rows are.
    """
    check_features(mixture, source)
    check_outputs([path], overwrite, inputs=addresses(source), folders=True)
    edges = regular_edges(source.n, source.chunk_rows) if source.divisible else source.edges
    with replacing([path]) as (place,):
        zarr.open_group(str(place), mode="w", attributes={MARK: {"what": list(whats)}})
        predictions = [Prediction(mixture, what) for what in whats]
        for prediction in predictions:
            _create(str(place / prediction.what), edges, prediction)
        outputs = tuple((prediction, ZarrTarget(str(place / prediction.what))) for prediction in predictions)
        _pass(source, Write(outputs, source.name), predictions[0], executor, edges)


def _create(path: str, edges: np.ndarray, prediction: Prediction) -> None:
    k = prediction.mixture.n_components
    dtype: Any = np.min_scalar_type(k - 1) if prediction.what == "labels" else np.float64
    zarr.create_array(
        path,
        shape=(int(edges[-1]), *prediction.columns),
        chunks=(int(np.gcd.reduce(edges[1:-1])) or int(edges[-1]), *prediction.columns),
        dtype=dtype,
        config={"write_empty_chunks": True},
    )


def total_score(mixture: Mixture, source: Source, executor: Executor) -> float:
    """Σ log p(x) over all rows, in nats, by one pass.

    Raises
    ------
    DataError
        If a row holds NaN or infinity.
    """
    check_features(mixture, source)
    prediction = Prediction(mixture, "score")
    plan = make_plan(source.edges, source.d, prediction.block_rows)
    with one_thread():
        total: float = Data(source, plan, executor).sums(Score(prediction, source.name))
    return total


@dataclass(frozen=True, eq=False)
class Score:
    """The work of a scoring pass: log densities add."""

    prediction: Prediction
    name: str

    def __call__(self, blocks: Iterable[Block]) -> float:
        evaluate = Evaluator(self.prediction, self.name)
        return float(sum(evaluate(block).sum() for block in blocks))
