"""Worker processes of the tests' clusters are forked from one that has imported what they need.

By `spawn`, Dask's default, each would import it anew: three seconds of a processor a worker. Tests that run scripts and
commands in processes of their own have workers that are spawned.
"""

import dask

dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})

from distributed.utils import get_mp_context  # noqa: E402 - distributed asks for the method when it is imported

get_mp_context().set_forkserver_preload(["distributed", "gmmdask.estimator", "gmmdask.execution.distributed"])
