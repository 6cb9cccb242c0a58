#!/usr/bin/env python
"""Worker processes of one thread against as many local threads, from Zarr.

.venv/bin/python scripts/bench/cluster.py
"""

import argparse
import inspect

from report import Table, options_of, write
from stores import stored
from timing import Clock, in_turn

from gmmdask import GaussianMixture
from gmmdask.execution import Executor, Threads
from gmmdask.execution.distributed import local_cluster
from gmmdask.execution.local import available_cores
from gmmdask.synthetic import random_mixture

TEXT = """Seconds per EM iteration over {n:,} rows, d={d}, K={k}, `full`, from uncompressed Zarr, on a Dask cluster of
{workers} local worker processes of one thread and on {workers} threads of one process; medians of rounds in turn.
Speed is that of the cluster as a share of that of the threads."""
COLUMNS = [
    ("cache", "cache", ""),
    ("cluster", "cluster, s", ".3f"),
    ("threads", "threads, s", ".3f"),
    ("speed", "speed", ".2f"),
]
PASSES = 5


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--components", type=int, default=32)
    parser.add_argument("--workers", type=int, default=available_cores())
    parser.add_argument("--repeats", type=int, default=3)
    options = options_of(__doc__, parser, {"rows": 200_000, "components": 4, "repeats": 1})
    truth = random_mixture(options.components, options.features, "full", seed=0)
    path = stored(truth, options.rows, options.folder)
    start = {"weights_init": truth.weights, "means_init": truth.means}
    start["precisions_init"] = truth.family.precisions(truth.root)

    def seconds(executor: Executor, cache: dict[str, str]) -> float:
        clock = Clock()
        settings = {"accelerate": None, "tol": 0, "max_iter": PASSES, "random_state": 0, **start, **cache}
        GaussianMixture(options.components, callbacks=[clock], **settings).fit(str(path), scheduler=executor)
        return clock.median

    known = "cache" in inspect.signature(GaussianMixture).parameters
    results = []
    with local_cluster(options.workers) as cluster, Threads(options.workers) as threads:
        for cache in ("never", "always") if known else ("never",):
            setting = {"cache": cache} if known else {}
            trials = {
                "cluster": lambda setting=setting: seconds(cluster.client, setting),
                "threads": lambda setting=setting: seconds(threads, setting),
            }
            trials["cluster"]()  # imports and the compiler in the workers
            found = in_turn(trials, options.repeats)
            results.append({"cache": cache, **found, "speed": found["threads"] / found["cluster"]})
    sizes = {"n": options.rows, "d": truth.d, "k": truth.n_components, "workers": options.workers}
    write(options, "cluster", "On a cluster", TEXT.format(**sizes), [Table("", COLUMNS, results)], **sizes)


if __name__ == "__main__":
    main()
