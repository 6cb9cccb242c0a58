"""The curse of dimension: a thousand rows, ten components, more and more features."""

import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np
from made import Made, legend
from trail import kmeans_start, trail

from gmmdask.algorithms import Algorithm, Batch, Gradient
from gmmdask.execution import Threads
from gmmdask.matching import match
from gmmdask.mixture import Mixture
from gmmdask.plot.style import INK, QUALITATIVE, new_figure, tidy
from gmmdask.predict import total_score
from gmmdask.sources import ArraySource
from gmmdask.synthetic import random_mixture

K, SEPARATION, UNSEEN = 10, 8.0, 10_000
REG_COVAR = 1e-6


@dataclass(frozen=True)
class Method:
    """A name, a covariance type, and how it is fitted."""

    name: str
    covariance_type: str
    algorithm: Algorithm
    prior: str | None = None


def methods(laps: int, steps: int) -> tuple[Method, ...]:
    em = Batch(tol=1e-4, max_iter=laps)
    adam = Gradient(optimizer="adam", learning_rate=1e-2, tol=0, gradient_tol=0, max_iter=steps)
    return (
        Method("EM, full", "full", em),
        Method("Adam, full", "full", adam),
        Method("MAP, full", "full", em, "mclust"),
        Method("EM, tied", "tied", em),
        Method("EM, diag", "diag", em),
    )


CAPTION = (
    "{n:,} rows of ten components with full covariances, {separation:g} standard deviations apart at the closest,"
    " in {dimensions} dimensions; medians of {seeds} seeds. Left, how much less likely {unseen:,} unseen rows are"
    " under the fit than under the truth; the dotted line is p/2n, what p free parameters cost while there are "
    "many rows for each. Middle, the error of the means of matched components, in standard deviations a feature. "
    "Right, why maximum likelihood breaks down: the smallest eigenvalue of a component's fitted covariance, in "
    "units of the true one; the dotted line is (1 - √(d/m))² with m = {m} rows a component, what the smallest "
    "eigenvalue of a sample covariance tends to: it is zero at d = m. {told}"
)
COLUMNS = [
    ("method", "method", ""),
    ("d", "d", "d"),
    ("loss", "unseen rows, nats below the truth", ".3g"),
    ("means", "error of means", ".3f"),
    ("covariances", "error of covariances", ".2f"),
    ("smallest", "smallest eigenvalue", ".2g"),
    ("laps", "passes", ".0f"),
]


def score(mixture: Mixture, rows: np.ndarray) -> float:
    """Mean log density of rows, nats per row."""
    with Threads(1) as executor:
        total, weight = total_score(mixture, ArraySource(rows), executor)
    return total / weight


def errors(truth: Mixture, fitted: Mixture) -> dict[str, float]:
    """Medians over matched components: means, covariances (relative Frobenius), their smallest eigenvalues."""
    found = fitted.reordered(match(truth, fitted))
    true, own = truth.dense_covariances(), found.dense_covariances()
    apart = np.linalg.norm(found.means - truth.means, axis=1) / np.sqrt(np.einsum("kii->k", true))
    off = np.linalg.norm(own - true, axis=(1, 2)) / np.linalg.norm(true, axis=(1, 2))
    inverse = np.linalg.inv(np.linalg.cholesky(true))
    relative = np.matmul(inverse, np.matmul(own, inverse.transpose(0, 2, 1)))
    smallest = np.linalg.eigvalsh(relative)[:, 0]
    return {
        "means": float(np.median(apart)),
        "covariances": float(np.median(off)),
        "smallest": float(np.median(smallest)),
    }


def measure(n: int, d: int, seed: int, ways: tuple[Method, ...]) -> list[dict[str, Any]]:
    """A row for each method on one data set: all of a covariance type from the same k-means."""
    truth = random_mixture(K, d, "full", seed, SEPARATION)
    rng = np.random.default_rng([seed, d, 10])
    rows, unseen = truth.sample(n, rng)[0], truth.sample(UNSEEN, rng)[0]
    best, found = score(truth, unseen), []
    for way in ways:
        reg_covar = 0.0 if way.prior else REG_COVAR
        start = kmeans_start(rows, way.covariance_type, K, seed, reg_covar=reg_covar, prior=way.prior)
        run = trail(way.algorithm, start, rows, prior=way.prior, reg_covar=reg_covar, keep=())
        loss = best - score(run.last, unseen)
        found.append({"method": way.name, "d": d, "loss": loss, "laps": run.passes, **errors(truth, run.last)})
    return found


def medians(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over seeds, a row for each method and dimension."""
    kinds = list(dict.fromkeys((row["method"], row["d"]) for row in found))
    keys = ("loss", "means", "covariances", "smallest", "laps")
    return [
        {"method": name, "d": d}
        | {key: statistics.median(r[key] for r in found if (r["method"], r["d"]) == (name, d)) for key in keys}
        for name, d in kinds
    ]


def draw(figure: Any, rows: list[dict[str, Any]], n: int) -> None:
    dimensions = sorted({row["d"] for row in rows})
    wanted = (
        ("loss", "Unseen rows below the truth", "nats per row"),
        ("means", "Error of means", "standard deviations a feature"),
        ("smallest", "Smallest eigenvalue, true one = 1", "fitted in units of the truth"),
    )
    axes = figure.subplots(1, 3)
    for ax, (key, title, unit) in zip(axes, wanted, strict=True):
        for name, colour in zip(dict.fromkeys(row["method"] for row in rows), QUALITATIVE, strict=False):
            of_method = [(row["d"], row[key]) for row in rows if row["method"] == name]
            style = "--" if name.startswith("Adam") else "-"
            ax.plot(
                *zip(*of_method, strict=True), color=f"#{colour}", linestyle=style, marker="o", markersize=3, label=name
            )
        ax.set_xscale("log")
        if key != "means":
            ax.set_yscale("log")
        tidy(ax, title, "features d", unit)
        ax.set_xticks(dimensions, [str(d) for d in dimensions])
        ax.minorticks_off()
    parameters = [K - 1 + K * d + K * d * (d + 1) // 2 for d in dimensions]
    axes[0].plot(
        dimensions, [p / (2 * n) for p in parameters], color=INK, linewidth=1, linestyle=":", label="p/2n, full"
    )
    m = n / K
    few = [d for d in np.geomspace(2, m, 100) if d < m]
    axes[2].plot(
        few, [(1 - np.sqrt(d / m)) ** 2 for d in few], color=INK, linewidth=1, linestyle=":", label="(1 - √(d/m))²"
    )
    axes[1].set_ylim(0, None)
    axes[2].set_ylim(1e-8, 3)
    legend(axes[0], loc="upper left")
    legend(axes[2], loc="lower left")


def told(rows: list[dict[str, Any]]) -> str:
    """Which method has the best score of unseen rows in each dimension."""
    best: dict[str, list[int]] = {}
    for d in sorted({row["d"] for row in rows}):
        of_d = [row for row in rows if row["d"] == d]
        best.setdefault(min(of_d, key=lambda row: row["loss"])["method"], []).append(d)
    return (
        "Best on unseen rows: "
        + "; ".join(f"{name} at d = {', '.join(map(str, at))}" for name, at in best.items())
        + "."
    )


def make(tiny: bool) -> Made:
    n, seeds, dimensions = (200, 1, (2, 4)) if tiny else (1000, 3, (2, 5, 10, 20, 35, 50, 75, 100))
    ways = methods(*((5, 5) if tiny else (100, 300)))
    found = [row for d in dimensions for seed in range(seeds) for row in measure(n, d, seed, ways)]
    rows = medians(found)
    figure = new_figure(12.0, 4.2)
    draw(figure, rows, n)
    known = {"n": n, "separation": SEPARATION, "seeds": seeds, "unseen": UNSEEN, "m": n // K, "told": told(rows)}
    known["dimensions"] = ", ".join(map(str, dimensions))
    shown = [row for row in rows if row["d"] in (2, 10, 50, 100)]
    return Made(figure, CAPTION.format(**known), {"medians": rows, "all": found}, [("", COLUMNS, shown)])
