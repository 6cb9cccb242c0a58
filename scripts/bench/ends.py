#!/usr/bin/env python
"""Where L-BFGS, Riemannian L-BFGS and Adam end beside EM, from EM's own tenth iteration of several starts.

    .venv/bin/python scripts/bench/ends.py
    .venv/bin/python scripts/bench/ends.py --data rows.npy --components 10 --rows 10000 --arcsinh 150

A start is good if its end is not below EM's by more than 1e-5 nats per row, or has a gradient shorter than 1e-6: that
is another optimum. Adam, with learning rate 1e-2 and 2,000 passes, is to come within 1e-3 on the synthetic mixtures.
Prints a row per data set and method and writes JSON; exit code 1 if fewer than 8 of 10 starts are good.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from report import Table, options_of, write
from sklearn import datasets

from gmmdask.algorithms import Algorithm, Gradient, Riemannian
from gmmdask.synthetic import random_mixture
from gmmdask.testing.ends import BELOW, EM, Ended, em_starts, ended

NEAR = 1e-3  # nats per row that Adam may stay below EM
SHARE = 0.8  # of starts that have to be good
TEXT = """`full` covariances, starts from EM's tenth iteration; on real data with the prior of `prior="mclust"`, on
synthetic rows without. Good is an end that is not below EM's by more than 1e-5 nats per row (Adam: 1e-3), or one where
the gradient is shorter than 1e-6. The smallest eigenvalue is that of any covariance at any step, the data's being one.
"""
COLUMNS = [
    ("data", "data", ""),
    ("rows", "rows", ","),
    ("components", "K", ""),
    ("method", "method", ""),
    ("good", "good starts", "d"),
    ("starts", "of", "d"),
    ("elsewhere", "at other optima, below", "d"),
    ("below", "furthest below EM", ".1e"),
    ("above", "furthest above EM", ".1e"),
    ("steep", "longest gradient", ".1e"),
    ("passes", "passes, median", ".0f"),
    ("em_passes", "of EM", ".0f"),
    ("smallest", "smallest eigenvalue", ".1e"),
    ("seconds", "seconds", ".0f"),
]
Sets = dict[str, tuple[np.ndarray, int, bool]]
Good = Callable[[Ended, float], bool]


def methods(laps: int, steps: int) -> dict[str, Algorithm]:
    adam = Gradient("adam", tol=0, max_iter=steps, learning_rate=1e-2, gradient_tol=0)
    return {"L-BFGS": Gradient(tol=0, max_iter=laps), "Riemannian": Riemannian(tol=0, max_iter=laps), "Adam": adam}


def data_sets(options: argparse.Namespace) -> Sets:
    """Rows, components, and whether the prior is needed: the given file, or what needs none."""
    if options.data is not None:
        rows = np.load(options.data).astype(float)
        chosen = np.random.default_rng(0).permutation(len(rows))[: options.rows]
        rows = rows[chosen] if options.arcsinh is None else np.arcsinh(rows[chosen] / options.arcsinh)
        return {options.data.rpartition("/")[2]: (rows, options.components, True)}
    found: Sets = {"iris": (datasets.load_iris().data, 3, True), "wine": (datasets.load_wine().data, 3, True)}
    for seed in range(options.synthetic):
        truth = random_mixture(3, 2, "full", seed, 2.0)
        found[f"synthetic {seed}"] = (truth.sample(600, np.random.default_rng(seed))[0], 3, False)
    return found


def row(name: str, method: str, found: list[Ended], ems: list[Ended], good: Good) -> dict[str, Any]:
    """What became of all starts."""
    pairs = [(end, em.bounds[-1]) for end, em in zip(found, ems, strict=True)]
    gaps = [end.bounds[-1] - em for end, em in pairs]
    return {
        "data": name,
        "method": method,
        "good": sum(good(end, em) for end, em in pairs),
        "starts": len(pairs),
        "elsewhere": sum(gap < -BELOW and good(end, em) for gap, (end, em) in zip(gaps, pairs, strict=True)),
        "below": max(0.0, -min(gaps)),
        "above": max(0.0, *gaps),
        "passes": statistics.median(len(end.bounds) for end in found),
        "em_passes": statistics.median(len(em.bounds) for em in ems),
        "smallest": min(end.smallest for end in found),
    }


def measure(name: str, data: tuple[np.ndarray, int, bool], options: argparse.Namespace) -> list[dict[str, Any]]:
    """All methods that are to be tried on a data set."""
    rows, k, penalised = data
    starts = em_starts(rows, k, "full", penalised, options.starts)
    ems, results = [ended(rows, start, EM, penalised) for start in starts], []
    for method, algorithm in methods(options.laps, options.steps).items():
        adam = method == "Adam"
        if adam and penalised:
            continue
        began = time.process_time()
        found = [ended(rows, start, algorithm, penalised) for start in starts]
        good = (lambda end, em: end.bounds[-1] >= em - NEAR) if adam else Ended.as_good_as
        told = row(name, method, found, ems, good) | {"rows": len(rows), "components": k}
        told |= {"steep": None, "elsewhere": None} if adam else {"steep": max(end.steep for end in found)}
        results.append(told | {"seconds": time.process_time() - began})
        print(results[-1], flush=True)
    return results


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", help="a .npy file instead")
    parser.add_argument("--components", type=int, default=10)
    parser.add_argument("--rows", type=int, default=10_000, help="drawn from the file")
    parser.add_argument("--arcsinh", type=float, help="use arcsinh(rows / this)")
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--synthetic", type=int, default=3, help="mixtures")
    parser.add_argument("--laps", type=int, default=2000, help="passes of L-BFGS, at most")
    parser.add_argument("--steps", type=int, default=2000, help="passes of Adam")
    options = options_of(__doc__, parser, {"starts": 1, "synthetic": 1, "steps": 400})
    results = [row for name, data in data_sets(options).items() for row in measure(name, data, options)]
    write(options, "ends", "Ends", TEXT, [Table("", COLUMNS, results)])
    return 0 if all(found["good"] >= SHARE * found["starts"] for found in results) else 1


if __name__ == "__main__":
    sys.exit(main())
