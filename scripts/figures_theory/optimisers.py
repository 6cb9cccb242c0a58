"""EM, SQUAREM, Adam, L-BFGS and Riemannian L-BFGS on well and poorly separated mixtures: who wins."""

import statistics
from typing import Any

import numpy as np
from descent import passes_to
from made import Made, legend
from trail import Trail, kmeans_start, trail

from gmmdask.algorithms import Algorithm, Batch, Gradient, Riemannian, Squarem
from gmmdask.plot.style import QUALITATIVE, new_figure, tidy
from gmmdask.synthetic import random_mixture

SEPARATIONS = {"well separated": 6.0, "poorly separated": 1.5}  # of the closest means, in standard deviations
LEVELS = (1e-2, 1e-4, 1e-6)  # nats per row from the best that any method has reached
JUDGED = 1e-4
FLOOR = 1e-9
CAPTION = (
    "{n:,} rows, K = {k}, d = {d}, full covariances, {seeds} data sets of each kind (closest means 6 and 1.5 "
    "standard deviations apart); all methods from the same k-means. What is left to the best end of any method on"
    " that data, against passes and against seconds of the processor; the first data set is drawn thick. A line "
    "that goes level has ended in another optimum, or at its limit of passes. First within {judged:g} nats per "
    "row: {told}. No setting was tuned: Adam has learning rate 1e-2, all others their defaults."
)
COLUMNS = [
    ("kind", "mixture", ""),
    ("method", "method", ""),
    *((f"passes_{level:g}", f"passes to {level:g}", ".0f") for level in LEVELS),
    (f"seconds_{JUDGED:g}", f"seconds to {JUDGED:g}", ".3f"),
    ("reached", f"seeds at {JUDGED:g}", ""),
    ("wins_passes", "first in passes", "d"),
    ("wins_seconds", "first in seconds", "d"),
]


def methods(laps: int) -> dict[str, Algorithm]:
    """All end by themselves only where nothing is left to gain."""
    em = Batch(tol=0, max_iter=laps)
    still = {"tol": 0, "gradient_tol": 1e-9, "max_iter": laps}
    return {
        "EM": em,
        "SQUAREM": Squarem(em),
        "Adam": Gradient(optimizer="adam", learning_rate=1e-2, **still),
        "L-BFGS": Gradient(optimizer="lbfgs", **still),
        "Riemannian": Riemannian(**still),
    }


Runs = dict[str, Trail]


def measure(n: int, d: int, k: int, kind: str, seed: int, laps: int) -> Runs:
    """All methods on one data set, from one start."""
    truth = random_mixture(k, d, "full", seed, SEPARATIONS[kind])
    rows = truth.sample(n, np.random.default_rng([seed, 11]))[0]
    start = kmeans_start(rows, "full", k, seed)
    return {name: trail(algorithm, start, rows, keep=()) for name, algorithm in methods(laps).items()}


def best_of(runs: Runs) -> float:
    return max(float(run.bounds.max()) for run in runs.values())


def winner(runs: Runs, seconds: bool) -> str | None:
    """Which method is the first that comes close to the best end; None if two are at once."""
    needed = {name: passes_to(run.bounds, best_of(runs) - JUDGED) for name, run in runs.items()}
    there = {name: runs[name].seconds[at - 1] if seconds else at for name, at in needed.items() if at is not None}
    least = min(there.values())
    first = [name for name, value in there.items() if value == least]
    return first[0] if len(first) == 1 else None


def row(kind: str, name: str, all_runs: list[Runs]) -> dict[str, Any]:
    """Medians of the seeds that get there."""
    found: dict[str, Any] = {"kind": kind, "method": name}
    for level in LEVELS:
        needed = [(runs[name], passes_to(runs[name].bounds, best_of(runs) - level)) for runs in all_runs]
        reached = [(run, at) for run, at in needed if at is not None]
        if reached:
            found[f"passes_{level:g}"] = statistics.median(at for _, at in reached)
            found[f"seconds_{level:g}"] = statistics.median(float(run.seconds[at - 1]) for run, at in reached)
        if level == JUDGED:
            found["reached"] = f"{len(reached)} of {len(all_runs)}"
    for seconds, key in ((False, "wins_passes"), (True, "wins_seconds")):
        found[key] = sum(winner(runs, seconds) == name for runs in all_runs)
    return found


def draw(figure: Any, found: dict[str, list[Runs]]) -> None:
    axes = figure.subplots(2, 2)
    for line, (kind, all_runs) in zip(axes, found.items(), strict=True):
        for ax, against in zip(line, ("passes", "seconds"), strict=True):
            for at, runs in reversed(list(enumerate(all_runs))):
                for (name, run), colour in zip(runs.items(), QUALITATIVE, strict=False):
                    x = run.seconds if against == "seconds" else np.arange(1, run.passes + 1)
                    left = np.maximum(best_of(runs) - np.maximum.accumulate(run.bounds), FLOOR)
                    thick = {"linewidth": 1.8} if at == 0 else {"linewidth": 0.6, "alpha": 0.6}
                    ax.plot(x, left, color=f"#{colour}", label=name if at == 0 else None, **thick)
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.axhline(JUDGED, color="#333333", linewidth=0.8, linestyle=":")
            tidy(ax, f"{kind}: left to gain", against, "nats per row")
    legend(axes[0, 0], loc="upper right")


def wins(rows: list[dict[str, Any]], kind: str, key: str) -> str:
    """Who is first on how many seeds."""
    first = [
        f"{row['method']} on {row[key]}"
        for row in sorted(rows, key=lambda row: -row[key])
        if row["kind"] == kind and row[key]
    ]
    return ", ".join(first) or "several at once"


def make(tiny: bool) -> Made:
    n, d, k, seeds, laps = (300, 2, 2, 1, 12) if tiny else (4000, 4, 5, 5, 2000)
    found = {kind: [measure(n, d, k, kind, seed, laps) for seed in range(seeds)] for kind in SEPARATIONS}
    rows = [row(kind, name, found[kind]) for kind in SEPARATIONS for name in methods(1)]
    told = "; ".join(
        f"{kind}, in passes {wins(rows, kind, 'wins_passes')}, in seconds {wins(rows, kind, 'wins_seconds')}"
        for kind in SEPARATIONS
    )
    ends = {
        kind: [{name: float(run.bounds.max() - best_of(runs)) for name, run in runs.items()} for runs in found[kind]]
        for kind in SEPARATIONS
    }
    figure = new_figure(10.5, 7.4)
    draw(figure, found)
    text = CAPTION.format(n=n, k=k, d=d, seeds=seeds, judged=JUDGED, told=told)
    return Made(figure, text, {"rows": rows, "ends_below_the_best": ends}, [("", COLUMNS, rows)])
