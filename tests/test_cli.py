"""The command line: what it writes, what it refuses, and what its exit codes mean."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.config
import numpy as np
import pytest
import zarr
from click.testing import CliRunner, Result
from distributed import Client, LocalCluster

from gmmdask import GaussianMixture, container
from gmmdask.cli import COMMANDS, main
from gmmdask.model_file import Model, load_model, save_model
from gmmdask.progress import stored_classes
from gmmdask.synthetic import random_mixture

N, D, K = 6000, 3, 3
TRUTH = random_mixture(K, D, "full", seed=4)
ROWS = TRUTH.sample(N, np.random.default_rng(4))[0]


def run(*arguments: object) -> Result:
    """A command in this process; exceptions that it does not turn into an exit code are raised."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def failed(code: int, *arguments: object) -> str:
    """What a command says that ends with this exit code."""
    result = run(*arguments)
    assert result.exit_code == code, result.stderr
    return result.stderr


def strict(text: str) -> Any:
    """JSON as the standard has it, without NaN and Infinity."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below a folder."""
    found = folder.rglob("*")
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}


def bits(path: Path) -> bytes:
    mixture = load_model(path).mixture
    return b"".join(array.tobytes() for array in (mixture.weights, mixture.means, mixture.covariances))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same rows as .npy and as Zarr in 10 chunks, and a model of them."""
    folder = tmp_path_factory.mktemp("data")
    paths = {"npy": folder / "rows.npy", "zarr": folder / "rows.zarr", "model": folder / "m.gmm"}
    np.save(paths["npy"], ROWS)
    zarr.create_array(paths["zarr"], data=ROWS, chunks=(600, D))
    save_model(paths["model"], Model(TRUTH, {}))
    return paths


# --- fit, inspect, predict, score ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npy", "zarr"])
def test_fit_inspect_predict_and_score(data: dict[str, Path], tmp_path: Path, kind: str) -> None:
    rows, model, out = data[kind], tmp_path / "m.gmm", tmp_path / "out"
    told = done("fit", rows, "-k", 3, "--covariance", "full", "--seed", 2, "--output", model)
    assert "converged after" in told.stdout
    assert "first look" in told.stderr
    fitted = GaussianMixture.load(model)
    assert np.all(np.diff(fitted.weights_) <= 0)
    ours = GaussianMixture(3, random_state=2, stop="predicted").fit(ROWS)
    assert np.any(np.diff(ours.weights_) > 0)  # the order in which they were found is another
    order = np.argsort(-ours.weights_)
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_allclose(getattr(fitted, name), getattr(ours, name)[order], rtol=1e-9, atol=1e-9)

    shown = done("inspect", model).stdout
    for words in (str(rows), "6000", "n_components=3", "covariance_type=full", "seed=2", "converged after", "float64"):
        assert words in shown
    for weight in fitted.weights_:
        assert f"{weight:.4f}" in shown
    found = strict(done("inspect", model, "--log-format", "json").stdout)
    assert (found["data"], found["rows"], found["settings"]["n_components"]) == (str(rows), N, 3)
    assert found["outcome"].startswith("converged after")
    assert found["provenance"]["data"]["shape"] == [N, D]

    done("predict", rows, "-m", model, "-o", out, "--what", "labels,proba,score")
    written = zarr.open_group(out, mode="r")
    np.testing.assert_array_equal(written["labels"][:], fitted.predict(ROWS))
    np.testing.assert_allclose(written["proba"][:], fitted.predict_proba(ROWS), atol=1e-13)
    np.testing.assert_allclose(written["score"][:], fitted.score_samples(ROWS), atol=1e-12)
    assert written["labels"].dtype == "uint8"
    chunk = 600 if kind == "zarr" else N
    assert [written[what].chunks for what in ("labels", "proba", "score")] == [(chunk,), (chunk, 3), (chunk,)]

    scored = strict(done("score", rows, "-m", model, "--log-format", "json").stdout)
    assert scored["mean_log_density"] == pytest.approx(fitted.score(ROWS), rel=1e-12)
    assert [scored["bic"], scored["aic"]] == pytest.approx([fitted.bic(ROWS), fitted.aic(ROWS)], rel=1e-12)
    assert scored["rows"] == N
    assert f"{scored['mean_log_density']}" in done("score", rows, "-m", model).stdout


@pytest.mark.parametrize("covariance", ["tied", "diag", "spherical"])
def test_every_covariance_type(data: dict[str, Path], tmp_path: Path, covariance: str) -> None:
    done("fit", data["zarr"], "-k", 2, "--covariance", covariance, "--seed", 1, "-o", tmp_path / "m")
    assert load_model(tmp_path / "m").mixture.covariance_type == covariance


def test_chunks_of_label_0_are_stored(data: dict[str, Path], tmp_path: Path) -> None:
    done("fit", data["zarr"], "-k", 1, "-o", tmp_path / "m")
    done("predict", data["zarr"], "-m", tmp_path / "m", "-o", tmp_path / "out")
    assert len(list((tmp_path / "out" / "labels" / "c").iterdir())) == 10


def test_settings_reach_the_fit_and_its_record(data: dict[str, Path], tmp_path: Path) -> None:
    chosen = {
        "--tol": 1e-4,
        "--stop": "gain",
        "--max-iter": 7,
        "--n-init": 2,
        "--init": "random",
        "--reg-covar": 1e-3,
        "--sample-rows": 2000,
        "--memory-limit": "1GB",
    }
    done("fit", data["zarr"], "-k", 2, "-o", tmp_path / "m", *(part for pair in chosen.items() for part in pair))
    told = load_model(tmp_path / "m").provenance
    settings = {**told["settings"], **told["settings"]["algorithm"]}
    wanted = {
        "tol": 1e-4,
        "stop": "gain",
        "max_iter": 7,
        "n_init": 2,
        "init_params": "random",
        "reg_covar": 1e-3,
        "sample_rows": 2000,
        "memory_limit": 10**9,
    }
    assert {name: settings[name] for name in wanted} == wanted
    assert isinstance(settings["seed"], int)  # drawn, and recorded
    done("fit", data["zarr"], "-k", 2, "-o", tmp_path / "again", "--seed", settings["seed"], *sum(chosen.items(), ()))
    assert bits(tmp_path / "again") == bits(tmp_path / "m")


# --- what is printed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [("--max-iter", 4), ("--max-iter", 0), ("--n-init", 2, "--sample-rows", 500)], ids=str
)
def test_json_is_json_and_nothing_else(data: dict[str, Path], tmp_path: Path, options: tuple[object, ...]) -> None:
    end = done(
        "fit",
        data["zarr"],
        "-k",
        2,
        "-o",
        tmp_path / "m",
        "--log-format",
        "json",
        "--checkpoint",
        tmp_path / "c",
        *options,
    )
    events = [strict(line) for line in end.stderr.splitlines()]
    assert all(isinstance(event["event"], str) and event["time"] > 0 for event in events)
    names = [event["event"] for event in events]
    assert names[0] == "FitStarted"
    assert {"PilotDone", "CheckpointWritten"} <= set(names)
    summary = strict(end.stdout)
    assert summary["passes"] == names.count("PassDone")
    assert summary["model"] == str(tmp_path / "m")


def test_a_constant_feature_is_an_event(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.column_stack([ROWS[:500], np.ones(500)]))
    end = done("fit", tmp_path / "rows.npy", "-k", 2, "-o", tmp_path / "m", "--log-format", "json")
    events = {event["event"]: event for event in map(strict, end.stderr.splitlines())}
    assert events["DirectionsWithoutSpread"]["features"] == [3]


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)], ids=str)
def test_help(command: tuple[str, ...]) -> None:
    for option in ("--help", "-h"):
        shown = done(*command, option).stdout
        assert "Usage:" in shown
        assert "Options:" in shown


def python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], check=False, capture_output=True, text=True, **options)


def test_help_imports_no_mathematics() -> None:
    code = "import sys; from gmmdask.cli import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    end = python("-c", code)
    assert end.returncode == 0, end.stderr
    assert "inspect" in end.stdout
    heavy = {"numpy", "scipy", "sklearn", "dask", "distributed", "zarr", "rich"}
    assert not heavy & set(end.stdout.rpartition("\n  ")[2].split())


# --- bad input: exit code 3, said what and where, nothing written ----------------------------------------------


def save(folder: Path, values: Any) -> Path:
    np.save(folder / "bad.npy", values)
    return folder / "bad.npy"


def store(folder: Path, values: np.ndarray, **layout: Any) -> Path:
    layout = {"chunks": (100, *values.shape[1:]), **layout}
    zarr.create_array(folder / "bad.zarr", data=values, **layout)
    return folder / "bad.zarr"


def with_bad_row(value: float) -> np.ndarray:
    rows = ROWS[:1000].copy()
    rows[[731, 900], [1, 0]] = value
    return rows


def a_group(folder: Path) -> Path:
    zarr.create_group(folder / "bad.zarr").create_array("events", data=ROWS[:100])
    return folder / "bad.zarr"


def no_rows(folder: Path) -> Path:
    zarr.create_array(folder / "bad.zarr", shape=(0, 3), chunks=(10, 3), dtype="f8")
    return folder / "bad.zarr"


def without_a_chunk(folder: Path) -> Path:
    path = store(folder, ROWS[:1000])
    (path / "c" / "4" / "0").unlink()
    return path


def cut_chunk(folder: Path, codec: Any) -> Path:
    path = store(folder, ROWS[:1000], compressors=codec)
    chunk = path / "c" / "4" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-99])
    return path


def file(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


ZSTD, BLOSC = zarr.codecs.ZstdCodec(), zarr.codecs.BloscCodec()
BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no such path": (lambda f: f / "nothing.zarr", "nothing.zarr: no such file or folder. Check the path"),
    "no such file": (lambda f: f / "nothing.npy", "nothing.npy: no such file or folder. Check the path"),
    "a group": (a_group, r"bad.zarr: expected a Zarr array, found a group \(arrays in it: events\).*bad.zarr/events"),
    "an empty folder": (lambda f: (f / "d").mkdir() or f / "d", "d: no Zarr array can be opened there"),
    "1-d": (lambda f: save(f, ROWS[:, 0]), r"bad.npy: expected a 2-d array.*1 dimensions.*reshape it to \(n, 1\)"),
    "3-d": (lambda f: store(f, ROWS.reshape(60, 100, 3)), "bad.zarr: expected a 2-d array.*3 dimensions.*[Rr]eshape"),
    "strings": (lambda f: save(f, np.array([["a", "b"]] * 9)), "bad.npy: expected real numbers.*strings.*Convert"),
    "objects": (lambda f: save(f, np.array([[None, 1]])), "bad.npy: not a readable .npy file.*objects are refused"),
    "complex": (lambda f: store(f, ROWS[:200] * 1j), "bad.zarr: expected real numbers.*[Cc]omplex.*Convert"),
    "no rows": (no_rows, r"bad.zarr: Found array with 0 sample\(s\) \(shape=\(0, 3\)\).*nothing to fit"),
    "no columns": (lambda f: save(f, np.empty((5, 0))), r"bad.npy: 0 feature\(s\) \(shape=\(5, 0\)\)"),
    "fewer rows than K": (lambda f: save(f, ROWS[:2]), "bad.npy: .*n_components = 3, n_samples = 2.*fewer components"),
    "NaN": (
        lambda f: store(f, with_bad_row(np.nan)),
        r"bad.zarr: .*NaN or infinity.*2 of 1000 rows.*first in row 731 \(storage chunk 7\).*[Dd]rop or impute",
    ),
    "infinity": (lambda f: save(f, with_bad_row(np.inf)), r"bad.npy: .*NaN or infinity.*first in row 731 .*chunk 0"),
    "minus infinity": (lambda f: store(f, with_bad_row(-np.inf).astype("f4")), "bad.zarr: .*first in row 731"),
    "huge numbers": (lambda f: save(f, with_bad_row(1e200)), "bad.npy: .*beyond 1e.150.*first in row 731"),
    "a missing chunk": (
        without_a_chunk,
        r"bad.zarr: 1 of 10 stored chunks are missing.*c/4/0 \(rows 400 to 499\).*--accept-missing",
    ),
    "a cut zstd chunk": (lambda f: cut_chunk(f, ZSTD), r"chunk c/4/0 \(rows 400 to 499\) cannot be decoded.*again"),
    "a cut blosc chunk": (lambda f: cut_chunk(f, BLOSC), r"chunk c/4/0 \(rows 400 to 499\) cannot be decoded.*again"),
    "a cut plain chunk": (lambda f: cut_chunk(f, None), r"chunk c/4/0 \(rows 400 to 499\) cannot be decoded.*again"),
    "an empty chunk": (
        lambda f: file(store(f, ROWS[:1000]) / "c" / "4", "0", b"").parents[2],
        r"chunk c/4/0 \(rows 400 to 499\) cannot be decoded",
    ),
    "a text file": (lambda f: file(f, "bad.csv", b"1,2\n3,4\n"), "bad.csv: .*Zarr array"),
    "no npy": (lambda f: file(f, "bad.npy", b"1,2\n3,4\n"), "bad.npy: not a readable .npy file"),
}


@pytest.mark.parametrize("form", ["plain", "json"])
@pytest.mark.parametrize("name", BAD)
def test_bad_data_are_refused_in_words_and_leave_nothing(tmp_path: Path, name: str, form: str) -> None:
    make, words = BAD[name]
    path = make(tmp_path)
    before = contents(tmp_path)
    said = failed(3, "fit", path, "-k", 3, "-o", tmp_path / "m", "--checkpoint", tmp_path / "c", "--log-format", form)
    assert re.search(words, said)
    assert "Traceback" not in said
    assert said.splitlines()[-1].strip()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", [name for name in BAD if name not in ("fewer rows than K", "huge numbers")])
def test_bad_data_are_refused_by_predict_and_score_too(data: dict[str, Path], tmp_path: Path, name: str) -> None:
    path = BAD[name][0](tmp_path)
    before = contents(tmp_path)
    for arguments in (("predict", path, "-o", tmp_path / "out"), ("score", path)):
        said = failed(3, *arguments, "-m", data["model"])
        assert path.name in said
        assert contents(tmp_path) == before


def test_missing_chunks_can_be_accepted(data: dict[str, Path], tmp_path: Path) -> None:
    path = without_a_chunk(tmp_path)
    done("fit", path, "-k", 3, "-o", tmp_path / "m", "--accept-missing")
    done("predict", path, "-m", data["model"], "-o", tmp_path / "out", "--accept-missing")
    done("score", path, "-m", data["model"], "--accept-missing")
    assert len(set(zarr.open_array(tmp_path / "out" / "labels", mode="r")[400:500])) == 1


def test_accepting_missing_chunks_does_not_disturb_a_file_without_chunks(data: dict[str, Path], tmp_path: Path) -> None:
    done("fit", data["npy"], "-k", 3, "-o", tmp_path / "m", "--accept-missing")


def test_a_chunk_beyond_the_memory_limit(tmp_path: Path) -> None:
    """Before it is read: zeros compress, so that the file is small and the chunk is not."""
    zarr.create_array(tmp_path / "rows.zarr", shape=(500_000, 8), chunks=(500_000, 8), dtype="f8", fill_value=1)[:] = 0
    before = contents(tmp_path)
    said = failed(3, "fit", tmp_path / "rows.zarr", "-k", 3, "-o", tmp_path / "m", "--memory-limit", "120MB")
    numbers = r"rows.zarr: .*128,000,000 hold storage chunks of 500000 rows.*memory_limit=120,000,000.*smaller chunks"
    assert re.search(numbers, said)
    enough = said.rpartition("memory_limit=")[2].strip(" .\n").replace(",", "")
    assert contents(tmp_path) == before
    done("fit", tmp_path / "rows.zarr", "-k", 1, "-o", tmp_path / "m", "--memory-limit", enough, "--sample-rows", 99)


@pytest.mark.parametrize("limit", ["1KB", "0", "lots"])
def test_memory_limits_that_make_no_sense(data: dict[str, Path], tmp_path: Path, limit: str) -> None:
    said = failed(3, "fit", data["zarr"], "-k", 3, "-o", tmp_path / "m", "--memory-limit", limit)
    assert "memory_limit" in said
    assert not list(tmp_path.iterdir())


# --- odd rows that can be fitted -------------------------------------------------------------------------------

ODD: dict[str, tuple[np.ndarray, int]] = {
    "one row": (ROWS[:1], 1),
    "as many components as rows": (ROWS[:12], 12),
    "one row many times": (np.ones((300, 2)), 3),
    "two rows many times": (np.repeat(ROWS[:2], 200, axis=0), 4),
    "float16": (ROWS.astype("f2"), 3),
    "int8": ((4 * ROWS).astype("i1"), 3),
    "uint64": (np.abs(9 * ROWS).astype("u8"), 3),
    "bool": (ROWS > 0, 2),
    "big-endian": (ROWS.astype(">f8"), 3),
    "Fortran": (np.asfortranarray(ROWS), 3),
    "one column": (np.ascontiguousarray(ROWS[:, :1]), 2),
    "far from zero": (ROWS + 1e8, 3),
    "farther": (ROWS + 1e12, 3),
    "large": (ROWS * 1e100, 3),
    "small": (ROWS * 1e-30, 3),
    "sorted": (np.sort(ROWS, axis=0), 3),
}


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("name", ODD)
def test_odd_rows_are_fitted_and_labelled(tmp_path: Path, name: str, covariance: str) -> None:
    rows, k = ODD[name]
    np.save(tmp_path / "rows.npy", rows)
    words = ("-k", k, "--covariance", covariance, "--seed", 0, "--max-iter", 20, "-o", tmp_path / "m")
    done("fit", tmp_path / "rows.npy", *words)
    mixture = load_model(tmp_path / "m").mixture
    assert all(np.isfinite(array).all() for array in (mixture.weights, mixture.means, mixture.covariances))
    assert mixture.weights.sum() == pytest.approx(1)
    done("predict", tmp_path / "rows.npy", "-m", tmp_path / "m", "-o", tmp_path / "out", "--what", "labels,score")
    written = zarr.open_group(tmp_path / "out", mode="r")
    assert written["labels"].shape == (len(rows),)
    assert np.isfinite(written["score"][:]).all()


def test_a_sample_of_fewer_rows_than_components_is_refused_in_words(data: dict[str, Path], tmp_path: Path) -> None:
    said = failed(3, "fit", data["zarr"], "-k", 3, "--sample-rows", 2, "-o", tmp_path / "m")
    assert re.search("rows.zarr: .*sample_rows=2", said)
    assert not list(tmp_path.iterdir())


# --- outputs ---------------------------------------------------------------------------------------------------


def test_an_existing_output_needs_overwrite(data: dict[str, Path], tmp_path: Path) -> None:
    model, out = tmp_path / "m", tmp_path / "out"
    done("fit", data["zarr"], "-k", 3, "-o", model, "--seed", 0)
    done("predict", data["zarr"], "-m", model, "-o", out)
    before = contents(tmp_path)
    for arguments in (("fit", data["zarr"], "-k", 2, "-o", model), ("predict", data["npy"], "-m", model, "-o", out)):
        said = failed(3, *arguments)
        assert re.search(f"{arguments[-1]}: exists already.*--overwrite", said)
        assert contents(tmp_path) == before
    done("fit", data["zarr"], "-k", 2, "-o", model, "--overwrite")
    done("predict", data["npy"], "-m", model, "-o", out, "--what", "score", "--overwrite")
    assert load_model(model).mixture.n_components == 2
    assert list(zarr.open_group(out, mode="r")) == ["score"]


def test_a_failed_fit_leaves_the_output_it_was_to_replace(data: dict[str, Path], tmp_path: Path) -> None:
    done("fit", data["zarr"], "-k", 3, "-o", tmp_path / "m")
    bad = store(tmp_path, with_bad_row(np.nan))
    before = contents(tmp_path)
    failed(3, "fit", bad, "-k", 3, "-o", tmp_path / "m", "--overwrite")
    failed(3, "predict", bad, "-m", tmp_path / "m", "-o", tmp_path / "out")
    assert contents(tmp_path) == before


def test_a_missing_output_folder(data: dict[str, Path], tmp_path: Path) -> None:
    for arguments in (
        ("fit", data["zarr"], "-k", 3, "-o", tmp_path / "no" / "m"),
        ("predict", data["zarr"], "-m", data["model"], "-o", tmp_path / "no" / "out"),
        ("fit", data["zarr"], "-k", 3, "-o", tmp_path / "m", "--checkpoint", tmp_path / "no" / "c"),
    ):
        said = failed(3, *arguments)
        assert re.search(r"folder .*no( does not exist)?\. Make it first|no does not exist. Make it first", said)
        assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_without_rights_is_refused_before_the_fit(data: dict[str, Path], tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    said = failed(3, "fit", data["zarr"], "-k", 3, "-o", tmp_path / "m")
    assert str(tmp_path) in said
    assert "pass 1" not in said


@pytest.mark.parametrize("kind", ["npy", "zarr"])
def test_an_output_never_takes_the_place_of_its_input(data: dict[str, Path], kind: str) -> None:
    before = contents(data[kind].parent)
    rows = data[kind]
    run("fit", rows, "-k", 3, "-o", rows, "--overwrite")
    run("predict", rows, "-m", data["model"], "-o", rows, "--overwrite")
    run("predict", rows, "-m", data["model"], "-o", data["model"], "--overwrite")
    run("fit", rows, "-k", 3, "-o", data["model"].parent / "x", "--checkpoint", rows)
    assert contents(data[kind].parent) == before


def test_a_checkpoint_and_an_output_of_one_name_are_a_mistake(data: dict[str, Path], tmp_path: Path) -> None:
    failed(2, "fit", data["zarr"], "-k", 3, "-o", tmp_path / "m", "--checkpoint", tmp_path / "m")
    assert not list(tmp_path.iterdir())


# --- models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["predict", "score", "inspect"])
def test_a_model_that_is_none(data: dict[str, Path], tmp_path: Path, command: str) -> None:
    rest = {"predict": ("-o", tmp_path / "out"), "score": (), "inspect": ()}[command]
    for make, words in (
        (lambda: tmp_path / "nothing", "nothing: cannot be read"),
        (lambda: file(tmp_path, "text", b"weights: 1"), "text: not a gmmdask file"),
        (lambda: file(tmp_path, "cut", data["model"].read_bytes()[:-9]), "cut: truncated or damaged.*another copy"),
        (lambda: data["npy"], "rows.npy: not a gmmdask file"),
    ):
        model = make()
        before = contents(tmp_path)
        arguments = (command, model) if command == "inspect" else (command, data["zarr"], "-m", model, *rest)
        assert re.search(words, failed(3, *arguments))
        assert contents(tmp_path) == before


def test_a_model_of_another_width(data: dict[str, Path], tmp_path: Path) -> None:
    save_model(tmp_path / "m", Model(random_mixture(2, 5), {}))
    for arguments in (("predict", data["zarr"], "-o", tmp_path / "out"), ("score", data["npy"])):
        said = failed(3, *arguments, "-m", tmp_path / "m")
        assert "X has 3 features, but GaussianMixture is expecting 5 features" in said
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


# --- exit codes ------------------------------------------------------------------------------------------------

FIT = ("fit", "ROWS", "-k", "3", "-o", "OUT")
USAGE = [
    (*FIT, "--unknown"),
    (*FIT, "--resume"),
    (*FIT, "--checkpoint-every", "5"),
    (*FIT, "--threads", "1", "--workers", "1"),
    (*FIT, "--scheduler", "tcp://127.0.0.1:9", "--threads", "2"),
    (*FIT, "--covariance", "round"),
    (*FIT, "--algorithm", "magic"),
    (*FIT, "--stop", "never"),
    (*FIT, "--optimizer", "adam"),
    (*FIT, "--algorithm", "riemannian", "--learning-rate", "0.1"),
    (*FIT, "--algorithm", "gradient", "--optimizer", "newton"),
    (*FIT, "--algorithm", "gradient", "--optimizer", "adam", "--learning-rate", "0"),
    (*FIT, "--max-iter", "-1"),
    (*FIT, "--threads", "0"),
    (*FIT, "--tol", "small"),
    ("fit", "ROWS", "-o", "OUT"),
    ("fit", "ROWS", "-k", "0", "-o", "OUT"),
    ("fit", "ROWS", "-k", "3"),
    ("fit", "-k", "3", "-o", "OUT"),
    ("predict", "ROWS", "-m", "MODEL", "-o", "OUT", "--what", "colours"),
    ("predict", "ROWS", "-m", "MODEL", "-o", "OUT", "--what", "labels,labels"),
    ("predict", "ROWS", "-o", "OUT"),
    ("predict", "ROWS", "-m", "MODEL", "-o", "OUT", "--threads", "1", "--workers", "1"),
    ("score", "ROWS"),
    ("score", "ROWS", "-m", "MODEL", "--scheduler", "tcp://127.0.0.1:9", "--scheduler-file", "f"),
    ("inspect",),
    ("dance",),
]


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_wrong_usage_is_2(data: dict[str, Path], tmp_path: Path, arguments: tuple[str, ...]) -> None:
    names = {"ROWS": data["zarr"], "OUT": tmp_path / "out", "MODEL": data["model"]}
    said = failed(2, *(names.get(argument, argument) for argument in arguments))
    assert "Usage:" in said
    assert not list(tmp_path.iterdir())


def test_no_convergence_is_4_where_it_is_required(data: dict[str, Path], tmp_path: Path) -> None:
    one_pass = ("fit", data["zarr"], "-k", 3, "--max-iter", 1, "--tol", 1e-12)
    said = failed(4, *one_pass, "-o", tmp_path / "m", "--require-convergence")
    assert "stopped after max_iter=1 passes" in said
    assert load_model(tmp_path / "m").mixture.n_components == 3
    done(*one_pass, "-o", tmp_path / "other")
    done("fit", data["zarr"], "-k", 3, "-o", tmp_path / "third", "--require-convergence")


@pytest.mark.parametrize("where", [("--scheduler", "tcp://127.0.0.1:1"), ("--scheduler-file", "nobody-wrote.json")])
def test_an_unreachable_scheduler_is_75_after_a_bounded_wait(
    data: dict[str, Path], tmp_path: Path, where: tuple[str, str]
) -> None:
    with dask.config.set({"gmmdask.connect-timeout": 0.3}):
        for arguments in (
            ("fit", data["zarr"], "-k", 3, "-o", tmp_path / "m", "--checkpoint", tmp_path / "c"),
            ("predict", data["zarr"], "-m", data["model"], "-o", tmp_path / "out"),
        ):
            said = failed(75, *arguments, *where)
            assert re.search(rf"{where[1]}.*waited 0.3 s.*Check", said)
            assert not list(tmp_path.iterdir())


def test_an_address_that_is_none_is_3(data: dict[str, Path], tmp_path: Path) -> None:
    said = failed(3, "fit", data["zarr"], "-k", 3, "-o", tmp_path / "m", "--scheduler", "somewhere")
    assert re.search(r"somewhere.*such as tcp://host:8786", said)


def test_a_store_that_does_not_answer_is_75(
    data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*args: object) -> None:
        raise TimeoutError("no answer")

    monkeypatch.setattr("gmmdask.storage.time.sleep", lambda seconds: None)
    monkeypatch.setattr(zarr.Array, "__getitem__", silent)
    said = failed(75, "fit", data["zarr"], "-k", 3, "-o", tmp_path / "m", "--threads", 1)
    assert re.search(r"rows.zarr: rows [0-9]+ to [0-9]+ .from chunk .* could not be read in 4 tries.*Try again", said)
    assert not list(tmp_path.iterdir())


# --- interrupted -----------------------------------------------------------------------------------------------

# a shell starts what runs in its background with SIGINT ignored, these tests perhaps
INTERRUPTIBLE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from gmmdask.cli import main; main()"
)
LONG = ("-k", "3", "--seed", "1", "--tol", "0", "--sample-rows", "500", "--log-format", "json")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_fit_resumes_to_the_same_bits(
    data: dict[str, Path], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    checkpoint, model = tmp_path / "c", tmp_path / "m"
    words = ("fit", str(data["zarr"]), *LONG, "--checkpoint", str(checkpoint), "--output", str(model))
    endless = [sys.executable, "-c", INTERRUPTIBLE, *words, "--max-iter", "1000000"]
    process = subprocess.Popen(endless, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    passes, rest = 0, []
    for line in process.stderr:
        rest.append(line)
        if json.loads(line)["event"] == "PassDone":
            passes += 1
            if passes == 2:
                process.send_signal(number)
                break
    out, err = process.communicate()
    rest.extend(err.splitlines())
    assert process.returncode == code
    assert out == ""
    assert "is kept: --resume goes on from it" in json.loads(rest[-1])["message"]
    assert {path.name for path in tmp_path.iterdir()} == {"c", "c.previous"}
    found = container.unpack(*container.read(checkpoint, "checkpoint"), stored_classes())
    laps = found.runs[0].state.laps
    assert laps >= 1
    done(*words, "--max-iter", laps + 3, "--resume")
    whole = tmp_path / "whole"
    done("fit", data["zarr"], *LONG, "--max-iter", laps + 3, "--output", whole)
    assert bits(model) == bits(whole)
    histories = [load_model(path).provenance["history"] for path in (model, whole)]
    bounds = [[(row["lap"], row["lower_bound"]) for row in history] for history in histories]
    assert bounds[0] == bounds[1]


def test_a_checkpoint_that_exists_needs_resume(data: dict[str, Path], tmp_path: Path) -> None:
    words = ("fit", data["zarr"], "-k", 3, "--seed", 0, "-o", tmp_path / "m", "--checkpoint", tmp_path / "c")
    done(*words)
    before = contents(tmp_path)
    said = failed(3, *words, "--overwrite")
    assert re.search(r"c exists.*--resume", said)
    assert contents(tmp_path) == before
    done(*words, "--resume")  # which may replace its own output
    assert bits(tmp_path / "m") == load_bits(before["m"], tmp_path / "before")
    assert "n_components: 3 then, 2 now" in failed(3, *words[:3], 2, *words[4:], "--resume", "--overwrite")
    assert "n_components: 3 then, 2 now" in failed(3, *words[:3], 2, *words[4:], "--resume")  # why it is another's
    np.save(tmp_path / "m", 0)
    (tmp_path / "m.npy").replace(tmp_path / "m")
    assert "m: exists already" in failed(3, *words, "--resume")


def load_bits(data: bytes | None, path: Path) -> bytes:
    assert data is not None
    path.write_bytes(data)
    return bits(path)


@pytest.mark.parametrize("form", ["plain", "json"])
def test_a_damaged_checkpoint_is_told(data: dict[str, Path], tmp_path: Path, form: str) -> None:
    words = ("fit", data["zarr"], "-k", 3, "--seed", 0, "--checkpoint", tmp_path / "c", "--log-format", form)
    done(*words, "-o", tmp_path / "m")
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:-1])
    told = done(*words, "-o", tmp_path / "again", "--resume").stderr
    assert "Going on from" in told
    if form == "json":
        assert all("event" in strict(line) for line in told.splitlines())
    assert bits(tmp_path / "again") == bits(tmp_path / "m")


# --- where it runs ---------------------------------------------------------------------------------------------


def test_threads_workers_and_schedulers_give_the_same_bits(data: dict[str, Path], tmp_path: Path) -> None:
    fit = ("fit", data["zarr"], "-k", 3, "--seed", 3, "--sample-rows", 500, "--tol", 0, "--max-iter", 3)
    with LocalCluster(2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        with Client(cluster, set_as_default=False) as client:
            client.write_scheduler_file(str(tmp_path / "scheduler.json"))
        address = cluster.scheduler_address
        done(*fit, "-o", tmp_path / "file", "--scheduler-file", tmp_path / "scheduler.json")
        done(*fit, "-o", tmp_path / "address", "--scheduler", address)
        predict = ("predict", data["zarr"], "-m", tmp_path / "file", "--what", "labels,proba,score")
        done(*predict, "-o", tmp_path / "there", "--scheduler", address)
        assert cluster.status.name == "running"  # what was borrowed is given back
    done(*fit, "-o", tmp_path / "workers", "--workers", 2)
    done(*fit, "-o", tmp_path / "threads", "--threads", 1)
    done(*fit, "-o", tmp_path / "cores")
    done(*predict, "-o", tmp_path / "here", "--threads", 1)
    expected = bits(tmp_path / "threads")
    assert all(bits(tmp_path / name) == expected for name in ("file", "address", "workers", "cores"))
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
    assert "2 local threads" in done(*fit, "-o", tmp_path / "two", "--threads", 2).stderr


def test_priors_and_what_becomes_of_components_without_rows_are_options(tmp_path: Path) -> None:
    rows = np.repeat(ROWS[:3], 30, axis=0)
    np.save(tmp_path / "few.npy", rows)
    model = tmp_path / "m.gmm"
    fit = ("fit", tmp_path / "few.npy", "-k", 5, "--seed", 0, "-o", model, "--overwrite", "--log-format")
    told = [strict(line) for line in done(*fit, "json", "--empty", "drop", "--prior", "mclust").stderr.splitlines()]
    assert {"FewDistinctRows", "ComponentDropped"} <= {event["event"] for event in told}
    assert load_model(model).mixture.n_components == 3
    settings = load_model(model).provenance["settings"]
    assert (settings["empty"], settings["prior"], settings["reg_covar"]) == ("drop", "mclust", 0.0)
    assert "component" in failed(3, *fit, "plain", "--empty", "error")
    plain = done(*fit, "plain", "--empty", "drop").stderr
    assert re.search(r"pass 1: component 4 held \S+ rows, and is dropped", plain)
    assert "warning: only 3 different rows for 5 components" in plain


@pytest.mark.parametrize("optimizer", [None, "lbfgs", "sgd", "adam", "projected"])
def test_how_gradients_are_followed_is_an_option(data: dict[str, Path], tmp_path: Path, optimizer: str | None) -> None:
    model, rate = tmp_path / "m", None if optimizer in (None, "lbfgs") else 0.02
    known = ("--algorithm", "gradient", "--max-iter", 4, "--tol", 0, "--seed", 0, "-o", model)
    chosen = () if optimizer is None else ("--optimizer", optimizer)
    done("fit", data["npy"], "-k", 2, *known, *chosen, *(() if rate is None else ("--learning-rate", rate)))
    told = load_model(model).provenance["settings"]["algorithm"]
    wanted = ("Gradient", optimizer or "lbfgs", rate, 4, 0)
    assert tuple(told[name] for name in ("name", "optimizer", "learning_rate", "max_iter", "tol")) == wanted
    if rate is None:
        refused = failed(3, "fit", data["npy"], "-k", 2, *known, *chosen, "--overwrite", "--learning-rate", 0.02)
        assert "learning_rate=0.02: optimizer='lbfgs' has none" in refused


def test_the_prior_of_weights_is_an_option(data: dict[str, Path], tmp_path: Path) -> None:
    fit = ("fit", data["npy"], "-k", 3, "--seed", 0, "--weight-concentration")
    done(*fit, 1e9, "-o", tmp_path / "m")
    assert load_model(tmp_path / "m").provenance["settings"]["weight_concentration"] == 1e9
    np.testing.assert_allclose(load_model(tmp_path / "m").mixture.weights, 1 / 3, atol=1e-4)
    assert "weight_concentration=0.9: expected a number of at least 1" in failed(3, *fit, 0.9, "-o", tmp_path / "n")


def test_starts_and_moves_are_options_and_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "rows.npy", rng.normal(size=(3000, 2)) + 8 * rng.integers(0, 2, (3000, 2)))
    fit = ("fit", tmp_path / "rows.npy", "-k", 4, "--seed", 0, "--sample-rows", 300, "-o", tmp_path / "m.gmm")
    done_by = done(*fit, "--init", "k-means||", "--log-format", "json").stderr
    told = [strict(line) for line in done_by.splitlines()]
    assert [event["event"] for event in told].count("CandidatesDrawn") == 5
    assert load_model(tmp_path / "m.gmm").provenance["settings"]["init_params"] == "k-means||"
    plain = done(*fit, "--overwrite", "--init", "k-means||", "--log-format", "plain").stderr
    assert re.search(r"k-means\|\|: round 5/5, \d+ candidates \(mean squared distance \S+ before it\)", plain)
    assert re.search(r"start: k-means\|\| on all rows, 6 passes, \S+ s", plain)
    plain = done(*fit, "--overwrite", "--refine", "split-merge", "--init", "random_from_data").stderr
    assert re.search(r"moves of components: \d", plain)
    assert load_model(tmp_path / "m.gmm").provenance["settings"]["refine"] == "split-merge"


def test_a_model_that_no_fit_has_made_can_be_inspected_and_scored(tmp_path: Path, data: dict[str, Path]) -> None:
    part = GaussianMixture.load(data["model"]).conditional({1: 0.5})
    part.save(tmp_path / "part.gmm")
    assert "full" in done("inspect", tmp_path / "part.gmm").output
    np.save(tmp_path / "two.npy", ROWS[:, [0, 2]])
    assert done("score", tmp_path / "two.npy", "-m", tmp_path / "part.gmm").exit_code == 0
