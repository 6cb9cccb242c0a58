"""Split and merge moves: out of local optima, never into worse ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gmmdask import GaussianMixture, match, select
from gmmdask.covariance import FAMILIES
from gmmdask.mixture import Mixture
from gmmdask.outcome import ComponentsMoved, Event, MovesDone, PassDone
from gmmdask.synthetic import random_mixture
from gmmdask.testing.strategies import with_gaps

MIDDLES = np.array([[0.0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]])
# two of the means share the first cluster, one lies between the second and the third
BAD = np.array([[-0.5, 0, 0], [0.5, 0, 0], [4.5, 4.5, 0], [0, 0, 9]])


def rows_of(n: int = 1000, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return MIDDLES[rng.integers(0, 4, n)] + rng.normal(size=(n, 3))


def fit(rows: Any, **settings: Any) -> tuple[GaussianMixture, list[Event]]:
    told: list[Event] = []
    weights = settings.pop("weights", None)
    settings = {"random_state": 0, "refine": "split-merge", "callbacks": (told.append,), **settings}
    model = GaussianMixture(settings.pop("k", 4), **settings).fit(rows, sample_weight=weights)
    return model, told


def moves_of(told: list[Event]) -> list[ComponentsMoved]:
    return [event for event in told if isinstance(event, ComponentsMoved)]


@pytest.mark.parametrize("sample_rows", [None, 600], ids=["in memory", "on the sample"])
@pytest.mark.parametrize(
    ("covariance_type", "weighed"), [*((name, False) for name in FAMILIES), ("full", True), ("spherical", True)]
)
def test_a_crafted_bad_start_ends_in_the_right_optimum(
    covariance_type: str, sample_rows: int | None, weighed: bool
) -> None:
    rows = rows_of()
    weights = np.random.default_rng(2).integers(0, 3, len(rows)).astype(float) if weighed else None
    settings = {
        "covariance_type": covariance_type,
        "sample_rows": sample_rows,
        "weights": weights,
        "max_iter": 600,
        "tol": 1e-6,
    }
    good, _ = fit(rows, **settings, means_init=MIDDLES, refine=None)
    stuck, _ = fit(rows, **settings, means_init=BAD, refine=None)
    found, told = fit(rows, **settings, means_init=BAD)
    assert stuck.lower_bound_ < good.lower_bound_ - 0.1
    assert found.lower_bound_ == pytest.approx(good.lower_bound_, abs=1e-4)
    np.testing.assert_allclose(found.means_[match(good, found)], good.means_, atol=0.02)
    (done,) = (event for event in told if isinstance(event, MovesDone))
    accepted = moves_of(told)
    assert done.moves == len(accepted) >= 1
    assert all(event.gained > 0 for event in accepted)
    assert (accepted[0].merged, accepted[0].split) == ((0, 1), 2)


def test_all_that_the_moves_gained_is_told() -> None:
    found, told = fit(rows_of(), sample_rows=600, means_init=BAD)
    (stage,) = (stage for stage in found.provenance_["stages"] if stage["stage"] == "split-merge")
    (done,) = (event for event in told if isinstance(event, MovesDone))
    assert (stage["moves"], stage["gained"]) == (done.moves, done.gained)
    assert done.gained > 0.1
    assert "split-merge +" in found.outcome_.took
    assert found.provenance_["settings"]["refine"] == "split-merge"


@pytest.mark.parametrize(("seed", "prior"), [(0, None), (1, None), (2, None), (1, "mclust")])
def test_in_memory_they_never_end_lower(seed: int, prior: str | None) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.gamma(2.0, size=(250, 2)) * rng.choice([1.0, 4.0], size=(250, 1))
    settings = {"k": 6, "random_state": seed, "init_params": "random_from_data", "prior": prior}
    settings |= {"tol": 1e-4, "max_iter": 300}
    plain, _ = fit(rows, **settings, refine=None)
    found, told = fit(rows, **settings)
    assert found.lower_bound_ >= plain.lower_bound_
    if not moves_of(told):
        assert found.means_.tobytes() == plain.means_.tobytes()


@pytest.mark.parametrize("seed", [1, 5])
def test_one_far_held_out_row_is_not_worth_a_cluster(seed: int) -> None:
    """Its density is so low that two clusters merged and a component that covers it raise the mean of held-out rows."""
    rng = np.random.default_rng(seed)
    rows, _ = random_mixture(5, d=4, covariance_type="full", seed=1, separation=5.0).sample(20_000, rng)
    rows[rng.choice(20_000, 6, replace=False)] = [40, -40, 40, 40] + 0.5 * rng.normal(size=(6, 4))
    settings = {"k": 6, "random_state": seed, "sample_rows": 2000}
    plain, _ = fit(rows, **settings, refine=None)
    found, _ = fit(rows, **settings)
    assert found.lower_bound_ > plain.lower_bound_ - 0.01


def test_without_moves_a_start_on_a_sample_is_as_it_was() -> None:
    rows = rows_of()
    for k in (2, 4):
        settings = {"k": k, "sample_rows": 600, "max_iter": 2, "tol": 0}
        plain, _ = fit(rows, **settings, refine=None)
        found, told = fit(rows, **settings)
        assert not moves_of(told)
        assert found.means_.tobytes() == plain.means_.tobytes()


def test_components_that_collapse_end_no_fit() -> None:
    """Repeated rows, no regularisation: most moves lead nowhere, and none of them is an error."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(200, 2)), np.repeat(rng.normal(size=(3, 2)) + 8, 20, axis=0)])
    model, _ = fit(rows, k=4, reg_covar=0, means_init=[[0, 0], [1, 1], [-1, 0], [8, 8]], max_iter=20)
    assert np.isfinite(model.lower_bound_)


@pytest.mark.parametrize(("sample_rows", "missing"), [(None, "error"), (900, "em")])
def test_candidates_of_a_selection_are_moved_too(
    sample_rows: int | None, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(2000)
    if missing == "em":
        rows = with_gaps(np.random.default_rng(1), rows, 0.1)
    bad = Mixture("full", np.full(4, 0.25), BAD, np.array([np.eye(3)] * 4))
    monkeypatch.setattr(
        "gmmdask.candidates.best_start", lambda start, n, seed, ground, *_, **__: ground.frame.mixture_in(bad)
    )
    common: dict[str, Any] = {"random_state": 0, "sample_rows": sample_rows, "missing": missing}
    told: list[Event] = []
    stuck = select(rows, (4,), **common).best_
    found = select(rows, (4,), **common, refine="split-merge", callbacks=(told.append,)).best_
    assert found.lower_bound_ > stuck.lower_bound_ + 0.1
    (done,) = (event for event in told if isinstance(event, MovesDone))
    (stage,) = (stage for stage in found.provenance_["stages"] if stage["stage"] == "split-merge")
    assert (done.run, stage["run"], stage["moves"]) == ("full-4", "full-4", done.moves)
    assert done.moves == len(moves_of(told)) >= 1


class Interruption(Exception):
    pass


@pytest.mark.parametrize(("sample_rows", "moment"), [(600, "moved"), (None, "moved"), (None, "after")])
def test_interrupted_they_end_in_the_same_bits(tmp_path: Path, sample_rows: int | None, moment: str) -> None:
    rows, settings = rows_of(), {"sample_rows": sample_rows, "means_init": BAD, "tol": 0, "max_iter": 8}
    seen: list[Event] = []

    def interrupt(event: Event) -> None:
        seen.append(event)
        passes = isinstance(event, PassDone) and event.lap == 3 and moves_of(seen)
        if isinstance(event, ComponentsMoved) if moment == "moved" else passes:
            raise Interruption

    whole, _ = fit(rows, **settings)
    with pytest.raises(Interruption):
        fit(rows, **settings, checkpoint=tmp_path / "fit.ckpt", callbacks=(interrupt,))
    model = GaussianMixture(4, refine="split-merge", random_state=0, checkpoint=tmp_path / "fit.ckpt", **settings)
    model.fit(rows, resume=True)
    assert model.means_.tobytes() == whole.means_.tobytes()
    assert model.covariances_.tobytes() == whole.covariances_.tobytes()
    assert model.lower_bounds_ == whole.lower_bounds_


def test_streams_refuse_them() -> None:
    with pytest.raises(ValueError, match=r"refine='split-merge'.*Unset it"):
        GaussianMixture(2, refine="split-merge").partial_fit(np.zeros((10, 2)))


def test_a_model_file_keeps_the_setting(tmp_path: Path) -> None:
    model, _ = fit(rows_of(600))
    model.save(tmp_path / "model.gmm")
    assert GaussianMixture.load(tmp_path / "model.gmm").refine == "split-merge"
    plain, _ = fit(rows_of(600), refine=None)
    assert "refine" not in plain.provenance_["settings"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_more_seeds_reach_the_good_optimum_of_separated_mixtures() -> None:
    """K = 10 to 16, 40,000 rows: within 0.01 nats per row of a fit that began at the truth."""
    trials = [(k, seed) for k in (10, 13, 16) for seed in range(6)]
    for init, separation in (("kmeans", 5.0), ("random_from_data", 6.0)):
        reached = counts_of_good_ends(trials, init, separation)
        assert reached["split-merge"] >= 0.9 * len(trials)
        assert reached["split-merge"] > reached[None] + 1


def counts_of_good_ends(trials: list[tuple[int, int]], init: str, separation: float) -> dict[str | None, int]:
    """How many fits come to the good optimum, with moves and without."""
    reached: dict[str | None, int] = {None: 0, "split-merge": 0}
    for k, seed in trials:
        truth = random_mixture(k, 6, "full", seed, separation)
        rows, _ = truth.sample(40_000, np.random.default_rng(seed))
        good = GaussianMixture(k, means_init=truth.means, sample_rows=4000, random_state=seed).fit(rows)
        for refine in reached:
            found, _ = fit(rows, k=k, refine=refine, sample_rows=4000, random_state=seed, init_params=init)
            reached[refine] += found.lower_bound_ > good.lower_bound_ - 0.01
    return reached
