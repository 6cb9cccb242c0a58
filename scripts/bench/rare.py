#!/usr/bin/env python
"""Rare far clusters: how many of them does a fit find whose start is on a sample, and one by k-means||?

    .venv/bin/python scripts/bench/rare.py                      # 10 seeds of a million rows
    .venv/bin/python scripts/bench/rare.py --seeds 3 --rows 200000

Most rows are of a few clusters near each other, the others of five that hold one row in ten thousand each, hundreds of
standard deviations away. A cluster counts as found if a component of the fitted mixture has its mean within three
standard deviations of it, and two thirds to one and a half times its rows.
"""

import argparse
import time
from typing import Any

import numpy as np
from report import Table, options_of, write

from gmmdask import GaussianMixture
from gmmdask.outcome import CentresFound, Event

TEXT = """{n:,} rows in memory, d={d}: {common} common clusters, and {rare} of {share:g} of the rows each, {far:g}
standard deviations away; a sample of {sample:,} rows, `full`, K={k}. Clusters that the fit has found, rare and common,
for each of {seeds} seeds; passes over all rows, those of the start among them; seconds of the whole fit."""
COLUMNS = [
    ("seed", "seed", ""),
    ("sample_found", "start on the sample: rare", ""),
    ("sample_common", "common", ""),
    ("sample_passes", "passes", ""),
    ("sample_seconds", "s", ".1f"),
    ("all_found", "k-means&#124;&#124;: rare", ""),
    ("all_common", "common", ""),
    ("all_passes", "passes", ""),
    ("all_seconds", "s", ".1f"),
]


def rows_of(options: argparse.Namespace, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (n, d) in random order, and the middles (m, d) of rare clusters, and of common ones."""
    rng, d = np.random.default_rng(seed), options.features
    near = rng.normal(size=(options.common, d)) * 6
    far = rng.normal(size=(options.rare, d))
    far *= options.far / np.linalg.norm(far, axis=1)[:, None]
    each = max(1, round(options.share * options.rows))
    of = np.concatenate(
        [
            rng.integers(0, options.common, options.rows - each * options.rare),
            options.common + np.repeat(np.arange(options.rare), each),
        ]
    )
    rng.shuffle(of)
    rows = np.concatenate([near, far])[of]
    rows += rng.normal(size=rows.shape)
    return rows, far, near


def found(model: GaussianMixture, middles: np.ndarray, share: float) -> int:
    """How many clusters of this share of the rows have a component of their own."""
    like = (model.weights_ > share / 1.5) & (model.weights_ < share * 1.5)
    distances = np.linalg.norm(middles[:, None] - model.means_[None], axis=2)
    return int(((distances < 3) & like).any(axis=1).sum())


def trial(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    rows, far, near = rows_of(options, seed)
    told: dict[str, Any] = {"seed": seed}
    for name, method in (("sample", "kmeans"), ("all", "k-means||")):
        events: list[Event] = []
        began = time.perf_counter()
        model = GaussianMixture(
            options.common + options.rare,
            init_params=method,
            sample_rows=options.sample_rows,
            random_state=seed,
            callbacks=(events.append,),
        ).fit(rows)
        of_start = sum(event.passes for event in events if isinstance(event, CentresFound))
        told |= {
            f"{name}_found": found(model, far, options.share),
            f"{name}_common": found(model, near, 1 / options.common),
            f"{name}_passes": model.n_iter_ + of_start,
            f"{name}_seconds": time.perf_counter() - began,
        }
    return told


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=4)
    parser.add_argument("--common", type=int, default=3, help="clusters of almost all rows")
    parser.add_argument("--rare", type=int, default=5, help="clusters of few rows")
    parser.add_argument("--share", type=float, default=1e-4, help="of the rows, in each of those")
    parser.add_argument("--far", type=float, default=300.0, help="standard deviations")
    parser.add_argument("--sample-rows", type=int, default=2_000)
    parser.add_argument("--seeds", type=int, default=10)
    options = options_of(__doc__, parser, {"rows": 50_000, "seeds": 1, "sample_rows": 500})
    results = [trial(options, seed) for seed in range(options.seeds)]
    facts = {
        "n": options.rows,
        "d": options.features,
        "k": options.common + options.rare,
        "sample": options.sample_rows,
    }
    text = TEXT.format(
        **facts, **{name: getattr(options, name) for name in ("common", "rare", "share", "far", "seeds")}
    )
    write(options, "rare", "Rare far clusters", text, [Table("", COLUMNS, results)])


if __name__ == "__main__":
    main()
