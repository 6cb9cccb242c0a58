#!/usr/bin/env python
"""Peak memory of an out-of-core fit, against what was computed before it began and against its memory_limit.

    .venv/bin/python scripts/bench/memory.py --gigabytes 8 --memory-limit 1GB
    .venv/bin/python scripts/bench/memory.py --gigabytes 2 --memory-limit 500MB --algorithm lbfgs

Makes a mixture of float64 rows as Zarr (kept for the next run), fits it on local threads, samples the resident memory
of the process every 10 ms, prints a table and writes JSON. Exit code 1 if a bound does not hold.
"""

import argparse
import sys
import threading
import time
from typing import Any

import psutil
from dask.utils import parse_bytes
from report import Table, options_of, write
from stores import stored

from gmmdask import GaussianMixture
from gmmdask.algorithms import Gradient
from gmmdask.execution import Threads
from gmmdask.planning import plan_fit
from gmmdask.sources import open_source
from gmmdask.synthetic import random_mixture

TEXT = """Bytes that a fit from uncompressed Zarr adds to its process, sampled every 10 ms, the largest; what had been
computed before it began; and what `memory_limit` allows."""
COLUMNS = [
    ("rows", "rows", ","),
    ("features", "d", ""),
    ("components", "K", ""),
    ("algorithm", "algorithm", ""),
    ("gigabytes", "GB", ".2f"),
    ("threads", "threads", ""),
    ("passes", "passes", ""),
    ("seconds", "seconds", ".1f"),
    ("added_bytes", "added, bytes", ","),
    ("computed_bytes", "computed, bytes", ","),
    ("limit_bytes", "allowed, bytes", ","),
]


class Sampler:
    """Samples the resident memory of this process while it is entered."""

    def __enter__(self) -> "Sampler":
        self.process, self.going = psutil.Process(), True
        self.start = self.peak = self.process.memory_info().rss
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while self.going:
            self.peak = max(self.peak, self.process.memory_info().rss)
            time.sleep(0.01)

    def __exit__(self, *args: object) -> None:
        self.going = False
        self.thread.join()

    @property
    def added(self) -> int:
        return self.peak - self.start


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One fit: bytes that the process added, bytes computed, bytes allowed."""
    features, components, limit = options.features, options.components, options.memory_limit
    rows = max(1000, round(options.gigabytes * 1e9 / (8 * features)))
    data = stored(random_mixture(components, features, "full", seed=0), rows, options.folder)
    source, executor = open_source(str(data)), Threads()
    known: dict[str, Any] = {"tol": 0, "max_iter": options.passes}
    if options.algorithm != "em":
        known["algorithm"] = Gradient(options.algorithm, gradient_tol=0, **known)
    model = GaussianMixture(components, random_state=0, memory_limit=limit, **known)
    _, memory = plan_fit(source, model.settings(source), executor)
    began = time.perf_counter()
    with Sampler() as sampler:
        model.fit(source, scheduler=executor)
    return {
        "rows": rows,
        "features": features,
        "components": components,
        "algorithm": options.algorithm,
        "gigabytes": round(rows * features * 8 / 1e9, 3),
        "threads": memory.tasks,
        "passes": model.n_iter_,
        "seconds": round(time.perf_counter() - began, 2),
        "added_bytes": sampler.added,
        "computed_bytes": memory.peak,
        "limit_bytes": parse_bytes(limit),
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=8)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--components", type=int, default=16)
    parser.add_argument("--memory-limit", default="1GB")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--algorithm", choices=["em", "lbfgs", "adam", "sgd", "projected"], default="em")
    options = options_of(__doc__, parser, {"gigabytes": 0.02, "features": 4, "components": 3})
    found = measure(options)
    write(options, "memory", "Memory", TEXT, [Table("", COLUMNS, [found])])
    held = found["added_bytes"] < min(found["computed_bytes"], found["limit_bytes"])
    print("within both bounds" if held else "OVER a bound")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
