"""Worker processes of the tests' clusters are forked from one that has imported what they need.

By `spawn`, Dask's default, each would import it anew: three seconds of a processor a worker. Tests that run scripts and
commands in processes of their own have workers that are spawned.
"""

import urllib.request
from collections.abc import Iterator

import dask
import pytest

dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})

from distributed.utils import get_mp_context  # noqa: E402 - distributed asks for the method when it is imported

get_mp_context().set_forkserver_preload(["distributed", "gmmdask.estimator", "gmmdask.execution.distributed"])


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a local S3 server: one a process, since all tests meet file systems without options again."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(scope="module")
def s3_endpoint(s3_server: str) -> Iterator[str]:
    """The same, empty: all of a process share what is in its buckets, so that it is emptied in the end."""
    yield s3_server
    urllib.request.urlopen(urllib.request.Request(f"{s3_server}/moto-api/reset", method="POST")).close()
