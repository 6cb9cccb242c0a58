"""Benchmarks run tiny, so that they cannot rot; the large ones are marked slow."""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

BENCHES = Path(__file__).parents[1] / "scripts" / "bench"


SECTIONS = {
    "speed": "In memory",
    "out_of_core": "Out of core",
    "memory": "Memory",
    "growth": "Growth",
    "sizes": "Sizes",
    "shared": "Several mixtures in one pass",
    "cluster": "On a cluster",
    "passes": "Passes",
    "selection": "Choosing K",
    "true_k": "Finding K",
    "stream": "Streams",
    "rare": "Rare far clusters",
    "outliers": "Outliers",
}


def run(script: str, *options: str) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHES / script), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one command leaves: data, JSON and the page."""
    folder = tmp_path_factory.mktemp("bench")
    run("__main__.py", *SECTIONS, "--tiny", "--folder", str(folder), "--write", str(folder / "page.md"))
    return folder


def tables(folder: Path, name: str) -> list[list[dict]]:
    """The rows of each table that a trial found."""
    return [table["rows"] for table in json.loads((folder / f"{name}.json").read_text())["tables"]]


def test_the_page_tells_the_machine_and_has_every_figure(folder: Path) -> None:
    page = (folder / "page.md").read_text()
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == list(SECTIONS.values())
    assert f"NumPy {np.__version__}".lower() in page
    assert "tiny" in page
    for name in SECTIONS:
        for rows in tables(folder, name):
            assert rows
            assert all(
                value is None or isinstance(value, str) or value == value for row in rows for value in row.values()
            )
    added = tables(folder, "memory")[0][0]["added_bytes"]
    assert f"| {added:,} |" in page


def test_an_unknown_trial_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHES), "sped", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "sped" in done.stderr


def test_speed(folder: Path) -> None:
    (rows,) = tables(folder, "speed")
    assert {row["covariance_type"] for row in rows} == {"full", "tied", "diag", "spherical"}
    # a difference of two tiny fits of theirs may be negative on a busy machine
    assert all(row["numpy"] > 0 and np.isfinite(row["sklearn_ratio"]) for row in rows)
    assert all(("peak_share" in row) == (row["covariance_type"] == "full") for row in rows)


def test_out_of_core(folder: Path) -> None:
    codecs, late = tables(folder, "out_of_core")
    assert [row["store"] for row in codecs] == ["uncompressed", "zstd", "blosc-lz4"]
    assert all(row["loop_ratio"] > 1 for row in codecs)
    assert late[1]["read"] >= 0.05


def test_memory(folder: Path) -> None:
    ((found,),) = tables(folder, "memory")
    assert found["passes"] == 3
    assert found["added_bytes"] < found["computed_bytes"] < found["limit_bytes"]


def test_growth(folder: Path) -> None:
    rows, _, _, chunks, (small,) = tables(folder, "growth")
    assert [row["n"] for row in rows] == [20_000, 200_000]
    assert [row["chunks"] for row in chunks] == [10, 100]
    assert small["more"] == pytest.approx(small["ours"] - small["zarr"])


def test_sizes(folder: Path) -> None:
    (rows,) = tables(folder, "sizes")
    assert [row["n"] for row in rows] == [20_000, 40_000]
    assert all(row["seconds"] > 0 and row["to_read"] > 0 for row in rows)


def test_passes(folder: Path) -> None:
    found = json.loads((folder / "passes.json").read_text())["results"]
    assert {(row["kind"], row["order"]) for row in found} == {
        (kind, order) for kind in ("overlapping", "separated") for order in ("iid", "sorted")
    }
    assert all(
        len(row[name]["curve"]) >= 2 for row in found for name in ("batch", "squarem", "stochastic", "incremental")
    )
    assert (folder / "passes.png").stat().st_size > 10_000


def test_selection(folder: Path) -> None:
    (shared,) = tables(folder, "selection")
    assert [row["what"] for row in shared] == ["together", "K=3 alone", "all alone"]
    assert shared[0]["passes"] == 2 + max(
        row["passes"] for row in json.loads((folder / "selection.json").read_text())["table"]
    )


def test_true_k(folder: Path) -> None:
    ((truth,),) = tables(folder, "true_k")
    assert (truth["k"], truth["starts"], truth["seeds"]) == (2, 1, 1)
    assert 0 <= truth["found"] <= 1


def test_stream(folder: Path) -> None:
    (calls,) = tables(folder, "stream")
    assert len({entry["score"] for entry in calls}) == 1
    assert abs(calls[0]["below_batch"]) < 0.05


def test_rare(folder: Path) -> None:
    ((found,),) = tables(folder, "rare")
    assert 0 <= found["sample_found"] <= found["all_found"] <= 5
    assert found["all_passes"] > 6


def test_outliers(folder: Path) -> None:
    (rows,) = tables(folder, "outliers")
    assert [row["fit"] for row in rows] == ["noise", "without", "plain"]
    assert rows[0]["noise"] > 0 == rows[1]["noise"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_outliers_move_parameters_no_further_than_chance_does(tmp_path: Path) -> None:
    run("outliers.py", "--folder", str(tmp_path))
    (rows,) = tables(tmp_path, "outliers")
    for row in rows:
        if row["fit"] == "noise":
            assert row["rms"] <= 1.3
            assert row["worst_mean"] <= 1
            assert row["largest"] <= 4.5
        if row["fit"] == "plain":
            assert row["rms"] > 4.5


def test_oracle(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(500, 2)) + 5 * np.arange(500)[:, None] % 10
    np.save(tmp_path / "rows.npy", rows)
    command = [sys.executable, str(BENCHES / "oracle.py"), "--data", str(tmp_path / "rows.npy"), "--components", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("centred") == 4


def test_ends(tmp_path: Path) -> None:
    run("ends.py", "--tiny", "--folder", str(tmp_path))
    (rows,) = tables(tmp_path, "ends")
    assert [row["method"] for row in rows] == ["L-BFGS", "Riemannian"] * 3 + ["Adam"]
    assert all(row["good"] == 1 and row["smallest"] > 0 for row in rows)


@pytest.mark.skipif(importlib.util.find_spec("pyspark") is None, reason="Spark is not installed (group bench)")
def test_spark(tmp_path: Path) -> None:
    run("spark.py", "--tiny", "--folder", str(tmp_path))
    assert tables(tmp_path, "spark")[0][0]["gmmdask"] > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_eight_gigabytes_stay_within_the_limit(tmp_path: Path) -> None:
    run("memory.py", "--gigabytes", "8", "--memory-limit", "1GB", "--folder", str(tmp_path))
    ((found,),) = tables(tmp_path, "memory")
    assert found["added_bytes"] < found["computed_bytes"] < found["limit_bytes"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_gigabytes_by_gradients_stay_within_the_limit(tmp_path: Path) -> None:
    for algorithm in ("adam", "lbfgs"):
        known = ("--algorithm", algorithm, "--passes", "3", "--folder", str(tmp_path))
        run("memory.py", "--gigabytes", "2", "--memory-limit", "500MB", *known)
        ((found,),) = tables(tmp_path, "memory")
        assert (found["algorithm"], found["passes"]) == (algorithm, 3)
        assert found["added_bytes"] < found["computed_bytes"] < found["limit_bytes"]


@pytest.fixture(scope="module")
def four_gigabytes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("rows")
    yield folder
    shutil.rmtree(folder)


EVERY = ("em", "plain", "stochastic", "incremental", "lbfgs", "adam", "riemannian", "mclust", "weighted", "predict")
LIMITED = ("em", "stochastic", "incremental", "weighted")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kind", "limit"), [*((kind, "none") for kind in EVERY), *((kind, "600MB") for kind in LIMITED)]
)
def test_every_kind_of_fit_of_four_gigabytes_takes_what_was_computed_and_at_least_half(
    four_gigabytes: Path, kind: str, limit: str
) -> None:
    known = ("--algorithm", kind, "--passes", "2", "--memory-limit", limit, "--folder", str(four_gigabytes))
    run("memory.py", "--gigabytes", "4", *known)
    ((found,),) = tables(four_gigabytes, "memory")
    assert found["algorithm"] == kind
    assert found["added_bytes"] < found["computed_bytes"] <= 2 * found["added_bytes"]
    assert limit == "none" or found["computed_bytes"] <= found["limit_bytes"]
