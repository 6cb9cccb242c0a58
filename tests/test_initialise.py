"""Starts on a sample: which one goes on."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gmmdask.execution import Threads, one_thread
from gmmdask.frame import Frame, Prior
from gmmdask.initialise import TIE, Ground, best_start, in_memory, ranked
from gmmdask.outcome import Event, StartChosen
from gmmdask.pilot import Moments
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
