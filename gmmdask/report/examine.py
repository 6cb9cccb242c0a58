"""What rows tell of a fitted mixture, by one pass: scores, certainty of labels, distances from the components."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.stats import chi2

from gmmdask.covariance._base import Array
from gmmdask.densities import LogJoint, check_features, check_names
from gmmdask.execution import Executor, one_thread
from gmmdask.kernels import soft_assignment
from gmmdask.mixture import Mixture
from gmmdask.model_file import Model
from gmmdask.pilot import first_look
from gmmdask.plan import make_plan
from gmmdask.predict import Prediction
from gmmdask.quantiles import Quantiles
from gmmdask.sources import Source
from gmmdask.task import Block, Data

SHARES = 50  # equal shares of a Gaussian's rows that distances are counted in
TAILS = (1e-2, 5e-3, 2e-3, 1e-3, 1e-4, 1e-5, 1e-6)  # and those beyond
BEYOND, FARTHER = 60, 1.25  # farther bins still, each so many times as far (squared) as the one before
UNLIKELY = 0.01  # of rows drawn from the mixture itself are called unlikely
DRAWN_ROWS = 20_000
SAMPLE_ROWS, SAMPLE_BYTES = 50_000, 32 << 20


@lru_cache(maxsize=8)
def edges(d: int) -> Array:
    """Squared Mahalanobis distances (B,), rising, between which rows are counted."""
    inner = chi2.ppf(np.linspace(0, 1, SHARES + 1)[1:-1], d)
    outer = chi2.isf(TAILS, d)
    return np.unique(np.concatenate([inner, outer, outer[-1] * FARTHER ** np.arange(1, BEYOND + 1)]))


def expected(d: int) -> Array:
    """Shares (B,) of a Gaussian's rows within the `edges`."""
    return np.asarray(chi2.cdf(edges(d), d))


@dataclass(frozen=True, eq=False)
class Seen:
    """Sums over rows of weights w, with responsibilities r and log densities l (nats); adds.

    `totals` are Σ w, Σ w², Σ w l, Σ w l² and the weight of unlikely rows. `posteriors` (K, K) is Σ w r over the rows of
    each label, `labelled` (K,) their weight; noise is one component more. `distances` (K, B + 1) is Σ w r of rows
    between the `edges`: as many rows of a component are at a distance as if the component were alone, if the mixture is
    right.
    """

    totals: Array
    posteriors: Array
    labelled: Array
    distances: Array

    def __add__(self, other: "Seen") -> "Seen":
        return Seen(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def weight(self) -> float:
        return float(self.totals[0])

    @property
    def score(self) -> float:
        """Mean log density, nats per row."""
        return float(self.totals[2] / self.totals[0])

    @property
    def score_error(self) -> float:
        """Its standard error; rows are as many as their weights leave effective (Kish 1965)."""
        weight, squares, first, second, _ = self.totals
        spread = max(second / weight - (first / weight) ** 2, 0.0)
        return float(np.sqrt(spread * squares) / weight)

    @property
    def unlikely(self) -> float:
        """The share of rows less likely than 99 % of rows drawn from the mixture."""
        return float(self.totals[4] / self.totals[0])

    @property
    def mass(self) -> Array:
        """Σ w r of each component, (K,)."""
        return np.asarray(self.distances.sum(axis=1))

    @property
    def within(self) -> Array:
        """Shares (K, B) of each component's mass within the distances `edges`; NaN for a component without any."""
        mass = self.mass[:, None]
        summed = np.cumsum(self.distances, axis=1)[:, :-1]
        return np.divide(summed, mass, out=np.full_like(summed, np.nan), where=mass > 0)

    @property
    def averages(self) -> Array:
        """Mean posteriors (K, K) of the rows of each label; NaN for a label without rows."""
        labelled = self.labelled[:, None]
        return np.divide(self.posteriors, labelled, out=np.full_like(self.posteriors, np.nan), where=labelled > 0)

    def distance(self, share: float, d: int) -> Array:
        """The Mahalanobis distances (K,) within which this share of each component's mass lies, interpolated."""
        at = np.sqrt(np.concatenate([[0.0], edges(d)]))
        return np.array([np.interp(share, np.concatenate([[0.0], shares]), at) for shares in self.within])


@dataclass(frozen=True, eq=False)
class Examine:
    """The work of the pass. Rows with a log density below `threshold` are unlikely."""

    mixture: Mixture
    threshold: float
    name: str

    def __call__(self, blocks: Iterable[Block]) -> Seen:
        prediction = Prediction(self.mixture, "score")
        frame, k, bounds = prediction.frame, self.mixture.n_components, edges(self.mixture.d)
        inside, n_bins = frame.mixture_in(self.mixture), len(bounds) + 1
        log_joint = LogJoint(frame, inside, prediction.block_rows, self.name)
        lines = len(self.mixture.proportions)
        totals, distances = np.zeros(5), np.zeros(k * n_bins)
        posteriors, labelled = np.zeros((lines, lines)), np.zeros(lines)
        first_bin = n_bins * np.arange(k)[:, None]
        for block in blocks:
            _, joint = log_joint(block)
            with np.errstate(invalid="ignore"):  # of components without weight
                bins = np.searchsorted(bounds, 2 * (inside.log_scale[:, None] - joint[:k])) + first_bin
            of_label = joint.argmax(axis=0) == np.arange(lines)[:, None]
            values = soft_assignment(joint) + frame.log_det
            weights = np.ones(len(values)) if block.weights is None else block.weights
            joint *= weights
            totals += [
                weights.sum(),
                weights @ weights,
                weights @ values,
                weights @ values**2,
                weights @ (values < self.threshold),
            ]
            posteriors += of_label @ joint.T
            labelled += of_label @ weights
            distances += np.bincount(bins.ravel(), weights=joint[:k].ravel(), minlength=k * n_bins)
        return Seen(totals, posteriors, labelled, distances.reshape(k, n_bins))


def drawn_scores(mixture: Mixture) -> Quantiles:
    """Quantiles of the log densities of rows that are drawn from the mixture itself."""
    with one_thread():
        rows, _ = mixture.sample(DRAWN_ROWS, np.random.default_rng(0))
        return Quantiles.of(Prediction(mixture, "score").of(rows))


@dataclass(frozen=True, eq=False)
class Look:
    """What was seen of some rows: their name and number, sums over all of them, and a uniform sample (m, d).

    `trained` says whether they are those of the fit; None where that cannot be told.
    """

    name: str
    rows: int
    weighted: bool
    trained: bool | None
    seen: Seen
    sample: np.ndarray


def look_at(model: Model, source: Source, executor: Executor, drawn: Quantiles) -> Look:
    """Two passes over the rows of a source: a uniform sample, then the sums.

    Raises
    ------
    DataError
        If the rows are not as wide as the mixture, hold NaN or infinity, or none has weight.
    ValueError
        If their features have other names than those of the fit.
    """
    mixture = model.mixture
    check_features(mixture, source)
    check_names(model.feature_names, source)
    most = max(1_000, min(SAMPLE_ROWS, SAMPLE_BYTES // (8 * source.d)))
    with one_thread():
        data = Data(source, make_plan(source.edges, source.d, Prediction(mixture, "score").block_rows), executor)
        look = first_look(data, 0, most, 0)
        seen: Seen = data.sums(Examine(mixture, drawn.threshold(UNLIKELY), source.name))
    trained = same(model.provenance.get("data", {}), source.fingerprint())
    return Look(source.name, source.n, source.weights is not None, trained, seen, look.sample)


def same(then: dict[str, Any], now: dict[str, Any]) -> bool | None:
    """Whether two fingerprints are of the same rows; these may have moved, where more than an address tells them.

    None for as many rows that are stored otherwise: they may be a copy.
    """
    if "rows" in then and "rows" in now:  # of values, from all over an array
        return all(then.get(name) == now.get(name) for name in ("shape", "dtype", "rows", "weights"))
    if "digest" in then and "digest" in now:
        then, now = ({name: value for name, value in known.items() if name != "address"} for known in (then, now))
    if then == now:
        return True
    copied = then.get("kind") != now.get("kind") or then.get("address") != now.get("address")
    return None if copied and "shape" in then and then["shape"] == now.get("shape") else False
