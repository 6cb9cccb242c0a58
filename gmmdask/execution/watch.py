"""Waiting for tasks of a cluster: by what names they are told, and how long nothing may happen."""

import threading
import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import distributed
from distributed import Client, Future

from gmmdask.execution._base import ClusterError
from gmmdask.execution.settings import setting
from gmmdask.plan import Part, Slice

LOOK = 2.0  # seconds between looks at the scheduler
ANSWER = 10.0  # seconds in which it should answer
FEW = 3  # tasks that a message names
# what a closed client raises in releases after 2025.1
CLOSED = getattr(distributed.client, "ClosedClientError", distributed.comm.CommClosedError)


@dataclass(frozen=True)
class Tasks:
    """Tasks under way: a pass as a graph, and the parts whose rows are kept where tasks run."""

    graph: Mapping[Hashable, Any]
    kept: Mapping[Hashable, Part | None]

    def __contains__(self, key: object) -> bool:
        return key in self.graph or key in self.kept

    def told(self, key: Hashable) -> str:
        """The part that a task reads and its rows, or its key."""
        part = self.kept.get(key) or part_of(self.graph.get(key))
        return f"task {key}" if part is None else f"part {part.index} (rows {part.start:,} to {part.stop - 1:,})"


def part_of(task: Any) -> Part | None:
    """What a task reads."""
    for argument in getattr(task, "args", ()):
        if isinstance(argument, Slice):
            return argument.part
        if isinstance(argument, Part):
            return argument
    return None


@contextmanager
def lost(name: str) -> Iterator[None]:
    """A connection that is lost within is a ClusterError."""
    try:
        yield
    except (
        distributed.comm.CommClosedError,
        distributed.client.FutureCancelledError,
        distributed.client.FuturesCancelledError,
        CLOSED,
        TimeoutError,
    ) as error:
        raise ClusterError(f"{name}: the connection was lost ({type(error).__name__}: {error}).") from error


@contextmanager
def place_left() -> Iterator[None]:
    """Within a Dask task, leaves its thread to other tasks: a worker of one thread could run none of ours."""
    left = False
    with suppress(Exception):  # no task, or one that has left its place already
        distributed.secede()
        left = True
    try:
        yield
    finally:
        if left:
            distributed.rejoin()


def await_result(client: Client, name: str, future: Future, tasks: Tasks) -> None:
    """Returns when a future is done, whatever came of it.

    Raises
    ------
    ClusterError
        If no task finishes for `gmmdask.stall-timeout` seconds, or there is no worker for `gmmdask.wait-for-workers`.
    """
    patience, wait = setting("stall-timeout"), setting("wait-for-workers")
    seen: Any = None
    changed = manned = time.monotonic()
    finished = threading.Event()
    future.add_done_callback(lambda _: finished.set())
    while not finished.wait(min(LOOK, patience / 4, wait / 4)):
        there, now = processing(client), time.monotonic()
        if there is None or there:
            manned = now
        if there is not None:
            ours = {(worker, key) for worker, keys in there.items() for key in keys if key in tasks}
            # where none of ours has its turn, others go before them for as long as these get on
            waited = ours or {(worker, key) for worker, keys in there.items() for key in keys}
            if waited != seen:
                seen, changed = waited, now
        if now - manned > wait:
            raise ClusterError(
                f"{name} has lost all workers, and no other has come for {wait} s. Start workers, or raise "
                "gmmdask.wait-for-workers in the Dask configuration."
            )
        if now - changed > patience:
            raise ClusterError(
                f"{name}: no task has finished for {patience} s. {waited_for(there, tasks)} Look at the logs of these "
                "machines and at the storage, or raise gmmdask.stall-timeout in the Dask configuration if tasks may "
                "take so long."
            )


def waited_for(there: Mapping[str, Any] | None, tasks: Tasks) -> str:
    """A sentence on what a cluster has not done."""
    if there is None:
        return "The scheduler does not answer."
    named = [f"{tasks.told(key)} on {worker}" for worker, keys in there.items() for key in keys if key in tasks]
    if not named:
        return f"None of this fit's is with a worker: the {len(there)} that are there are busy with others, or paused."
    more = f", and {len(named) - FEW:,} more" if len(named) > FEW else ""
    return f"Waited for {', '.join(named[:FEW])}{more}."


def processing(client: Client) -> Mapping[str, Any] | None:
    """Keys of the tasks that each worker has before it; None if the scheduler does not answer."""
    with suppress(OSError):  # timeouts and closed connections are such
        found: Mapping[str, Any] = client.sync(client.scheduler.processing, workers=None, callback_timeout=ANSWER)
        return found
    return None
