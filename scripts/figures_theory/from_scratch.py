"""Stochastic gradient ascent in twenty lines: a diagonal mixture with log σ and softmax, nothing but NumPy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from made import Made, legend
from trail import trail

from gmmdask.algorithms import Batch
from gmmdask.matching import match
from gmmdask.mixture import Mixture
from gmmdask.plot.style import INK, QUALITATIVE, colours, new_figure, part, tidy

TRUTH = Mixture(
    "diag",
    np.array([0.5, 0.3, 0.2]),
    np.array([[0.0, 0.0, 0.0], [3.0, -2.0, 1.0], [-2.0, 3.0, 3.0]]),
    np.array([[1.0, 0.5, 1.5], [0.8, 1.2, 0.4], [0.6, 1.0, 2.0]]) ** 2,
)
RATE, DECAY, MOMENTUM, BATCH = 0.05, 200, 0.9, 100
CLOSE = 0.01  # nats per row from the best end
CAPTION = (
    "{n:,} rows of a diagonal mixture, K = 3, d = 3, fitted by stochastic gradient ascent written out in NumPy: "
    "logits, means and log σ as parameters, momentum {momentum}, learning rate {rate} / (1 + t/{decay}), {batch} "
    "rows a step. Left, the mean log-likelihood of all rows after each lap, from {seeds} starts (random rows as "
    "means), and that of EM from the same starts (dashed). Within {close} nats per row of the best end: {sgd} of "
    "{seeds} starts of the gradient, {em} of {seeds} of EM. Right, means, σ and weights of the best start against"
    " the truth, components matched: largest error {error:.3f}, of EM {em_error:.3f}."
)


@dataclass(frozen=True)
class Parameters:
    """Logits (K,), means and log σ (K, d); also their derivatives, and how fast they move."""

    logits: np.ndarray
    means: np.ndarray
    log_sigma: np.ndarray

    def plus(self, factor: float, other: "Parameters", keep: float = 1.0) -> "Parameters":
        """keep · this + factor · other."""
        return Parameters(
            keep * self.logits + factor * other.logits,
            keep * self.means + factor * other.means,
            keep * self.log_sigma + factor * other.log_sigma,
        )

    def mixture(self) -> Mixture:
        return Mixture("diag", softmax(self.logits), self.means, np.exp(2 * self.log_sigma))


def softmax(logits: np.ndarray) -> np.ndarray:
    found = np.exp(logits - logits.max())
    return np.asarray(found / found.sum())


def value_and_gradient(at: Parameters, rows: np.ndarray) -> tuple[float, Parameters]:
    """Mean log-likelihood of rows (n, d), and its derivatives: mean γ - π, γ z/σ and γ (z² - 1), z = (x - μ)/σ."""
    sigma, weights = np.exp(at.log_sigma), softmax(at.logits)
    z = (rows - at.means[:, None]) / sigma[:, None]  # (K, n, d)
    joint = np.log(weights)[:, None] - 0.5 * (z**2).sum(axis=2) - at.log_sigma.sum(axis=1)[:, None]
    top = joint.max(axis=0)
    log_p = top + np.log(np.exp(joint - top).sum(axis=0))
    gamma = np.exp(joint - log_p) / len(rows)
    slopes = Parameters(
        gamma.sum(axis=1) - weights,
        np.einsum("kn,knd->kd", gamma, z) / sigma,
        np.einsum("kn,knd->kd", gamma, z**2 - 1),
    )
    return float(log_p.mean() - 0.5 * rows.shape[1] * np.log(2 * np.pi)), slopes


def ascend(start: Parameters, rows: np.ndarray, laps: int, rng: np.random.Generator) -> tuple[Parameters, list[float]]:
    """Parameters after so many laps over shuffled rows, and the mean log-likelihood before and after each lap."""
    at, speed, step = start, start.plus(-1.0, start), 0
    scores = [value_and_gradient(at, rows)[0]]
    for _ in range(laps):
        for batch in np.array_split(rng.permutation(rows), max(1, len(rows) // BATCH)):
            speed = speed.plus(1.0, value_and_gradient(at, batch)[1], keep=MOMENTUM)
            at = at.plus(RATE / (1 + step / DECAY), speed)
            step += 1
        scores.append(value_and_gradient(at, rows)[0])
    return at, scores


def flat(mixture: Mixture) -> np.ndarray:
    """Means, standard deviations and weights."""
    return np.concatenate([mixture.means.ravel(), np.sqrt(mixture.covariances).ravel(), mixture.weights])


def draw_truth(ax: Any, fitted: Mixture) -> None:
    """Fitted parameters against the true ones, in the colours of the components."""
    truth = flat(TRUTH)
    ax.plot([truth.min(), truth.max()], [truth.min(), truth.max()], color=INK, linewidth=0.8, linestyle="--")
    for name, marker, of in (
        ("means", "o", lambda m: m.means),
        ("σ", "s", lambda m: np.sqrt(m.covariances)),
        ("weights", "^", lambda m: m.weights[:, None]),
    ):
        for k, shade in enumerate(colours(3)):
            style = {"color": shade, "linestyle": "", "marker": marker, "markersize": 6, "markeredgecolor": "white"}
            ax.plot(of(TRUTH)[k], of(fitted)[k], **style)
        ax.plot([], [], color=INK, linestyle="", marker=marker, markersize=6, label=name)
    tidy(ax, "Parameters of the best start", "true", "fitted")
    legend(ax, loc="upper left")


def make(tiny: bool) -> Made:
    n, seeds, laps = (300, 2, 3) if tiny else (3000, 8, 20)
    rows = TRUTH.sample(n, np.random.default_rng(8))[0]
    spread = np.log(rows.std(axis=0))
    curves, ended, by_em = [], [], []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 9])
        start = Parameters(np.zeros(3), rows[rng.choice(n, 3, replace=False)], np.tile(spread, (3, 1)))
        at, scores = ascend(start, rows, laps, rng)
        curves.append(scores)
        ended.append(at.mixture())
        by_em.append(trail(Batch(tol=0, max_iter=laps + 1), start.mixture(), rows, keep=()))
    best, best_em = (int(np.argmax(last)) for last in ([c[-1] for c in curves], [run.bounds[-1] for run in by_em]))
    matched = [m.reordered(match(TRUTH, m)) for m in (ended[best], by_em[best_em].last)]
    errors = [float(np.abs(flat(mixture) - flat(TRUTH)).max()) for mixture in matched]
    top = max(curves[best][-1], by_em[best_em].bounds[-1])
    near = [
        sum(end >= top - CLOSE for end in ends) for ends in ([c[-1] for c in curves], [r.bounds[-1] for r in by_em])
    ]
    numbers = {
        "ends": [c[-1] for c in curves],
        "ends_of_em": [float(run.bounds[-1]) for run in by_em],
        "largest_error": errors[0],
        "largest_error_of_em": errors[1],
        "parameters": flat(matched[0]).tolist(),
        "truth": flat(TRUTH).tolist(),
    }
    figure = new_figure(9.8, 4.2)
    left, right = figure.subplots(1, 2)
    for seed, (scores, run) in enumerate(zip(curves, by_em, strict=True)):
        left.plot(scores, color=f"#{QUALITATIVE[0]}", linewidth=1.3, label="stochastic gradient" if seed == 0 else None)
        left.plot(
            run.bounds, color=f"#{QUALITATIVE[1]}", linewidth=1.1, linestyle="--", label="EM" if seed == 0 else None
        )
    left.xaxis.set_major_locator(part("ticker").MaxNLocator(integer=True))
    left.set_ylim(top - 0.6, top + 0.03)
    tidy(
        left,
        f"Mean log-likelihood from {seeds} starts",
        f"laps of {n // BATCH} gradient steps, or of one EM iteration",
        "nats per row",
    )
    legend(left, loc="lower right")
    draw_truth(right, matched[0])
    told = {"n": n, "momentum": MOMENTUM, "rate": RATE, "decay": DECAY, "batch": BATCH, "seeds": seeds, "close": CLOSE}
    return Made(figure, CAPTION.format(**told, sgd=near[0], em=near[1], error=errors[0], em_error=errors[1]), numbers)
