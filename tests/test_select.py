"""select: who is compared, by which rows, who drops out, what is chosen and why; the same bits everywhere."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
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
from gmmdask.testing.strategies import LAW

N, D = 6000, 2
TRUTH = random_mixture(3, D, "full", seed=1, separation=6.0)
ROWS = TRUTH.sample(N, np.random.default_rng(1))[0]
QUICK: dict[str, Any] = {"n_init": 1, "sample_rows": 800, "random_state": 3}
KINDS = ("full", "diag")
FOUR = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "rows.zarr"
    zarr.create_array(path, data=ROWS, chunks=(500, D))
    return str(path)


@pytest.fixture(scope="module")
def found(stored: str) -> Selection:
    return select(stored, range(1, 5), KINDS, keep_models=True, **QUICK)


@pytest.fixture(scope="module")
def unbroken(stored: str) -> dict[int | None, Selection]:
    """Of four candidates, by the rows of their sample."""
    return {sample_rows: select(stored, FOUR, **{**QUICK, "sample_rows": sample_rows}) for sample_rows in (800, None)}


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


@pytest.mark.parametrize("sample_rows", [800, None])
@pytest.mark.parametrize("weigh", [False, True])
def test_no_row_that_judges_is_fitted_to(sample_rows: int | None, weigh: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.random.default_rng(0).integers(0, 3, N).astype(float) if weigh else None
    seen = spied(monkeypatch)
    select(ROWS, (2,), random_state=1, n_init=1, sample_rows=sample_rows, sample_weight=weights, max_iter=2, tol=0)
    (apart,) = seen
    counted = N if weights is None else int((weights > 0).sum())
    assert len(apart.judges) == (N // 4 if sample_rows else counted // 3)
    np.testing.assert_array_equal(ROWS[apart.numbers], apart.judges)
    ours = {row.tobytes() for row in apart.fit}
    assert not any(row.tobytes() in ours for row in apart.judges)
    others = np.delete(ROWS, apart.numbers, axis=0)
    mean = np.average(others, axis=0, weights=None if weights is None else np.delete(weights, apart.numbers))
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


def test_all_that_is_fitted_is_a_model_like_any(found: Selection, tmp_path: Path) -> None:
    assert set(found.models_) == {
        (row["covariance_type"], row["components"]) for row in found.table_ if row["state"] == "fitted"
    }
    for row in found.table_:
        model = found.models_.get((row["covariance_type"], row["components"]))
        if model is None:
            assert row["bic"] is None
            continue
        assert model.bic(ROWS) == pytest.approx(row["bic"], rel=1e-12)
        assert model.aic(ROWS) == pytest.approx(row["aic"], rel=1e-12)
        proba = model.predict_proba(ROWS)
        entropy = -np.sum(proba[proba > 0] * np.log(proba[proba > 0]))
        assert row["icl"] == pytest.approx(row["bic"] + 2 * entropy, abs=1e-6 * N)
        assert row["lower_bound"] == pytest.approx(model.score(ROWS), rel=1e-12)
        assert (model.n_iter_, model.converged_) == (row["passes"], row["converged"])
        assert row["parameters"] == model.mixture_.n_parameters
        assert (np.diff(model.weights_) <= 0).all()
    best = found.best_
    best.save(tmp_path / "best.gmm")
    loaded = GaussianMixture.load(tmp_path / "best.gmm")
    selection = loaded.provenance_["selection"]
    assert selection["table"] == list(found.table_)
    assert (selection["choices"], selection["sentence"]) == (found.choices_, found.sentence_)
    assert loaded.outcome_ == found.outcome_
    assert loaded.provenance_["settings"]["n_components"] == loaded.n_components == 3
    assert loaded.outliers(ROWS, 0.05).mean() == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("sample_rows", [800, None])
def test_criteria_count_weights(sample_rows: int | None, stored: str) -> None:
    weights = np.random.default_rng(0).integers(0, 3, N) / 128
    found = select(stored, (2, 3), random_state=1, n_init=1, sample_rows=sample_rows, sample_weight=weights)
    row = next(row for row in found.table_ if row["components"] == 3)
    assert row["bic"] == pytest.approx(found.best_.bic(ROWS, sample_weight=weights), rel=1e-10)
    assert row["lower_bound"] == pytest.approx(found.best_.score(ROWS, sample_weight=weights), rel=1e-10)


@pytest.mark.parametrize(("accelerate", "off"), [(None, 1e-8), ("squarem", 1e-3)])
def test_a_candidate_becomes_what_it_would_alone(
    accelerate: str | None, off: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the same start, on the rows that do not judge, in as many passes; the length of extrapolated steps depends a
    little on the frame, which is that of all rows here.
    """
    monkeypatch.setattr("gmmdask.judging.BEHIND", 1e9)
    seen = spied(monkeypatch)
    common = {"tol": 0, "accelerate": accelerate, **QUICK}
    starts = select(ROWS, (2, 3, 4), max_iter=0, keep_models=True, **common).models_
    assert len(starts) == 3
    together = select(ROWS, (2, 3, 4), max_iter=4, keep_models=True, **common).models_
    others = np.delete(ROWS, seen[0].numbers, axis=0)
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


def test_schedulers_give_the_same_bits(stored: str) -> None:
    of = (stored, (2, 3), KINDS)
    expected = bits(select(*of, scheduler="synchronous", **QUICK))
    assert bits(select(*of, scheduler=Threads(3), **QUICK)) == expected
    with local_cluster(2) as executor:
        assert bits(select(*of, scheduler=executor.client, **QUICK)) == expected


class Break(Exception):
    """What a callback raises where a selection is to break off."""


def breaking(kind: type[Event], lap: int = 0) -> Callable[[Event], None]:
    def tell(event: Event) -> None:
        if isinstance(event, kind) and getattr(event, "lap", 0) == lap:
            raise Break

    return tell


@pytest.mark.parametrize(
    ("kind", "lap", "sample_rows"),
    [(PilotDone, 0, 800), (CandidateDropped, 0, 800), (PassDone, 2, 800), (PassDone, 1, None), (RunEnded, 0, None)],
)
def test_broken_off_and_resumed_it_ends_in_the_same_bits(
    kind: type[Event],
    lap: int,
    sample_rows: int | None,
    stored: str,
    tmp_path: Path,
    unbroken: dict[int | None, Selection],
) -> None:
    settings = {**QUICK, "sample_rows": sample_rows}
    checkpoint = tmp_path / "select.ckpt"
    with dask.config.set({"gmmdask.checkpoint-interval": 0}):
        with pytest.raises(Break):
            select(stored, FOUR, checkpoint=checkpoint, callbacks=(breaking(kind, lap),), **settings)
        events: list[Event] = []
        resumed = select(stored, FOUR, checkpoint=checkpoint, resume=True, callbacks=(events.append,), **settings)
    assert bits(resumed) == bits(unbroken[sample_rows])
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
    stored: str, tmp_path: Path, unbroken: dict[int | None, Selection]
) -> None:
    checkpoint = tmp_path / "select.ckpt"
    killed = subprocess.run([sys.executable, "-c", KILLED, stored, str(checkpoint)], check=False)
    assert killed.returncode == -signal.SIGKILL
    expected = bits(unbroken[800])
    for _ in ("where it was killed", "at its end"):
        assert bits(select(stored, FOUR, checkpoint=checkpoint, resume=True, **QUICK)) == expected


def test_a_checkpoint_of_other_candidates_is_refused(stored: str, tmp_path: Path) -> None:
    checkpoint = tmp_path / "select.ckpt"
    select(stored, (1, 2), checkpoint=checkpoint, max_iter=1, tol=0, **QUICK)
    with pytest.raises(ValueError, match=r"fit of other settings .*candidates"):
        select(stored, (1, 3), checkpoint=checkpoint, resume=True, **QUICK)
    with pytest.raises(FileExistsError):
        select(stored, (1, 2), checkpoint=checkpoint, **QUICK)
    assert select(stored, (1, 2), checkpoint=checkpoint, resume=True, max_iter=3, **QUICK).best_.n_components == 2


# --- refusals ---------------------------------------------------------------------------------------------------


def planned(limit: int | None, *counts: int) -> int:
    """Peak bytes of full mixtures of 10 million rows of 20 features, with so many components."""
    source = ArraySource(np.lib.stride_tricks.as_strided(np.zeros(20), (10**7, 20), (0, 8)))
    known = {"init_params": "kmeans", "tol": 1e-4, "max_iter": 9, "accelerate": "auto", "memory_limit": limit}
    return plan_fit(source, settings_of(source, pairs_of(counts, "full"), known), Threads(1))[1].peak


def test_memory_is_that_of_all_candidates_together_and_refused_with_what_would_do() -> None:
    one, many = planned(None, 40), planned(None, *range(2, 41))
    assert one < many < 40 * one
    with pytest.raises(DataError, match=r"memory_limit=160,000,000.* [Aa]llow memory_limit=[\d,]+") as refused:
        planned(160_000_000, *range(2, 41))
    least = int(str(refused.value).rpartition("memory_limit=")[2].split(" ")[0].strip(".,").replace(",", ""))
    assert 160_000_000 < planned(least, *range(2, 41)) <= least


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"components": ()}, r"components=\[\]: expected whole numbers from 1"),
        ({"components": (0, 2)}, r"components=\[0, 2\]"),
        ({"components": (2.5,)}, r"components=\[2\.5\]"),
        ({"covariance_types": ("full", "square")}, r"covariance_types=\['full', 'square'\]: expected one or more of"),
        ({"covariance_types": ()}, "covariance_types="),
        ({"resume": True}, "resume=True needs the checkpoint"),
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


def test_the_command_writes_model_and_table(stored: str, tmp_path: Path, unbroken: dict[int | None, Selection]) -> None:
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
    known = unbroken[800]
    assert load_model(model).mixture.means.tobytes() == known.best_.means_.tobytes()
    as_json = command(*asked, "--checkpoint", checkpoint, "--resume", "--log-format", "json")
    assert json.loads(as_json.stdout)["table"] == json.loads(json.dumps(known.table_))
    command(*asked, code=3)
    command(*asked, "--overwrite", "--require-convergence", "--max-iter", 1, code=4)


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
