"""Rows that lack spread, or of which too few differ: told once, in the library's words, and the fit ends."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from gmmdask import GaussianMixture
from gmmdask.covariance import FAMILIES
from gmmdask.degenerate import distinct_rows
from gmmdask.outcome import Event, FewDistinctRows
from gmmdask.testing.strategies import LAW

FIVE = np.random.default_rng(0).normal(size=(5, 3))[np.arange(60) % 5]


def fit(rows: np.ndarray, n_components: int, **settings: object) -> tuple[GaussianMixture, list[str], list[Event]]:
    """The model, the warnings of convergence and the events."""
    told: list[Event] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = GaussianMixture(n_components, random_state=0, callbacks=(told.append,), **settings).fit(rows)
    few = [event for event in told if isinstance(event, FewDistinctRows)]
    return model, [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)], few


CASES = {
    "five": (FIVE, 8, 5, "Only 5 rows differ, too few for 8 components: ask for 5 or fewer."),
    "equal": (np.ones((50, 3)), 4, 1, "All rows are equal: they have no spread, and show one component at most."),
    "equal for one": (np.ones((50, 3)), 1, 1, "All rows are equal: they have no spread"),
    "one": (np.ones((1, 3)), 1, 1, "There is only one row: it has no spread"),
}


@pytest.mark.parametrize("covariance_type", FAMILIES)
@pytest.mark.parametrize("case", CASES)
def test_too_few_different_rows_are_told_once(case: str, covariance_type: str) -> None:
    rows, k, distinct, words = CASES[case]
    model, warned, events = fit(rows, k, covariance_type=covariance_type)
    assert len(warned) == 1
    assert warned[0].startswith(words)
    assert [(event.distinct, event.components) for event in events] == [(distinct, k)]
    assert words in model.outcome_.sentence
    for numbers in (model.weights_, model.means_, model.covariances_, model.score_samples(rows)):
        assert np.isfinite(numbers).all()
    if k > 1:
        assert "hold less than one row" in model.outcome_.sentence


@pytest.mark.parametrize("init_params", ["k-means++", "random", "random_from_data", "kmeans-whitened", "k-means||"])
def test_whatever_the_start(init_params: str) -> None:
    model, warned, _ = fit(FIVE, 8, init_params=init_params)
    assert len([text for text in warned if "differ" in text]) == 1
    assert np.isfinite(model.means_).all()


def test_a_sample_says_it_of_more_rows() -> None:
    rows = np.tile(FIVE, (20, 1))
    model, (warned,), _ = fit(rows, 8, sample_rows=200, max_iter=3)
    assert warned.startswith("Only 5 rows in the sample of 200 differ, too few for 8 components")
    assert np.isfinite(model.means_).all()


def test_as_many_different_rows_as_components_are_no_news() -> None:
    _, warned, events = fit(FIVE, 5)
    assert (warned, events) == ([], [])


@LAW
@given(values=st.lists(st.integers(0, 4), min_size=1, max_size=60), enough=st.integers(1, 7))
def test_different_rows_are_counted_as_far_as_needed(values: list[int], enough: int) -> None:
    rows = np.column_stack([np.zeros(len(values)), values])
    found = len(set(values))
    assert distinct_rows(rows, enough) == (None if found >= enough else found)
