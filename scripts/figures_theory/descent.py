"""Gradient ascent by Adam beside EM: density and likelihood against iterations."""

import statistics
from typing import Any

import numpy as np
from generative import TRUTH
from made import Made, dots, framed, legend
from trail import Trail, trail

from gmmdask.algorithms import Batch, Gradient
from gmmdask.mixture import Mixture
from gmmdask.plot.pictures import density
from gmmdask.plot.style import QUALITATIVE, new_figure, tidy

RATES = (1e-3, 1e-2)
CLOSE = 1e-3  # nats per row from the best that any of the three has reached
CAPTION = (
    "{n:,} rows of the mixture above, three components, both methods from the same start (three rows as means, "
    "the data's covariance). Top, the density that Adam with learning rate 1e-3 has reached after {shown} passes."
    " Bottom, the mean log-likelihood against passes, of {seeds} data sets and starts. Within {close:g} nats per "
    "row of the best of the three: {told}."
)
COLUMNS = [
    ("method", "method", ""),
    ("reached", "seeds that get there", ""),
    ("passes", "passes, median", ".0f"),
    ("least", "fewest", ".0f"),
    ("most", "most", ".0f"),
    ("seconds", "seconds, median", ".2f"),
]


def random_rows_start(rows: np.ndarray, k: int, rng: np.random.Generator) -> Mixture:
    """Rows as means, the covariance of all rows for each, equal weights."""
    means = rows[rng.choice(len(rows), k, replace=False)]
    return Mixture("full", np.full(k, 1 / k), means, np.stack([np.cov(rows.T)] * k))


def passes_to(bounds: np.ndarray, level: float) -> int | None:
    """Passes after which a run's best bound is at this level, the one that shows it included; None if it never is."""
    there = np.flatnonzero(np.maximum.accumulate(bounds) >= level)
    return int(there[0]) + 1 if len(there) else None


def table(runs: list[dict[str, Trail]]) -> list[dict[str, Any]]:
    """A row for each method: passes and seconds until it is close to the best of its seed."""
    rows = []
    for name in runs[0]:
        passes, seconds = [], []
        for of_seed in runs:
            best = max(run.bounds.max() for run in of_seed.values())
            needed = passes_to(of_seed[name].bounds, best - CLOSE)
            if needed is not None:
                passes.append(needed)
                seconds.append(float(of_seed[name].seconds[needed - 1]))
        row: dict[str, Any] = {"method": name, "reached": f"{len(passes)} of {len(runs)}"}
        if passes:
            row |= {"passes": statistics.median(passes), "least": min(passes), "most": max(passes)}
            row["seconds"] = statistics.median(seconds)
        rows.append(row)
    return rows


def draw_curves(ax: Any, runs: list[dict[str, Trail]]) -> None:
    for at, of_seed in enumerate(runs):
        for (name, run), colour in zip(of_seed.items(), QUALITATIVE, strict=False):
            x = np.arange(1, run.passes + 1)
            label = name if at == 0 else None
            ax.plot(x, run.bounds, color=f"#{colour}", linewidth=1.6 if at == 0 else 0.7, alpha=0.9, label=label)
    ax.set_xscale("log")
    low = min(run.bounds[0] for of_seed in runs for run in of_seed.values())
    ax.set_ylim(low - 0.02, None)
    tidy(ax, "Mean log-likelihood (first seed thick)", "passes", "nats per row")
    legend(ax, loc="lower right")


def make(tiny: bool) -> Made:
    n, seeds, laps, shown = (100, 2, 30, (0, 5, 10, 29)) if tiny else (1000, 5, 5000, (0, 300, 1000, 4000))
    runs = []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 7])
        rows = TRUTH.sample(n, rng)[0]
        start = random_rows_start(rows, 3, rng)
        of_seed = {"EM": trail(Batch(tol=0, max_iter=min(laps, 300)), start, rows, keep=())}
        for rate in RATES:
            adam = Gradient(optimizer="adam", learning_rate=rate, tol=0, gradient_tol=0, max_iter=laps)
            of_seed[f"Adam, learning rate {rate:g}"] = trail(adam, start, rows, keep=shown)
        runs.append(of_seed)
        if seed == 0:
            first = rows
    found = table(runs)
    numbers = {
        "methods": found,
        "ends": {name: [float(of_seed[name].bounds.max()) for of_seed in runs] for name in runs[0]},
    }
    figure = new_figure(10.5, 6.0)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.25])
    mixtures = runs[0][f"Adam, learning rate {RATES[0]:g}"].mixtures
    for ax, step in zip(top.subplots(1, len(shown)), shown, strict=True):
        density(mixtures[step], ax=ax)
        dots(ax, first, size=2, opacity=0.4)
        framed(ax, f"Adam 1e-3, {step:,} passes", first)
        ax.set(xlabel="", ylabel="")
    draw_curves(bottom.subplots(), runs)
    told = "; ".join(
        f"{row['method']} on {row['reached']} seeds"
        + (f", {row['passes']:.0f} passes (median)" if "passes" in row else "")
        for row in found
    )
    text = CAPTION.format(n=n, shown=", ".join(f"{s:,}" for s in shown), seeds=seeds, close=CLOSE, told=told)
    return Made(figure, text, numbers, [("", COLUMNS, found)])
