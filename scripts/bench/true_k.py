#!/usr/bin/env python
"""How often `select` finds the number of components that the rows were drawn from.

.venv/bin/python scripts/bench/true_k.py                          # minutes
.venv/bin/python scripts/bench/true_k.py --truths 10 --many 3     # with as few starts for ten components as for four
"""

import argparse
import statistics
import warnings
from typing import Any

import numpy as np
from report import Table, options_of, write
from sklearn.exceptions import ConvergenceWarning
from timing import seconds_of

from gmmdask import Selection, select
from gmmdask.cli.select import Counts
from gmmdask.execution import Threads
from gmmdask.execution.local import available_cores
from gmmdask.synthetic import random_mixture

MANY = 10  # components from which on there are more starts
TEXT = """How often the rule of one standard error, BIC and ICL choose the K that the rows were drawn from: {seeds}
seeds, mixtures of two features whose closest means are {separation:g} standard deviations apart, candidates (`full`)
from three fewer to three more."""
COLUMNS = [
    ("k", "true K", ""),
    ("n", "rows", ","),
    ("starts", "starts", ""),
    ("found", "found", ""),
    ("bic", "by BIC", ""),
    ("icl", "by ICL", ""),
    ("seeds", "of seeds", ""),
    ("seconds", "seconds each", ".1f"),
]


def rate(k: int, n: int, options: argparse.Namespace) -> dict[str, Any]:
    """How often rules choose the true K."""
    hits, seconds = {"one_standard_error": 0, "bic": 0, "icl": 0}, []
    counts, starts = range(max(1, k - 3), k + 4), options.many if k >= MANY else options.n_init
    for seed in range(options.seeds):
        rows = random_mixture(k, 2, "full", seed, options.separation).sample(n, np.random.default_rng(seed))[0]
        known = {"n_init": starts, "random_state": seed, "scheduler": Threads(options.threads)}
        found: list[Selection] = []
        seconds.append(seconds_of(lambda rows=rows, known=known, to=found: to.append(select(rows, counts, **known))))
        for name in hits:
            hits[name] += found[0].choices_[name]["components"] == k
    told = {"found": hits["one_standard_error"], "bic": hits["bic"], "icl": hits["icl"]}
    own = {"k": k, "n": n, "starts": starts, "seeds": options.seeds}
    return {**own, **told, "seconds": statistics.median(seconds)}


def main() -> None:
    parser, counts = argparse.ArgumentParser(), Counts()
    numbers = lambda text: counts.convert(text, None, None)  # noqa: E731
    parser.add_argument("--separation", type=float, default=6.0, help="of the closest means, in standard deviations")
    parser.add_argument("--truths", type=numbers, default="2,4,6,10", help="true K")
    parser.add_argument("--rows", type=numbers, default="20000,200000")
    parser.add_argument("--n-init", type=int, default=3, help="starts")
    parser.add_argument("--many", type=int, default=10, help=f"starts from {MANY} components on")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=available_cores())
    options = options_of(__doc__, parser, {"truths": "2", "rows": "4000", "n_init": 1, "seeds": 1})
    warnings.simplefilter("ignore", ConvergenceWarning)
    trials = [rate(k, n, options) for n in options.rows for k in options.truths]
    write(options, "true_k", "Finding K", TEXT.format(**vars(options)), [Table("", COLUMNS, trials)])


if __name__ == "__main__":
    main()
