"""Seven points, a component that shrinks on one of them, and what restarts, reg_covar and a prior make of it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from made import Made, legend
from trail import trail

from gmmdask.algorithms import Batch
from gmmdask.covariance._base import IllDefinedCovariance
from gmmdask.frame import Conjugate, Prior
from gmmdask.mixture import Mixture
from gmmdask.mstep import m_step
from gmmdask.plot.shown import densities
from gmmdask.plot.style import INK, QUALITATIVE, new_figure, tidy
from gmmdask.testing.passes import e_step, frame_of_rows

POINTS = np.array([-2.2, -1.3, -0.5, 0.2, 0.9, 1.6, 2.9])[:, None]
AT = 5  # the point that the component shrinks on
REG_COVAR, START_WIDTH = 1e-2, 0.2
SMALLEST = 1e-6
BLUE, ORANGE, RED, PURPLE = (f"#{code}" for code in QUALITATIVE[:4])
CAPTION = (
    "Seven points and two components, one of which sits on a single point. Top left, the density as its standard "
    "deviation σ shrinks. Top right, the log-likelihood of the seven points: it grows by log 10 = 2.30 nats with "
    "every tenth of σ, without end; with {reg:g} added to variances it stops growing at {regularised:.1f}, and "
    'with the prior of `prior="mclust"` the objective has its maximum at σ = {best:.2f}. Bottom left, what EM '
    'makes of σ = {width}: without remedy it is 0 to the last digit after {laps} iterations; `empty="reseed"` '
    "begins the component anew, `reg_covar` keeps σ at {kept:.2f}, the prior ends at {map:.2f}. Bottom right, "
    "{starts} random starts without remedy: {collapsed} collapse (red) and pass every likelihood, so the best of "
    "several starts by likelihood is a collapsed one; without those the best has {ended:.2f} nats."
)


def pair(width: float, mean: float = POINTS[AT, 0]) -> Mixture:
    """A wide component of all points, and one of this width on one point."""
    variances = np.array([[POINTS.var()], [width**2]])
    return Mixture("diag", np.array([6, 1]) / 7, np.array([[POINTS.mean()], [mean]]), variances)


def total(mixture: Mixture) -> float:
    """Log-likelihood of the points, nats."""
    return float(np.log(densities(mixture, POINTS).sum(axis=0)).sum())


@dataclass(frozen=True)
class Bare:
    """EM without any remedy: log-likelihood and smallest σ at every iteration, and whether it ended in a collapse."""

    scores: list[float]
    widths: list[float]
    collapsed: bool


def bare_em(start: Mixture, laps: int, reg_covar: float = 0.0, prior: str | None = None) -> Bare:
    """E-steps and M-steps until a variance is zero, or for so many laps; no component begins anew."""
    frame = frame_of_rows(start, POINTS)
    known = replace(Prior.of("diag", 2, frame, reg_covar), conjugate=Conjugate.named(prior, 2, 1))
    mixture, scores, widths = frame.mixture_in(start), [], []
    for _ in range(laps):
        widths.append(float(np.sqrt(frame.mixture_out(mixture).covariances.min())))
        try:
            stats = e_step(POINTS, mixture, "centred", frame, [(0, len(POINTS))])
        except IllDefinedCovariance:
            return Bare(scores, widths, True)
        scores.append(stats.log_likelihood + len(POINTS) * frame.log_det)
        mixture = m_step(stats, known)
    return Bare(scores, widths, bool(widths[-1] < SMALLEST))


def random_start(rng: np.random.Generator) -> Mixture:
    """Two points as means, and a width between a hundredth of the data's and all of it for each."""
    widths = POINTS.std() * np.exp(rng.uniform(np.log(0.01), 0, (2, 1)))
    return Mixture("diag", np.array([0.5, 0.5]), POINTS[rng.choice(7, 2, replace=False)], widths**2)


def objectives(widths: np.ndarray) -> dict[str, np.ndarray]:
    """Nats at every σ: without remedy, with reg_covar, and with the log prior, up to a constant: it is 0 at σ = 1."""
    frame = frame_of_rows(pair(1.0), POINTS)
    conjugate = Conjugate.named("mclust", 2, 1)
    assert conjugate is not None
    at_one = conjugate.log_density(frame.mixture_in(pair(1.0)))
    priors = np.array([conjugate.log_density(frame.mixture_in(pair(width))) - at_one for width in widths])
    plain = np.array([total(pair(width)) for width in widths])
    return {
        "no remedy": plain,
        f"reg_covar = {REG_COVAR:g}": np.array([total(pair(np.sqrt(width**2 + REG_COVAR))) for width in widths]),
        'prior="mclust"': plain + priors,
    }


def draw_objectives(ax: Any, widths: np.ndarray, found: dict[str, np.ndarray]) -> None:
    for (name, values), colour in zip(found.items(), (RED, BLUE, PURPLE), strict=True):
        ax.plot(widths, values, color=colour, linewidth=1.6, label=name)
    ax.set_xscale("log")
    ax.invert_xaxis()
    ax.set_ylim(-35, found["no remedy"].max() + 1)
    tidy(ax, "Objective of the seven points", "σ of the component on one point", "nats")
    legend(ax, loc="lower right")


def draw_widths(ax: Any, runs: dict[str, list[float]]) -> None:
    for (name, values), colour in zip(runs.items(), (RED, ORANGE, BLUE, PURPLE), strict=True):
        ax.plot(values, color=colour, linewidth=1.6, marker="o", markersize=3, label=name)
    ax.set_yscale("log")
    ax.set_ylim(SMALLEST, 10)
    tidy(ax, "Smallest σ while EM runs", "iterations", "σ")
    legend(ax, loc="lower right")


def draw_starts(ax: Any, starts: list[Bare]) -> None:
    for run in sorted(starts, key=lambda run: run.collapsed):
        ax.plot(run.scores, color=RED if run.collapsed else BLUE, linewidth=0.9, alpha=0.7)
    ended = [run.scores[-1] for run in starts if not run.collapsed]
    ax.set_ylim(-18, max(ended) + 6)
    ax.set_xlim(-1, 60)
    for colour, name in ((RED, "collapses"), (BLUE, "does not")):
        ax.plot([], [], color=colour, linewidth=1.6, label=name)
    tidy(ax, "Log-likelihood of random starts", "iterations", "nats")
    legend(ax, loc="lower right")


def make(tiny: bool) -> Made:
    widths = np.geomspace(2.0, SMALLEST, 20 if tiny else 200)
    found = objectives(widths)
    laps, start = 25, pair(START_WIDTH)
    mended = trail(Batch(tol=0, max_iter=laps), start, POINTS).mixtures  # the library's own EM
    runs = {
        "no remedy": bare_em(start, laps).widths,
        'empty="reseed"': [float(np.sqrt(mixture.covariances.min())) for _, mixture in sorted(mended.items())][:laps],
        f"reg_covar = {REG_COVAR:g}": bare_em(start, laps, reg_covar=REG_COVAR).widths,
        'prior="mclust"': bare_em(start, laps, prior="mclust").widths,
    }
    rng = np.random.default_rng(3)
    starts = [bare_em(random_start(rng), 400) for _ in range(6 if tiny else 60)]
    ended = max(run.scores[-1] for run in starts if not run.collapsed)
    collapsed = sum(run.collapsed for run in starts)
    penalised = found['prior="mclust"']
    numbers = {
        "objectives": {name: [float(values[0]), float(values[-1])] for name, values in found.items()},
        "map_width": float(widths[np.argmax(penalised)]),
        "runs": runs,
        "starts": len(starts),
        "collapsed": collapsed,
        "best_without_collapse": ended,
    }
    figure = new_figure(9.6, 6.6)
    axes = figure.subplots(2, 2).ravel()
    x = np.unique(np.concatenate([np.linspace(-5, 5, 600), POINTS[AT, 0] + np.linspace(-0.2, 0.2, 400)]))[:, None]
    for width, colour in zip((0.8, 0.2, 0.05), (BLUE, ORANGE, RED), strict=True):
        axes[0].plot(x, densities(pair(width), x).sum(axis=0), color=colour, linewidth=1.4, label=f"σ = {width}")
    axes[0].plot(POINTS, np.zeros(7), color=INK, linestyle="", marker="|", markersize=14, clip_on=False)
    tidy(axes[0], "Density, and the seven points (black)", "x", "density")
    legend(axes[0], loc="upper left")
    draw_objectives(axes[1], widths, found)
    draw_widths(axes[2], runs)
    draw_starts(axes[3], starts)
    told = {"reg": REG_COVAR, "regularised": found[f"reg_covar = {REG_COVAR:g}"][-1], "best": numbers["map_width"]}
    told |= {"width": START_WIDTH, "laps": len(runs["no remedy"]) - 1, "kept": runs[f"reg_covar = {REG_COVAR:g}"][-1]}
    told |= {"map": runs['prior="mclust"'][-1], "starts": len(starts), "collapsed": collapsed, "ended": ended}
    return Made(figure, CAPTION.format(**told), numbers)
