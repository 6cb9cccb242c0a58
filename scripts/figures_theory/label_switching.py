"""The K! equal optima: components have no names, so every order of them is as likely."""

from itertools import permutations
from typing import Any

import numpy as np
from generative import TRUTH
from kmeans_limit import em_step, path
from made import Made
from trail import trail

from gmmdask.algorithms import Batch
from gmmdask.matching import match
from gmmdask.mixture import Mixture
from gmmdask.plot.style import INK, colours, new_figure, part, tidy

PAIR = Mixture("spherical", np.array([0.5, 0.5]), np.array([[-1.5], [1.5]]), np.array([1.0, 1.0]))
STARTS = ((-4.0, -3.0), (-3.0, -4.0), (3.6, 2.4), (2.4, 3.6), (-0.3, 0.3), (0.3, -0.3))
CAPTION = (
    "Left, two components in one dimension with weights and variances given: the mean log-likelihood of {n} rows "
    "over the two means has two summits of equal height, one the mirror image of the other, and the paths of EM "
    "(white) from {starts} starts end at the one on their side of the diagonal. Middle, three components in two "
    "dimensions, fitted from the six orders of one start: the same three means each time, under other numbers "
    "(colours). The six log-likelihoods differ by {difference:.0e} nats per row at most. Right, after `match`, "
    "which finds the order in which the components of one mixture are most like those of another: parameters "
    "differ by {apart:.0e} at most."
)


def surface(rows: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Mean log-likelihood of rows (n, 1), (m, m), with the means at all pairs of these places (m,)."""
    found = np.exp(-0.5 * (rows - at) ** 2) / np.sqrt(2 * np.pi)
    return np.array(
        [[np.mean(np.log(0.5 * found[:, i] + 0.5 * found[:, j])) for i in range(len(at))] for j in range(len(at))]
    )


def draw_surface(ax: Any, rows: np.ndarray, points: int, steps: int) -> float:
    """Contours over the two means, and paths; the difference of the two summits, nats per row."""
    at = np.linspace(-5, 5, points)
    heights = surface(rows, at)
    levels = heights.max() - np.geomspace(5, 0.005, 14)
    shades = part("cm").Blues(np.linspace(0.0, 0.75, len(levels)))
    ax.contourf(at, at, heights, levels=[*levels, np.inf], colors=shades)
    ax.plot(at, at, color=INK, linewidth=0.8, linestyle="--")
    halo = part("patheffects").withStroke(linewidth=3, foreground=INK)
    for start in STARTS:
        means = path(lambda means: em_step(rows, means, 1.0), np.array(start)[:, None], steps)[:, :, 0]
        ax.plot(*means.T, color="white", linewidth=1.4, path_effects=[halo])
        ax.plot(*means[0], color="white", marker="o", markersize=5, markeredgecolor=INK)
    tidy(ax, "Log-likelihood over two means", "mean of component 0", "mean of component 1")
    ax.grid(visible=False)
    ax.set_aspect("equal")
    above = np.triu(np.ones_like(heights, dtype=bool), 1)
    return float(abs(heights[above].max() - heights.T[above].max()))


def draw_means(ax: Any, mixtures: list[Mixture], title: str) -> None:
    """First features of the means of fits, in the colours of their components."""
    for fit, mixture in enumerate(mixtures):
        for k, shade in enumerate(colours(3)):
            ax.plot(fit + 1, mixture.means[k, 0], color=shade, linestyle="", marker="os^"[k], markersize=8)
    for k, shade in enumerate(colours(3)):
        places = [mixture.means[k, 0] for mixture in mixtures]
        ax.plot(range(1, len(mixtures) + 1), places, color=shade, linewidth=0.9, alpha=0.6, label=f"component {k}")
    tidy(ax, title, "fit", "first feature of the means")


def make(tiny: bool) -> Made:
    n, points, steps = (100, 21, 5) if tiny else (400, 121, 40)
    line = PAIR.sample(n, np.random.default_rng(4))[0]
    figure = new_figure(11.5, 4.0)
    axes = figure.subplots(1, 3)
    summits = draw_surface(axes[0], line, points, steps)
    rows = TRUTH.sample(n, np.random.default_rng(5))[0]
    fits = [
        trail(Batch(tol=0, max_iter=steps + 1), TRUTH.reordered(list(order)), rows) for order in permutations(range(3))
    ]
    ended = [fit.last for fit in fits]
    matched = [mixture.reordered(match(ended[0], mixture)) for mixture in ended]
    scores = [float(fit.bounds[-1]) for fit in fits]
    apart = max(float(np.abs(mixture.means - ended[0].means).max()) for mixture in matched)
    draw_means(axes[1], ended, "Six fits of three components")
    draw_means(axes[2], matched, "The same, matched to the first")
    numbers = {"scores": scores, "summits_differ_by": summits, "means_differ_by": apart}
    told = {"n": n, "starts": len(STARTS), "difference": max(scores) - min(scores), "apart": apart}
    return Made(figure, CAPTION.format(**told), numbers)
