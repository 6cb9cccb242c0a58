"""Matrices as colours: which components are alike, where rows have their probability, where means are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gmmdask.covariance._base import Array
from gmmdask.execution import one_thread
from gmmdask.matching import DISTANCES, mixture_of
from gmmdask.mixture import Mixture
from gmmdask.plot.style import INK, feature_name, new_figure, numbers_of, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WRITTEN = 12  # lines of a matrix whose numbers are written into it
NAMED = 40  # lines that have their names beside them
WEAKEST, STRONGEST = (
    0.5,
    3.0,
)  # standard deviations that have the strongest colour: that of the farthest mean, if between


def similarity(mixture: Mixture, ax: "Axes | None" = None, distance: str = "bhattacharyya") -> "Axes":
    """How much components overlap, pair by pair: 1 for the same distribution, 0 for two that have nothing in common.

    That is exp(-D) of the Bhattacharyya distance D, or exp(-D/8) of the symmetric Kullback-Leibler divergence: of
    components with one covariance both are the same.

    Parameters
    ----------
    distance : {"bhattacharyya", "symmetric_kl"}

    Raises
    ------
    ValueError
        If the distance is unknown.
    """
    overlap = overlaps(mixture, distance)
    ax = square_axes() if ax is None else ax
    heat(ax, overlap, "Purples", (0, 1))
    tidy_matrix(ax, "Overlap of components", "component", "component")
    return ax


def overlaps(mixture: Mixture, distance: str = "bhattacharyya") -> Array:
    """(K, K), from 0 to 1; see `similarity`."""
    if distance not in DISTANCES:
        raise ValueError(f"distance={distance!r}: expected one of {', '.join(DISTANCES)}.")
    scale = 8.0 if distance == "symmetric_kl" else 1.0
    with one_thread():  # of BLAS: many small matrices
        found: Array = np.exp(-np.maximum(DISTANCES[distance](mixture, mixture), 0) / scale)
    return found


def responsibilities(posteriors: np.ndarray, ax: "Axes | None" = None) -> "Axes":
    """Where rows that are labelled with a component (a line) have their probability (columns), on the average.

    Certain labels give a dark diagonal. Components that no row is labelled with have an empty line.

    Parameters
    ----------
    posteriors : (n, K), as `predict_proba` has them; in memory.
    """
    return certainty(by_label(np.asarray(posteriors, dtype=np.float64)), ax)


def certainty(averages: Array, ax: "Axes | None" = None) -> "Axes":
    """The picture of `responsibilities`, of averages (K, K) that are known already."""
    ax = square_axes() if ax is None else ax
    heat(ax, averages, "Purples", (0, 1))
    tidy_matrix(ax, "Certainty of labels", "probability of component", "rows labelled")
    return ax


def by_label(posteriors: Array) -> Array:
    """Mean posteriors (K, K) of the rows of each label, from posteriors (n, K); NaN for a label without rows."""
    labels, k = posteriors.argmax(axis=1), posteriors.shape[1]
    sums = np.zeros((k, k))
    np.add.at(sums, labels, posteriors)
    counts = np.bincount(labels, minlength=k)[:, None]
    return np.divide(sums, counts, out=np.full((k, k), np.nan), where=counts > 0)


def profiles(mixture: Mixture, ax: "Axes | None" = None, names: Sequence[str] | None = None) -> "Axes":
    """How far the mean of each component is from that of all rows, in standard deviations of these.

    Parameters
    ----------
    names : (d,) of the features.
    """
    mixture = mixture_of(mixture)
    far = standardised_means(mixture).T
    d, k = far.shape
    if ax is None:
        ax = new_figure(2.0 + 0.26 * np.clip(k, 12, 30), 1.3 + 0.2 * np.clip(d, 4, NAMED)).add_subplot()
    strongest = float(np.clip(np.abs(far).max(), WEAKEST, STRONGEST))
    heat(ax, far, "RdBu_r", (-strongest, strongest), written=False)
    tidy_matrix(ax, "Means, in standard deviations of the data", "component", "")
    if d <= NAMED:
        ax.set_yticks(range(d), [feature_name(names, i) for i in range(d)])
    else:
        ax.set_ylabel("feature", fontsize=9, color=INK)
    return ax


def standardised_means(mixture: Mixture) -> Array:
    """(K, d): means less the mean of all rows, in standard deviations of these; 0 where there is no spread."""
    mean, covariance = mixture.moments()
    deviation = np.sqrt(np.diag(covariance))
    off = mixture.means - mean
    return np.divide(off, deviation, out=np.zeros_like(off), where=deviation > 0)


def square_axes() -> "Axes":
    ax: Axes = new_figure(5.2, 4.6).add_subplot()
    return ax


def heat(ax: "Axes", values: Array, colours: str, limits: tuple[float, float], written: bool = True) -> None:
    """A matrix as coloured cells, with a scale beside it, and its numbers where they can be read."""
    low, high = limits
    shown: Any = np.ma.masked_invalid(values)
    found = ax.imshow(shown, cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    scale = ax.figure.colorbar(found, ax=ax, fraction=0.05, pad=0.02)
    scale.outline.set_visible(False)
    scale.ax.tick_params(labelsize=8, labelcolor=INK, length=0)
    if written and max(values.shape) <= WRITTEN:
        for (down, across), value in np.ndenumerate(values):
            if value >= 0.005:
                dark = value > low + 0.6 * (high - low)
                style: dict[str, Any] = {
                    "fontsize": 7,
                    "color": "white" if dark else INK,
                    "ha": "center",
                    "va": "center",
                }
                ax.text(across, down, f"{value:.2f}".removeprefix("0"), **style)


def tidy_matrix(ax: "Axes", title: str, x: str, y: str) -> None:
    """Axes of a matrix: numbers of lines, and no grid."""
    numbers_of(ax, x=True, y=True)
    tidy(ax, title, x, y, grid=False)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.tick_params(length=0)
