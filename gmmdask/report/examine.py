"""What rows tell of a fitted mixture, by one pass: scores, certainty of labels, distances from the components."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.stats import chi2

from gmmdask.covariance._base import Array
from gmmdask.densities import Incomplete, LogJoint, check_features, check_names
from gmmdask.execution import Executor, one_thread
from gmmdask.kernels import Scratch, soft_assignment
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


@lru_cache(maxsize=256)
def edges(d: int) -> Array:
    """Squared Mahalanobis distances (B,), rising, between which rows are counted that have d values.

    Up to the last of the `TAILS`, those of another d are exceeded by the same shares of a Gaussian's rows.
    """
    inner = chi2.ppf(np.linspace(0, 1, SHARES + 1)[1:-1], d)
    outer = chi2.isf(TAILS, d)
    return np.unique(np.concatenate([inner, outer, outer[-1] * FARTHER ** np.arange(1, BEYOND + 1)]))


def expected(d: int) -> Array:
    """Shares (B,) of a Gaussian's rows within the `edges`."""
    return np.asarray(chi2.cdf(edges(d), d))


@dataclass(frozen=True, eq=False)
class Seen:
    """Sums over rows of weights w, with responsibilities r and log densities l (nats); adds.

    `totals` are Σ w, Σ w², Σ w l, Σ w l², and the weights of complete rows and of the unlikely ones of these: log
    densities of fewer values do not compare. `lacking` (d,) is Σ w of rows without a value of a feature.

    `posteriors` (K, K) is Σ w r over the rows of each label, `labelled` (K,) their weight; noise is one component more.
    `distances` (K, B + 1) is Σ w r of rows between the `edges` of as many features as they have values: as many rows of
    a component are at a distance as if the component were alone, if the mixture is right. Rows without any value are in
    none.
    """

    totals: Array
    posteriors: Array
    labelled: Array
    distances: Array
    lacking: Array

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
        weight, squares, first, second, *_ = self.totals
        spread = max(second / weight - (first / weight) ** 2, 0.0)
        return float(np.sqrt(spread * squares) / weight)

    def effective(self, weight: float) -> float:
        """The rows that some weight is worth."""
        return weight * float(self.totals[0] / self.totals[1])

    @property
    def complete(self) -> float:
        """The share of rows that lack no value."""
        return float(self.totals[4] / self.totals[0])

    @property
    def missing(self) -> Array:
        """The shares (d,) of rows that lack a value of each feature."""
        return self.lacking / self.totals[0]

    @property
    def unlikely(self) -> float:
        """The share of complete rows less likely than 99 % of rows drawn from the mixture; NaN if none is complete."""
        return float(self.totals[5] / self.totals[4]) if self.totals[4] else float("nan")

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
    """The work of the pass. Complete rows with a log density below `threshold` are unlikely; NaN may be `missing`."""

    mixture: Mixture
    threshold: float
    name: str
    missing: bool = False

    def __call__(self, blocks: Iterable[Block]) -> Seen:
        prediction = Prediction(self.mixture, "score", missing=self.missing)
        frame, (k, d) = prediction.frame, self.mixture.means.shape
        known = frame, frame.mixture_in(self.mixture), prediction.block_rows, self.name
        log_joint = Incomplete(*known, impute=False) if self.missing else LogJoint(*known)
        lines, n_bins, scratch = len(self.mixture.proportions), len(edges(d)) + 1, Scratch(k, prediction.block_rows)
        totals, distances, lacking = np.zeros(6), np.zeros(k * n_bins), np.zeros(d)
        posteriors, labelled = np.zeros((lines, lines)), np.zeros(lines)
        first_bin = n_bins * np.arange(k)[:, None]
        for block in blocks:
            peaks = scratch.take(k, len(block.rows))
            _, joint = log_joint(block, peaks)
            gaps = np.isnan(block.rows)
            there = d - gaps.sum(axis=1)
            with np.errstate(invalid="ignore"):  # of components without weight
                bins = between(2 * (peaks - joint[:k]), there) + first_bin
            of_label = joint.argmax(axis=0) == np.arange(lines)[:, None]
            values = soft_assignment(joint) + frame.log_det
            weights = np.ones(len(values)) if block.weights is None else block.weights
            joint *= weights
            totals += [
                weights.sum(),
                weights @ weights,
                weights @ values,
                weights @ values**2,
                weights @ (there == d),
                weights @ ((values < self.threshold) & (there == d)),
            ]
            posteriors += of_label @ joint.T
            labelled += of_label @ weights
            lacking += weights @ gaps
            if not there.all():
                joint *= there > 0
            distances += np.bincount(bins.ravel(), weights=joint[:k].ravel(), minlength=k * n_bins)
        return Seen(totals, posteriors, labelled, distances.reshape(k, n_bins), lacking)


def between(squares: Array, there: np.ndarray) -> np.ndarray:
    """Between which `edges` squared distances (K, b) lie, (K, b), of rows that have so many values (b,); 0 of none."""
    numbers = np.unique(there[there > 0])
    if len(numbers) == 1 and there.all():
        return np.searchsorted(edges(int(numbers[0])), squares)
    found = np.zeros(squares.shape, np.intp)
    for m in numbers:
        those = there == m
        found[:, those] = np.searchsorted(edges(int(m)), squares[:, those])
    return found


def drawn_scores(mixture: Mixture) -> Quantiles:
    """Quantiles of the log densities of rows that are drawn from the mixture itself."""
    with one_thread():
        rows, _ = mixture.sample(DRAWN_ROWS, np.random.default_rng(0))
        return Quantiles.of(Prediction(mixture, "score").of(rows))


@dataclass(frozen=True, eq=False)
class Look:
    """What was seen of some rows: their name and number, sums over all of them, and a uniform sample (m, d).

    `trained` says whether they are those of the fit; None where that cannot be told.
    NaN stands in the sample where values are missing.
    """

    name: str
    rows: int
    weighted: bool
    trained: bool | None
    seen: Seen
    sample: np.ndarray


def look_at(model: Model, source: Source, executor: Executor, drawn: Quantiles, missing: bool | None = None) -> Look:
    """Two passes over the rows of a source: a uniform sample, then the sums.

    Parameters
    ----------
    missing : whether NaN is a missing value; None goes by the fit of the model.

    Raises
    ------
    DataError
        If the rows are not as wide as the mixture, hold infinity, or NaN that is not `missing`, or none has weight.
    ValueError
        If their features have other names than those of the fit, or a mixture with noise shall do with missing values.
    """
    mixture, missing = model.mixture, model.missing if missing is None else missing
    check_features(mixture, source)
    check_names(model.feature_names, source)
    most = max(1_000, min(SAMPLE_ROWS, SAMPLE_BYTES // (8 * source.d)))
    with one_thread():
        data = Data(source, make_plan(source.edges, source.d, Prediction(mixture, "score").block_rows), executor)
        look = first_look(data, 0, most, 0, missing=missing, blank=missing)
        seen: Seen = data.sums(Examine(mixture, drawn.threshold(UNLIKELY), source.name, missing))
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
