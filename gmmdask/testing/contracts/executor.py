"""What every executor has to keep."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from dask._task_spec import Task

from gmmdask.estep import EStep, ESteps
from gmmdask.execution import Executor, Threads, one_thread
from gmmdask.pilot import Findings, Pilot
from gmmdask.plan import Part, Plan, Slice
from gmmdask.sources import ArraySource, Source
from gmmdask.storage import Entrusted
from gmmdask.task import Block, Data
from gmmdask.testing.passes import identity_frame
from gmmdask.testing.strategies import random_mixture

N, D = 650, 3


class TaskTrouble(Exception):
    """An error that no library knows."""


@dataclass(frozen=True)
class Stumble:
    """Work that fails on the block that begins at a row."""

    row: int

    def __call__(self, blocks: Iterable[Block]) -> int:
        for block in blocks:
            if block.first_row == self.row:
                raise TaskTrouble(f"stumbled over row {self.row}")
        return 1


def plan_of(n_parts: int, block_rows: int = 16) -> Plan:
    """A plan of N rows in parts of nearly equal size."""
    edges = np.linspace(0, N, n_parts + 1).astype(int)
    return Plan(tuple(Part(i, int(a), int(b)) for i, (a, b) in enumerate(pairwise(edges))), block_rows)


def some_rows() -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(11).normal(size=(N, D)) + 5


def findings_bytes(found: Findings) -> bytes:
    """All numbers of the pilot's findings."""
    arrays = (found.moments.mean, found.moments.scatter, found.sample.rows, found.sample.keys, found.sample.numbers)
    return b"".join(array.tobytes() for array in arrays)


def one_more(held: Entrusted) -> int:
    return int(held.value) + 1


class ExecutorTests:
    """A subclass has a fixture `executor`, entered."""

    works = (
        ESteps(((identity_frame(D), EStep(random_mixture(np.random.default_rng(1), "full", 3, D), "products")),), 16),
        ESteps(((identity_frame(D), EStep(random_mixture(np.random.default_rng(2), "tied", 2, D), "centred")),), 16),
    )
    pilot = Pilot(D, np.dtype(np.float64), seed=4, threshold=2**62)

    @pytest.fixture(autouse=True)
    def one_blas_thread(self) -> Iterator[None]:
        """As the driver of a fit has it."""
        with one_thread():
            yield

    def e_step_bytes(self, data: Data, slices: tuple[Slice, ...] | None = None) -> list[bytes]:
        return [data.sums(work, slices).items[0].vector.tobytes() for work in self.works]

    def test_what_was_delivered_is_where_tasks_run(self, executor: Executor) -> None:
        held = Entrusted(41)
        executor.deliver(held.parcel)
        assert executor.get({"value": Task("value", one_more, held)}, "value") == 42

    def test_it_knows_how_many_tasks_may_run_at_once(self, executor: Executor) -> None:
        assert executor.width >= max(1, executor.tasks_at_once)

    @pytest.mark.parametrize("n_parts", [1, 7, 8, 9, 65])
    def test_sums_have_the_bits_of_one_thread(self, executor: Executor, n_parts: int) -> None:
        plan, source = plan_of(n_parts), ArraySource(some_rows())
        here, there = Data(source, plan, Threads(1)), Data(source, plan, executor)
        assert self.e_step_bytes(there) == self.e_step_bytes(here)
        assert findings_bytes(there.sums(self.pilot)) == findings_bytes(here.sums(self.pilot))

    @pytest.mark.parametrize("layout", ["fortran", "strided", "float32"])
    def test_the_layout_in_memory_does_not_matter(self, executor: Executor, layout: str) -> None:
        rows = some_rows()
        wide = np.zeros((N, 2 * D))
        wide[:, ::2] = rows
        array = {"fortran": np.asfortranarray(rows), "strided": wide[:, ::2], "float32": rows.astype(np.float32)}[
            layout
        ]
        plan = plan_of(5)
        here, there = Data(ArraySource(array), plan, Threads(1)), Data(ArraySource(array), plan, executor)
        assert self.e_step_bytes(there) == self.e_step_bytes(here)
        assert findings_bytes(there.sums(self.pilot)) == findings_bytes(here.sums(self.pilot))

    def test_slices_have_the_bits_of_one_thread(self, executor: Executor) -> None:
        plan, source = plan_of(20), ArraySource(some_rows())
        slices = tuple(Slice(plan.parts[i], k=i % 2, of=2) for i in (1, 2, 9, 19))
        here, there = Data(source, plan, Threads(1)), Data(source, plan, executor)
        assert self.e_step_bytes(there, slices) == self.e_step_bytes(here, slices)

    @pytest.mark.parametrize("n_parts", [1, 9])
    def test_errors_of_tasks_come_through_as_themselves(self, executor: Executor, n_parts: int) -> None:
        source: Source = ArraySource(some_rows())
        plan = plan_of(n_parts)
        row = plan.parts[-1].start
        with pytest.raises(TaskTrouble, match=f"stumbled over row {row}"):
            Data(source, plan, executor).sums(Stumble(row))
        assert Data(source, plan, executor).sums(Stumble(-1)) == n_parts
