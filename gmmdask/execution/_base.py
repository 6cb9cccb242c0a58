"""What an executor has to offer: it runs a graph of tasks and knows no mathematics."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self


class ClusterError(RuntimeError):
    """Trouble with a cluster: nothing is wrong with the data, and another try may succeed."""


class Executor(ABC):
    """Runs one raw Dask graph at a time; entered for the length of a fit.

    Every executor gives the same bits: it decides where and when a task runs, never what is added to what.
    """

    name: str
    most_kept: int | None = None  # bytes of rows in the caller's memory that may be sent to it; None: any
    planned: int | None = None  # bytes that a task of the fit takes at most: for messages

    @abstractmethod
    def get(self, graph: Mapping[Hashable, Any], key: Hashable) -> Any:
        """The value of `key`; errors of tasks come through as they are."""

    @abstractmethod
    def keep(self, graph: Mapping[Hashable, Any], keys: Sequence[Hashable]) -> list[Any]:
        """Values of keys that many passes need, each made once and kept where tasks run.

        What comes back stands for them in later graphs, and keeps them for as long as the caller holds it.
        """

    @abstractmethod
    def deliver(self, parcel: Any) -> None:
        """Brings what no task may hold to every process where tasks run, for as long as the executor is entered."""

    @abstractmethod
    def limit_tasks(self, most: int) -> None:
        """Run at most this many tasks of one process at the same time, to bound its memory."""

    @property
    @abstractmethod
    def tasks_at_once(self) -> int:
        """Tasks that may run in the driver's own process at the same time."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Tasks that may run at the same time, wherever that is. It decides no bits."""

    @property
    @abstractmethod
    def rooms(self) -> Mapping[str, tuple[int, int]]:
        """Bytes that each worker elsewhere may take, and tasks that it runs at the same time; none where unlimited."""

    @property
    @abstractmethod
    def beside(self) -> "Executor":
        """An executor in the driver's own process, for data that are there."""

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives back what was taken."""
