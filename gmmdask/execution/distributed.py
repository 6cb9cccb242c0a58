"""A Dask cluster."""

import time
import uuid
import warnings
from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import distributed
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import WorkerPlugin

from gmmdask.execution._base import ClusterError, Executor
from gmmdask.execution.local import Threads
from gmmdask.execution.settings import setting
from gmmdask.execution.threads import one_thread_for_good


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

    @property
    def tasks_at_once(self) -> int:
        return 0

    @property
    def width(self) -> int:
        return max(1, sum(self.client.nthreads().values()))

    @property
    def beside(self) -> Executor:
        return self.threads

    def deliver(self, parcel: Any) -> None:
        if parcel.reference not in self.delivered:
            plugin = Delivery(parcel)
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
        self.client.register_plugin(OneThread())
        return self

    def __exit__(self, *args: object) -> None:
        self.threads.__exit__()
        while self.delivered:
            with suppress(Exception):  # of a cluster that is gone, or workers that are
                self.client.unregister_worker_plugin(self.delivered.popitem()[1])
        self.owned.close()

    def keep(self, graph: Mapping[Hashable, Any], keys: Sequence[Hashable]) -> list[Any]:
        """Futures: the cluster makes their values again if it loses a worker."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # once, and most_kept bounds it
            return list(self.client.get({**graph}, list(keys), sync=False, retries=setting("retries")))

    def get(self, graph: Mapping[Hashable, Any], key: Hashable) -> Any:
        try:
            return self.client.get({**graph}, key, retries=setting("retries"))
        except distributed.KilledWorker as error:
            raise ClusterError(
                f"{error.task} killed {error.last_worker} and others before it: most often workers have too little "
                "memory for a task. Give them more, or set a smaller memory_limit."
            ) from error
        except (distributed.comm.CommClosedError, distributed.client.FutureCancelledError, TimeoutError) as error:
            raise ClusterError(f"{self.name}: the connection was lost ({type(error).__name__}: {error}).") from error


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
    """
    owned, dashboard = ExitStack(), setting("dashboard")
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
    except BaseException:
        owned.close()
        raise
    return Cluster(client, owned)
