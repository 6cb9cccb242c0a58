"""k-means as the limit of EM: weights and variances given, and the variance goes to zero."""

from typing import Any

import numpy as np
from made import Made, dots, framed, legend, mixed_colours, posteriors

from gmmdask.mixture import Mixture
from gmmdask.plot.style import INK, QUALITATIVE, colours, new_figure, part, tidy
from gmmdask.testing.passes import e_step, identity_frame

SOFT = (1.0, 0.1, 0.01, 1e-12)  # variances of the upper pictures and of the paths
CENTRES = np.array([[0.0, 0.0], [2.4, 0.4], [1.0, 2.2]])
CAPTION = (
    "Weights 1/3 and the variance σ² of three spherical components are given; EM moves the means alone. Top, "
    "responsibilities at the same means harden as σ² shrinks: {soft}. Bottom left, the paths of the means over "
    "{steps} iterations from one start: those of σ² = 1e-12 cover those of Lloyd's k-means (black dashes). Bottom"
    " right, how far apart the two are after each iteration: {apart} at most."
)


def at(means: np.ndarray, variance: float) -> Mixture:
    k = len(means)
    return Mixture("spherical", np.full(k, 1 / k), means, np.full(k, variance))


def em_step(rows: np.ndarray, means: np.ndarray, variance: float) -> np.ndarray:
    """Means after one iteration of EM with weights and variances given."""
    stats = e_step(rows, at(means, variance), "centred", identity_frame(means.shape[1]), [(0, len(rows))])
    return np.asarray(stats.origin + stats.first / stats.mass[:, None])


def lloyd_step(rows: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Means of the rows that are closest to each of the means (Lloyd 1982)."""
    nearest = np.argmin(((rows[:, None] - means) ** 2).sum(axis=2), axis=1)
    return np.array([rows[nearest == k].mean(axis=0) for k in range(len(means))])


def path(step: Any, start: np.ndarray, steps: int) -> np.ndarray:
    """Means (steps + 1, K, d)."""
    found = [start]
    for _ in range(steps):
        found.append(step(found[-1]))
    return np.array(found)


def draw_paths(ax: Any, rows: np.ndarray, paths: dict[float, np.ndarray], lloyd: np.ndarray) -> None:
    dots(ax, rows, size=5, opacity=0.35)
    halo = part("patheffects").withStroke(linewidth=3.4, foreground="white")
    for (variance, means), colour in zip(paths.items(), QUALITATIVE, strict=False):
        for k in range(means.shape[1]):
            label = f"EM, σ² = {variance:g}" if k == 0 else None
            ax.plot(*means[:, k].T, color=f"#{colour}", linewidth=2.2, path_effects=[halo], label=label)
    for k in range(lloyd.shape[1]):
        label = "k-means" if k == 0 else None
        ax.plot(*lloyd[:, k].T, color=INK, linewidth=1.2, linestyle="--", marker="o", markersize=3, label=label)
    framed(ax, "Paths of the means", rows)
    legend(ax, loc="lower right")


def make(tiny: bool) -> Made:
    n, steps = (100, 3) if tiny else (900, 12)
    rng = np.random.default_rng(6)
    rows = at(CENTRES, 0.45).sample(n, rng)[0]
    figure = new_figure(10.5, 6.6)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.45])
    unsure = []
    for ax, variance in zip(top.subplots(1, len(SOFT)), SOFT, strict=True):
        resp = posteriors(at(CENTRES, variance), rows)
        unsure.append(float(np.mean(resp.max(axis=0) < 0.9)))
        dots(ax, rows, mixed_colours(resp), size=6)
        ax.scatter(*CENTRES.T, s=60, c=0.75 * colours(3), edgecolors="white", linewidths=1.2)
        framed(ax, f"σ² = {variance:g}", rows)
    start = np.array([[-1.2, -1.0], [-0.7, -1.4], [0.1, -1.5]])
    lloyd = path(lambda means: lloyd_step(rows, means), start, steps)
    paths = {variance: path(lambda means, v=variance: em_step(rows, means, v), start, steps) for variance in SOFT}
    left, right = bottom.subplots(1, 2, width_ratios=[1, 1])
    draw_paths(left, rows, paths, lloyd)
    apart = {variance: np.abs(means - lloyd).max(axis=(1, 2)) for variance, means in paths.items()}
    for (variance, distances), colour in zip(apart.items(), QUALITATIVE, strict=False):
        right.plot(
            range(1, steps + 1),
            np.maximum(distances[1:], 1e-17),
            color=f"#{colour}",
            marker="o",
            markersize=3,
            label=f"σ² = {variance:g}",
        )
    right.set_yscale("log")
    right.set_ylim(1e-18, 10)
    tidy(right, "Distance of EM's means from those of k-means", "iteration", "largest difference")
    legend(right, loc="center right")
    numbers = {
        f"{variance:g}": {"unsure": share, "apart": apart[variance].tolist()}
        for variance, share in zip(SOFT, unsure, strict=True)
    }
    soft = ", ".join(f"{share:.0%}" for share in unsure) + " of rows have none above 0.9"
    told = ", ".join(f"{apart[variance].max():.1g} at σ² = {variance:g}" for variance in SOFT)
    return Made(figure, CAPTION.format(soft=soft, steps=steps, apart=told), numbers)
