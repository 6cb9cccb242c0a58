"""The function of one task, and one pass over the data as a graph of such tasks."""

import uuid
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import numpy as np
from dask._task_spec import DataNode, List, Task, TaskRef

from gmmdask.execution import Executor, tree
from gmmdask.plan import Part, Plan, Slice
from gmmdask.sources import DataError, Source


@dataclass(frozen=True, eq=False)
class Block:
    """The rows (b, d) of one kernel call, their weights (b,) or None, and the number of the first.

    Rows follow one another in the data, but for those of a slice: then the number counts rows of the slice.
    """

    rows: np.ndarray
    weights: np.ndarray | None
    first_row: int


class Adds(Protocol):
    def __add__(self, other: Any, /) -> Any: ...


class Work(Protocol):
    """What a pass applies to the blocks of a part. Frozen, picklable, pure; owns its scratch memory for a task."""

    def __call__(self, blocks: Iterable[Block], /) -> Adds: ...


def cut_blocks(pieces: Iterable[np.ndarray], first_row: int, block_rows: int) -> Iterator[Block]:
    """Blocks of exactly `block_rows` rows (but the last) from a stream of arrays cut anywhere else.

    A block inside one array is a view of it; one that spans several is gathered.
    """
    held: list[np.ndarray] = []
    n_held = 0
    for piece in pieces:
        at = 0
        while len(piece) - at >= block_rows - n_held:
            take = block_rows - n_held
            rows = piece[at : at + take]
            yield Block(np.concatenate([*held, rows]) if held else rows, None, first_row)
            first_row, at = first_row + block_rows, at + take
            held, n_held = [], 0
        if at < len(piece):
            held.append(piece[at:])
            n_held += len(piece) - at
    if held:
        yield Block(np.concatenate(held) if len(held) > 1 else held[0], None, first_row)


Argument = Source | list[np.ndarray]  # what a task reads its part from: a source, or blocks of a dask array


def pieces_of(argument: Argument, part: Part) -> Iterable[np.ndarray]:
    if isinstance(argument, list):
        return argument
    pieces = argument.read(part.start, part.stop)
    return pieces if argument.in_memory else ahead(pieces)


def ahead(pieces: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same arrays; each is read by a thread while the one before is worked on."""
    with ThreadPoolExecutor(1, thread_name_prefix="gmmdask-read") as reader:
        following = reader.submit(next, pieces, None)
        while (piece := following.result()) is not None:
            following = reader.submit(next, pieces, None)
            yield piece


def run_task(argument: Argument | np.ndarray, piece: Slice, block_rows: int, work: Work) -> Any:
    """One task: reads a slice of a part and returns what `work` makes of it. Pure: it can be run again elsewhere."""
    first = piece.part.start
    pieces = [argument] if isinstance(argument, np.ndarray) else pieces_of(argument, piece.part)
    if piece.of > 1:
        pieces = every_row(pieces, piece.k, piece.of)
    return work(cut_blocks(pieces, first, block_rows))


def every_row(pieces: Iterable[np.ndarray], k: int, of: int) -> Iterator[np.ndarray]:
    """Every `of`-th row, from the k-th, of a stream of arrays."""
    for piece in pieces:
        if k < len(piece):
            yield piece[k::of]
        k = (k - len(piece)) % of


def read_part(argument: Argument, part: Part) -> np.ndarray:
    """All rows of a part (m, d), as stored, read and decoded once for several steps."""
    rows: np.ndarray | None = None
    at = 0
    for piece in pieces_of(argument, part):
        if rows is None:
            rows = np.empty((part.stop - part.start, piece.shape[1]), piece.dtype)
        rows[at : at + len(piece)] = piece
        at += len(piece)
    assert rows is not None
    return rows


@dataclass(frozen=True, eq=False)
class Data:
    """A source, the plan of its parts, and the executor that visits them; with `cache`, a part is read only once."""

    source: Source
    plan: Plan
    executor: Executor
    cache: bool = False
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    _passes: Iterator[int] = field(default_factory=count)
    _kept: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        source, most = self.source, self.executor.most_kept
        size = source.n * source.d * source.dtype.itemsize
        if source.in_memory and most is not None and size > most:
            raise DataError(
                f"{source.name}: {size:,} bytes of rows in this process would have to travel to {self.executor.name}, "
                f"which takes at most {most:,}. Store them as Zarr where workers can read them, and give the path."
            )

    def sums(self, work: Work, slices: Sequence[Slice] | None = None) -> Any:
        """One pass: `work` on every slice, added by a tree over the plan's part numbers.

        Parts that are asked for by slices stay decoded until others are: the next steps ask for their other slices.
        """
        run = f"{self.name}-{next(self._passes)}"  # with what follows "gmmdask-", the group that schedulers see
        pieces = self.plan.everything if slices is None else slices
        always = self.cache or self.source.in_memory
        self._keep(run, [piece.part for piece in pieces if piece.of > 1 or always], always)
        unread = any(piece.part.index not in self._kept for piece in pieces)
        graph: dict[Any, Any] = dict(self.source.graph) if unread else {}
        leaves: dict[int, list[Hashable]] = {}
        work_key = f"gmmdask-work-{run}"
        for piece in pieces:
            key = (f"gmmdask-part-{run}", piece.part.index, piece.k, piece.of)
            kept = piece.part.index in self._kept
            argument = self._kept[piece.part.index] if kept else self._argument(piece.part)
            # a task that reads goes to whichever worker is free, not to the one that happens to hold the work
            reads = not kept and isinstance(argument, Source)
            graph[key] = Task(
                key, run_task, argument, piece, self.plan.block_rows, TaskRef(work_key), _data_producer=reads
            )
            leaves.setdefault(piece.part.index, []).append(key)
        additions, root = tree(leaves, f"gmmdask-add-{run}")
        graph.update(additions)
        graph[work_key] = DataNode(work_key, work)
        return self.executor.get(graph, root)

    def _argument(self, part: Part) -> Any:
        argument = self.source.argument(part.start, part.stop)
        return List(*(TaskRef(key) for key in argument)) if isinstance(argument, list) else argument

    def _keep(self, run: str, parts: Iterable[Part], always: bool) -> None:
        """Keeps the rows of these parts where tasks run, and those of no other unless they are kept always."""
        wanted = {part.index: part for part in parts}
        if not always:
            for index in self._kept.keys() - wanted.keys():
                del self._kept[index]
        new = {(f"gmmdask-rows-{run}", index): part for index, part in wanted.items() if index not in self._kept}
        if not new:
            return
        graph: dict[Any, Any] = dict(self.source.graph)
        for key, part in new.items():
            argument = self._argument(part)
            in_memory = self.source.in_memory
            graph[key] = DataNode(key, argument) if in_memory else Task(key, read_part, argument, part)
        values = self.executor.keep(graph, list(new))
        self._kept.update(zip((part.index for part in new.values()), values, strict=True))
