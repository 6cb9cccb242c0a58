"""Starts on a sample: which one goes on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from gmmdask import GaussianMixture
from gmmdask.competition import FINALISTS, TIE, Ground, best_start, compared, ranked
from gmmdask.execution import Threads, one_thread
from gmmdask.frame import Frame, Prior
from gmmdask.initialise import in_memory
from gmmdask.moments import Moments
from gmmdask.outcome import Event, StartChosen
from gmmdask.start import Start
from gmmdask.synthetic import random_mixture


@given(st.lists(st.floats(-10, 10).map(lambda score: round(score, 3)), min_size=1, max_size=12), st.randoms())
def test_rounding_does_not_decide_which_start_leads(scores: list[float], random: object) -> None:
    order = ranked(scores)
    assert sorted(order) == list(range(len(scores)))
    assert [scores[i] for i in order] == sorted(scores, reverse=True)
    noisy = [score + random.uniform(-TIE / 4, TIE / 4) for score in scores]  # type: ignore[attr-defined]
    assert ranked(noisy) == order


def test_of_many_starts_on_a_small_sample_one_ends_near_the_truth() -> None:
    """Fourteen rows a parameter, components two standard deviations apart: most starts end behind a plateau."""
    k, d, seed = 16, 8, 2
    truth = random_mixture(k, d, "full", seed, separation=2.0)
    rows, _ = truth.sample(20_000, np.random.default_rng(seed))
    sample, held_out = rows[:10_000], rows[10_000:]
    moments = Moments.of(sample)
    frame = Frame.of(truth.family, moments.mean, moments.covariance)
    told: list[Event] = []
    with Threads(1) as executor, one_thread():
        parts = (in_memory(part, "full", k, executor) for part in (sample, held_out))
        ground = Ground(sample, *parts, frame, Prior.of("full", k, frame, 0.0))
        found = best_start(Start("full", k), 16, seed, ground, told.append)
        best, at_truth = ground.scores([found, frame.mixture_in(truth)])
        thin = ground.thinned(replace(Start("full", k), n_components=2), 20)
    assert at_truth - best < 0.045  # 719 parameters: a fit of 10,000 rows loses 0.036 on the average
    assert [(type(event), event.starts) for event in told if isinstance(event, StartChosen)] == [(StartChosen, 16)]
    assert thin is ground  # no fewer than 10,000 rows


def test_a_model_says_where_the_starts_of_its_sample_ended(tmp_path: Path) -> None:
    """Those that were run to their end, best first; a resumed fit says the same."""
    rows, labels = random_mixture(4, 2, "full", 1, separation=6.0).sample(12_000, np.random.default_rng(0))
    told: list[Event] = []
    settings = {"n_components": 4, "random_state": 0, "sample_rows": 2000, "checkpoint": tmp_path / "fit.ckpt"}
    model = GaussianMixture(**settings, callbacks=(told.append,)).fit(rows)
    (chosen,) = (event for event in told if isinstance(event, StartChosen))
    starts = model.provenance_["starts"]
    assert starts == list(chosen.ends)
    assert len(starts) == FINALISTS
    assert starts[0] == {"score": chosen.score, "agreement": 1.0}
    scores = [start["score"] for start in starts]
    assert scores == pytest.approx(sorted(scores, reverse=True), abs=TIE)
    assert adjusted_rand_score(labels, model.predict(rows)) > 0.95
    assert max(start["agreement"] for start in starts[1:]) > 0.95  # so far apart, others find them too
    assert not any("ends" in stage for stage in model.provenance_["stages"])
    again = GaussianMixture(**settings).fit(rows, resume=True)
    assert again.provenance_["starts"] == starts


def test_a_model_says_where_the_starts_on_all_rows_ended() -> None:
    """Their lower bounds, and how far their labels agree with the best's, as scikit-learn counts it."""
    rows = random_mixture(5, 2, "diag", 3, separation=1.0).sample(600, np.random.default_rng(0))[0]
    random = np.random.RandomState(0)
    alone = [GaussianMixture(4, random_state=random, init_params="random_from_data").fit(rows) for _ in range(3)]
    model = GaussianMixture(4, random_state=0, n_init=3, init_params="random_from_data").fit(rows)
    best = max(alone, key=lambda found: found.lower_bound_)
    alone.sort(key=lambda found: (found is not best, -found.lower_bound_))
    wanted = [(found.lower_bound_, adjusted_rand_score(best.predict(rows), found.predict(rows))) for found in alone]
    assert [(start["score"], start["agreement"]) for start in model.provenance_["starts"]] == wanted
    assert len({agreement for _, agreement in wanted}) > 1
    moved = GaussianMixture(4, random_state=0, n_init=3, init_params="random_from_data", refine="split-merge").fit(rows)
    assert moved.provenance_["starts"] == model.provenance_["starts"]  # what moves have made of the best is no start


def test_a_start_that_was_given_is_none_that_was_chosen() -> None:
    rows = np.random.default_rng(0).normal(size=(500, 2))
    assert GaussianMixture(2, random_state=0, means_init=rows[:2]).fit(rows).provenance_["starts"] == []
    (only,) = GaussianMixture(2, random_state=0).fit(rows).provenance_["starts"]
    assert only["agreement"] == 1


@given(st.lists(st.tuples(st.floats(-9, 9), st.lists(st.integers(0, 2), min_size=6, max_size=6)), min_size=1))
def test_where_starts_ended_is_told_best_first(ends: list[tuple[float, list[int]]]) -> None:
    scores, found = zip(*ends, strict=True)
    best = int(np.argmax(scores))
    told = compared(scores, [np.array(labels, float) for labels in found], best)
    assert [end["score"] for end in told] == sorted(scores, reverse=True)
    assert told[0]["agreement"] == 1
    assert all(-0.5 <= end["agreement"] <= 1 for end in told)
