"""A Dask cluster."""

import multiprocessing
import time
import uuid
import warnings
from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import dask
import distributed
from distributed import Client, Future, LocalCluster
from distributed.diagnostics.plugin import WorkerPlugin

from gmmdask.execution._base import ClusterError, Executor
from gmmdask.execution.local import Threads
from gmmdask.execution.settings import setting
from gmmdask.execution.threads import one_thread_for_good
from gmmdask.execution.watch import Tasks, await_result, lost, part_of, place_left
from gmmdask.plan import Part

NO_GUARD = (
    "worker processes begin by importing the main script, and this one starts workers when it is imported. Put what it "
    "does under `if __name__ == '__main__':`, or give a fit scheduler='threads'."
)


class OneThread(WorkerPlugin):  # type: ignore[misc]
    """Limits BLAS and OpenMP once in every worker process, those that join later included."""

    name = "gmmdask-one-thread"

    def setup(self, worker: Any) -> None:
        one_thread_for_good()


class Delivery(WorkerPlugin):  # type: ignore[misc]
    """Holds a parcel in every worker process, those that join later included: in no task, and so in no log of one."""

    def __init__(self, parcel: Any) -> None:
        self.name, self.parcel = f"gmmdask-delivery-{uuid.uuid4().hex}", parcel


class Cluster(Executor):
    """Workers of a Dask cluster, through a client.

    Parameters
    ----------
    client : distributed.Client
        Synchronous.
    owned : ExitStack
        What to close at the end: nothing for a client that the user made.
    """

    def __init__(self, client: Client, owned: ExitStack | None = None) -> None:
        self.most_kept = 1_000_000_000
        if client.asynchronous:
            raise ClusterError("an asynchronous client cannot drive a fit: use Client(..., asynchronous=False).")
        self.client, self.owned = client, owned or ExitStack()
        self.name = f"cluster {client.scheduler.address}"
        self.threads = Threads()
        self.delivered: dict[str, str] = {}
        self.kept: WeakKeyDictionary[Future, Part | None] = WeakKeyDictionary()

    @property
    def tasks_at_once(self) -> int:
        return 0

    @property
    def width(self) -> int:
        return max(1, sum(self.client.nthreads().values()))

    @property
    def beside(self) -> Executor:
        return self.threads

    @property
    def rooms(self) -> dict[str, tuple[int, int]]:
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        told = {name: (worker["memory_limit"], worker["nthreads"]) for name, worker in workers.items()}
        return {name: room for name, room in told.items() if room[0]}

    def deliver(self, parcel: Any) -> None:
        if parcel.reference not in self.delivered:
            plugin = Delivery(parcel)
            with lost(self.name):
                self.client.register_plugin(plugin)
            self.delivered[parcel.reference] = plugin.name

    def limit_tasks(self, most: int) -> None:
        """Workers bound their own memory."""

    def __enter__(self) -> "Cluster":
        wait = setting("wait-for-workers")
        try:
            self.client.wait_for_workers(1, timeout=wait)
        except TimeoutError as error:
            self.owned.close()
            raise ClusterError(
                f"{self.name} has had no worker for {wait} s. Start workers, or raise gmmdask.wait-for-workers in the "
                "Dask configuration."
            ) from error
        with lost(self.name):
            self.client.register_plugin(OneThread())
        return self

    def __exit__(self, *args: object) -> None:
        self.threads.__exit__()
        self.planned = None
        for future in list(self.kept):
            future.release()
        while self.delivered:
            with suppress(Exception):  # of a cluster that is gone, or workers that are
                self.client.unregister_worker_plugin(self.delivered.popitem()[1])
        self.owned.close()

    def keep(self, graph: Mapping[Hashable, Any], keys: Sequence[Hashable]) -> list[Any]:
        """Futures: the cluster makes their values again if it loses a worker."""
        with warnings.catch_warnings(), lost(self.name):
            warnings.filterwarnings("ignore", "Sending large graph")  # once, and most_kept bounds it
            futures = list(self.client.get({**graph}, list(keys), sync=False, retries=setting("retries")))
        self.kept.update((future, part_of(graph[key])) for future, key in zip(futures, keys, strict=True))
        return futures

    def get(self, graph: Mapping[Hashable, Any], key: Hashable) -> Any:
        tasks = Tasks(graph, {future.key: part for future, part in self.kept.items()})
        with lost(self.name), place_left():
            future = self.client.get({**graph}, key, sync=False, retries=setting("retries"))
            try:
                await_result(self.client, self.name, future, tasks)
                return self.client.gather(future)
            except distributed.KilledWorker as error:
                raise self.killed(error, tasks) from error
            except distributed.scheduler.NoValidWorkerError as error:
                raise ClusterError(f"{self.name} has no worker for {tasks.told(error.task)} ({error}).") from error
            finally:
                future.release()  # which cancels what has not run, whatever ended this

    def killed(self, error: distributed.KilledWorker, tasks: Tasks) -> ClusterError:
        """What is told of a task that took several workers with it."""
        worker, planned = error.last_worker, ""
        limit = f"was allowed {worker.memory_limit:,} bytes" if worker.memory_limit else "had no memory limit"
        if self.planned is not None:
            planned = f" A task was planned to take {self.planned:,} bytes;"
        return ClusterError(
            f"{self.name}: {tasks.told(error.task)} killed {worker.address} and {error.allowed_failures} others before "
            f"it.{planned} that worker {limit}, for {worker.nthreads} tasks at once. Most often it is memory: give "
            "workers more, or fewer threads, or set a smaller memory_limit. Their logs tell if it was something else."
        )


def connect(
    address: str | None = None, scheduler_file: str | None = None, security: distributed.Security | None = None
) -> Cluster:
    """A cluster by the address of its scheduler, or by the file that the scheduler wrote.

    Parameters
    ----------
    security : certificates; None for those of the Dask configuration.

    Raises
    ------
    ClusterError
        If it does not answer in `gmmdask.connect-timeout` seconds.
    """
    timeout, owned = setting("connect-timeout"), ExitStack()
    where = address or scheduler_file
    if address is not None and "://" not in address and not address.rpartition(":")[2].isdigit():
        raise ValueError(f"scheduler={address!r}: expected an address such as tcp://host:8786.")
    if scheduler_file is not None:
        wait_for_file(scheduler_file, timeout)
    try:
        client = Client(
            address=address, scheduler_file=scheduler_file, timeout=timeout, security=security, set_as_default=False
        )
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at {where} (waited {timeout} s: {type(error).__name__}). Check the address and "
            "that the scheduler runs."
        ) from error
    owned.enter_context(client)
    return Cluster(client, owned)


def security(ca_file: str, cert: str, key: str | None = None) -> distributed.Security:
    """What a client trusts and shows: files in PEM form, read before anything is sent; nothing goes unencrypted.

    Raises
    ------
    ValueError
        If they cannot be read, or the key is not the certificate's.
    """
    found = distributed.Security(tls_ca_file=ca_file, tls_client_cert=cert, tls_client_key=key, require_encryption=True)
    try:
        found.get_connection_args("client")
    except OSError as error:  # that of ssl is one
        raise ValueError(
            f"the certificates {', '.join(name for name in (ca_file, cert, key) if name)} cannot be used ({error}): "
            "expected PEM files of an authority, a certificate, and its private key."
        ) from error
    return found


def wait_for_file(path: str, timeout: float) -> None:
    """Waits for a scheduler to write its file; a Client alone would do so for ever."""
    end = time.monotonic() + timeout
    while not Path(path).is_file():
        if time.monotonic() > end:
            raise ClusterError(
                f"{path}: no scheduler has written this file (waited {timeout} s). Check the path and that the "
                "scheduler runs."
            )
        time.sleep(min(0.1, timeout))


def local_cluster(workers: int) -> Cluster:
    """A cluster of this many worker processes, one thread each, that only this machine can reach.

    There is no dashboard unless `gmmdask.dashboard` says where.

    Raises
    ------
    RuntimeError
        In a script that workers cannot import, since it starts workers then.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # what multiprocessing itself looks at
        raise RuntimeError(NO_GUARD)
    owned, dashboard = ExitStack(), setting("dashboard")
    # so long after it has lost a worker, LocalCluster closes the nanny if the worker is away just then, perhaps because
    # it died once more: nobody would start it again
    owned.enter_context(dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"}))
    try:
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=dashboard or "127.0.0.1:0",  # there is a server for health checks in any case
            scheduler_kwargs={"dashboard": dashboard is not None},
            memory_limit=0,
        )
        owned.enter_context(cluster)
        client = owned.enter_context(Client(cluster, set_as_default=False))
    except BaseException as error:
        owned.close()
        if isinstance(error, RuntimeError) and "failed to start" in str(error):
            error.add_note(f"This is what comes of scripts without a guard: {NO_GUARD}")
        raise
    return Cluster(client, owned)
