"""Benchmarks run tiny, so that they cannot rot; the large ones are marked slow."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHES = Path(__file__).parents[1] / "scripts" / "bench"


def run(name: str, folder: Path, *options: str) -> dict | list:
    """What a benchmark writes."""
    command = [sys.executable, str(BENCHES / f"{name}.py"), "--folder", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / f"{name}.json").read_text())


def test_memory(tmp_path: Path) -> None:
    found = run("memory", tmp_path, "--gigabytes", "0.02", "--features", "4", "--components", "3")
    assert found["passes"] == 3
    assert found["added_bytes"] < found["computed_bytes"] < found["limit_bytes"]


def test_oracle(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(500, 2)) + 5 * np.arange(500)[:, None] % 10
    np.save(tmp_path / "rows.npy", rows)
    command = [sys.executable, str(BENCHES / "oracle.py"), "--data", str(tmp_path / "rows.npy"), "--components", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("centred") == 4


def test_passes(tmp_path: Path) -> None:
    options = ("--rows", "4000", "--features", "2", "--components", "2", "--seeds", "1", "--laps", "5")
    found = run("passes", tmp_path, *options, "--sample-rows", "500")
    assert {(row["kind"], row["order"]) for row in found} == {
        (kind, order) for kind in ("overlapping", "separated") for order in ("iid", "sorted")
    }
    assert all(
        len(row[name]["curve"]) >= 2 for row in found for name in ("batch", "squarem", "stochastic", "incremental")
    )
    assert (tmp_path / "passes.png").stat().st_size > 10_000


def test_stream(tmp_path: Path) -> None:
    found = run(
        "stream", tmp_path, "--rows", "60000", "--features", "2", "--components", "2", "--calls", "7000", "60000"
    )
    assert len({entry["score"] for entry in found["calls"]}) == 1
    assert abs(found["calls"][0]["below_batch"]) < 0.05


def test_speed(tmp_path: Path) -> None:
    rows = run("speed", tmp_path, "--tiny")["tables"][0]["rows"]
    assert {row["covariance_type"] for row in rows} == {"full", "tied", "diag", "spherical"}
    assert all(row["numpy"] > 0 and row["sklearn"] > 0 for row in rows)


def test_out_of_core(tmp_path: Path) -> None:
    codecs, late = (table["rows"] for table in run("out_of_core", tmp_path, "--tiny")["tables"])
    assert [row["store"] for row in codecs] == ["uncompressed", "zstd", "blosc-lz4"]
    assert all(row["loop_ratio"] > 1 for row in codecs)
    assert late[1]["read"] > 0.05


@pytest.mark.skipif(importlib.util.find_spec("pyspark") is None, reason="Spark is not installed (group bench)")
def test_spark(tmp_path: Path) -> None:
    found = run("spark", tmp_path, "--rows", "20000", "--features", "2", "--components", "2")
    assert found["gmmdask_seconds"] > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_eight_gigabytes_stay_within_the_limit(tmp_path: Path) -> None:
    found = run("memory", tmp_path, "--gigabytes", "8", "--memory-limit", "1GB")
    assert found["added_bytes"] < found["computed_bytes"] < found["limit_bytes"]
