"""Predictions written to Zarr chunk by chunk; a run that was interrupted is gone on with where it stopped."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from gmmdask.densities import check_features
from gmmdask.estep import peak_bytes
from gmmdask.execution import Executor, one_thread
from gmmdask.forecast import check_rooms
from gmmdask.kernels import MISSING
from gmmdask.mixture import Mixture
from gmmdask.outcome import Callback, RowsWritten, StartedOver
from gmmdask.outputs import MARK, OutputError, check_group, header_of, marker_of, partial_place, put_in_place, remove
from gmmdask.place import Place, PlaceError, reaching
from gmmdask.plan import Plan, Slice, make_plan
from gmmdask.predict import Evaluator, Prediction
from gmmdask.record import versions
from gmmdask.sources import Source, addresses, regular_edges
from gmmdask.sources.zarr import chunk_finder
from gmmdask.storage import patiently
from gmmdask.task import Block, Data

RUN = "predict"  # what its events are of
COPIES = 4  # of a chunk of values: held, joined, cut off, encoded
PASSES, LEAST_PARTS = 50, 4  # about so many passes, of at least so many parts for each task that runs beside others


class Sink:
    """Takes the values of a part in the order of its rows, and writes whole chunks: no two tasks share one.

    Parameters
    ----------
    place : of a Zarr array: an address, which travels to workers.
    """

    def __init__(self, place: Place) -> None:
        # the setting is an open array's, not the store's: without it, a chunk of zeros would be left out
        self.place, self.array = place, open_array(place, "r+").with_config({"write_empty_chunks": True})
        self.first = -1
        self.held: list[np.ndarray] = []

    def put(self, first_row: int, values: np.ndarray) -> None:
        if not self.held:
            self.first = first_row
        self.held.append(np.array(values, self.array.dtype))
        if sum(map(len, self.held)) >= self.array.chunks[0]:
            rows = np.concatenate(self.held)
            whole = len(rows) - len(rows) % self.array.chunks[0]
            self._write(rows[:whole])
            self.first, self.held = self.first + whole, [rows[whole:]] if whole < len(rows) else []

    def close(self) -> None:
        if self.held:
            self._write(np.concatenate(self.held))

    def _write(self, rows: np.ndarray) -> None:
        def put() -> None:
            self.array[self.first : self.first + len(rows)] = rows

        if self.place.local is not None:
            put()
            return
        with reaching(self.place):
            patiently(put, f"{self.place}: rows {self.first} to {self.first + len(rows) - 1}", done="written")


@dataclass(frozen=True, eq=False)
class Write:
    """The work of a pass: values go to Zarr arrays of the predictions' names in `folder`, and row counts add."""

    predictions: tuple[Prediction, ...]
    folder: Place
    name: str

    def __call__(self, blocks: Iterable[Block]) -> int:
        evaluate = Evaluator(self.predictions, self.name)
        sinks = [Sink(self.folder.below(prediction.what)) for prediction in self.predictions]
        count = 0
        for block in blocks:
            count += len(block.rows)
            for sink, values in zip(sinks, evaluate(block), strict=True):
                sink.put(block.first_row, values)
        for sink in sinks:
            sink.close()
        return count


@dataclass(frozen=True, eq=False)
class Writing:
    """How predictions are written, made before anything is read.

    Parameters
    ----------
    edges : (c + 1,) row numbers at which chunks of the arrays begin, where they are as long as the source's; and n.
    task : bytes of a task at most.
    """

    predictions: tuple[Prediction, ...]
    edges: np.ndarray
    plan: Plan
    task: int

    @property
    def chunk(self) -> int:
        """Rows of a chunk of the arrays."""
        return int(np.gcd.reduce(self.edges[1:-1])) or int(self.edges[-1])


def plan_writing(
    mixture: Mixture, source: Source, whats: tuple[str, ...], threshold: float | None = None, missing: bool = False
) -> Writing:
    """The plan of predictions of these kinds, and the memory of a task."""
    predictions = tuple(Prediction(mixture, what, threshold, missing, source.dtype) for what in whats)
    edges = regular_edges(source.n, source.chunk_rows) if source.divisible else source.edges
    plan = make_plan(edges, source.d, predictions[0].block_rows)
    writing = Writing(predictions, edges, plan, 0)
    k, d, rows = mixture.n_components, source.d, plan.block_rows
    reading = max(source.read_bytes(part.start, part.stop) for part in plan.parts)
    width = sum(8 * prod(prediction.columns) for prediction in predictions)
    kernel = MISSING if any(prediction.gaps for prediction in predictions) else "products"
    held = COPIES * width * min(writing.chunk + rows, source.n)
    return replace(writing, task=reading + 16 * rows * d + peak_bytes(mixture.family, k, d, rows, kernel=kernel) + held)


def write_predictions(
    mixture: Mixture,
    source: Source,
    path: str | Path | Place,
    whats: tuple[str, ...],
    executor: Executor,
    overwrite: bool,
    *,
    threshold: float | None = None,
    missing: bool = False,
    resume: bool = False,
    emit: Callback = lambda event: None,
) -> None:
    """Writes a Zarr group with one array for each of `whats`, chunk by chunk, aligned with the source's chunks.

    Where reads may begin at any row, chunks of unequal size (Parquet's row groups) become equal ones. What an
    interrupted run has written stays in a hidden folder beside `path`.

    Parameters
    ----------
    path : of the group, or its URL.
    threshold : log density below which a row is an "outlier", if these are wanted.
    missing : whether NaN is a missing value.
    resume : whether what an interrupted run has left is gone on with: finished chunks are not computed again.
    emit : receives `RowsWritten`, and `StartedOver` where `resume` finds what belongs to other data, another mixture...

    Raises
    ------
    OutputError
        If something is at `path` and `overwrite` is false, or if it is where the rows are; or if an interrupted run
        has left something, and neither `resume` nor `overwrite` says what to do with it.
    DataError
        If a worker may take less memory than its tasks will.
    """
    check_features(mixture, source)
    target = Place(path)
    told = {"data": source.fingerprint(), "mixture": mixture.digest, "threshold": threshold, "versions": versions()}
    marker = json.loads(json.dumps({"what": list(whats), **told, **({"missing": "em"} if missing else {})}))
    if resume and marker_of(target) == marker:
        return  # it was completed before
    moving = resume and not header_of(target) and marker_of(partial_place(target)[0]) == marker  # to a URL, perhaps
    if target.local is not None or not moving:
        check_group(target, overwrite, addresses(source))
    writing = plan_writing(mixture, source, whats, threshold, missing)
    check_rooms(source, executor, writing.task)
    executor.planned = writing.task
    if target.entrusted is not None:
        executor.deliver(target.entrusted.parcel)
    with kept_beside(target, marker, overwrite, resume, emit) as place:
        arrays = [opened(place.below(prediction.what), writing, prediction) for prediction in writing.predictions]
        todo = unfinished(writing.plan, writing.edges, arrays)
        data = Data(source, writing.plan, executor)
        with one_thread():
            progress = Progress(source.n, todo, emit)
            for slices in in_passes(todo, source, executor.width):
                progress.add(data.sums(Write(writing.predictions, place, source.name), slices))


@contextmanager
def kept_beside(target: Place, marker: Any, overwrite: bool, resume: bool, emit: Callback) -> Iterator[Place]:
    """A place beside `target` for a Zarr group with this marker, which takes the place of `target` when it is complete.

    If the block fails over the data, all is removed; otherwise it is kept for another run.
    """
    place, beside = partial_place(target)
    if beside.exists():
        if not (resume or overwrite):
            raise OutputError(
                f"{target}: an interrupted run, or one that is still under way, has left {beside}. Go on with it by "
                "resume=True (--resume), or remove it by overwrite=True (--overwrite)."
            )
        found = marker_of(place) or {}
        different = [name for name in marker if found.get(name) != marker[name]]
        if different or not resume:
            if resume:
                what = "other " + ", ".join(different) if found else "nothing that can be gone on with"
                emit(StartedOver(RUN, f"{beside} holds {what}. It was removed."))
            remove(beside)
    if not place.exists():
        with reaching(place):
            zarr.open_group(str(place), mode="w", attributes={MARK: marker}, storage_options=place.options)
    try:
        yield place
        put_in_place(place, target)
    except BaseException as error:
        if isinstance(error, ValueError | TypeError) and not isinstance(error, PlaceError):
            with suppress(OSError):
                remove(beside)
        else:
            error.add_note(f"What was written is kept in {beside}: --resume goes on from it.")
        raise
    with suppress(OSError):
        remove(beside)


def open_array(place: Place, mode: Any) -> "zarr.Array[Any]":
    """The array at a place."""
    with reaching(place):
        return patiently(
            lambda: zarr.open_array(str(place), mode=mode, storage_options=place.options), str(place), done="opened"
        )


def opened(place: Place, writing: Writing, prediction: Prediction) -> "zarr.Array[Any]":
    """The array of a prediction: as an interrupted run has left it, or a new one."""
    if header_of(place):
        return open_array(place, "r")
    with reaching(place):
        return zarr.create_array(
            str(place),
            shape=(int(writing.edges[-1]), *prediction.columns),
            chunks=(writing.chunk, *prediction.columns),
            dtype=prediction.mixture.label_dtype if prediction.what == "labels" else prediction.dtype,
            config={"write_empty_chunks": True},
            storage_options=place.options,
        )


def unfinished(plan: Plan, edges: np.ndarray, arrays: Sequence["zarr.Array[Any]"]) -> tuple[Slice, ...]:
    """The parts of a plan without what is there: from the first chunk that is missing in an array to the last one."""
    chunk = int(arrays[0].chunks[0])
    keys = [(array.metadata.encode_chunk_key, chunk_finder(array), array.ndim - 1) for array in arrays]
    missing = np.array(
        [not all(stored(key((i, *[0] * more))) for key, stored, more in keys) for i in range(-(-plan.n // chunk))]
    )
    todo = []
    for part in plan.parts:
        first = part.start // chunk
        gone = first + np.flatnonzero(missing[first : -(-part.stop // chunk)])
        if len(gone):  # reads begin and end where chunks of the source do
            start = edges[np.searchsorted(edges, gone[0] * chunk, side="right") - 1]
            stop = edges[np.searchsorted(edges, min((gone[-1] + 1) * chunk, plan.n))]
            todo.append(Slice(replace(part, start=int(start), stop=int(stop))))
    return tuple(todo)


def in_passes(todo: Sequence[Slice], source: Source, width: int) -> Iterator[Sequence[Slice]]:
    """Slices for one pass after another, so that progress can be told; all at once where tasks share a graph.

    Parameters
    ----------
    width : tasks that run at the same time; between passes some of them wait for the last.
    """
    step = max(LEAST_PARTS * width, len(todo) if source.graph else -(-len(todo) // PASSES))
    for at in range(0, len(todo), step):
        yield todo[at : at + step]


class Progress:
    """Tells how many rows are written."""

    def __init__(self, total: int, todo: Sequence[Slice], emit: Callback) -> None:
        self.total, self.emit, self.began = total, emit, time.perf_counter()
        self.rows = self.before = total - sum(piece.part.stop - piece.part.start for piece in todo)

    def add(self, rows: int) -> None:
        self.rows += rows
        self.emit(RowsWritten(RUN, self.rows, self.total, self.before, time.perf_counter() - self.began))
