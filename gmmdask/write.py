"""Predictions written to Zarr chunk by chunk; a run that was interrupted is gone on with where it stopped."""

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from gmmdask.densities import check_features
from gmmdask.execution import Executor, one_thread
from gmmdask.mixture import Mixture
from gmmdask.outcome import Callback, RowsWritten, StartedOver
from gmmdask.outputs import MARK, OutputError, check_outputs, marker_of, partial_place
from gmmdask.outputs import replace as put_in_place
from gmmdask.plan import Plan, Slice, make_plan
from gmmdask.predict import Evaluator, Prediction
from gmmdask.record import versions
from gmmdask.sources import Source, addresses, regular_edges
from gmmdask.sources.zarr import chunk_finder
from gmmdask.task import Block, Data

RUN = "predict"  # what its events are of
PASSES, LEAST_PARTS = 50, 4  # about so many passes, of at least so many parts for each task that runs beside others


class Sink:
    """Takes the values of a part in the order of its rows, and writes whole chunks: no two tasks share one.

    Parameters
    ----------
    path : of a Zarr array: an address, which travels to workers.
    """

    def __init__(self, path: str) -> None:
        # the setting is an open array's, not the store's: without it, a chunk of zeros would be left out
        self.array = zarr.open_array(path, mode="r+").with_config({"write_empty_chunks": True})
        self.first = -1
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
    """The work of a pass: values go to Zarr arrays of the predictions' names below `folder`, and row counts add."""

    predictions: tuple[Prediction, ...]
    folder: str
    name: str

    def __call__(self, blocks: Iterable[Block]) -> int:
        evaluate = Evaluator(self.predictions, self.name)
        sinks = [Sink(f"{self.folder}/{prediction.what}") for prediction in self.predictions]
        count = 0
        for block in blocks:
            count += len(block.rows)
            for sink, values in zip(sinks, evaluate(block), strict=True):
                sink.put(block.first_row, values)
        for sink in sinks:
            sink.close()
        return count


def write_predictions(
    mixture: Mixture,
    source: Source,
    path: str | Path,
    whats: tuple[str, ...],
    executor: Executor,
    overwrite: bool,
    *,
    threshold: float | None = None,
    resume: bool = False,
    emit: Callback = lambda event: None,
) -> None:
    """Writes a Zarr group with one array for each of `whats`, chunk by chunk, aligned with the source's chunks.

    Where reads may begin at any row, chunks of unequal size (Parquet's row groups) become equal ones. What an
    interrupted run has written stays in a hidden folder beside `path`.

    Parameters
    ----------
    threshold : log density below which a row is an "outlier", if these are wanted.
    resume : whether what an interrupted run has left is gone on with: finished chunks are not computed again.
    emit : receives `RowsWritten`, and `StartedOver` where `resume` finds what belongs to other data, another mixture...

    Raises
    ------
    OutputError
        If something is at `path` and `overwrite` is false, or if it is where the rows are; or if an interrupted run
        has left something, and neither `resume` nor `overwrite` says what to do with it.
    """
    check_features(mixture, source)
    told = {"data": source.fingerprint(), "mixture": mixture.digest, "threshold": threshold, "versions": versions()}
    marker = json.loads(json.dumps({"what": list(whats), **told}))
    if resume and marker_of(Path(path)) == marker:
        return  # it was completed before
    check_outputs([path], overwrite, inputs=addresses(source), folders=True)
    predictions = tuple(Prediction(mixture, what, threshold) for what in whats)
    edges = regular_edges(source.n, source.chunk_rows) if source.divisible else source.edges
    plan = make_plan(edges, source.d, predictions[0].block_rows)
    with kept_beside(path, marker, overwrite, resume, emit) as place:
        arrays = [opened(place / prediction.what, edges, prediction) for prediction in predictions]
        todo = unfinished(plan, edges, arrays)
        data = Data(source, plan, executor)
        with one_thread():
            progress = Progress(source.n, todo, emit)
            for slices in in_passes(todo, source, executor.width):
                progress.add(data.sums(Write(predictions, str(place), source.name), slices))


@contextmanager
def kept_beside(path: str | Path, marker: Any, overwrite: bool, resume: bool, emit: Callback) -> Iterator[Path]:
    """A place beside `path` for a Zarr group with this marker, which takes the place of `path` when it is complete.

    If the block fails over the data, all is removed; otherwise it is kept for another run.
    """
    place = partial_place(path)
    beside = place.parent
    if beside.exists():
        if not (resume or overwrite):
            raise OutputError(
                f"{path}: an interrupted run, or one that is still under way, has left {beside}. Go on with it by "
                "resume=True (--resume), or remove it by overwrite=True (--overwrite)."
            )
        found = marker_of(place) or {}
        different = [name for name in marker if found.get(name) != marker[name]]
        if different or not resume:
            if resume:
                what = "other " + ", ".join(different) if found else "nothing that can be gone on with"
                emit(StartedOver(RUN, f"{beside} holds {what}. It was removed."))
            shutil.rmtree(beside)
    if not place.exists():
        beside.mkdir(exist_ok=True)
        zarr.open_group(str(place), mode="w", attributes={MARK: marker})
    try:
        yield place
        for stray in place.rglob("*.partial"):  # a write that was killed
            stray.unlink()
        put_in_place(place, Path(path).resolve())
    except (ValueError, TypeError):
        shutil.rmtree(beside, ignore_errors=True)
        raise
    except BaseException as error:
        error.add_note(f"What was written is kept in {beside}: --resume goes on from it.")
        raise
    shutil.rmtree(beside, ignore_errors=True)


def opened(place: Path, edges: np.ndarray, prediction: Prediction) -> "zarr.Array[Any]":
    """The array of a prediction: as an interrupted run has left it, or a new one."""
    if (place / "zarr.json").exists():
        return zarr.open_array(str(place), mode="r")
    k = prediction.mixture.n_components
    return zarr.create_array(
        str(place),
        shape=(int(edges[-1]), *prediction.columns),
        chunks=(int(np.gcd.reduce(edges[1:-1])) or int(edges[-1]), *prediction.columns),
        dtype=np.min_scalar_type(k - 1) if prediction.what == "labels" else prediction.dtype,
        config={"write_empty_chunks": True},
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
