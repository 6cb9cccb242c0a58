#!/usr/bin/env python
"""Peak memory of an out-of-core fit, against what was computed before it began and against its memory_limit.

    .venv/bin/python scripts/bench/memory.py --gigabytes 8 --memory-limit 1GB
    .venv/bin/python scripts/bench/memory.py --gigabytes 4 --memory-limit none --algorithm riemannian

Makes a mixture of float64 rows as Zarr (kept for the next run), fits it on local threads, samples the resident memory
of the process every 10 ms, prints a table and writes JSON. Exit code 1 if a bound does not hold.
"""

import argparse
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr
from report import Table, options_of, write
from stores import stored

from gmmdask import GaussianMixture
from gmmdask.algorithms import Gradient
from gmmdask.execution import Threads
from gmmdask.parameters import bytes_of
from gmmdask.planning import OVERHEAD_BYTES, Memory, plan_fit
from gmmdask.sources import Source, open_source
from gmmdask.sources.weights import weighted
from gmmdask.synthetic import random_mixture
from gmmdask.write import plan_writing, write_predictions

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
OPTIMIZERS = ("lbfgs", "adam", "sgd", "projected")
KINDS: dict[str, dict[str, Any]] = {
    "em": {},
    "plain": {"accelerate": None},
    "stochastic": {"algorithm": "stochastic"},
    "incremental": {"algorithm": "incremental"},
    "riemannian": {"algorithm": "riemannian"},
    "mclust": {"prior": "mclust"},
    "weighted": {},
}
WRITTEN = ("labels", "proba", "score")


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


def weights_of(source: Source, folder: Path) -> Path:
    """One weight for each row, 0 to 4, as Zarr."""
    path = folder / f"weights-{source.n}.zarr"
    if not path.exists():
        array = zarr.create_array(path, shape=(source.n,), chunks=(1 << 20,), dtype="f8", compressors=None)
        for start in range(0, source.n, 1 << 20):
            array[start : start + (1 << 20)] = np.arange(start, min(start + (1 << 20), source.n)) % 5.0
    return path


def fitted(kind: str, source: Source, components: int, limit: str | None, passes: int) -> tuple[Any, int, int, Sampler]:
    """A fit of this kind: bytes computed, tasks at once, passes, and what was sampled."""
    executor = Threads()
    known: dict[str, Any] = {"tol": 0, "max_iter": passes}
    more = {"algorithm": Gradient(kind, gradient_tol=0, **known)} if kind in OPTIMIZERS else KINDS[kind]
    model = GaussianMixture(components, random_state=0, memory_limit=limit, **known, **more)
    memory = plan_fit(source, model.settings(source), executor)[1]
    with Sampler() as sampler:
        model.fit(source, scheduler=executor)
    return memory.peak, memory.tasks, model.n_iter_, sampler


def predicted(source: Source, components: int, folder: Path) -> tuple[int, int, int, Sampler]:
    """Predictions of all rows, written and removed: what `fitted` tells."""
    executor, out = Threads(), folder / "predictions"
    mixture = random_mixture(components, source.d, "full", seed=0)
    memory = Memory(plan_writing(mixture, source, WRITTEN).task, OVERHEAD_BYTES, executor.tasks_at_once)
    try:
        with Sampler() as sampler, executor:
            write_predictions(mixture, source, out, WRITTEN, executor, overwrite=False)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return memory.peak, memory.tasks, 1, sampler


def measure(
    kind: str, gigabytes: float, features: int, components: int, limit: str | None, passes: int, folder: Path
) -> dict[str, Any]:
    """One run: bytes that the process added, bytes computed, bytes allowed."""
    rows = max(1000, round(gigabytes * 1e9 / (8 * features)))
    source = open_source(str(stored(random_mixture(components, features, "full", seed=0), rows, folder)))
    if kind == "weighted":
        source = weighted(source, weights_of(source, folder))
    began = time.perf_counter()
    if kind == "predict":
        computed, tasks, done, sampler = predicted(source, components, folder)
    else:
        computed, tasks, done, sampler = fitted(kind, source, components, limit, passes)
    return {
        "rows": rows,
        "features": features,
        "components": components,
        "algorithm": kind,
        "gigabytes": round(rows * features * 8 / 1e9, 3),
        "threads": tasks,
        "passes": done,
        "seconds": round(time.perf_counter() - began, 2),
        "added_bytes": sampler.added,
        "computed_bytes": computed,
        "limit_bytes": bytes_of(limit),
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    kinds = [*KINDS, *OPTIMIZERS, "predict"]
    parser.add_argument("--algorithm", choices=kinds, default="em", help="or what else a fit may differ in")
    parser.add_argument("--gigabytes", type=float, default=8)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--components", type=int, default=16)
    parser.add_argument("--memory-limit", default="1GB", help="or none")
    parser.add_argument("--passes", type=int, default=3)
    options = options_of(__doc__, parser, {"gigabytes": 0.02, "features": 4, "components": 3})
    limit = None if options.memory_limit == "none" else options.memory_limit
    size = (options.gigabytes, options.features, options.components)
    found = measure(options.algorithm, *size, limit, options.passes, options.folder)
    write(options, "memory", "Memory", TEXT, [Table("", COLUMNS, [found])])
    held = found["added_bytes"] < min(found["computed_bytes"], found["limit_bytes"] or found["computed_bytes"])
    print("within both bounds" if held else "OVER a bound")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
