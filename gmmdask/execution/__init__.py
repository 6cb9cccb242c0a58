"""How a pass runs: executors, and the tree by which they add. A new one is a file and a line in `open_executor`."""

import sys
from pathlib import Path
from typing import Any

from gmmdask.execution._base import ClusterError, Executor
from gmmdask.execution.local import Threads
from gmmdask.execution.settings import setting
from gmmdask.execution.threads import one_thread
from gmmdask.execution.tree import tree


def open_executor(scheduler: Any = None) -> Executor:
    """An executor for whatever a `scheduler` argument may be.

    Parameters
    ----------
    scheduler : None, "threads", "synchronous", an Executor, a distributed Client, the address or file of a scheduler
        None takes the current Client, if there is one, else local threads.

    Raises
    ------
    ClusterError
        If no scheduler answers.
    ValueError
        If it is none of these.
    """
    if isinstance(scheduler, Executor):
        return scheduler
    if scheduler is None:
        client = _current_client()
        return Threads() if client is None else open_executor(client)
    if isinstance(scheduler, str | Path):
        name = str(scheduler)
        if name in ("threads", "threading"):
            return Threads()
        if name in ("synchronous", "sync", "single-threaded"):
            return Threads(1)
        from gmmdask.execution.distributed import connect

        if "://" in name or (name.rpartition(":")[2].isdigit() and not Path(name).exists()):
            return connect(address=name)
        if Path(name).exists():
            return connect(scheduler_file=name)
        raise ValueError(
            f"scheduler={name!r}: expected 'threads', 'synchronous', an address such as tcp://host:8786, or an "
            "existing scheduler file."
        )
    if type(scheduler).__module__.split(".")[0] == "distributed":
        from gmmdask.execution.distributed import Cluster

        return Cluster(getattr(scheduler, "get_client", lambda: scheduler)())
    raise ValueError(f"scheduler={scheduler!r}: expected a distributed Client, an address, 'threads' or 'synchronous'.")


def _current_client() -> Any:
    """The client that Dask would use now, without importing distributed for it."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None


__all__ = [
    "ClusterError",
    "Executor",
    "Threads",
    "one_thread",
    "open_executor",
    "setting",
    "tree",
]
