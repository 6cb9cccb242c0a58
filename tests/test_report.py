"""The report: what it finds, what it says, and that the page is sound."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import chi2, multivariate_normal

from gmmdask import GaussianMixture, open_source
from gmmdask.cli import main
from gmmdask.covariance import FAMILIES
from gmmdask.execution import open_executor
from gmmdask.mixture import Mixture
from gmmdask.model_file import Model, load_model, save_model
from gmmdask.noise import Noise
from gmmdask.predict import Prediction
from gmmdask.report import gaps, page, report
from gmmdask.report.checks import findings
from gmmdask.report.components import describe
from gmmdask.report.examine import BEYOND, Examine, Look, Seen, drawn_scores, edges, look_at, same
from gmmdask.report.findings import Facts, Use, Verdict, overall
from gmmdask.report.words import components, count, exact, joined, number, percent, sentence
from gmmdask.sources import DataError
from gmmdask.sources.weights import weighted
from gmmdask.synthetic import random_mixture
from gmmdask.task import Block
from gmmdask.testing.strategies import with_gaps

pytest.importorskip("matplotlib")
EVIL = """<script>alert(1)</script>"a" & 'b' $x$"""
NAMES = [EVIL, "weight", "{{ height }}"]
TRUTH = random_mixture(3, 3, "full", seed=2, separation=4)
ROWS = TRUTH.sample(4000, np.random.default_rng(0))[0]
VOID = {"meta", "link", "img"}
CHROMIUM = os.environ.get("GMMDASK_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


# --- what rows tell --------------------------------------------------------------------------------------------


def seen_of(
    mixture: Mixture, rows: np.ndarray, weights: np.ndarray | None = None, cuts: Any = (), missing: bool = False
) -> Seen:
    """By blocks that are cut at `cuts`."""
    parts = zip(
        np.split(rows, cuts), [None] * (len(cuts) + 1) if weights is None else np.split(weights, cuts), strict=True
    )
    blocks = [Block(part, given, 0) for part, given in parts if len(part)]
    return Examine(mixture, -5.0, "rows", missing)(blocks)


@pytest.mark.parametrize("covariance_type", FAMILIES)
@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(0, 300), max_size=4), weighted=st.booleans())
def test_sums_are_those_of_a_dense_computation_however_rows_are_cut(covariance_type, cuts, weighted):
    mixture = random_mixture(3, 2, covariance_type, seed=5, separation=1)
    rows, _ = mixture.sample(300, np.random.default_rng(1))
    weights = np.random.default_rng(2).uniform(0.1, 3, 300) if weighted else None
    w = np.ones(300) if weights is None else weights
    posteriors, values = (Prediction(mixture, what).of(rows) for what in ("proba", "score"))
    far = np.array(
        [
            np.einsum("ni,ni->n", rows - mean, np.linalg.solve(covariance, (rows - mean).T).T)
            for mean, covariance in zip(mixture.means, mixture.dense_covariances(), strict=True)
        ]
    )
    first = seen_of(mixture, rows[:100], None if weights is None else weights[:100])
    rest = seen_of(mixture, rows[100:], None if weights is None else weights[100:], sorted(cut % 200 for cut in cuts))
    seen = first + rest
    totals = [w.sum(), w @ w, w @ values, w @ values**2, w.sum(), w @ (values < -5.0)]
    np.testing.assert_allclose(seen.totals, totals, rtol=1e-9)
    labels = posteriors.argmax(axis=1)
    for k in range(3):
        np.testing.assert_allclose(seen.posteriors[k], (w[:, None] * posteriors)[labels == k].sum(axis=0), atol=1e-9)
        within = [(w * posteriors[:, k])[far[k] <= edge].sum() for edge in edges(2)]
        np.testing.assert_allclose(np.cumsum(seen.distances[k])[:-1], within, atol=1e-9)
    np.testing.assert_allclose(seen.mass, w @ posteriors)
    np.testing.assert_allclose(seen.labelled, np.bincount(labels, weights=w, minlength=3))
    assert seen.score == pytest.approx(np.average(values, weights=w))
    spread = np.average((values - seen.score) ** 2, weights=w)
    assert seen.score_error == pytest.approx(np.sqrt(spread * (w @ w)) / w.sum())


@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_distances_of_rows_of_a_mixture_are_those_of_gaussians(covariance_type, share):
    """Although components overlap so that no label is certain, and values are missing at random: there is no bias."""
    mixture = random_mixture(3, 4, covariance_type, seed=3, separation=0.7)
    rows = with_gaps(np.random.default_rng(4), mixture.sample(40_000, np.random.default_rng(0))[0], share)
    seen = seen_of(mixture, rows, cuts=np.arange(5000, 40_000, 5000), missing=share > 0)
    look = Look("rows", len(rows), False, True, seen, rows[:10])
    for component in describe(mixture, list("abcd"), None, look):
        assert component.gap is not None
        assert component.gap < 2.5 / np.sqrt(component.effective or 0)  # Kolmogorov, for weighted rows
        assert component.inner == pytest.approx(np.sqrt(chi2.ppf(0.5, 4)), rel=0.03)
        assert component.outer == pytest.approx(np.sqrt(chi2.ppf(0.99, 4)), rel=0.05)


@pytest.mark.parametrize("covariance_type", FAMILIES)
@settings(max_examples=6, deadline=None)
@given(cuts=st.lists(st.integers(0, 300), max_size=3).map(sorted), weighted=st.booleans())
def test_without_gaps_those_that_may_have_some_give_the_same_sums(covariance_type, cuts, weighted):
    mixture = random_mixture(3, 4, covariance_type, seed=5, separation=1)
    rows, _ = mixture.sample(300, np.random.default_rng(1))
    weights = np.random.default_rng(2).uniform(0.1, 3, 300) if weighted else None
    found, wanted = (seen_of(mixture, rows, weights, cuts, missing) for missing in (True, False))
    for name in ("totals", "posteriors", "labelled", "distances", "lacking"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-9, atol=1e-9, err_msg=name)
    assert found.complete == pytest.approx(1)
    assert not found.missing.any()


def row_by_row(mixture: Mixture, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of what is there: log joint densities, and shares of Gaussians' rows that are nearer; (n, K) each."""
    log_joint, nearer = np.tile(np.log(mixture.weights), (2, len(rows), 1))
    for at, row in enumerate(rows):
        there = np.flatnonzero(~np.isnan(row))
        for k, (mean, covariance) in enumerate(zip(mixture.means, mixture.dense_covariances(), strict=True)):
            if len(there):
                z, inner = (row - mean)[there], covariance[np.ix_(there, there)]
                log_joint[at, k] += multivariate_normal(cov=inner).logpdf(z)
                nearer[at, k] = chi2.cdf(z @ np.linalg.solve(inner, z), len(there))
    return log_joint, nearer


@pytest.mark.parametrize("covariance_type", FAMILIES)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.1, 0.5, 0.9]), weighted=st.booleans())
def test_sums_of_rows_with_gaps_are_those_of_one_row_after_another(covariance_type, seed, share, weighted):
    """Distances of any number of values lie between edges that Gaussians' rows exceed as often."""
    mixture, rng = random_mixture(3, 3, covariance_type, seed=5, separation=1), np.random.default_rng(seed)
    rows = with_gaps(rng, mixture.sample(60, rng)[0], share)
    rows[7] = np.nan
    weights = rng.uniform(0.1, 3, 60) if weighted else None
    w = np.ones(60) if weights is None else weights
    seen = seen_of(mixture, rows, weights, [20, 41], missing=True)
    log_joint, nearer = row_by_row(mixture, rows)
    values, lack = logsumexp(log_joint, axis=1), np.isnan(rows)
    posteriors, whole = np.exp(log_joint - values[:, None]), ~lack.any(axis=1)
    totals = [w.sum(), w @ w, w @ values, w @ values**2, w @ whole, w @ (whole & (values < -5.0))]
    np.testing.assert_allclose(seen.totals, totals, rtol=1e-9)
    np.testing.assert_allclose(seen.lacking, w @ lack)
    of_label = log_joint.argmax(axis=1) == np.arange(3)[:, None]
    np.testing.assert_allclose(seen.posteriors, of_label @ (w[:, None] * posteriors), atol=1e-9)
    np.testing.assert_allclose(seen.labelled, of_label @ w)
    some, likely = ~lack.all(axis=1), chi2.cdf(edges(3), 3) < 1 - 1e-5
    within = [(some * w) @ (posteriors * (nearer <= share)) for share in chi2.cdf(edges(3), 3)[likely]]
    np.testing.assert_allclose(np.cumsum(seen.distances, axis=1)[:, :-1][:, likely], np.transpose(within), atol=1e-9)
    np.testing.assert_allclose(seen.mass, (some * w) @ posteriors)


def test_edges_of_any_number_of_values_go_as_far():
    """Where no number tells how rarely rows are that far."""
    for d in (1, 2, 30):
        assert edges(d).shape == edges(5).shape
        assert np.isfinite(edges(d)).all()
        assert (np.diff(edges(d)) > 0).all()
        np.testing.assert_allclose(chi2.sf(edges(d), d)[:-BEYOND], chi2.sf(edges(5), 5)[:-BEYOND], rtol=1e-9)


def test_sums_of_a_cluster_of_tasks_are_those_of_one_block(tmp_path):
    np.save(tmp_path / "rows.npy", ROWS)
    model = Model(TRUTH, {"data": open_source(ROWS).fingerprint()})
    drawn = drawn_scores(TRUTH)
    source = open_source(tmp_path / "rows.npy")
    with open_executor("threads") as executor:
        look = look_at(model, source, executor, drawn)
    whole = Examine(TRUTH, drawn.threshold(0.01), "rows")([Block(ROWS, None, 0)])
    np.testing.assert_allclose(look.seen.distances, whole.distances, atol=1e-9)
    assert (look.rows, look.trained, look.weighted) == (4000, True, False)
    assert len(look.sample) == 4000


def test_rows_are_the_same_wherever_they_lie():
    """But not if a value, a weight or a column is another, where that can be told."""
    array = {"kind": "array", "shape": [5, 2], "dtype": "float64", "rows": "a1"}
    assert same(array, {**array, "kind": "npy", "address": "rows.npy"})
    assert not same(array, {**array, "rows": "b2"})
    assert not same(array, {**array, "weights": {"digest": "c"}})
    parquet = {"kind": "parquet", "address": "here", "digest": "d", "columns": ["x"]}
    assert same(parquet, {**parquet, "address": "there"})
    assert not same(parquet, {**parquet, "address": "there", "columns": ["y"]})
    stored = {"kind": "zarr", "address": "here", "shape": [5, 2]}
    assert same(stored, dict(stored))
    assert same(stored, {**stored, "address": "there"}) is None  # it may be a copy
    assert same(stored, {**parquet, "shape": [5, 2]}) is None
    assert same(stored, {**stored, "address": "there", "shape": [6, 2]}) is False
    assert same(stored, {**stored, "snapshot": "another"}) is False
    assert not same({}, array)


# --- what is found ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good() -> Facts:
    """A converged fit of Gaussian rows, two of three starts of which agree, and other rows of the same mixture."""
    model = GaussianMixture(3, random_state=0, tol=1e-6).fit(ROWS)
    starts = [{"score": -1.0, "agreement": 1.0}, {"score": -1.0, "agreement": 0.99}, {"score": -1.2, "agreement": 0.4}]
    told = json.loads(json.dumps({**model.provenance_, "starts": starts}))
    fresh = TRUTH.sample(4000, np.random.default_rng(9))[0]
    drawn = drawn_scores(model.mixture_)
    seen = Examine(model.mixture_, drawn.threshold(0.01), "rows")([Block(fresh, None, 0)])
    return Facts(Model(model.mixture_, told), drawn, Look("fresh", 4000, False, False, seen, fresh))


def told(facts: Facts, **changes: Any) -> Facts:
    return replace(facts, model=replace(facts.model, provenance={**facts.told, **changes}))


def mixed(facts: Facts, weights: Any = None, means: Any = None, scale: Any = 1.0) -> Facts:
    """With other parameters, and what the same rows say of these."""
    old = facts.mixture
    new = Mixture(
        old.covariance_type,
        old.weights if weights is None else np.asarray(weights, float),
        old.means if means is None else means,
        old.covariances * np.asarray(scale, float).reshape(-1, 1, 1),
    )
    assert facts.look is not None
    drawn = drawn_scores(new)
    seen = Examine(new, drawn.threshold(0.01), "rows")([Block(facts.look.sample, None, 0)])
    return Facts(replace(facts.model, mixture=new), drawn, replace(facts.look, seen=seen))


def verdicts(facts: Facts) -> dict[str, Verdict]:
    return {finding.check: finding.verdict for finding in findings(facts)}


def test_the_guide_names_every_check(good):
    guide = (Path(__file__).parents[1] / "docs" / "guides" / "trust.md").read_text()
    for finding in findings(good):
        assert f"| {finding.check} |" in guide


def test_nothing_speaks_against_a_good_fit(good):
    found = findings(good)
    assert {finding.verdict for finding in found} == {Verdict.FINE}
    assert len(found) == 8
    for use in Use:
        assert overall(found, use) == (Verdict.FINE, "yes, nothing on this page speaks against it.")


def worse(good: Facts) -> Iterator[tuple[str, Facts, str, Verdict, set[Use]]]:
    """A name, facts with one thing wrong, what is asked of it, the verdict, and the uses that it touches."""
    both, groups, density = set(Use), {Use.GROUPS}, {Use.DENSITY}
    outcome, starts = good.told["outcome"], good.told["starts"]
    stopped = {**outcome, "reason": "max_iter", "sentence": "stopped after max_iter=2 passes.", "predicted_gain": None}
    ended = "Did the fit end by itself?"
    yield "stopped", told(good, outcome=stopped), ended, Verdict.TROUBLE, both
    yield "nearly there", told(good, outcome={**stopped, "predicted_gain": 1e-4}), ended, Verdict.CARE, both
    yield "stream", told(good, outcome={**outcome, "reason": "stream"}), ended, Verdict.CARE, both
    yield "no fit", told(good, outcome={"sentence": "drawn at random"}), ended, Verdict.OPEN, both
    again = "Would another start have ended elsewhere?"
    yield "one start", told(good, starts=starts[:1]), again, Verdict.CARE, groups
    yield "no starts", told(good, starts=None), again, Verdict.OPEN, groups
    yield "one reached", told(good, starts=[starts[0], starts[2]]), again, Verdict.CARE, groups
    alike = {"score": -1.1, "agreement": 0.97}
    yield "one reached, others alike", told(good, starts=[starts[0], alike]), again, Verdict.CARE, groups
    yield "forced", told(good, forced="rows: 1 then, 2 now"), "Was it one fit?", Verdict.CARE, both
    fixed = told(good, settings={**good.settings, "reg_covar": 1.0})
    yield "collapsed on reg_covar", fixed, "Has a component collapsed?", Verdict.TROUBLE, both
    thin = replace(mixed(good, scale=[1, 1, 1e-12]), look=None)
    yield "flat", thin, "Has a component collapsed?", Verdict.TROUBLE, both
    few = "Does every component have enough rows?"
    yield "few rows", told(good, rows=100), few, Verdict.CARE, groups
    yield "fewer rows than parameters", told(good, rows=20), few, Verdict.TROUBLE, groups
    near = good.mixture.means.copy()
    near[1] = near[0]
    twice = mixed(good, means=near, scale=[1, 1.01, 1])
    yield "two alike", twice, "Can the components be told apart?", Verdict.CARE, groups
    yield "too wide", mixed(good, scale=2.0), "Are the components Gaussian?", Verdict.CARE, both
    yield "outliers", mixed(good, scale=0.6), "Are more rows unlikely than the model expects?", Verdict.CARE, density
    likely = "Are these rows as likely as those of the fit?"
    yield "no rows", replace(good, look=None), likely, Verdict.OPEN, both
    last = {**good.history[-1], "log_likelihood": good.training_score + 1}
    yield "less likely", told(good, history=[last]), likely, Verdict.CARE, density
    assert good.look is not None
    at_end = {**last, "log_likelihood": good.look.seen.score}
    own = replace(good.look, trained=True)
    yield "rows of the fit", told(replace(good, look=own), history=[at_end]), likely, Verdict.OPEN, density
    yield "perhaps those", replace(good, look=replace(good.look, trained=None)), likely, Verdict.OPEN, density
    few = replace(good, look=replace(good.look, rows=99))
    yield "few rows for scores", few, likely, Verdict.OPEN, density
    yield "few rows for shapes", few, "Are the components Gaussian?", Verdict.OPEN, both
    yield (
        "other units",
        mixed(good, scale=1e-3),
        "Are more rows unlikely than the model expects?",
        Verdict.TROUBLE,
        both,
    )
    changed = replace(told(good, history=[last]), look=own)
    yield "changed rows", changed, likely, Verdict.TROUBLE, both
    yield "no score", told(good, history=[]), likely, Verdict.OPEN, density


def test_what_is_wrong_is_found_and_has_a_remedy(good):
    for name, facts, check, verdict, uses in worse(good):
        finding = next(finding for finding in findings(facts) if finding.check == check)
        assert finding.verdict is verdict, (name, finding)
        assert finding.reason, name
        assert finding.todo or name == "no score", name
        for use in Use:
            whole, words = overall([finding], use)
            assert (whole is verdict) == (use in uses), (name, use)
            assert (finding.reason in words) == (use in uses), name


def test_noise_is_one_component_more_and_has_no_distances():
    noise = Noise(0.2, np.full(2, -30.0), np.full(2, 30.0))
    clean = random_mixture(3, 2, "full", seed=4, separation=6)
    mixture = replace(clean, weights=0.8 * clean.weights, noise=noise)
    rows, labels = mixture.sample(20_000, np.random.default_rng(0))
    seen = seen_of(mixture, rows, cuts=np.arange(5000, 20_000, 5000))
    assert seen.posteriors.shape == (4, 4)
    assert seen.posteriors.sum() == pytest.approx(20_000)
    assert seen.labelled[-1] == pytest.approx((labels == -1).sum(), rel=0.05)
    assert seen.mass.sum() == pytest.approx((labels >= 0).sum(), rel=0.02)
    look = Look("rows", len(rows), False, True, seen, rows[:1000])
    assert all((c.gap or 1) < 0.05 for c in describe(mixture, list("ab"), None, look))
    words = page.render(Facts(Model(mixture, {}), drawn_scores(mixture), look), "m.gmm")
    assert "Noise, which stands for outliers all over the range of the data, holds 20 %." in words


def test_the_worst_verdict_counts_and_the_others_are_told(good):
    wrong = told(good, starts=good.told["starts"][:1], outcome={"reason": "max_iter", "sentence": "stopped."})
    verdict, words = overall(findings(wrong), Use.GROUPS)
    assert verdict is Verdict.TROUBLE
    assert "not as it is, because the fit was stopped" in words
    assert "only one start" in words


def test_without_rows_the_quantiles_of_the_fit_tell_of_outliers(good):
    alone = replace(good, look=None)
    check = "Are more rows unlikely than the model expects?"
    assert verdicts(alone)[check] is Verdict.FINE
    assert verdicts(replace(alone, drawn=drawn_scores(mixed(good, scale=0.2).mixture)))[check] is Verdict.CARE
    kept = {key: value for key, value in alone.told.items() if key != "log_densities"}
    assert check not in verdicts(replace(alone, model=replace(alone.model, provenance=kept)))


# --- missing values --------------------------------------------------------------------------------------------

UNLIKELY_ROWS, LIKELY_ROWS = (
    "Are more rows unlikely than the model expects?",
    "Are these rows as likely as those of the fit?",
)


def with_missing(facts: Facts, rows: np.ndarray, then: Any = None) -> Facts:
    """Rows with gaps in the place of those that were looked at, of a model whose rows lacked as much, or as `then`."""
    seen = Examine(facts.mixture, facts.drawn.threshold(0.01), "rows", missing=True)([Block(rows, None, 0)])
    lacked = np.isnan(rows).mean(axis=0) if then is None else np.broadcast_to(then, 3)
    last = {**facts.history[-1], "log_likelihood": seen.score}
    look = Look("rows", len(rows), False, False, seen, rows)
    return told(replace(facts, look=look), missing=lacked.tolist(), history=[last])


@pytest.fixture(scope="module")
def holes(good: Facts) -> np.ndarray:
    """Rows of the truth that lack 5, 10 and 20 % of the values of each feature."""
    rng = np.random.default_rng(3)
    return with_gaps(rng, TRUTH.sample(4000, rng)[0], np.array([0.05, 0.1, 0.2]))


def test_values_missing_at_random_speak_against_nothing(good, holes, monkeypatch):
    monkeypatch.setattr("gmmdask.plot.svg", lambda ax: "")
    facts = with_missing(good, holes)
    assert set(verdicts(facts).values()) == {Verdict.FINE}
    words = " ".join(Page(page.render(facts, "m.gmm")).all("body")[0][2].split())
    shares = np.isnan(holes).mean(axis=0)
    for said in (
        f"Of their values, {percent(shares.mean())} are missing (most of feature 2, {percent(shares[2])}); ",
        f"{percent(1 - np.isnan(holes).any(axis=1).mean())} of the rows are complete.",
        f"Of the values, {percent(shares.mean())} were missing (most of feature 2, ",
        "A panel has the rows that lack neither of its features.",
        "Rows are those that have a value;",
        "A row that lacks values counts with the distance of what it has",
    ):
        assert said in words, said
    whole = page.render(good, "m.gmm")
    for said in ("missing (", "lack neither", "Rows are those that have a value", "counts with the distance of what"):
        assert said not in whole


def test_unlikely_rows_are_counted_among_complete_ones(good, holes):
    complete = ~np.isnan(holes).any(axis=1)
    facts, whole = with_missing(good, holes), mixed(replace(good, look=replace(good.look, sample=holes[complete])))
    assert facts.look.seen.unlikely == pytest.approx(whole.look.seen.unlikely)
    assert facts.look.seen.complete == pytest.approx(complete.mean())
    far = holes.copy()
    far[np.flatnonzero(complete)[:200]] += 100.0
    assert verdicts(with_missing(good, far))[UNLIKELY_ROWS] is Verdict.CARE
    gappy = holes.copy()
    gappy[np.flatnonzero(complete)[900:], 0] = np.nan
    few = with_missing(good, gappy)
    finding = next(finding for finding in findings(few) if finding.check == UNLIKELY_ROWS)
    assert finding.verdict is Verdict.OPEN
    assert finding.todo
    assert finding.reason == "hardly any row is complete, so unlikely ones were not counted"
    gappy[:, 0] = np.nan
    none = with_missing(good, gappy)
    assert verdicts(none)[UNLIKELY_ROWS] is Verdict.OPEN
    assert np.isnan(none.look.seen.unlikely)
    assert UNLIKELY_ROWS not in verdicts(replace(none, look=None))  # log densities of the fit are of rows with gaps


def test_scores_of_rows_that_lack_other_values_are_not_compared(good, holes):
    for then, verdict in ((None, Verdict.FINE), (0.0, Verdict.OPEN), (0.5, Verdict.OPEN)):
        assert verdicts(with_missing(good, holes, then))[LIKELY_ROWS] is verdict
    whole = with_missing(good, ROWS, 0.2)
    finding = next(finding for finding in findings(whole) if finding.check == LIKELY_ROWS)
    assert finding.verdict is Verdict.OPEN
    assert "lack other values than those of the fit did (0 % of all, against 20 %)" in finding.found
    own = replace(whole, look=replace(whole.look, trained=True))
    assert "these are the rows of the fit" in next(f for f in findings(own) if f.check == LIKELY_ROWS).found


def test_what_gaps_do_to_scores_is_known_beforehand(good, holes):
    facts = with_missing(replace(good, model=replace(good.model, mixture=TRUTH)), holes, [0.3, 0.0, 0.3])
    rng = np.random.default_rng(8)
    then = with_gaps(rng, TRUTH.sample(4000, rng)[0], np.array([0.3, 0.0, 0.3]))
    values = [Prediction(TRUTH, "score", missing=True).of(rows) for rows in (holes, then)]
    error = np.sqrt(sum(of.var() / 4000 for of in values))
    assert gaps.shift(facts) == pytest.approx(values[0].mean() - values[1].mean(), abs=5 * error)
    assert abs(gaps.shift(facts)) > 5 * error


def test_distances_that_gaps_may_have_moved_say_so(good, holes):
    found = next(f for f in findings(with_missing(mixed(good, scale=2.0), holes)) if "Gaussian" in f.check)
    assert found.verdict is Verdict.CARE
    assert "Where others tell which values are missing, that alone may make distances differ." in found.found


@pytest.fixture(scope="module")
def incomplete(tmp_path_factory: pytest.TempPathFactory, holes: np.ndarray) -> Path:
    """A model of rows with gaps, which are beside it."""
    folder = tmp_path_factory.mktemp("gaps")
    np.save(folder / "rows.npy", holes)
    GaussianMixture(3, missing="em", random_state=0).fit(str(folder / "rows.npy")).save(folder / "model.gmm")
    return folder / "model.gmm"


def test_a_model_tells_what_its_rows_lacked(incomplete, holes, good):
    assert load_model(incomplete).provenance["missing"] == pytest.approx(np.isnan(holes).mean(axis=0))
    assert "missing" not in good.told


def test_a_look_goes_by_the_model_and_a_feature_may_be_without_values(incomplete, holes, monkeypatch):
    monkeypatch.setattr("gmmdask.plot.svg", lambda ax: "")
    blank, model = np.where([False, False, True], np.nan, holes), load_model(incomplete)
    drawn = drawn_scores(model.mixture)
    with open_executor("threads") as executor:
        for rows in (holes, blank):
            look = look_at(model, open_source(rows), executor, drawn)
            whole = Examine(model.mixture, drawn.threshold(0.01), "rows", missing=True)([Block(rows, None, 0)])
            np.testing.assert_allclose(look.seen.distances, whole.distances, atol=1e-9)
            assert np.array_equal(look.sample, rows, equal_nan=True)
        with pytest.raises(DataError, match=r"NaN .* missing='em'"):
            look_at(model, open_source(holes), executor, drawn, missing=False)
    words = Page(page.render(Facts(model, drawn, look), "m.gmm")).all("main")[0][2]
    assert not re.search(r"\bnan\b|\binf", words.lower())


# --- words -----------------------------------------------------------------------------------------------------


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12))
def test_numbers_are_read_back_within_their_digits(value):
    text = number(value).replace("−", "-").replace(",", "")
    assert float(text) == pytest.approx(value, rel=0.006)
    assert "-" not in number(value)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (number(65016), "65,016"),
        (number(1e-6), "1e−6"),
        (number(float("nan")), "unknown"),
        (number(float("-inf")), "−∞"),
        (exact(-1234.5), "−1,234.50000"),
        (percent(0.1234), "12.3 %"),
        (percent(1e-9), "less than 0.001 %"),
        (count(1, "row"), "1 row"),
        (count(2.0, "pass", "passes"), "2 passes"),
        (joined([]), ""),
        (joined(["a"]), "a"),
        (joined(["a", "b", "c"]), "a, b and c"),
        (joined(["a", "b", "c"], 2), "a, b and 1 more"),
        (components([3]), "component 3"),
        (components([3, 4]), "components 3 and 4"),
        (sentence(" so it is"), "So it is."),
        (sentence(""), ""),
    ],
)
def test_words(found, wanted):
    assert found == wanted


# --- the page --------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The elements of a page in their order, with the text in each; fails where they are not nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = (tag, dict(attrs), list[str]())
        self.found.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for _, _, text in self.open:
            text.append(data)

    def all(self, *tags: str) -> list[tuple[str, dict[str, str | None], str]]:
        return [(tag, attributes, "".join(text)) for tag, attributes, text in self.found if tag in tags]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a fit with several starts to rows with names, both beside it."""
    folder = tmp_path_factory.mktemp("report")
    pd.DataFrame(ROWS, columns=NAMES).to_parquet(folder / "rows & <more>.parquet")
    found = GaussianMixture(3, random_state=0, n_init=2).fit(str(folder / "rows & <more>.parquet"))
    found.save(folder / "model.gmm")
    return folder / "model.gmm"


@pytest.fixture(scope="module")
def html(model: Path) -> str:
    """The page of it, with a selection."""
    found = load_model(model)
    table = [
        {
            "covariance_type": "full",
            "components": k,
            "parameters": 10 * k,
            "behind": abs(k - 3) * 0.1,
            "behind_error": 0.02,
            "score": None if k == 5 else -3.0,
            "bic": 1e5 + k,
            "state": "failed: <b>" if k == 5 else "fitted",
        }
        for k in range(2, 6)
    ]
    choices = {"one_standard_error": {"covariance_type": "full", "components": 3}}
    selection = {"table": table, "choices": choices, "sentence": "Three, <b>because</b> it is so."}
    chosen = replace(found, provenance={**found.provenance, "selection": selection})
    return report(chosen, str(model), open_source(str(model.with_name("rows & <more>.parquet"))))


def test_a_page_says_what_was_fitted_to_what(html):
    words = " ".join("".join(text for _, _, text in Page(html).all("body")).split())
    for said in (
        "A mixture of 3 Gaussians, fitted to rows & <more>.parquet",
        "4,000 rows of 3 features",
        "29 free parameters",
        "converged after",
        "the rows that it was fitted to",
        "Three, <b>because</b> it is so.",
        "2 starts were run to their end",
        "failed: <b>",
        EVIL,
    ):
        assert said in words
    assert len(html) < 5e6


def test_a_page_asks_nobody_for_anything_and_runs_no_code_of_others(html):
    found = Page(html)
    for _, attributes, _ in found.found:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            if name in attributes:
                assert re.match(r"data:|#", attributes[name] or ""), attributes[name]
    assert [text for _, _, text in found.all("script")] == [page.text("page.js")]
    assert [text for _, _, text in found.all("style")] == [page.text("page.css")]
    assert not re.search(r"url\(|@import|https?:|fetch|XMLHttp|import\(", page.text("page.css") + page.text("page.js"))
    policy = next(a["content"] for _, a, _ in found.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "alert(1)" in html
    assert EVIL not in html


def test_a_page_can_be_read_by_everybody(html):
    """Language, headings in order, one main part; names of pictures, tables, regions; links that lead somewhere."""
    found = Page(html)
    assert found.all("html")[0][1]["lang"] == "en"
    assert found.all("title")[0][2].strip()
    assert [len(found.all(tag)) for tag in ("main", "h1", "header", "nav", "footer")] == [1] * 5
    levels = [int(tag[1]) for tag, _, _ in found.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes, _ in found.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes, text in found.all("a"):
        assert (attributes["href"] or "")[1:] in ids
        assert text.strip()
    for _, attributes, _ in found.all("section"):
        assert attributes["aria-labelledby"] in ids
    pictures = found.all("img")
    assert len(pictures) == 11
    for _, attributes, _ in pictures:
        assert len(attributes["alt"] or "") > 20
    assert len(found.all("figcaption")) == len(pictures)
    assert len(found.all("caption")) == len(found.all("table")) == 4
    for _, attributes, _ in found.all("th"):
        assert attributes["scope"] in ("col", "row")
    regions = [attributes for _, attributes, _ in found.found if attributes.get("role") == "region"]
    assert all(attributes["tabindex"] == "0" and attributes["aria-label"] for attributes in regions)
    assert len({attributes["aria-label"] for attributes in regions}) == len(regions)


def luminance(colour: str) -> float:
    """Relative, of WCAG 2."""
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(scheme):
    css = page.text("page.css")
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6});", part)) for part in re.findall(r":root \{(.*?)\}", css, re.S))
    colours = {"light": light, "dark": {**light, **dark}}[scheme]
    assert set(dark) == set(light)
    assert set(re.findall(r"var\(--(\w+)\)", css)) <= set(light)
    for ground in ("paper", "raised"):
        for ink in ("ink", "quiet", "link", "fine", "care", "trouble", "open"):
            high, low = sorted([luminance(colours[ground]), luminance(colours[ink])], reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ground, ink)


@pytest.mark.parametrize(("n_components", "d"), [(1, 1), (13, 21)])
def test_models_of_any_shape_that_no_fit_has_made_have_a_page(n_components, d):
    mixture = random_mixture(n_components, d, "diag")
    words = Page(report(Model(mixture, {}), "m.gmm")).all("main")[0][2]
    assert "This mixture was not made by a fit" in words
    assert "No rows were given" in words


def test_components_without_weight_are_no_trouble(monkeypatch):
    monkeypatch.setattr("gmmdask.plot.svg", lambda ax: "")
    mixture = Mixture("diag", np.array([1.0, 0.0]), np.array([[0.0, 0.0], [5.0, 5.0]]), np.ones((2, 2)))
    rows = np.random.default_rng(0).normal(size=(500, 2))
    words = Page(report(Model(mixture, {}), "m.gmm", open_source(rows), "synchronous")).all("main")[0][2]
    assert not re.search(r"\bnan\b|\binf", words.lower())


def test_weights_of_rows_count():
    heavy, drawn = np.where(np.arange(len(ROWS)) < 100, 50.0, 1.0), drawn_scores(TRUTH)
    with open_executor("synchronous") as executor:
        seen = look_at(Model(TRUTH, {}), weighted(open_source(ROWS), heavy), executor, drawn).seen
    assert seen.weight == heavy.sum()
    assert seen.score == pytest.approx(np.average(Prediction(TRUTH, "score").of(ROWS), weights=heavy))


# --- the command -----------------------------------------------------------------------------------------------


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_writes_a_page_and_refuses_what_it_cannot(model, tmp_path):
    rows, out = model.with_name("rows & <more>.parquet"), tmp_path / "report.html"
    done = run("report", model, rows, "-o", out)
    assert done.exit_code == 0, done.stderr
    first = out.read_text()
    assert "4,000 rows" in first
    refused = run("report", model, "-o", out)
    assert (refused.exit_code, out.read_text()) == (3, first)
    assert "exists already" in refused.stderr
    told = run("report", model, "-o", out, "--overwrite", "--log-format", "json")
    assert json.loads(told.stdout) == {"output": str(out), "bytes": len(out.read_bytes())}
    assert out.read_text() != first
    assert run("report", model, "-o", out, "--overwrite", "--columns", "a").exit_code == 2
    assert run("report", rows, "-o", tmp_path / "x.html").exit_code == 3
    np.save(tmp_path / "wide.npy", np.zeros((5, 7)))
    assert "7 features" in run("report", model, tmp_path / "wide.npy", "-o", tmp_path / "x.html").stderr
    np.save(tmp_path / "bad.npy", np.full((5, 3), np.nan))
    assert "NaN" in run("report", model, tmp_path / "bad.npy", "-o", tmp_path / "x.html").stderr
    assert not (tmp_path / "x.html").exists()


def test_the_command_takes_nan_as_the_fit_did_or_as_it_is_told(incomplete, model, tmp_path, monkeypatch):
    rows, out = incomplete.with_name("rows.npy"), tmp_path / "report.html"
    done = run("report", incomplete, rows, "-o", out)
    assert done.exit_code == 0, done.stderr
    assert "are missing (most of feature 2" in out.read_text()
    refused = run("report", incomplete, rows, "-o", out, "--overwrite", "--missing", "error")
    assert (refused.exit_code, "--missing em" in refused.stderr) == (3, True)
    bare = tmp_path / "bare.gmm"
    save_model(bare, replace(load_model(model), feature_names=None))
    refused = run("report", bare, rows, "-o", out, "--overwrite")
    assert (refused.exit_code, "missing='em' (--missing em)" in refused.stderr) == (3, True)
    assert run("report", incomplete, "-o", out, "--overwrite", "--missing", "em").exit_code == 2
    monkeypatch.setattr("gmmdask.report.render", lambda facts, path: f"{facts.look.seen.complete:.3f}")
    assert run("report", bare, rows, "-o", out, "--overwrite", "--missing", "em").exit_code == 0
    assert out.read_text() == f"{1 - np.isnan(np.load(rows)).any(axis=1).mean():.3f}"


def test_without_matplotlib_the_command_names_the_extra(model, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused = run("report", model, "-o", tmp_path / "report.html")
    assert (refused.exit_code, list(tmp_path.iterdir())) == (3, [])
    assert 'pip install "gmmdask[plot]"' in refused.stderr


# --- a browser -------------------------------------------------------------------------------------------------

CLICK = """
<script>
const table = [...document.querySelectorAll("table")].find((t) => t.caption.textContent.startsWith("Components"));
const head = table.tHead.rows[0].cells[1];
const orders = [];
for (let i = 0; i < 2; i += 1) {
  head.querySelector("button").click();
  const values = [...table.tBodies[0].rows].map((row) => Number(row.cells[1].dataset.value));
  orders.push([head.getAttribute("aria-sort"), ...values]);
}
table.tHead.rows[0].cells[3].querySelector("button").click();
orders.push([...table.tBodies[0].rows].map((row) => row.cells[3].dataset.value));
const told = document.createElement("pre");
told.id = "told";
told.textContent = JSON.stringify({
  orders,
  buttons: document.querySelectorAll("th[scope=col] button").length,
  heads: document.querySelectorAll("th[scope=col]").length,
  wider: document.documentElement.scrollWidth - innerWidth,
  pictures: [...document.images].every((image) => image.naturalWidth > 0),
  resources: performance.getEntriesByType("resource").filter((entry) => !entry.name.startsWith("data:")).length,
});
document.body.append(told);
</script>
"""


def in_browser(path: Path, width: int, *options: str) -> subprocess.CompletedProcess[str]:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0"]
    flags += [f"--user-data-dir={path.parent / 'profile'}", f"--window-size={width},900", "--virtual-time-budget=5000"]
    return subprocess.run([str(CHROMIUM), *flags, *options, path.as_uri()], capture_output=True, text=True, check=True)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: on PATH, or its path in GMMDASK_CHROMIUM")
def test_a_browser_shows_and_sorts_the_page_without_errors_or_requests(html, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(html.replace("</body>", CLICK + "</body>"))
    shown = in_browser(path, 1280, "--dump-dom", f"--screenshot={tmp_path / 'shot.png'}")
    assert "CONSOLE" not in shown.stderr
    told = json.loads(Page(shown.stdout.partition("<!DOCTYPE html>")[2]).all("pre")[0][2])
    (falling, *down), (rising, *up), words = told["orders"]
    assert (falling, rising) == ("descending", "ascending")
    assert down == sorted(down, reverse=True) == up[::-1]
    assert len(down) == 3
    assert words == sorted(words, key=str.lower) or len(set(words)) == 3
    assert told["buttons"] == told["heads"] > 20
    assert told["wider"] <= 0
    assert told["pictures"]
    assert told["resources"] == 0
