#!/usr/bin/env python
"""A stream through `partial_fit`: memory, seconds, score against batch EM from the same start, for calls of any size.

    .venv/bin/python scripts/bench/stream.py                    # ten million rows
    .venv/bin/python scripts/bench/stream.py --rows 100000 --calls 1000 50000

The same rows are drawn as a stream and stored as Zarr, which batch EM reads. `added` is how far the resident memory
rose above its size after a first fit of a few rows, rows of a call included.
"""

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from memory import Sampler
from report import Table, options_of, write

from gmmdask import GaussianMixture
from gmmdask.mixture import Mixture
from gmmdask.synthetic import draw_chunk, make_dataset, random_mixture

DRAWN = 50_000  # rows that are drawn together
TEXT = """{rows:,} rows through `partial_fit` (d={d}, K={k}), in calls of several sizes: bytes that the process added,
the rows of a call included, seconds of the calls, and nats per row on unseen rows below batch EM from the same start,
which took {passes} passes."""
COLUMNS = [
    ("call", "rows a call", ","),
    ("call_bytes", "bytes of a call", ","),
    ("added_bytes", "added, bytes", ","),
    ("seconds", "seconds", ".1f"),
    ("steps", "steps", ""),
    ("below_batch", "below batch", ".5f"),
]


def stream(truth: Mixture, n: int, call: int) -> Iterator[np.ndarray]:
    """n rows in arrays of `call` rows, the last one shorter."""
    held, index = np.empty((0, truth.d)), 0
    while n:
        while len(held) < min(call, n):
            held = np.concatenate([held, draw_chunk(truth, 0, index, DRAWN)[0]])
            index += 1
        rows, held = held[: min(call, n)], held[min(call, n) :]
        n -= len(rows)
        yield rows


def measure(truth: Mixture, n: int, call: int, unseen: np.ndarray) -> dict[str, Any]:
    """One stream."""
    model, seconds = GaussianMixture(truth.n_components, random_state=0), 0.0
    with Sampler() as sampler:
        for rows in stream(truth, n, call):
            clock = time.perf_counter()
            model.partial_fit(rows)
            seconds += time.perf_counter() - clock
    found = {"call": call, "added_bytes": sampler.added, "call_bytes": call * truth.d * 8, "seconds": round(seconds, 2)}
    return {**found, "steps": model.n_iter_, "score": model.score(unseen)}


def start_of(truth: Mixture) -> dict[str, np.ndarray]:
    """The parameters with which the streams begin."""
    rows = draw_chunk(truth, 0, 0, DRAWN)[0]
    model = GaussianMixture(truth.n_components, random_state=0).partial_fit(rows[:1])
    model.partial_fit(rows[1 : model.stream_.needed])
    return {"weights_init": model.weights_, "means_init": model.means_, "precisions_init": model.precisions_}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--components", type=int, default=16)
    parser.add_argument("--separation", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calls", type=int, nargs="+", default=[1000, 50_000, 1_000_000])
    options = options_of(__doc__, parser, {"rows": 60_000, "features": 2, "components": 2, "calls": [7000, 60_000]})
    truth = random_mixture(options.components, options.features, "full", options.seed, options.separation)
    unseen = truth.sample(min(options.rows, 200_000), np.random.default_rng(1))[0]
    GaussianMixture(2).partial_fit(unseen[:5000])  # imports, caches and the compiler are no part of a stream
    results = [measure(truth, options.rows, call, unseen) for call in options.calls]
    path = options.folder / "stream-rows.zarr"
    make_dataset(truth, options.rows, path, 0, chunk_rows=DRAWN, overwrite=True)
    batch = GaussianMixture(options.components, tol=1e-6, max_iter=200, **start_of(truth)).fit(str(path))
    score = batch.score(unseen)
    for found in results:
        found["below_batch"] = score - found["score"]
    facts = {"rows": options.rows, "d": truth.d, "k": truth.n_components, "passes": batch.n_iter_}
    write(options, "stream", "Streams", TEXT.format(**facts), [Table("", COLUMNS, results)], **facts, batch_score=score)


if __name__ == "__main__":
    main()
