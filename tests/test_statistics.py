"""Statistics to keep: they add and subtract at one mixture, survive a file, and give batch EM's step."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner, Result

from gmmdask import GaussianMixture, Statistics, container
from gmmdask.cli import main
from gmmdask.container import FileError
from gmmdask.covariance import FAMILIES
from gmmdask.execution import Threads
from gmmdask.execution.distributed import local_cluster
from gmmdask.frame import Frame
from gmmdask.kernels import kernel_for
from gmmdask.mixture import Mixture
from gmmdask.model_file import Model, load_model, save_model
from gmmdask.sources import DataError
from gmmdask.testing import reference
from gmmdask.testing.passes import assert_stats_agree, parameters_of
from gmmdask.testing.strategies import random_mixture

K, D = 3, 4
EDGES = [0, 300, 310, 700, 1200, 1201, 1900, 2300, 2600, 2999, 3500]  # of ten days
FAMILY_AND_KERNEL = [(family, kernel) for family in FAMILIES for kernel in ("products", "centred")]
every_family_and_kernel = pytest.mark.parametrize(("family", "kernel"), FAMILY_AND_KERNEL)


def a_mixture(family: str, kernel: str = "products", seed: int = 1, k: int = K, d: int = D) -> Mixture:
    """Not about zero; for the centred kernel, with a component (or all, if they share) a ten-thousandth as wide."""
    made = random_mixture(np.random.default_rng(seed), family, k, d)
    covariances = made.covariances.copy()
    if kernel == "centred":
        covariances[... if made.family.shared else 0] *= 1e-8
    return replace(made, means=made.means + 3, covariances=covariances)


def rows_of(mixture: Mixture) -> np.ndarray:
    """Ten days of rows (3500, d)."""
    return mixture.sample(EDGES[-1], np.random.default_rng(9))[0]


def days(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[a:b] for a, b in pairwise(EDGES)]


def normwise(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def assert_same_rows(found: Statistics, wanted: Statistics) -> None:
    assert found.weight == wanted.weight
    assert found.log_likelihood == pytest.approx(wanted.log_likelihood, rel=1e-10)
    assert found.score == pytest.approx(wanted.score, rel=1e-10)
    for moment in ("mass", "first", "second"):
        assert normwise(getattr(found.stats, moment), getattr(wanted.stats, moment)) < 1e-10
    assert found.stats.entropy == pytest.approx(wanted.stats.entropy, rel=1e-9, abs=1e-9 * wanted.weight)


def same_bits(a: Statistics, b: Statistics) -> bool:
    def arrays(of: Statistics) -> list[bytes]:
        frame, stats, theta = of.frame, of.stats, of.mixture
        held = (frame.origin, frame.matrix, frame.inverse, stats.origin, stats.vector)
        return [array.tobytes() for array in (*held, theta.weights, theta.means, theta.covariances)]

    return a.stats.layout == b.stats.layout and arrays(a) == arrays(b)


# --- what they are ---------------------------------------------------------------------------------------------


@every_family_and_kernel
def test_they_are_those_of_the_reference(family: str, kernel: str) -> None:
    mixture = a_mixture(family, kernel)
    rows = rows_of(mixture)
    found = Statistics.of(mixture, rows)
    inside = found.frame.mixture_in(mixture)
    assert kernel_for(inside) == kernel
    entered = found.frame.points_in(rows)
    wanted = reference.statistics(entered, parameters_of(inside), found.stats.origin)
    assert_stats_agree(found.stats, wanted, 1e-11)
    in_data_units = reference.log_density(reference.log_joint(rows, parameters_of(mixture))).sum()
    assert found.log_likelihood == pytest.approx(in_data_units, rel=1e-8)
    assert found.score == found.log_likelihood / len(rows)
    assert found.mass.sum() == pytest.approx(found.weight) == len(rows)


def test_an_estimator_gives_them(tmp_path: Path) -> None:
    rows = rows_of(a_mixture("full"))
    fitted = GaussianMixture(K, random_state=0).fit(rows)
    found = fitted.statistics(rows[:500])
    assert same_bits(found, Statistics.of(fitted, rows[:500]))
    assert found.score == pytest.approx(fitted.score(rows[:500]), rel=1e-12)
    fitted.save(tmp_path / "m")
    fitted.mixture_ = replace(fitted.mixture_, covariances=np.asfortranarray(fitted.mixture_.covariances))
    assert same_bits(found, GaussianMixture.load(tmp_path / "m").statistics(rows[:500]))
    assert same_bits(found, fitted.statistics(rows[:500]))  # strides must not reach the frame
    with pytest.raises(TypeError, match="expected a fitted GaussianMixture or a Mixture, found GaussianMixture"):
        Statistics.of(GaussianMixture(K), rows)


def test_same_bits_on_every_scheduler(tmp_path: Path) -> None:
    mixture = a_mixture("full")
    zarr.create_array(tmp_path / "rows.zarr", data=rows_of(mixture), chunks=(250, D))
    found = [Statistics.of(mixture, tmp_path / "rows.zarr", scheduler=threads) for threads in (Threads(1), Threads(3))]
    with local_cluster(2) as cluster:
        found.append(Statistics.of(mixture, tmp_path / "rows.zarr", scheduler=cluster.client))
    assert all(same_bits(found[0], other) for other in found[1:])


# --- adding and subtracting ------------------------------------------------------------------------------------


@every_family_and_kernel
def test_nine_days_and_the_tenth_are_ten_days(family: str, kernel: str) -> None:
    mixture = a_mixture(family, kernel)
    rows = rows_of(mixture)
    *nine, tenth = (Statistics.of(mixture, day) for day in days(rows))
    assert_same_rows(sum(nine, Statistics.none(mixture)) + tenth, Statistics.of(mixture, rows))
    assert_same_rows(Statistics.of(mixture, rows[: EDGES[9]]) + tenth, Statistics.of(mixture, rows))


@every_family_and_kernel
def test_minus_the_first_day_they_are_those_of_the_rest(family: str, kernel: str, tmp_path: Path) -> None:
    mixture = a_mixture(family, kernel)
    rows = rows_of(mixture)
    Statistics.of(mixture, days(rows)[0]).save(tmp_path / "day1")
    found = Statistics.of(mixture, rows) - Statistics.load(tmp_path / "day1")
    assert_same_rows(found, Statistics.of(mixture, rows[EDGES[1] :]))


def test_what_is_added_does_not_change() -> None:
    mixture = a_mixture("full")
    one, two = (Statistics.of(mixture, day) for day in days(rows_of(mixture))[:2])
    before = one.stats.vector.copy(), two.stats.vector.copy()
    one + two - two
    np.testing.assert_array_equal((one.stats.vector, two.stats.vector), before)


def test_no_more_can_be_subtracted_than_there_is() -> None:
    mixture = a_mixture("full")
    one, two = (Statistics.of(mixture, day) for day in days(rows_of(mixture))[3:5])
    with pytest.raises(ValueError, match=r"weight 500 .*cannot be subtracted from .*weight 1 .*a weight of -499"):
        two - one
    near = [Statistics.of(mixture, np.tile(mixture.means[k], (200 + k, 1))) for k in (1, 0)]
    with pytest.raises(ValueError, match=r"weight 200 .*weight 201 .*component 0 would keep a mass of -1\d\d\..*once"):
        near[0] - near[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_left_of_what_is_subtracted_but_rounding(family: str) -> None:
    """A component that lost all its rows is as one that never had any: its mean is not made of rounding."""
    mixture = a_mixture(family)
    mixture = replace(mixture, means=mixture.means + 1000 * np.arange(K)[:, None])
    rows, labels = mixture.sample(3000, np.random.default_rng(2))
    parts = [Statistics.of(mixture, rows[labels == k]) for k in range(K)]
    halves = [Statistics.of(mixture, rows[labels == 1][start::2]) for start in (0, 1)]
    left = (parts[0] + halves[0] + parts[2] + halves[1]) - parts[1]
    assert left.mass[1] == 0
    for reg_covar in (1e-6, 1e-3):
        found, wanted = (each.step(reg_covar).mixture for each in (left, parts[0] + parts[2]))
        assert normwise(found.dense_covariances(), wanted.dense_covariances()) < 1e-10
        assert normwise(found.means, wanted.means) < 1e-10
    nothing = left - parts[2] - parts[0]
    assert not nothing.stats.vector.any()
    assert np.isnan(nothing.score)
    with pytest.raises(ValueError, match=r"weight 0 at the .*: there are no rows to make a model of"):
        nothing.step()


OTHERS: dict[str, Callable[[], Mixture]] = {
    "mixture": lambda: a_mixture("full", seed=2),
    "weights": lambda: replace(a_mixture("full"), weights=np.array([0.2, 0.3, 0.5])),
    "family": lambda: a_mixture("diag"),
    "K": lambda: a_mixture("full", k=2),
    "d": lambda: a_mixture("full", d=2),
}


@pytest.mark.parametrize("what", OTHERS)
def test_those_of_another_mixture_are_refused_with_both_named(what: str) -> None:
    mixture, other = a_mixture("full"), OTHERS[what]()
    here, there = Statistics.of(mixture, rows_of(mixture)[:70]), Statistics.of(other, rows_of(other)[:90])
    both = rf"weight 70 at the full mixture {mixture.digest} \(K=3, d=4\), and .*weight 90 at the .* {other.digest}"
    for combine in (lambda: here + there, lambda: here - there):
        with pytest.raises(ValueError, match=both):
            combine()


def test_those_of_another_frame_are_refused_and_can_be_taken_in_it() -> None:
    mixture = a_mixture("full")
    rows = rows_of(mixture)
    one, two = (Statistics.of(mixture, day) for day in (rows[:2000], rows[2000:]))
    shifted = Frame(one.frame.origin * (1 + 1e-15), one.frame.matrix, one.frame.inverse)
    other = Statistics.of(mixture, rows[2000:], frame=shifted)
    for combine in (lambda: one + other, lambda: one - other):
        with pytest.raises(ValueError, match=f"{one.frame.digest}.*{shifted.digest}.*frame=other.frame"):
            combine()
    assert_same_rows(Statistics.of(mixture, rows[:2000], frame=shifted) + other, Statistics.of(mixture, rows))
    assert_same_rows(one + two, Statistics.of(mixture, rows))


def test_those_about_another_origin_add() -> None:
    """Where another machine's rounding chose the other kernel."""
    mixture = a_mixture("full")
    rows = rows_of(mixture)
    one, two = (Statistics.of(mixture, part) for part in (rows[:999], rows[999:]))
    moved = replace(two, stats=two.stats.about(two.frame.mixture_in(mixture).means))
    assert moved.stats.origin.any()
    assert_same_rows(one + moved, Statistics.of(mixture, rows))


# --- the M-step ------------------------------------------------------------------------------------------------


@every_family_and_kernel
@pytest.mark.parametrize("sample_rows", [None, 100], ids=["in memory", "by passes"])
def test_the_m_step_is_one_step_of_batch_em(family: str, kernel: str, sample_rows: int | None) -> None:
    theta = a_mixture(family, kernel)
    rows, reg_covar = rows_of(theta), 1e-3 if kernel == "products" else 1e-10
    batch = GaussianMixture(
        K,
        covariance_type=family,
        weights_init=theta.weights,
        means_init=theta.means,
        precisions_init=theta.family.precisions(theta.root),
        max_iter=1,
        tol=0,
        reg_covar=reg_covar,
        accelerate=None,
        sample_rows=sample_rows,
    ).fit(rows)
    parts = [Statistics.of(theta, day) for day in days(rows)]
    total = sum(parts[1:], parts[0])
    found = GaussianMixture.from_statistics(total, reg_covar=reg_covar)
    tolerance = 1e-10
    assert normwise(found.weights_, batch.weights_) < tolerance
    assert normwise(found.means_, batch.means_) < tolerance
    for one, other in zip(found.mixture_.dense_covariances(), batch.mixture_.dense_covariances(), strict=True):
        assert normwise(one, other) < tolerance
    assert total.score == pytest.approx(batch.lower_bound_, rel=tolerance)
    assert normwise(found.means_, theta.means) > 1e-9  # it was a step


def test_the_model_says_what_it_was_made_of(tmp_path: Path) -> None:
    theta = a_mixture("full")
    total = Statistics.of(theta, rows_of(theta))
    GaussianMixture.from_statistics(total, reg_covar=1e-4).save(tmp_path / "m")
    loaded = GaussianMixture.load(tmp_path / "m")
    assert loaded.reg_covar == 1e-4
    assert loaded.provenance_["data"] == {
        "kind": "statistics",
        "mixture": theta.digest,
        "weight": 3500.0,
        "log_likelihood": total.log_likelihood,
        "score": total.score,
    }
    assert "numpy" in loaded.provenance_["versions"]


def test_too_few_rows_for_the_covariances_are_told() -> None:
    theta = a_mixture("full")
    with pytest.raises(ValueError, match="ill-defined empirical covariance"):
        Statistics.of(theta, rows_of(theta)[:2]).step(reg_covar=0)


# --- files -----------------------------------------------------------------------------------------------------


@every_family_and_kernel
def test_a_file_keeps_every_bit(family: str, kernel: str, tmp_path: Path) -> None:
    mixture = a_mixture(family, kernel)
    found = Statistics.of(mixture, rows_of(mixture)[:50])
    found.save(tmp_path / "s")
    loaded = Statistics.load(tmp_path / "s")
    assert same_bits(loaded, found)
    assert same_bits(loaded + found, found + found)
    assert (loaded.score, loaded.log_likelihood) == (found.score, found.log_likelihood)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    Statistics.of(a_mixture("full"), rows_of(a_mixture("full"))[:50]).save(tmp_path / "s")
    return tmp_path / "s"


@pytest.mark.parametrize("kept", [0, 7, 8, 30, 48, 49, 700, -8, -1])
def test_a_truncated_file_is_refused(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(FileError, match=r"s: (truncated or damaged|not a gmmdask file)"):
        Statistics.load(saved)


def test_foreign_files_are_refused(saved: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "m", Model(a_mixture("full"), {}))
    with pytest.raises(FileError, match="m: expected a statistics file, found a model file"):
        Statistics.load(tmp_path / "m")
    with pytest.raises(FileError, match="s: expected a model file, found a statistics file"):
        load_model(saved)
    (tmp_path / "text").write_text("1,2,3")
    with pytest.raises(FileError, match="text: not a gmmdask file"):
        Statistics.load(tmp_path / "text")
    with pytest.raises(FileError, match="none: cannot be read"):
        Statistics.load(tmp_path / "none")


def changed(array: str, to: Any) -> Callable[[Any, container.Arrays], None]:
    def change(content: Any, arrays: container.Arrays) -> None:
        arrays.pop(array) if to is None else arrays.update({array: to})

    return change


HARM: dict[str, tuple[Callable[[Any, container.Arrays], None], str]] = {
    "a shorter vector": (changed("vector", np.zeros(10)), r"s: not complete statistics: expected.*found.*\(10,\)"),
    "no vector": (changed("vector", None), "s: not complete statistics"),
    "another origin": (changed("origin", np.zeros((K, D + 1))), "s: not complete statistics"),
    "a frame of scales": (changed("frame_matrix", np.ones(D)), "s: not complete statistics"),
    "integers": (changed("vector", np.zeros(3 + 1 + K * (1 + D + 10), "int64")), "s: not complete statistics"),
    "other means": (changed("means", np.zeros((K + 1, D))), "s: arrays do not fit together"),
    "no weights": (changed("weights", None), "s: not a complete model"),
    "another family": (lambda content, arrays: content.update(covariance_type="round"), "s: not a complete model"),
}


@pytest.mark.parametrize("name", HARM)
def test_arrays_that_do_not_fit_are_refused(saved: Path, name: str) -> None:
    change, words = HARM[name]
    content, arrays = container.read(saved, "statistics")
    change(content, arrays)
    container.write(saved, "statistics", content, arrays)
    with pytest.raises(FileError, match=words):
        Statistics.load(saved)


# --- bad rows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["products", "centred"])
@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, "NaN or infinity"), (np.inf, "NaN or infinity"), (-np.inf, "NaN"), (1e200, "row 1234 is so far from")],
    ids=str,
)
def test_rows_without_a_density_are_refused_by_number(kernel: str, value: float, words: str) -> None:
    mixture = a_mixture("full", kernel)
    rows = rows_of(mixture)
    rows[[1234, 3000], [2, 0]] = value
    with pytest.raises(DataError, match=words) as told:
        Statistics.of(mixture, rows, scheduler="synchronous")
    assert "row 1234" in str(told.value)


def test_other_rows_are_refused() -> None:
    mixture = a_mixture("full")
    with pytest.raises(DataError, match="X has 3 features, but GaussianMixture is expecting 4"):
        Statistics.of(mixture, rows_of(mixture)[:, :3])
    with pytest.raises(DataError, match="0 sample"):
        Statistics.of(mixture, np.empty((0, D)))


# --- the command -----------------------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["update", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(*arguments: object) -> Any:
    result = run(*arguments, "--log-format", "json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def failed(code: int, *arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == code, result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ten days of rows as .npy, the first as Zarr, and a model."""
    folder, mixture = tmp_path_factory.mktemp("week"), a_mixture("full")
    for number, day in enumerate(days(rows_of(mixture)), start=1):
        np.save(folder / f"day{number}.npy", day)
    zarr.create_array(folder / "day1.zarr", data=np.load(folder / "day1.npy"), chunks=(100, D))
    save_model(folder / "model", Model(mixture, {"settings": {"reg_covar": 1e-2}}))
    Statistics.of(mixture, np.load(folder / "day1.npy")).save(folder / "day1")
    Statistics.of(a_mixture("full", seed=2), np.load(folder / "day1.npy")).save(folder / "elsewhere")
    return folder


def test_update_makes_the_model_of_the_union(week: Path, tmp_path: Path) -> None:
    model, rows = week / "model", rows_of(a_mixture("full"))
    parts = [week / "day1.zarr", *(week / f"day{number}.npy" for number in range(2, 10))]
    told = done(*parts, "-m", model, "-s", tmp_path / "nine", "-o", tmp_path / "m9", "--threads", 2)
    assert (told["weight"], told["statistics"]) == (EDGES[9], str(tmp_path / "nine"))
    assert_same_rows(Statistics.load(tmp_path / "nine"), Statistics.of(a_mixture("full"), rows[: EDGES[9]]))

    more = ("--add", tmp_path / "nine", "--minus", week / "day1", "-s", tmp_path / "rest", "-o", tmp_path / "m")
    told = done(week / "day10.npy", "-m", model, *more)
    wanted = Statistics.of(a_mixture("full"), rows[EDGES[1] :])
    assert_same_rows(Statistics.load(tmp_path / "rest"), wanted)
    assert [told[name] for name in ("weight", "score", "log_likelihood")] == pytest.approx(
        [wanted.weight, wanted.score, wanted.log_likelihood], rel=1e-10
    )
    found = load_model(tmp_path / "m")
    assert normwise(found.mixture.covariances, wanted.step(1e-2).mixture.covariances) < 1e-10  # the model's reg_covar
    assert normwise(found.mixture.covariances, wanted.step(1e-6).mixture.covariances) > 1e-4
    data = found.provenance["data"]
    assert data["kind"] == "statistics"
    assert data["model"] == str(model)
    assert data["added"] == [str(tmp_path / "nine"), str(week / "day10.npy")]
    assert data["subtracted"] == [str(week / "day1")]
    assert data["score"] == told["score"]
    assert found.provenance["settings"]["reg_covar"] == 1e-2
    shown = CliRunner().invoke(main, ["inspect", str(tmp_path / "m")]).stdout
    assert "one M-step from statistics of weight 3200" in shown

    done("-m", model, "--add", tmp_path / "rest", "-o", tmp_path / "again", "--reg-covar", 1e-6)
    again = load_model(tmp_path / "again").mixture
    assert normwise(again.covariances, wanted.step(1e-6).mixture.covariances) < 1e-10
    assert "components" in run("-m", model, "--add", tmp_path / "rest", "-o", tmp_path / "plain").stdout


def test_statistics_can_take_the_place_of_those_that_are_added(week: Path, tmp_path: Path) -> None:
    state, words = tmp_path / "s", ("-m", week / "model", "-o", tmp_path / "m", "--overwrite")
    for number in (1, 2, 3):
        add = ("--add", state) if number > 1 else ()
        done(week / f"day{number}.npy", *words, *add, "-s", state)
    assert_same_rows(Statistics.load(state), Statistics.of(a_mixture("full"), rows_of(a_mixture("full"))[: EDGES[3]]))


def test_the_frame_of_saved_statistics_is_taken_over(week: Path, tmp_path: Path) -> None:
    """So that those of another machine or version go on."""
    here = Statistics.load(week / "day1")
    frame = Frame(here.frame.origin * (1 + 1e-15), here.frame.matrix, here.frame.inverse)
    Statistics.of(here.mixture, np.load(week / "day1.npy"), frame=frame).save(tmp_path / "theirs")
    done(
        week / "day2.npy",
        "-m",
        week / "model",
        "--add",
        tmp_path / "theirs",
        "-o",
        tmp_path / "m",
        "-s",
        tmp_path / "s",
    )
    assert Statistics.load(tmp_path / "s").frame.digest == frame.digest


def a_bad(folder: Path, rows: np.ndarray) -> Path:
    np.save(folder / "bad.npy", rows)
    return folder / "bad.npy"


BAD: dict[str, tuple[int, Callable[[Path, Path], tuple[object, ...]], str]] = {
    "NaN": (3, lambda w, t: (a_bad(t, np.full((9, D), np.nan)),), r"bad.npy: .*NaN or infinity, first in row 0"),
    "another d": (3, lambda w, t: (a_bad(t, np.zeros((9, 3))),), "bad.npy: X has 3 features, .*expecting 4"),
    "no rows": (3, lambda w, t: (a_bad(t, np.zeros((0, D))),), r"bad.npy: Found array with 0 sample\(s\)"),
    "no such data": (3, lambda w, t: (t / "none.npy",), "none.npy: no such file"),
    "statistics elsewhere": (
        3,
        lambda w, t: (w / "day2.npy", "--add", w / "elsewhere"),
        "elsewhere: statistics of weight 0 at .*, and statistics of weight 300 at .*, do not go together",
    ),
    "expired ones elsewhere": (3, lambda w, t: (w / "day2.npy", "--minus", w / "elsewhere"), "elsewhere: statistics"),
    "too much expired": (3, lambda w, t: (w / "day5.npy", "--minus", w / "day1"), "day1: .*cannot be subtracted"),
    "all expired": (3, lambda w, t: (w / "day1.npy", "--minus", w / "day1"), "weight 0 at .*there are no rows"),
    "a model for statistics": (3, lambda w, t: ("--add", w / "model"), "model: expected a statistics file"),
    "no such statistics": (3, lambda w, t: ("--add", w / "none"), "none: cannot be read"),
    "too few rows": (3, lambda w, t: (w / "day5.npy", "--reg-covar", 0), "ill-defined empirical covariance"),
    "nothing": (2, lambda w, t: (), "Nothing to make a model of"),
    "only expired ones": (2, lambda w, t: ("--minus", w / "day1"), "Nothing to make a model of"),
    "a name twice": (2, lambda w, t: (w / "day1.npy", w / "day2.npy", w / "day1.npy"), "a name occurs twice"),
    "statistics twice": (2, lambda w, t: ("--add", w / "day1", "--add", w / "day1"), "a name occurs twice"),
    "no such folder": (3, lambda w, t: (w / "day1.npy", "-s", t / "no" / "s"), "the folder .*no does not exist"),
    "one name for both": (3, lambda w, t: (w / "day1.npy", "-s", t / "m"), "two outputs have this name"),
    "outputs on data": (3, lambda w, t: (w / "day1.npy", "-s", w / "day1.npy", "--overwrite"), "input is read from"),
    "an existing output": (3, lambda w, t: (w / "day1.npy", "-s", w / "day1"), "day1: exists already.*--overwrite"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_words_and_leaves_all_as_it_was(week: Path, tmp_path: Path, name: str) -> None:
    code, arguments, words = BAD[name]
    given = arguments(week, tmp_path)
    before = {path: path.read_bytes() for path in (*week.iterdir(), *tmp_path.iterdir()) if path.is_file()}
    said = failed(code, *given, "-m", week / "model", "-o", tmp_path / "m")
    assert re.search(words, said)
    assert {path: path.read_bytes() for path in (*week.iterdir(), *tmp_path.iterdir()) if path.is_file()} == before


def test_outputs_are_checked_before_rows_are_read(week: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Statistics, "over", lambda *_: pytest.fail("rows were read"))
    (tmp_path / "m").touch()
    assert "exists already" in failed(3, week / "day1.npy", "-m", week / "model", "-o", tmp_path / "m")
    said = failed(3, week / "day1.npy", "-m", week / "model", "-o", tmp_path / "n", "--minus", week / "elsewhere")
    assert "do not go together" in said
