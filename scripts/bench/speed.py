#!/usr/bin/env python
"""Seconds per EM iteration on an array in memory, against scikit-learn from the same start, in turn.

    .venv/bin/python scripts/bench/speed.py            # all cases
    .venv/bin/python scripts/bench/speed.py --scale 0.1 --repeats 1

Prints medians over the repeats and their ratio, and writes JSON. Both use all cores.
"""

import argparse
import json
import statistics
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Peer

from gmmdask import GaussianMixture
from gmmdask.synthetic import random_mixture

CASES = [
    ("full", 1_000_000, 2, 8),
    ("full", 500_000, 8, 16),
    ("full", 300_000, 16, 32),
    ("full", 150_000, 32, 32),
    ("full", 80_000, 64, 32),
    ("diag", 500_000, 16, 32),
    ("tied", 300_000, 16, 32),
    ("spherical", 300_000, 16, 32),
]


def measure(covariance_type: str, n: int, d: int, k: int, repeats: int) -> dict[str, object]:
    """Medians of one case: ours by the history of a fit, theirs by the difference of fits of 1 and 3 iterations."""
    truth = random_mixture(k, d, covariance_type, seed=0)
    rows, _ = truth.sample(n, np.random.default_rng(0))
    start = {"weights_init": truth.weights, "means_init": truth.means}
    start["precisions_init"] = truth.family.precisions(truth.root)
    settings = {"covariance_type": covariance_type, "tol": 0, "random_state": 0, **start}
    ours, theirs = [], []
    for _ in range(repeats):
        model = GaussianMixture(k, max_iter=4, **settings).fit(rows)
        ours.append(statistics.median(row["seconds"] for row in model.history_[1:]))
        seconds = []
        for iterations in (1, 3):
            began = time.perf_counter()
            Peer(k, max_iter=iterations, **settings).fit(rows)
            seconds.append(time.perf_counter() - began)
        theirs.append((seconds[1] - seconds[0]) / 2)
    found = {"covariance_type": covariance_type, "n": n, "d": d, "k": k}
    found |= {"gmmdask_seconds": statistics.median(ours), "sklearn_seconds": statistics.median(theirs)}
    found["ratio"] = found["sklearn_seconds"] / found["gmmdask_seconds"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of rows")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("bench-output"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", ConvergenceWarning)  # iterations are counted here, not converged
    print(f"{'family':>10} {'n':>9} {'d':>4} {'K':>4} {'gmmdask s':>10} {'sklearn s':>10} {'ratio':>6}")
    results = []
    for covariance_type, n, d, k in CASES:
        found = measure(covariance_type, max(1000, round(n * options.scale)), d, k, options.repeats)
        results.append(found)
        times = f"{found['gmmdask_seconds']:10.4f} {found['sklearn_seconds']:10.4f} {found['ratio']:6.1f}"
        print(f"{covariance_type:>10} {found['n']:>9} {d:>4} {k:>4} {times}", flush=True)
    (options.folder / "speed.json").write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
