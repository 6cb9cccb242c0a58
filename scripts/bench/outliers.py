#!/usr/bin/env python
"""Whether noise=True finds the parameters that fits without outliers find: z scores of all of them, over many seeds.

    .venv/bin/python scripts/bench/outliers.py                           # minutes
    .venv/bin/python scripts/bench/outliers.py --families full --share 0.3

Every seed draws rows of the same mixture. Some of these data sets are fitted as they are: they say how parameters
scatter. Others get outliers beside their rows, uniform in a box about them, and are fitted with noise. A z score is how
far a parameter is from the mean of the fits without outliers, in their standard deviations.
"""

import argparse
from typing import Any

import numpy as np
from report import Table, options_of, write

from gmmdask import GaussianMixture, match
from gmmdask.mixture import Mixture
from gmmdask.synthetic import random_mixture

TEXT = """{rows:,} rows of a mixture (d={d}, K={k}) and {share:.0%} as many outliers, uniform in a box {room:g} times as
wide as that of the rows, over {seeds} seeds: z scores of weights (as parts of what is no noise), means and covariances
against {replicates} fits without outliers. "without" are those of further fits without outliers, "plain" those of fits
with noise=False to rows with outliers."""
COLUMNS = [
    ("covariance_type", "covariances", ""),
    ("fit", "fit", ""),
    ("rms", "rms z", ".2f"),
    ("mean", "mean z", ".2f"),
    ("worst_mean", "largest absolute mean z of a parameter", ".2f"),
    ("largest", "largest absolute z", ".2f"),
    ("noise", "weight of the noise", ".4f"),
]


def with_outliers(truth: Mixture, n: int, share: float, room: float, seed: int) -> np.ndarray:
    """n rows of the mixture, and share * n that are uniform in a box `room` times as wide as theirs, shuffled."""
    rng = np.random.default_rng([seed, 1])
    rows = truth.sample(n, rng)[0]
    low, high = rows.min(axis=0), rows.max(axis=0)
    middle, half = (low + high) / 2, room * (high - low) / 2
    outliers = rng.uniform(middle - half, middle + half, size=(round(share * n), truth.d))
    return rng.permutation(np.concatenate([rows, outliers]))


def parameters(truth: Mixture, model: GaussianMixture) -> np.ndarray:
    """Weights, means and covariances as one vector, components in the order of the truth."""
    mixture = model.mixture_.reordered(match(truth, model))
    matrix = np.triu_indices(truth.d)
    covariances = mixture.covariances
    if covariances.shape[-2:] == (truth.d, truth.d) and truth.covariance_type in ("full", "tied"):
        covariances = covariances[..., *matrix]
    return np.concatenate([mixture.weights / mixture.weights.sum(), mixture.means.ravel(), covariances.ravel()])


def measure(truth: Mixture, options: argparse.Namespace) -> list[dict[str, Any]]:
    """z scores of one family: of fits with noise, of fits without outliers, and of fits that take outliers for rows."""
    kind = truth.covariance_type

    def fit(seed: int, share: float, noise: bool) -> GaussianMixture:
        rows = with_outliers(truth, options.rows, share, options.room, seed)
        settings = {"covariance_type": kind, "random_state": seed, "tol": 1e-6, "max_iter": 500}
        return GaussianMixture(truth.n_components, noise=noise, n_init=options.starts, **settings).fit(rows)

    seeds = range(options.seeds)
    known = [parameters(truth, fit(10_000 + seed, 0.0, False)) for seed in range(options.replicates)]
    mean, deviation = np.mean(known, axis=0), np.std(known, axis=0, ddof=1)
    found, share = [], options.share
    for name, outliers, noise in (("noise", share, True), ("without", 0.0, False), ("plain", share, False)):
        models = [fit(seed, outliers, noise) for seed in seeds]
        z = np.array([(parameters(truth, model) - mean) / deviation for model in models])
        told = {"rms": float(np.sqrt(np.mean(z**2))), "mean": float(z.mean()), "largest": float(np.abs(z).max())}
        worst = float(np.abs(z.mean(axis=0)).max())
        weight = float(np.mean([model.noise_weight_ for model in models]))
        found.append({"covariance_type": kind, "fit": name, **told, "worst_mean": worst, "noise": weight})
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--features", type=int, default=2)
    parser.add_argument("--components", type=int, default=3)
    parser.add_argument("--separation", type=float, default=5.0)
    parser.add_argument("--share", type=float, default=0.1, help="outliers a row")
    parser.add_argument("--room", type=float, default=2.0, help="of the box of outliers, in widths of that of the rows")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--replicates", type=int, default=100)
    parser.add_argument("--starts", type=int, default=1, help="n_init")
    parser.add_argument("--families", nargs="+", default=["full", "tied", "diag", "spherical"])
    tiny = {"rows": 300, "seeds": 2, "replicates": 5, "families": ["spherical"]}
    options = options_of(__doc__, parser, tiny)
    rows = []
    for kind in options.families:
        truth = random_mixture(options.components, options.features, kind, 0, options.separation)
        rows += measure(truth, options)
    facts = {"d": options.features, "k": options.components, "rows": options.rows, "share": options.share}
    facts |= {"room": options.room, "seeds": options.seeds, "replicates": options.replicates}
    write(options, "outliers", "Outliers", TEXT.format(**facts), [Table("", COLUMNS, rows)], **facts)


if __name__ == "__main__":
    main()
