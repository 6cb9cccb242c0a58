#!/usr/bin/env python
"""Seconds per EM iteration on an array in memory, against scikit-learn and oneDAL from the same start, in turn.

    .venv/bin/python -m pip install --group bench      # oneDAL, through daal4py: x86 only; a dash where it is missing
    .venv/bin/python scripts/bench/speed.py            # all cases
    .venv/bin/python scripts/bench/speed.py --scale 0.1 --repeats 1

All use the same number of threads.
"""

import argparse
import importlib.util
import statistics
import warnings
from collections.abc import Callable
from typing import Any

import dask
import numpy as np
from report import Table, options_of, write
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Peer
from threadpoolctl import threadpool_limits
from timing import Clock, dgemm_rate, in_turn, seconds_of

from gmmdask import GaussianMixture
from gmmdask.compiled import importable
from gmmdask.execution import Threads
from gmmdask.execution.local import available_cores
from gmmdask.mixture import Mixture
from gmmdask.synthetic import random_mixture

CASES = [
    ("full", 1_000_000, 2, 8),
    ("full", 500_000, 8, 16),
    ("full", 300_000, 16, 32),
    ("full", 150_000, 32, 32),
    ("full", 80_000, 64, 32),
    ("full", 30_000, 128, 32),
    ("full", 100_000, 16, 256),
    ("diag", 500_000, 16, 32),
    ("diag", 200_000, 64, 64),
    ("tied", 300_000, 16, 32),
    ("spherical", 300_000, 16, 32),
]
PASSES = 5  # of a fit of ours, and more iterations of a long fit of oneDAL than of a short one
SLOW = 2  # rounds that scikit-learn takes part in
SLOW_PASSES = 2  # more iterations of its long fit than of its short one
TEXT = """Seconds per EM iteration, M-step included, on a float64 array in memory: medians over rounds in which all take
their turns, in one process, from the same start, {threads} threads each. Ratios are seconds over those of the compiled
kernel, the third is scikit-learn's seconds over those of the NumPy kernel. Peak is the share of the rate of {threads}
concurrent one-thread dgemms in the same rounds ({rate:.0f} GFLOP/s in the middle) that the minimal arithmetic of
`full`, 4 n K (d(d+3)/2 + 1), amounts to."""
COLUMNS = [
    ("covariance_type", "covariances", ""),
    ("n", "rows", ","),
    ("d", "d", ""),
    ("k", "K", ""),
    ("compiled", "compiled, s", ".4f"),
    ("numpy", "NumPy, s", ".4f"),
    ("onedal", "oneDAL, s", ".4f"),
    ("sklearn", "scikit-learn, s", ".3f"),
    ("onedal_ratio", "oneDAL ratio", ".2f"),
    ("sklearn_ratio", "scikit-learn ratio", ".1f"),
    ("numpy_ratio", "to NumPy", ".1f"),
    ("peak_share", "peak", ".0%"),
    ("numpy_share", "NumPy, peak", ".0%"),
]


def ours(truth: Mixture, rows: np.ndarray, kernel: str, threads: int) -> Callable[[], float]:
    clocks = {"covariance_type": truth.covariance_type, "accelerate": None, "tol": 0, "max_iter": PASSES}
    start = {"weights_init": truth.weights, "means_init": truth.means}
    start["precisions_init"] = truth.family.precisions(truth.root)

    def seconds() -> float:
        clock = Clock()
        model = GaussianMixture(truth.n_components, random_state=0, callbacks=[clock], **clocks, **start)
        with dask.config.set({"gmmdask.kernel": kernel}):
            model.fit(rows, scheduler=Threads(threads))
        return clock.median

    return seconds


def scikit_learn(truth: Mixture, rows: np.ndarray, threads: int) -> Callable[[], float]:
    """The difference of a long and a short fit from the same start, as for oneDAL: what a user of `fit` waits for."""
    start = {"weights_init": truth.weights, "means_init": truth.means}
    start["precisions_init"] = truth.family.precisions(truth.root)

    def fit(iterations: int) -> None:
        peer = Peer(truth.n_components, covariance_type=truth.covariance_type, tol=0, max_iter=iterations, **start)
        with threadpool_limits(threads), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            peer.fit(rows)

    def seconds() -> float:
        return (seconds_of(lambda: fit(1 + SLOW_PASSES)) - seconds_of(lambda: fit(1))) / SLOW_PASSES

    return seconds


def onedal(truth: Mixture, rows: np.ndarray, threads: int) -> Callable[[], float]:
    """The difference of a long and a short fit, so that what comes before the iterations does not count."""
    import daal4py

    daal4py.daalinit(threads)
    storage = {"full": "full", "diag": "diagonal"}[truth.covariance_type]
    dense = truth.dense_covariances()
    covariances = [np.diag(c)[None].copy() if storage == "diagonal" else np.ascontiguousarray(c) for c in dense]

    def fit(iterations: int) -> int:
        settings = {"maxIterations": iterations, "accuracyThreshold": 0.0, "covarianceStorage": storage}
        algorithm = daal4py.em_gmm(truth.n_components, **settings)
        return int(
            algorithm.compute(rows, truth.weights[None].copy(), truth.means.copy(), covariances).nIterations.item()
        )

    def seconds() -> float:
        return (seconds_of(lambda: fit(done)) - seconds_of(lambda: fit(1))) / (done - 1)

    done = fit(1 + PASSES)  # it may end before that, where its likelihood does not move
    assert done > 1, f"oneDAL ended after {done} iteration"
    return seconds


def measure(covariance_type: str, n: int, d: int, k: int, repeats: int, threads: int) -> dict[str, Any]:
    """Medians of one case, and what follows from them."""
    truth = random_mixture(k, d, covariance_type, seed=0)
    rows, _ = truth.sample(n, np.random.default_rng(0))
    trials = {"rate": lambda: dgemm_rate(threads), "numpy": ours(truth, rows, "numpy", threads)}
    if importable():
        trials["compiled"] = ours(truth, rows, "compiled", threads)
    if covariance_type in ("full", "diag") and importlib.util.find_spec("daal4py"):
        trials["onedal"] = onedal(truth, rows, threads)
    trials["sklearn"] = scikit_learn(truth, rows, threads)
    for name in trials.keys() & {"numpy", "compiled"}:
        trials[name]()  # imports, the compiler and the memory of the first fit
    found = {"covariance_type": covariance_type, "n": n, "d": d, "k": k}
    found |= in_turn(trials, repeats, {"sklearn": SLOW})
    best = found.get("compiled", found["numpy"])
    found["onedal_ratio"] = found["onedal"] / best if "onedal" in found else None
    found["sklearn_ratio"], found["numpy_ratio"] = found["sklearn"] / best, found["sklearn"] / found["numpy"]
    if covariance_type == "full":
        minimal = 4 * n * k * (d * (d + 3) / 2 + 1) / found["rate"]
        found["peak_share"], found["numpy_share"] = minimal / best, minimal / found["numpy"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of rows")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--largest", type=int, default=4096, help="leave out cases of larger K d")
    options = options_of(__doc__, parser, {"scale": 0.01, "repeats": 1, "largest": 512})
    results = []
    for covariance_type, n, d, k in (case for case in CASES if case[2] * case[3] <= options.largest):
        rows = min(n, max(8 * k * d, round(n * options.scale)))  # with fewer, covariances of oneDAL are singular
        results.append(measure(covariance_type, rows, d, k, options.repeats, options.threads))
        print(f"{covariance_type} {rows:,} x {d}, K={k}: done", flush=True)
    rate = statistics.median(row["rate"] for row in results) / 1e9
    text = TEXT.format(threads=options.threads, rate=rate)
    ratios = [row["onedal_ratio"] for row in results if row["onedal_ratio"] is not None]
    if ratios:
        text += f" Against oneDAL the worst ratio is {min(ratios):.2f}, the median {statistics.median(ratios):.2f}."
    write(options, "speed", "In memory", text, [Table("", COLUMNS, results)])


if __name__ == "__main__":
    main()
