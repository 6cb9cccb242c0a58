"""What is said where rows lack values: how many, and what that does to the comparisons of a report."""

from collections.abc import Sequence

import numpy as np

from gmmdask.covariance._base import Array
from gmmdask.execution import one_thread
from gmmdask.predict import Prediction
from gmmdask.report.findings import Facts
from gmmdask.report.words import percent

DRAWN_ROWS = 4_000
UNEVEN = 0.02  # by which a feature lacks more than the average, to be named


def now(facts: Facts) -> Array:
    """The shares (d,) of the rows of this report that lack a value of each feature; 0 without rows."""
    return np.zeros(facts.mixture.d) if facts.look is None else facts.look.seen.missing


def then(facts: Facts) -> Array:
    """The same of the rows of the fit."""
    told = facts.told.get("missing")
    return np.zeros(facts.mixture.d) if told is None else np.asarray(told, float)


def amount(shares: Array, names: Sequence[str], verb: str) -> str:
    """As "20 % are missing (most of length, 60 %)", of shares (d,) by feature."""
    most, words = int(np.argmax(shares)), f"{percent(float(shares.mean()))} {verb} missing"
    uneven = shares[most] - shares.mean() >= UNEVEN
    return f"{words} (most of {names[most]}, {percent(float(shares[most]))})" if uneven else words


def otherwise(facts: Facts) -> str:
    """How much these rows lack, against those of the fit."""
    these, those = (percent(float(shares.mean())) for shares in (now(facts), then(facts)))
    return f"these rows lack other values than those of the fit did ({these} of all, against {those})"


def shift(facts: Facts) -> float:
    """About how much the mean log density differs because these rows lack other values than those of the fit did.

    In nats per row: by rows that are drawn from the mixture, and lack values of each feature as often as either,
    whatever others are.
    """
    shares = now(facts), then(facts)
    if np.array_equal(*shares):
        return 0.0
    rng, score = np.random.default_rng(0), Prediction(facts.mixture, "score", missing=True)
    with one_thread():
        rows, _ = facts.mixture.sample(DRAWN_ROWS, rng)
        chance = rng.random(rows.shape)
        means = [score.of(np.where(chance < of, np.nan, rows)).mean() for of in shares]
    return float(means[0] - means[1])
