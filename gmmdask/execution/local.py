"""Threads of this process."""

import os
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dask
import dask.threaded
from dask._task_spec import GraphNode

from gmmdask.execution._base import Executor


class Threads(Executor):
    """A pool of threads; with one thread, tasks run one after another in the caller's."""

    def __init__(self, n: int | None = None) -> None:
        if n is not None and n < 1:
            raise ValueError(f"threads must be at least 1, got {n}")
        self.n = n or available_cores()
        self.pool: ThreadPoolExecutor | None = None

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{self.n} local thread{'s' if self.n > 1 else ''}"

    @property
    def tasks_at_once(self) -> int:
        return self.n

    @property
    def width(self) -> int:
        return self.n

    @property
    def rooms(self) -> Mapping[str, tuple[int, int]]:
        return {}

    @property
    def beside(self) -> Executor:
        return self

    def deliver(self, parcel: Any) -> None:
        """It is here."""

    def limit_tasks(self, most: int) -> None:
        if most < self.n:
            self.n = max(1, most)
            self.__exit__(None, None, None)

    def keep(self, graph: Mapping[Hashable, Any], keys: Sequence[Hashable]) -> list[Any]:
        return self._get(graph, keys)

    def get(self, graph: Mapping[Hashable, Any], key: Hashable) -> Any:
        return self._get(graph, [key])[0]

    def _get(self, graph: Mapping[Hashable, Any], keys: Sequence[Hashable]) -> list[Any]:
        if len(graph) <= 2 and all(isinstance(node, GraphNode) for node in graph.values()):
            return [alone(graph, key) for key in keys]
        if self.n == 1 or len(graph) <= 2:
            return list(dask.get(graph, list(keys)))
        if self.pool is None:
            self.pool = ThreadPoolExecutor(self.n, thread_name_prefix="gmmdask")
        try:
            return list(dask.threaded.get(graph, list(keys), pool=self.pool, num_workers=self.n))
        except BaseException:
            self.__exit__()  # waits: tasks that ran on would write to what the caller is about to remove
            raise

    def __exit__(self, *args: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
            self.pool = None


def alone(graph: Mapping[Hashable, GraphNode], key: Hashable) -> Any:
    """The value of a task that needs one other node at most: a scheduler would take longer than a pass of few rows."""
    task = graph[key]
    return task({other: graph[other]() for other in task.dependencies})


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
