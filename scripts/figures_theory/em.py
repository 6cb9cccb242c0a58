"""EM after 0, 1, 5 and 20 iterations."""

import numpy as np
from generative import TRUTH
from made import Made, dots, framed, mixed_colours, posteriors
from trail import trail

from gmmdask.algorithms import Batch
from gmmdask.matching import match
from gmmdask.mixture import Mixture
from gmmdask.plot.pictures import ellipses
from gmmdask.plot.style import INK, QUALITATIVE, new_figure, tidy

SHOWN = (0, 1, 5, 20)
CAPTION = (
    "EM on {n:,} rows of the mixture above, from three rows as means and the data's covariance thrice, after "
    "{shown} iterations. The curve is the mean log-likelihood: {first:.3f} nats per row at the start, {last:.3f} "
    "after {laps} iterations, and at no iteration lower than before. The mixture that the rows were drawn from "
    "has {truth:.3f} (dashed)."
)


def make(tiny: bool) -> Made:
    n, laps = (100, 21) if tiny else (1500, 41)
    rng = np.random.default_rng(2)
    rows, _ = TRUTH.sample(n, rng)
    covariance = np.cov(rows.T)
    start = Mixture("full", np.full(3, 1 / 3), rows[rng.choice(n, 3, replace=False)], np.stack([covariance] * 3))
    found = trail(Batch(tol=0, max_iter=laps), start, rows)
    truth = trail(Batch(tol=0, max_iter=1), TRUTH, rows).scores[0]
    numbers = {"n": n, "bounds": found.bounds.tolist(), "truth": float(truth)}
    order = match(TRUTH, found.last)  # the colours of the picture of the model
    figure = new_figure(10.5, 5.8)
    grid = figure.add_gridspec(2, 3)
    for at, laps_done in enumerate(SHOWN):
        ax = figure.add_subplot(grid[divmod(at, 2)])
        mixture = found.mixtures[laps_done].reordered(order)
        dots(ax, rows, mixed_colours(posteriors(mixture, rows)), size=6)
        ellipses(mixture, ax=ax)
        framed(ax, f"after {laps_done} iteration{'s' * (laps_done != 1)}", rows, margin=0.2)
    ax = figure.add_subplot(grid[:, 2])
    ax.axhline(truth, color=INK, linewidth=1, linestyle="--")
    ax.plot(found.bounds, color=f"#{QUALITATIVE[0]}", linewidth=1.6)
    ax.plot(SHOWN, found.bounds[list(SHOWN)], color=f"#{QUALITATIVE[0]}", linestyle="", marker="o", markersize=5)
    tidy(ax, "Mean log-likelihood", "iterations", "nats per row")
    assert np.all(np.diff(found.bounds) >= -1e-12 * np.abs(found.bounds[1:]))
    shown = ", ".join(map(str, SHOWN[:-1])) + f" and {SHOWN[-1]}"
    told = {"n": n, "shown": shown, "first": found.bounds[0], "last": found.bounds[-1], "laps": len(found.bounds) - 1}
    return Made(figure, CAPTION.format(**told, truth=truth), numbers)
