"""The function of one task, and one pass over the data as a graph of such tasks."""

import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Protocol

import numpy as np
from dask._task_spec import DataNode, List, Task, TaskRef

from gmmdask.execution import Executor, tree
from gmmdask.plan import Part, Plan, Slice
from gmmdask.sources import DataError, Source
from gmmdask.sources.weights import checked_weights, covering


@dataclass(frozen=True, eq=False)
class Block:
    """The rows (b, d) of one kernel call, their weights (b,) or None, and the number of the first.

    Rows follow one another in the data, but for those of a slice: then the number counts rows of the slice. Weights are
    above zero: rows without weight were left out, and `kept` says which of those from `first_row` on are here.
    """

    rows: np.ndarray
    weights: np.ndarray | None
    first_row: int
    kept: np.ndarray | None = None

    @property
    def numbers(self) -> np.ndarray:
        """Of the rows, (b,)."""
        return self.first_row + (np.arange(len(self.rows)) if self.kept is None else self.kept)


class Adds(Protocol):
    def __add__(self, other: Any, /) -> Any: ...


class Work(Protocol):
    """What a pass applies to the blocks of a part. Frozen, picklable, pure; owns its scratch memory for a task."""

    def __call__(self, blocks: Iterable[Block], /) -> Adds: ...


def cut_blocks(
    pieces: Iterable[np.ndarray], first_row: int, block_rows: int, weights: Iterable[np.ndarray] | None = None
) -> Iterator[Block]:
    """Blocks of `block_rows` rows (but the last) from a stream of arrays cut anywhere else.

    With a stream of weights, cut in its own way, rows of weight zero are left out.
    """
    if weights is None:
        for rows in cut(pieces, block_rows):
            yield Block(rows, None, first_row)
            first_row += len(rows)
        return
    for rows, each in zip(cut(pieces, block_rows), cut(weights, block_rows), strict=True):
        given = np.require(each, requirements=["C", "A"])  # sums have other bits where steps or addresses are odd
        if given.all():
            yield Block(rows, given, first_row)
        elif len(kept := np.flatnonzero(given)):
            yield Block(rows[kept], given[kept], first_row, kept)
        first_row += len(rows)


def cut(pieces: Iterable[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """Arrays of exactly this length (but the last) from a stream of arrays cut anywhere else.

    One that lies inside an array of the stream is a view of it; one that spans several is gathered.
    """
    held: list[np.ndarray] = []
    n_held = 0
    for piece in pieces:
        at = 0
        while len(piece) - at >= length - n_held:
            take = length - n_held
            rows = piece[at : at + take]
            yield np.concatenate([*held, rows]) if held else rows
            at += take
            held, n_held = [], 0
        if at < len(piece):
            held.append(piece[at:])
            n_held += len(piece) - at
    if held:
        yield np.concatenate(held) if len(held) > 1 else held[0]


Argument = Source | list[np.ndarray] | np.ndarray  # what a task reads from: a source, blocks of a dask array, rows


def pieces_of(argument: Argument, part: Part) -> Iterable[np.ndarray]:
    if isinstance(argument, list | np.ndarray):
        return [argument] if isinstance(argument, np.ndarray) else argument
    pieces = argument.read(part.start, part.stop)
    return pieces if argument.in_memory else ahead(pieces)


def ahead(pieces: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same arrays; each is read by a thread while the one before is worked on."""
    with ThreadPoolExecutor(1, thread_name_prefix="gmmdask-read") as reader:
        following = reader.submit(next, pieces, None)
        while (piece := following.result()) is not None:
            following = reader.submit(next, pieces, None)
            yield piece


@dataclass(frozen=True)
class Weighing:
    """How a task reads the weights of its rows: of which rows they are given, their unit, and what they are called."""

    given: Part
    unit: float
    name: str

    def read(self, argument: Argument, part: Part) -> Iterator[np.ndarray]:
        """Weights (m,) of the rows of a part, piece by piece; DataError if they are no weights."""
        at = part.start
        for piece in within(pieces_of(argument, self.given), self.given.start, part):
            weights = checked_weights(piece[:, 0], at, self.name)
            yield weights if self.unit == 1 else weights * self.unit
            at += len(piece)


def run_task(
    argument: Argument,
    piece: Slice,
    block_rows: int,
    work: Work,
    weights: Argument | None = None,
    weighing: Weighing | None = None,
) -> Any:
    """One task: reads a slice of a part and returns what `work` makes of it. Pure: it can be run again elsewhere."""
    streams = [pieces_of(argument, piece.part)]
    if weights is not None and weighing is not None:
        streams.append(weighing.read(weights, piece.part))
    if piece.of > 1:
        streams = [every_row(pieces, piece.k, piece.of) for pieces in streams]
    return work(cut_blocks(streams[0], piece.part.start, block_rows, *streams[1:]))


def every_row(pieces: Iterable[np.ndarray], k: int, of: int) -> Iterator[np.ndarray]:
    """Every `of`-th row, from the k-th, of a stream of arrays."""
    for piece in pieces:
        if k < len(piece):
            yield piece[k::of]
        k = (k - len(piece)) % of


def within(pieces: Iterable[np.ndarray], first: int, part: Part) -> Iterator[np.ndarray]:
    """The rows of a part from a stream of arrays that begins at row `first`."""
    for piece in pieces:
        low, high = max(part.start - first, 0), min(part.stop - first, len(piece))
        if low < high:
            yield piece[low:high]
        first += len(piece)


def read_part(argument: Argument, part: Part, given: Part) -> np.ndarray:
    """All rows of a part (m, d), as stored, read and decoded once for several steps, from what holds `given`."""
    rows: np.ndarray | None = None
    at = 0
    for piece in within(pieces_of(argument, given), given.start, part):
        if rows is None:
            rows = np.empty((part.stop - part.start, piece.shape[1]), piece.dtype)
        rows[at : at + len(piece)] = piece
        at += len(piece)
    assert rows is not None
    return rows


@dataclass(frozen=True, eq=False)
class Input:
    """What tasks read, rows or weights: from a source, or from what is kept of it where tasks run.

    `whole` says that parts are whole chunks of the source.
    """

    name: str
    source: Source
    whole: bool
    kept: dict[int, Any] = field(default_factory=dict)

    def given(self, part: Part) -> Part:
        """The rows that `argument` gives of a part: at least its own."""
        if self.whole or self.source.in_memory or part.index in self.kept:
            return part
        start, stop = covering(self.source, part.start, part.stop)
        return replace(part, start=start, stop=stop)

    def argument(self, part: Part) -> Any:
        if part.index in self.kept:
            return self.kept[part.index]
        given = self.given(part)
        argument = self.source.argument(given.start, given.stop)
        return List(*(TaskRef(key) for key in argument)) if isinstance(argument, list) else argument

    def graph(self, parts: Iterable[Part]) -> dict[Any, Any]:
        """Tasks that have to run before these parts can be read."""
        return dict(self.source.graph) if any(part.index not in self.kept for part in parts) else {}

    def keep(self, run: str, parts: Iterable[Part], always: bool, executor: Executor) -> None:
        """Keeps the rows of these parts where tasks run, and those of no other unless they are kept always."""
        always = always or self.source.in_memory
        wanted = {part.index: part for part in parts}
        if not always:
            for index in self.kept.keys() - wanted.keys():
                del self.kept[index]
        new = {(f"gmmdask-{self.name}-{run}", index): part for index, part in wanted.items() if index not in self.kept}
        if not new:
            return
        graph: dict[Any, Any] = dict(self.source.graph)
        for key, part in new.items():
            argument, given = self.argument(part), self.given(part)
            in_memory = self.source.in_memory
            graph[key] = DataNode(key, argument) if in_memory else Task(key, read_part, argument, part, given)
        values = executor.keep(graph, list(new))
        self.kept.update(zip((part.index for part in new.values()), values, strict=True))


@dataclass(frozen=True, eq=False)
class Data:
    """A source, the plan of its parts, and the executor that visits them; with `cache`, a part is read only once.

    `unit` is what the weights of the source's rows are multiplied with. `view` wraps the work of a pass: it may leave
    rows out.
    """

    source: Source
    plan: Plan
    executor: Executor
    cache: bool = False
    unit: float = 1.0
    view: Callable[[Work], Work] | None = None
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    _passes: Iterator[int] = field(default_factory=count)
    _inputs: list[Input] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self._inputs:
            return  # those of the data that these are another view of
        self._inputs.append(Input("rows", self.source, whole=True))
        if self.source.weights is not None:
            self._inputs.append(Input("weights", self.source.weights, whole=False))
        most = self.executor.most_kept
        for part in self._inputs:
            source = part.source
            if source.entrusted is not None:
                self.executor.deliver(source.entrusted.parcel)
            size = source.n * source.d * source.dtype.itemsize
            if source.in_memory and most is not None and size > most:
                raise DataError(
                    f"{source.name}: {size:,} bytes of {part.name} in this process would have to travel to "
                    f"{self.executor.name}, which takes at most {most:,}. Store them as Zarr where workers can read "
                    "them, and give the path."
                )

    def in_unit(self, unit: float) -> "Data":
        """The same data, and what is kept of them, with weights in another unit."""
        return replace(self, unit=unit)

    def sums(self, work: Work, slices: Sequence[Slice] | None = None) -> Any:
        """One pass: `work` on every slice, added by a tree over the plan's part numbers.

        Parts that are asked for by slices stay decoded until others are: the next steps ask for their other slices.
        """
        run = f"{self.name}-{next(self._passes)}"  # with what follows "gmmdask-", the group that schedulers see
        pieces = self.plan.everything if slices is None else slices
        graph: dict[Any, Any] = {}
        for read in self._inputs:
            always = self.cache or read.source.in_memory
            read.keep(run, [piece.part for piece in pieces if piece.of > 1 or always], self.cache, self.executor)
            graph.update(read.graph(piece.part for piece in pieces))
        leaves: dict[int, list[Hashable]] = {}
        work_key = f"gmmdask-work-{run}"
        for piece in pieces:
            key = (f"gmmdask-part-{run}", piece.part.index, piece.k, piece.of)
            rows, *weights = (read.argument(piece.part) for read in self._inputs)
            how = (Weighing(read.given(piece.part), self.unit, read.source.name) for read in self._inputs[1:])
            # a task that reads goes to whichever worker is free, not to the one that happens to hold the work
            reads = piece.part.index not in self._inputs[0].kept and isinstance(rows, Source)
            told = (rows, piece, self.plan.block_rows, TaskRef(work_key), *weights, *how)
            graph[key] = Task(key, run_task, *told, _data_producer=reads)
            leaves.setdefault(piece.part.index, []).append(key)
        additions, root = tree(leaves, f"gmmdask-add-{run}")
        graph.update(additions)
        graph[work_key] = DataNode(work_key, work if self.view is None else self.view(work))
        return self.executor.get(graph, root)
