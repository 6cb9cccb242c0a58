#!/usr/bin/env python
"""Seconds per EM pass from Zarr, against what reading and arithmetic take alone, and against scikit-learn in a loop.

    .venv/bin/python scripts/bench/out_of_core.py                    # 48 million rows, 6 GB, three times on disk
    .venv/bin/python scripts/bench/out_of_core.py --rows 4000000

Rows are made once and kept in the folder.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr
from report import Table, options_of, write
from sklearn.mixture import GaussianMixture as Peer
from sklearn.mixture._gaussian_mixture import _estimate_gaussian_parameters
from stores import CODECS, late, size_of, stored
from threadpoolctl import threadpool_limits
from timing import CountRows, data_of, e_steps, in_turn, pass_seconds, seconds_of

from gmmdask.execution import Threads
from gmmdask.execution.local import available_cores
from gmmdask.mixture import Mixture
from gmmdask.sources import ArraySource, Source, open_source
from gmmdask.synthetic import random_mixture

TEXT = """Seconds of one EM pass over {n:,} float64 rows ({gigabytes:.1f} GB) from Zarr, `full`, d={d}, K={k},
{threads} threads: medians of rounds in which all take their turns. Files are in the page cache as far as it holds
them: this machine has {memory:.0f} GB. Reading is the same plan and threads with work that only counts rows. Memory
is the same pass over {held:,} rows of an array in memory, scaled by rows. Loop reads chunk by chunk with zarr-python
and calls scikit-learn's E-step and its moments for the M-step, on {looped:,} rows, scaled. The store that is late
waits {latency:g} s before it gives a chunk, and holds {late_rows:,} rows. Random float64 mantissas do not compress:
codecs cost time here and save nothing, which real data may turn round."""
SECONDS = [("seconds", "pass, s", ".2f"), ("read", "reading, s", ".2f"), ("memory", "memory, s", ".2f")]
RATIOS = [("to_sum", "pass / (reading + memory)", ".2f"), ("to_longer", "pass / the longer", ".2f")]
COLUMNS = [
    ("store", "store", ""),
    ("stored_bytes", "bytes on disk", ","),
    *SECONDS,
    *RATIOS,
    ("loop", "loop, s", ".1f"),
    ("loop_ratio", "loop / pass", ".1f"),
]
LATE = [("store", "store", ""), *SECONDS, ("to_read", "pass / reading", ".2f"), *RATIOS]


def loop(path: Path, truth: Mixture, rows: int, threads: int) -> float:
    """Seconds of an EM iteration on the first rows as one writes it with zarr-python and scikit-learn."""
    start = {"weights_init": truth.weights, "means_init": truth.means}
    start["precisions_init"] = truth.family.precisions(truth.root)
    peer, array = Peer(truth.n_components, **start), zarr.open_array(path, mode="r")
    peer._initialize_parameters(array[:2], np.random.RandomState(0))

    def iterate() -> None:
        mass, first, second = 0.0, 0.0, 0.0
        for begin in range(0, rows, array.chunks[0]):
            chunk = array[begin : min(rows, begin + array.chunks[0])]
            resp = np.exp(peer._e_step(chunk)[1])
            counts, means, covariances = _estimate_gaussian_parameters(chunk, resp, 0.0, "full")
            mass = mass + counts
            first = first + counts[:, None] * means
            outer = means[:, :, None] * means[:, None, :]
            second = second + counts[:, None, None] * (covariances + outer)
        means = first / mass[:, None]
        covariances = second / mass[:, None, None] - means[:, :, None] * means[:, None, :]
        np.linalg.cholesky(covariances)

    with threadpool_limits(threads):
        return seconds_of(iterate)


def floors(found: dict[str, Any]) -> dict[str, Any]:
    """With what reading and arithmetic take alone."""
    read, memory, seconds = found["read"], found["memory"], found["seconds"]
    found |= {"to_sum": seconds / (read + memory), "to_longer": seconds / max(read, memory), "to_read": seconds / read}
    return found


def measure(source: Source, truth: Mixture, held: np.ndarray, options: argparse.Namespace) -> dict[str, Any]:
    """Medians of a pass, of its read, and of the pass over rows in memory, scaled."""
    with Threads(options.threads) as executor:
        data, memory = data_of(source, truth, executor), data_of(ArraySource(held), truth, executor)
        work, scale = e_steps(data, truth), source.n / len(held)
        pass_seconds(memory, work), pass_seconds(data, CountRows())  # the compiler, the page cache
        trials = {
            "read": lambda: pass_seconds(data, CountRows()),
            "memory": lambda: pass_seconds(memory, work) * scale,
            "seconds": lambda: pass_seconds(data, work),
        }
        return floors(in_turn(trials, options.repeats))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=48_000_000)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--components", type=int, default=16)
    parser.add_argument("--held-rows", type=int, default=4_000_000, help="of the array in memory")
    parser.add_argument("--loop-rows", type=int, default=1_000_000, help="of the loop with scikit-learn")
    parser.add_argument("--late-rows", type=int, default=8_000_000, help="of the store that answers late")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds before a chunk comes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=available_cores())
    tiny = {"rows": 300_000, "held_rows": 50_000, "loop_rows": 5_000, "late_rows": 300_000, "repeats": 1}
    options = options_of(__doc__, parser, {**tiny, "components": 4})
    n, folder = options.rows, options.folder
    truth = random_mixture(options.components, options.features, "full", seed=0)
    held_rows, loop_rows = min(n, options.held_rows), min(n, options.loop_rows)
    held, results = None, []
    for codec in CODECS:
        path = stored(truth, n, folder, codec)
        source = open_source(path)
        held = zarr.open_array(path, mode="r")[:held_rows] if held is None else held
        found = {"store": codec, "stored_bytes": size_of(path), **measure(source, truth, held, options)}
        found["loop"] = loop(path, truth, loop_rows, options.threads) * n / loop_rows
        results.append(found | {"loop_ratio": found["loop"] / found["seconds"]})
        print(f"{codec}: done", flush=True)
    path = stored(truth, options.late_rows, folder, "blosc-lz4")
    answers = {"blosc-lz4": open_source(path), "blosc-lz4, late": open_source(late(path, options.latency))}
    waited = [{"store": name, **measure(source, truth, held, options)} for name, source in answers.items()]
    sizes = {"n": n, "d": truth.d, "k": truth.n_components, "gigabytes": 8e-9 * n * truth.d, "held": held_rows}
    sizes |= {"looped": loop_rows, "late_rows": options.late_rows, "latency": options.latency}
    text = TEXT.format(**sizes, threads=options.threads, memory=psutil.virtual_memory().total / 1e9)
    write(options, "out_of_core", "Out of core", text, [Table("", COLUMNS, results), Table("", LATE, waited)], **sizes)


if __name__ == "__main__":
    main()
