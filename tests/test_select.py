"""select: who is compared, by which rows, who drops out, what is chosen and why; the same bits everywhere."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import zarr
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gmmdask import GaussianMixture, Selection, select
from gmmdask.algorithms import Batch, Beginning, Guarded, Squarem
from gmmdask.cli import main
from gmmdask.competition import Ground, best_start
from gmmdask.covariance import FAMILIES, IllDefinedCovariance
from gmmdask.criteria import CHOICES, Candidate, chosen, explained, mean_and_error, tabulated
from gmmdask.estep import EStep, ESteps
from gmmdask.execution import Threads
from gmmdask.execution.distributed import local_cluster
from gmmdask.frame import Frame, Prior
from gmmdask.initialise import in_memory
from gmmdask.judging import Apart, Judges
from gmmdask.merging import cheapest_pair, merged
from gmmdask.model_file import load_model
from gmmdask.moments import Moments
from gmmdask.mstep import m_step
from gmmdask.outcome import CandidateDropped, Event, Outcome, PassDone, PilotDone, Reason, RunEnded
from gmmdask.plan import make_plan
from gmmdask.planning import plan_fit
from gmmdask.run import Run
from gmmdask.sampling import Except
from gmmdask.selection import pairs_of, settings_of
from gmmdask.sources import ArraySource, DataError
from gmmdask.sources.weights import weighted
from gmmdask.synthetic import random_mixture
from gmmdask.task import Data
from gmmdask.testing.strategies import LAW, with_gaps

N, D = 6000, 2
TRUTH = random_mixture(3, D, "full", seed=1, separation=6.0)
ROWS = TRUTH.sample(N, np.random.default_rng(1))[0]
DATA = {"error": ROWS, "em": with_gaps(np.random.default_rng(5), ROWS[:3000])}  # by what `missing` says of NaN
QUICK: dict[str, Any] = {"n_init": 1, "sample_rows": 800, "random_state": 3}
KINDS = ("full", "diag")
FOUR = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("data")
    for missing, rows in DATA.items():
        zarr.create_array(folder / missing, data=rows, chunks=(500, D))
    return {missing: str(folder / missing) for missing in DATA}


@pytest.fixture(scope="module")
def stored(places: dict[str, str]) -> str:
    return places["error"]


@pytest.fixture(scope="module")
def found(stored: str) -> Selection:
    return select(stored, range(1, 5), KINDS, keep_models=True, **QUICK)


Unbroken = Callable[[str, int | None], Selection]


@pytest.fixture(scope="module")
def unbroken(places: dict[str, str]) -> Unbroken:
    """Of four candidates, by whether values are missing and the rows of their sample."""
    return cache(
        lambda missing, sample_rows: select(
            places[missing], FOUR, missing=missing, keep_models=True, **{**QUICK, "sample_rows": sample_rows}
        )
    )


def bits(found: Selection) -> bytes:
    told = json.dumps([found.table_, found.choices_, found.sentence_])
    best = found.best_
    return told.encode() + b"".join(a.tobytes() for a in (best.weights_, best.means_, best.covariances_))


# --- criteria ---------------------------------------------------------------------------------------------------


def candidate(k: int, log_densities: Any, fit: float, entropy: float = 0.0, **more: Any) -> Candidate:
    return Candidate("full", k, 10 * k, 5, "fitted", True, np.array(log_densities, float), -1.0, fit, entropy, **more)


HAND_MADE = (
    candidate(1, [-3, -3, -3, -3], -4000),
    candidate(2, [-1.1, -0.9, -1.2, -1.0], -1900, entropy=1),
    candidate(3, [-1.0, -1.0, -1.0, -1.0], -1830, entropy=300),
    replace(candidate(4, [-9, -9, -9, -9], 0), state="dropped on the sample", log_likelihood=None, entropy=None),
    replace(candidate(5, [0, 0, 0, 0], 0), state="failed: why", log_densities=None, log_likelihood=None),
)


def test_a_hand_made_table() -> None:
    """behind of K=2: values (.1, -.1, .2, 0), mean .05, deviations' sum of squares .05, error sqrt(.05/12)."""
    table = tabulated(HAND_MADE, None, 1000.0)
    two = table[1]
    assert (two["behind"], two["behind_error"]) == pytest.approx((0.05, np.sqrt(0.05 / 12)))
    assert two["bic"] == pytest.approx(3800 + 20 * np.log(1000))
    assert two["aic"] == pytest.approx(3840)
    assert two["icl"] == pytest.approx(two["bic"] + 2)
    assert [row["state"] for row in table] == [*["fitted"] * 3, "dropped on the sample", "failed: why"]
    assert all(table[3][name] is None for name in ("bic", "icl", "aic"))
    assert all(table[4][name] is None for name in ("score", "score_error", "behind", "behind_error"))
    json.dumps(table, allow_nan=False)


def test_what_the_rules_take_of_a_hand_made_table() -> None:
    choices = chosen(tabulated(HAND_MADE, None, 1000.0))
    assert tuple(choices) == CHOICES
    assert {name: row["components"] for name, row in choices.items()} == {
        "one_standard_error": 2,
        "bic": 3,
        "icl": 2,
        "aic": 3,
    }
    closer = (HAND_MADE[0], candidate(2, [-1.1, -1.09, -1.1, -1.1], -1900), HAND_MADE[2])
    table = tabulated(closer, None, 1000.0)
    assert chosen(table)["one_standard_error"]["components"] == 3
    assert chosen(table, tol=0.2)["one_standard_error"]["components"] == 2


def test_the_sentence_says_why_rules_differ() -> None:
    table = tabulated(HAND_MADE, None, 1000.0)
    told = explained(table, chosen(table), 1000.0)
    assert "Held-out rows choose full K=2" in told
    assert "as ICL does" in told
    assert "BIC takes full K=3: over 1,000 rows a gain too small" in told
    assert "AIC takes full K=3: its price of a parameter does not grow" in told
    alike = tabulated(HAND_MADE[:2], None, 1000.0)
    told = explained(alike, chosen(alike), 1000.0)
    assert told.endswith("as BIC, ICL and AIC do. No K above 2 was tried: try more components.")


@LAW
@given(
    values=arrays.arrays(float, 7, elements=st.floats(-1e3, 1e3)),
    counts=arrays.arrays(int, 7, elements=st.integers(1, 4)),
)
def test_a_mean_of_weights_is_that_of_repeated_rows(values: np.ndarray, counts: np.ndarray) -> None:
    repeated = np.repeat(values, counts)
    assert mean_and_error(values, counts.astype(float))[0] == pytest.approx(repeated.mean(), abs=1e-9)
    mean, error = mean_and_error(values, None)
    assert (mean, error) == pytest.approx((values.mean(), values.std(ddof=1) / np.sqrt(7)), abs=1e-9)
    assert mean_and_error(values, np.full(7, 3.0)) == pytest.approx((mean, error), abs=1e-9)


# --- rows that judge --------------------------------------------------------------------------------------------


@LAW
@given(
    gone=st.sets(st.integers(0, 299)),
    block_rows=st.integers(1, 400),
    parts=st.integers(1, 5),
    weigh=st.booleans(),
)
def test_a_pass_without_some_rows_is_one_over_the_others(
    gone: set[int], block_rows: int, parts: int, weigh: bool
) -> None:
    rows, numbers = ROWS[:300], np.array(sorted(gone), int)
    weights = np.random.default_rng(0).integers(0, 3, 300).astype(float) if weigh else None
    stay = np.setdiff1d(np.arange(300), numbers)
    if len(stay) == 0 or (weights is not None and not weights[stay].any()):
        return
    work = ESteps(((Frame.of(TRUTH.family, np.zeros(D), np.eye(D)), EStep.of(TRUTH, "products")),), block_rows)
    plan = make_plan(np.linspace(0, 300, parts + 1).astype(int), D, block_rows)
    data = Data(weighted(ArraySource(rows), weights), plan, Threads(1), view=lambda work: Except(numbers, work))
    left = weighted(ArraySource(rows[stay]), None if weights is None else weights[stay])
    expected = Data(left, make_plan(left.edges, D, block_rows), Threads(1)).sums(work).items[0].vector
    np.testing.assert_allclose(data.sums(work).items[0].vector, expected, rtol=1e-10, atol=1e-9)


def test_moments_without_some_rows_are_those_of_the_others() -> None:
    rest = Moments.of(ROWS[:500]).without(Moments.of(ROWS[100:150]))
    expected = Moments.of(np.delete(ROWS[:500], np.s_[100:150], axis=0))
    assert rest.weight == expected.weight
    np.testing.assert_allclose(rest.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(rest.scatter, expected.scatter, rtol=1e-12)


def spied(monkeypatch: pytest.MonkeyPatch) -> list[Apart]:
    """What is set aside by the selections that follow."""
    seen: list[Apart] = []
    made = Apart.of
    monkeypatch.setattr(Apart, "of", lambda *given: seen.append(made(*given)) or seen[-1])
    return seen


@pytest.mark.parametrize("missing", DATA)
@pytest.mark.parametrize("sample_rows", [800, None])
@pytest.mark.parametrize("weigh", [False, True])
def test_no_row_that_judges_is_fitted_to(
    sample_rows: int | None, weigh: bool, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, n = DATA[missing], len(DATA[missing])
    weights = np.random.default_rng(0).integers(0, 3, n).astype(float) if weigh else None
    seen = spied(monkeypatch)
    settings: dict[str, Any] = {"n_init": 1, "max_iter": 2, "tol": 0, "missing": missing, "sample_rows": sample_rows}
    select(rows, (2,), random_state=1, sample_weight=weights, **settings)
    (apart,) = seen
    counted = n if weights is None else int((weights > 0).sum())
    assert len(apart.judges) == (n // 4 if sample_rows else counted // 3)
    np.testing.assert_array_equal(rows[apart.numbers], apart.judges)
    ours = {row.tobytes() for row in apart.fit if not np.isnan(row).all()}
    assert not any(row.tobytes() in ours for row in apart.judges if not np.isnan(row).any())
    given = np.delete(np.ones(n) if weights is None else weights, apart.numbers)
    assert apart.moments.weight == pytest.approx(given.sum(), rel=1e-12)
    if missing == "error":
        mean = np.average(np.delete(rows, apart.numbers, axis=0), axis=0, weights=given)
        np.testing.assert_allclose(apart.moments.mean, mean, rtol=1e-9)


def run_of(name: str, shift: float, outcome: Outcome | None = None) -> Run:
    """A run whose mixture is the truth, but for means that are off."""
    mixture = replace(TRUTH, means=TRUTH.means + shift)
    frame = Frame.of(TRUTH.family, np.zeros(D), np.eye(D))
    algorithm = Guarded(Batch())
    state = replace(algorithm.start(mixture, Beginning()), laps=2, outcome=outcome, bounds=(-3.0, -3.0))
    return Run(name, algorithm, state, frame, None)  # type: ignore[arg-type]


def test_judges_end_what_is_far_behind_and_goes_on() -> None:
    events: list[Event] = []
    apart = Apart(ROWS[:0], None, ROWS[:1000], None, np.arange(1000), Moments.of(ROWS[:2]))
    judges = Judges(apart, Threads(1), 1e-4, events.append)
    ended = Outcome(Reason.CONVERGED, "ended.", None)
    failed = replace(run_of("no start", 9, Outcome(Reason.FAILED, "why", None)))
    failed = replace(failed, state=replace(failed.state, laps=0))
    runs = (run_of("best", 0), run_of("near", 1e-6), run_of("far", 1.0), run_of("ended", 1.0, ended), failed)
    best, near, far, other, last = judges.judged(runs)
    assert (best, near, other, last) == (runs[0], runs[1], runs[3], runs[4])
    assert far.state.outcome.reason is Reason.DROPPED
    assert far.state.outcome.sentence.startswith("dropped after pass 2: ")
    assert [(event.run, event.lap) for event in events] == [("far", 2)]
    assert judges.judged((failed,)) == (failed,)
    hopes = dict.fromkeys(("best", "near", "ended", "no start"), (0.0, 0.0))
    most_hopeful = judges.judged(runs, {**hopes, "far": (50.0, 0.0)})
    assert most_hopeful[2].going
    assert not most_hopeful[0].going
    assert all(run.going for run in judges.judged(runs[:3], {**hopes, "far": (0.0, 50.0)}))
    climbing = replace(runs[2], state=replace(runs[2].state, bounds=(-60.0, -5.0)))
    assert judges.judged((runs[0], climbing))[1].going


@pytest.mark.parametrize("kind", FAMILIES)
def test_of_a_component_in_halves_merging_makes_the_whole(kind: str) -> None:
    """Whatever the number of the halves, and also where several go."""
    truth = random_mixture(3, D, kind, seed=2, separation=6.0)
    rows = truth.sample(4000, np.random.default_rng(2))[0]
    frame = Frame.of(truth.family, rows.mean(axis=0), np.cov(rows.T))
    prior = Prior.of(kind, 5, frame, 0.0)
    data = in_memory(rows, kind, 3, Threads(1))
    ground = Ground(rows, data, data, frame, prior)
    whole = m_step(ground.statistics(frame.mixture_in(truth)), prior)
    order = np.array([0, 1, 2, 1, 0])
    halves = whole.reordered(order)
    halves = replace(halves, weights=halves.weights / np.bincount(order)[order])
    assert set(cheapest_pair(halves)) in ({1, 3}, {0, 4})
    again = merged(halves, 3, prior, ground)
    expected = m_step(ground.statistics(whole), prior)
    np.testing.assert_allclose(again.weights, expected.weights, rtol=1e-9)
    np.testing.assert_allclose(again.means, expected.means, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(again.dense_covariances(), expected.dense_covariances(), rtol=1e-9, atol=1e-9)


# --- candidates -------------------------------------------------------------------------------------------------


def test_the_truth_is_chosen_and_the_poor_drop_out(found: Selection, stored: str) -> None:
    assert found.choices_["one_standard_error"] == {"covariance_type": "full", "components": 3}
    assert found.best_.means_.shape == (3, D)
    assert found.table_[0]["state"] == "dropped on the sample"
    assert found.table_[0]["passes"] == 0
    assert found.table_[0]["behind"] > 3 * found.table_[0]["behind_error"]
    pairs = [(row["covariance_type"], row["components"]) for row in found.table_]
    assert pairs == [(kind, k) for kind in KINDS for k in range(1, 5)]
    assert min(row["behind"] for row in found.table_ if row["state"] == "fitted") == 0
    assert len(str(found).splitlines()) == len(pairs) + 3
    assert found.sentence_ in str(found)


def assert_models_are_as_told(found: Selection, rows: np.ndarray) -> None:
    assert set(found.models_) == {
        (row["covariance_type"], row["components"]) for row in found.table_ if row["state"] == "fitted"
    }
    for row in found.table_:
        model = found.models_.get((row["covariance_type"], row["components"]))
        if model is None:
            assert row["bic"] is None
            continue
        assert model.bic(rows) == pytest.approx(row["bic"], rel=1e-12)
        assert model.aic(rows) == pytest.approx(row["aic"], rel=1e-12)
        proba = model.predict_proba(rows)
        entropy = -np.sum(proba[proba > 0] * np.log(proba[proba > 0]))
        assert row["icl"] == pytest.approx(row["bic"] + 2 * entropy, abs=1e-6 * len(rows))
        assert model.icl(rows) == pytest.approx(row["icl"], rel=1e-12)
        log_prior = (model.weight_concentration - 1) * np.log(model.weights_).sum()
        assert row["lower_bound"] == pytest.approx(model.score(rows) + log_prior / len(rows), rel=1e-12)
        assert model.converged_ == row["converged"]
        assert row["parameters"] == model.mixture_.n_parameters
        assert (np.diff(model.weights_) <= 0).all()


def test_all_that_is_fitted_is_a_model_like_any(found: Selection, tmp_path: Path) -> None:
    assert_models_are_as_told(found, ROWS)
    for row in found.table_:
        model = found.models_.get((row["covariance_type"], row["components"]))
        assert model is None or model.n_iter_ == row["passes"]
    best = found.best_
    best.save(tmp_path / "best.gmm")
    loaded = GaussianMixture.load(tmp_path / "best.gmm")
    selection = loaded.provenance_["selection"]
    assert selection["table"] == list(found.table_)
    assert (selection["choices"], selection["sentence"]) == (found.choices_, found.sentence_)
    assert loaded.outcome_ == found.outcome_
    assert loaded.provenance_["settings"]["n_components"] == loaded.n_components == 3
    assert loaded.outliers(ROWS, 0.05).mean() == pytest.approx(0.05, abs=0.02)


def test_where_values_are_missing_models_tell_the_same_too(unbroken: Unbroken) -> None:
    for sample_rows in (800, None):
        found = unbroken("em", sample_rows)
        assert (
            found.choices_["one_standard_error"]
            == found.choices_["icl"]
            == {"covariance_type": "full", "components": 3}
        )
        assert_models_are_as_told(found, DATA["em"])
        assert found.best_.missing == "em"


def test_without_gaps_it_is_all_the_same_whether_values_may_be_missing(stored: str) -> None:
    """Up to the frame, in which starts and steps are taken."""
    may, may_not = (select(stored, (2, 3), missing=missing, **QUICK) for missing in ("em", "error"))
    assert (may.choices_, may.sentence_) == (may_not.choices_, may_not.sentence_)
    for one, other in zip(may.table_, may_not.table_, strict=True):
        assert one["state"] == other["state"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)
        assert one["icl"] is other["icl"] is None or one["icl"] == pytest.approx(other["icl"], rel=1e-3)


@pytest.mark.parametrize("missing", DATA)
def test_lower_bounds_have_the_prior_of_weights_in_them_and_criteria_have_not(missing: str) -> None:
    common: dict[str, Any] = {"missing": missing, "keep_models": True, **QUICK}
    plain, drawn = (select(DATA[missing], (3,), weight_concentration=alpha, **common) for alpha in (1.0, 1000.0))
    assert_models_are_as_told(drawn, DATA[missing])
    assert np.ptp(drawn.best_.weights_) < 0.8 * np.ptp(plain.best_.weights_)
    assert drawn.best_.provenance_["settings"]["weight_concentration"] == 1000.0


@pytest.mark.parametrize("missing", DATA)
@pytest.mark.parametrize("sample_rows", [800, None])
def test_criteria_count_weights(sample_rows: int | None, missing: str, places: dict[str, str]) -> None:
    rows = DATA[missing]
    weights = np.random.default_rng(0).integers(0, 3, len(rows)) / 128
    common: dict[str, Any] = {"n_init": 1, "sample_rows": sample_rows, "sample_weight": weights, "missing": missing}
    found = select(places[missing], (2, 3), random_state=1, **common)
    row = next(row for row in found.table_ if row["components"] == 3)
    assert row["bic"] == pytest.approx(found.best_.bic(rows, sample_weight=weights), rel=1e-10)
    assert row["lower_bound"] == pytest.approx(found.best_.score(rows, sample_weight=weights), rel=1e-10)


@pytest.mark.parametrize(
    ("accelerate", "off", "more"),
    [(None, 1e-8, {}), ("squarem", 1e-3, {}), (None, 1e-8, {"missing": "em", "weight_concentration": 50.0})],
)
def test_a_candidate_becomes_what_it_would_alone(
    accelerate: str | None, off: float, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the same start, on the rows that do not judge, in as many passes; the length of extrapolated steps depends a
    little on the frame, which is that of all rows here.
    """
    monkeypatch.setattr("gmmdask.judging.BEHIND", 1e9)
    seen = spied(monkeypatch)
    common, rows = {"tol": 0, "accelerate": accelerate, **QUICK, **more}, DATA[more.get("missing", "error")]
    starts = select(rows, (2, 3, 4), max_iter=0, keep_models=True, **common).models_
    assert len(starts) == 3
    together = select(rows, (2, 3, 4), max_iter=4, keep_models=True, **common).models_
    others = np.delete(rows, seen[0].numbers, axis=0)
    assert len(together) == 3
    for key, model in together.items():
        begin = starts[key]
        given = {"weights_init": begin.weights_, "means_init": begin.means_, "precisions_init": begin.precisions_}
        alone = GaussianMixture(key[1], max_iter=4, stop="predicted", **common, **given).fit(others)
        alone = alone.sorted()
        np.testing.assert_allclose(model.means_, alone.means_, rtol=off, atol=off)
        np.testing.assert_allclose(model.covariances_, alone.covariances_, rtol=off, atol=off)


def test_choosing_takes_few_more_passes_than_fitting_one(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    sums = Data.sums

    def counted(self: Data, work: Any, slices: Any = None) -> Any:
        passes.append(self.source.name)
        return sums(self, work, slices)

    monkeypatch.setattr(Data, "sums", counted)
    name = str(Path(stored))
    found = select(stored, (2, 3, 4), **QUICK)
    shared = sum(name in which for which in passes)
    assert shared == 2 + max(row["passes"] for row in found.table_)
    passes.clear()
    alone = [GaussianMixture(k, stop="predicted", tol=1e-4, **QUICK).fit(stored) for k in (3, 4)]
    assert shared <= 1.5 * (1 + max(model.n_iter_ for model in alone))


def test_one_that_fails_leaves_the_others_alone(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def picky(start: Any, *given: Any, **more: Any) -> Any:
        if start.n_components == 2:
            raise IllDefinedCovariance(1)
        return best_start(start, *given, **more)

    tell = Squarem.tell

    def failing(self: Squarem, state: Any, *given: Any) -> Any:
        if state.mixture.n_components == 4 and self.max_iter == 100:  # not on the sample
            raise IllDefinedCovariance(2)
        return tell(self, state, *given)

    monkeypatch.setattr("gmmdask.candidates.best_start", picky)
    monkeypatch.setattr(Squarem, "tell", failing)
    found = select(stored, (2, 3, 4), **QUICK)
    two, three, four = found.table_
    assert two["state"].startswith("failed: ")
    assert "component 1" in two["state"]
    assert (two["score"], two["passes"]) == (None, 0)
    assert three["state"] == "fitted"
    assert "component 2" in four["state"]
    assert four["score"] is not None
    assert found.best_.n_components == 3
    with pytest.raises(ValueError, match=r"No candidate could be fitted\. full-2: .*component 1"):
        select(stored, (2, 4), **QUICK)


# --- the same bits ----------------------------------------------------------------------------------------------


def test_schedulers_give_the_same_bits(places: dict[str, str]) -> None:
    with local_cluster(2) as executor:
        for missing, place in places.items():
            ways = ("synchronous", Threads(3), executor.client)
            of = (place, (2, 3), KINDS if missing == "error" else "full")
            found = [bits(select(*of, missing=missing, scheduler=where, **QUICK)) for where in ways]
            assert found[0] == found[1] == found[2], missing


class Break(Exception):
    """What a callback raises where a selection is to break off."""


def breaking(kind: type[Event], lap: int = 0) -> Callable[[Event], None]:
    def tell(event: Event) -> None:
        if isinstance(event, kind) and getattr(event, "lap", 0) == lap:
            raise Break

    return tell


@pytest.mark.parametrize(
    ("kind", "lap", "sample_rows", "missing"),
    [
        (PilotDone, 0, 800, "error"),
        (CandidateDropped, 0, 800, "error"),
        (PassDone, 2, 800, "error"),
        (PassDone, 1, None, "error"),
        (RunEnded, 0, None, "error"),
        (PilotDone, 0, 800, "em"),
        (PassDone, 2, 800, "em"),
        (RunEnded, 0, None, "em"),
    ],
)
def test_broken_off_and_resumed_it_ends_in_the_same_bits(
    kind: type[Event],
    lap: int,
    sample_rows: int | None,
    missing: str,
    places: dict[str, str],
    tmp_path: Path,
    unbroken: Unbroken,
) -> None:
    settings, place = {**QUICK, "sample_rows": sample_rows, "missing": missing}, places[missing]
    checkpoint = tmp_path / "select.ckpt"
    with dask.config.set({"gmmdask.checkpoint-interval": 0}):
        with pytest.raises(Break):
            select(place, FOUR, checkpoint=checkpoint, callbacks=(breaking(kind, lap),), **settings)
        events: list[Event] = []
        resumed = select(place, FOUR, checkpoint=checkpoint, resume=True, callbacks=(events.append,), **settings)
    assert bits(resumed) == bits(unbroken(missing, sample_rows))
    assert not any(isinstance(event, PilotDone) for event in events)


KILLED = """
import os, signal, sys
from gmmdask import select
from gmmdask.outcome import CheckpointWritten, PassDone
import dask.config

class Stop:
    lap = 0
    def __call__(self, event):
        if isinstance(event, PassDone):
            self.lap = event.lap
        if isinstance(event, CheckpointWritten) and self.lap == 2:
            os.kill(os.getpid(), signal.SIGKILL)

with dask.config.set({"gmmdask.checkpoint-interval": 0}):
    more = {"n_init": 1, "sample_rows": 800, "random_state": 3}
    select(sys.argv[1], (1, 2, 3, 4), checkpoint=sys.argv[2], callbacks=(Stop(),), **more)
"""


def test_killed_between_passes_and_resumed_it_ends_in_the_same_bits(
    stored: str, tmp_path: Path, unbroken: Unbroken
) -> None:
    checkpoint = tmp_path / "select.ckpt"
    killed = subprocess.run([sys.executable, "-c", KILLED, stored, str(checkpoint)], check=False)
    assert killed.returncode == -signal.SIGKILL
    expected = bits(unbroken("error", 800))
    for _ in ("where it was killed", "at its end"):
        assert bits(select(stored, FOUR, checkpoint=checkpoint, resume=True, **QUICK)) == expected


def test_a_checkpoint_of_other_candidates_is_refused(stored: str, tmp_path: Path) -> None:
    checkpoint = tmp_path / "select.ckpt"
    select(stored, (1, 2), checkpoint=checkpoint, max_iter=1, tol=0, **QUICK)
    with pytest.raises(ValueError, match=r"fit of other settings .*candidates"):
        select(stored, (1, 3), checkpoint=checkpoint, resume=True, **QUICK)
    with pytest.raises(ValueError, match=r"fit of other settings .*missing"):
        select(stored, (1, 2), checkpoint=checkpoint, resume=True, missing="em", **QUICK)
    with pytest.raises(FileExistsError):
        select(stored, (1, 2), checkpoint=checkpoint, **QUICK)
    assert select(stored, (1, 2), checkpoint=checkpoint, resume=True, max_iter=3, **QUICK).best_.n_components == 2


# --- refusals ---------------------------------------------------------------------------------------------------


def planned(missing: str, limit: int | None, *counts: int) -> int:
    """Peak bytes of full mixtures of 10 million rows of 20 features, with so many components."""
    source = ArraySource(np.lib.stride_tricks.as_strided(np.zeros(20), (10**7, 20), (0, 8)))
    like = GaussianMixture(memory_limit=limit, missing=missing)
    return plan_fit(source, settings_of(source, pairs_of(counts, "full"), like), Threads(1))[1].peak


@pytest.mark.parametrize("missing", DATA)
def test_memory_is_that_of_all_candidates_together_and_refused_with_what_would_do(missing: str) -> None:
    one, many = planned(missing, None, 40), planned(missing, None, *range(2, 41))
    assert one < many < 40 * one
    with pytest.raises(DataError, match=r"memory_limit=160,000,000.* [Aa]llow memory_limit=[\d,]+") as refused:
        planned(missing, 160_000_000, *range(2, 41))
    least = int(str(refused.value).rpartition("memory_limit=")[2].split(" ")[0].strip(".,").replace(",", ""))
    assert 160_000_000 < planned(missing, least, *range(2, 41)) <= least


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"components": ()}, r"components=\[\]: expected whole numbers from 1"),
        ({"components": (0, 2)}, r"components=\[0, 2\]"),
        ({"components": (2.5,)}, r"components=\[2\.5\]"),
        ({"components": None}, r"components=\[None\]"),
        ({"components": range(2, 10**9)}, "components: more than 1,000 of them"),
        ({"covariance_types": ("full", "square")}, r"covariance_types=\['full', 'square'\]: expected one or more of"),
        ({"covariance_types": ()}, "covariance_types="),
        ({"resume": True}, "resume=True needs the checkpoint"),
        ({"missing": "em", "noise": True}, "noise=True has a density of whole rows only"),
        ({"weight_concentration": 0.5}, r"weight_concentration=0\.5: expected a number of at least 1"),
        ({"refine": "merge"}, "refine"),
        ({"data": DATA["em"]}, r"NaN.*missing='em' \(--missing em\)"),
        ({"n_init": 0}, "n_init"),
        ({"accelerate": "warp"}, "accelerate"),
        ({"components": (2, 9000)}, "n_components = 9000"),
        ({"components": (2, 700), "sample_rows": 600}, "sample_rows=600"),
        ({"components": (2, 2300), "sample_rows": 2400, "data": ROWS[:2500]}, r"are left to start 2300 components"),
    ],
)
def test_what_cannot_be_asked_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select(**{"data": ROWS, "components": (2, 3), **given})


# --- the command ------------------------------------------------------------------------------------------------


def command(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["select", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.stderr
    return result


def test_the_command_writes_model_and_table(stored: str, tmp_path: Path, unbroken: Unbroken) -> None:
    model, table, checkpoint = tmp_path / "best.gmm", tmp_path / "table.json", tmp_path / "c.ckpt"
    asked = (stored, "--components", "1:3,4", "--n-init", 1, "--sample-rows", 800, "--seed", 3, "-o", model)
    told = command(*asked, "--table", table, "--checkpoint", checkpoint)
    assert "full K=3" in told.stdout
    assert "one standard error" in told.stdout
    assert "full-1: dropped on the sample" in told.stderr
    assert told.stderr.count(" pass 1/100 ") == 1
    written = json.loads(table.read_text())
    assert written["choices"]["one_standard_error"]["components"] == 3
    assert len(written["table"]) == 4
    known = unbroken("error", 800)
    assert load_model(model).mixture.means.tobytes() == known.best_.means_.tobytes()
    as_json = command(*asked, "--checkpoint", checkpoint, "--resume", "--log-format", "json")
    assert json.loads(as_json.stdout)["table"] == json.loads(json.dumps(known.table_))
    command(*asked, code=3)
    command(*asked, "--overwrite", "--require-convergence", "--max-iter", 1, code=4)


def test_the_command_takes_gaps_a_prior_of_weights_and_moves(places: dict[str, str], tmp_path: Path) -> None:
    settings = {"missing": "em", "weight_concentration": 2.0, "refine": "split-merge"}
    options = [text for name, value in settings.items() for text in (f"--{name.replace('_', '-')}", value)]
    asked = (places["em"], "--components", "2,3", "--n-init", 1, "--sample-rows", 800, "--seed", 3, *options)
    command(*asked, "-o", tmp_path / "m.gmm")
    told = load_model(tmp_path / "m.gmm")
    known = select(places["em"], (2, 3), **QUICK, **settings).best_
    assert told.mixture.means.tobytes() == known.means_.tobytes()
    assert {name: told.provenance["settings"][name] for name in settings} == settings
    command(*asked, "--noise", "-o", tmp_path / "other.gmm", code=3)


def test_the_command_takes_a_job_file_and_says_what_it_would_take(stored: str, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(f"data: {stored}\ncomponents: [2, 3]\ncovariance: full,tied\noutput: {tmp_path / 'm.gmm'}\n")
    forecast = json.loads(command("--config", job, "--dry-run", "--log-format", "json").stdout)
    assert forecast["sample_rows"] == N
    assert forecast["held_out_rows"] == N // 3
    assert not (tmp_path / "m.gmm").exists()


@pytest.mark.parametrize("counts", ["", "a", "3:2", "0:2", "2-4", "2:", ":3"])
def test_the_command_refuses_what_are_no_numbers(counts: str, stored: str, tmp_path: Path) -> None:
    command(stored, "--components", counts, "-o", tmp_path / "m.gmm", code=2)


# --- slow: how often the truth is found ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("k", "n_init"), [(2, 3), (4, 3), (6, 3), (10, 10)])
@pytest.mark.parametrize("n", [20_000, 200_000])
def test_the_true_number_of_components_is_found_in_nine_of_ten_seeds(k: int, n_init: int, n: int) -> None:
    found = []
    for seed in range(10):
        rows = random_mixture(k, 2, "full", seed, 6.0).sample(n, np.random.default_rng(seed))[0]
        selection = select(rows, range(max(1, k - 3), k + 4), n_init=n_init, random_state=seed)
        found.append(selection.choices_["one_standard_error"]["components"])
    assert found.count(k) >= 9, found
