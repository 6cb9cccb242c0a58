"""The doctor: what it finds, what it calls fine, and its exit code."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.config
import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from distributed import Client, LocalCluster

from gmmdask import doctor
from gmmdask.algorithms import Batch
from gmmdask.cli import main
from gmmdask.doctor import Finding, Verdict, examine
from gmmdask.execution import Threads
from gmmdask.execution.distributed import Cluster
from gmmdask.forecast import WORKER_BYTES
from gmmdask.planning import plan_fit
from gmmdask.settings import Settings
from gmmdask.sources import NpySource, open_source
from gmmdask.start import Start

K, D = 3, 2
CENTRES = 9 * np.random.default_rng(0).normal(size=(K, D))
MEMORY = 500_000_000


def rows(n: int, is_sorted: bool = False) -> np.ndarray:
    random = np.random.default_rng(1)
    labels = random.integers(K, size=n)
    return CENTRES[np.sort(labels) if is_sorted else labels] + random.normal(size=(n, D))


def stored(folder: Path, values: np.ndarray, name: str = "rows.zarr", **layout: Any) -> Path:
    zarr.create_array(folder / name, data=values, **{"chunks": (len(values) // 20, D), **layout})
    return folder / name


def settings(k: int = K, **more: Any) -> Settings:
    return Settings(Start("full", k, "kmeans"), Batch(), **more)


def found(*arguments: Any) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(*arguments)}


def told(code: int, *arguments: object) -> dict[str, dict[str, str]]:
    """Findings of the command by what was checked; it must end with this code."""
    end = CliRunner().invoke(main, ["doctor", *map(str, arguments), "--log-format", "json"])
    assert end.exit_code == code, end.output
    return {finding["check"]: finding for finding in json.loads(end.stdout)["findings"]}


@pytest.fixture(scope="module")
def executor() -> Iterator[Cluster]:
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=2, host="127.0.0.1", dashboard_address=None, memory_limit=MEMORY
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield Cluster(client)


# --- all is well ------------------------------------------------------------------------------------------------


def test_without_data_and_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = told(0)
    assert set(checked) == {"kernel", "threads"}
    assert str(Threads().n) in checked["threads"]["found"]
    monkeypatch.setattr(doctor, "importable", lambda: False)
    advice = told(0)["kernel"]
    assert (advice["verdict"], 'pip install "gmmdask[fast]"' in advice["todo"]) == ("advice", True)
    with dask.config.set({"gmmdask.kernel": "numpy"}):
        assert told(0)["kernel"]["verdict"] == "fine"


@pytest.mark.parametrize("kind", ["npy", "zarr"])
def test_shuffled_rows_are_fine(tmp_path: Path, kind: str) -> None:
    values = rows(400_000)
    path = stored(tmp_path, values) if kind == "zarr" else tmp_path / "rows.npy"
    if kind == "npy":
        np.save(path, values)
    checked = told(0, path, "-k", K, "--threads", 1)
    assert {name for name, finding in checked.items() if finding["verdict"] == "change"} == set()
    assert {"chunks", "reading", "rows", "memory"} <= set(checked)
    assert ("codec" in checked) == (kind == "zarr")
    assert checked["rows"]["verdict"] == checked["chunks"]["verdict"] == "fine"
    assert "400,000 rows x 2 of float64" in checked["chunks"]["found"]
    shown = CliRunner().invoke(main, ["doctor", str(path)])
    assert (shown.exit_code, "random order" in shown.stdout) == (0, True)


def test_a_cluster_that_is_fine(executor: Cluster, tmp_path: Path) -> None:
    checked = told(0, stored(tmp_path, rows(4000)), "--scheduler", executor.client.scheduler.address, "-k", K)
    assert "on 2 workers" in checked["packages"]["found"]
    assert "2 workers read a chunk" in checked["data on workers"]["found"]
    assert checked["memory"]["verdict"] == "fine"


# --- clusters ---------------------------------------------------------------------------------------------------


def other_version(package: str | None) -> None:
    """Makes a worker say that it has another version of a package; None for what it is."""
    from gmmdask import record

    real = getattr(record, "real_version", record.version)
    record.real_version = real
    record.version = real if package is None else lambda name: "0.0.1" if name == package else real(name)


@pytest.mark.parametrize("package", ["gmmdask", "numpy"])
def test_mixed_versions_are_found(executor: Cluster, package: str) -> None:
    client, address = executor.client, executor.client.scheduler.address
    first = min(client.nthreads())
    client.run(other_version, package, workers=[first])
    try:
        finding = told(3, "--scheduler", address)["packages"]
    finally:
        client.run(other_version, None, workers=[first])
    assert finding["verdict"] == "change"
    assert f"{first}: {package} 0.0.1, here " in finding["found"]
    assert finding["found"].count("tcp://") == 1  # the other worker is fine
    assert "same versions" in finding["todo"]
    assert told(0, "--scheduler", address)["packages"]["verdict"] == "fine"


def test_a_scheduler_that_does_not_answer_is_75() -> None:
    with dask.config.set({"gmmdask.connect-timeout": 0.3}):
        end = CliRunner().invoke(main, ["doctor", "--scheduler", "tcp://127.0.0.1:1"])
    assert (end.exit_code, "no Dask scheduler answers" in end.stderr) == (75, True)


def test_a_worker_without_the_package_is_found() -> None:
    here = doctor.of_process()
    workers = {"tcp://a:1": {**here}, "tcp://b:2": ModuleNotFoundError("No module named 'gmmdask'")}
    finding = doctor.packages(here, workers, here)
    assert finding.verdict is Verdict.CHANGE
    assert "tcp://b:2: gmmdask's check does not run there (ModuleNotFoundError" in finding.found
    without = {**here, "versions": {**here["versions"], "numba": "absent"}}
    assert doctor.packages(here, {"tcp://a:1": here}, without).verdict is Verdict.FINE  # a scheduler runs no kernel
    assert doctor.packages(here, {"tcp://a:1": without}, here).verdict is Verdict.CHANGE
    assert "no workers" in doctor.packages(here, {}, here).found


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="this name of a folder means another one elsewhere")
def test_a_path_that_only_the_client_sees_is_found(
    executor: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(tmp_path, rows(4000))
    monkeypatch.chdir(tmp_path)
    finding = told(3, "/proc/self/cwd/rows.zarr", "--scheduler", executor.client.scheduler.address)["data on workers"]
    assert finding["verdict"] == "change"
    assert "2 of 2 workers cannot read it, the first is tcp://" in finding["found"]
    assert "no Zarr array can be opened there" in finding["found"]


def test_workers_with_too_little_memory_are_found(tmp_path: Path) -> None:
    """And what they are said to need is what they need."""
    source, executor = open_source(stored(tmp_path, rows(4000))), Threads(1)

    def of_workers(memory: int | None) -> Finding:
        return doctor.memory(source, settings(), executor, {"tcp://a:1": {"memory": memory, "threads": 4}})

    finding = of_workers(MEMORY // 5)
    assert finding.verdict is Verdict.CHANGE
    assert "tcp://a:1 has 100 MB for 4 threads" in finding.found
    needed = int(finding.todo.removeprefix("Give workers ").partition(" bytes")[0].replace(",", ""))
    assert WORKER_BYTES + 4 * plan_fit(source, settings(), executor)[1].task <= 0.8 * (needed + 1)
    assert of_workers(needed - 1).verdict is Verdict.CHANGE
    assert of_workers(needed).verdict is of_workers(None).verdict is Verdict.FINE


# --- data -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [2000, 40_000], ids=["many chunks", "one chunk"])
def test_rows_sorted_by_component_are_found(tmp_path: Path, chunk: int) -> None:
    finding = told(0, stored(tmp_path, rows(40_000, is_sorted=True), chunks=(chunk, D)))["rows"]
    assert finding["verdict"] == "advice"
    assert "sorted" in finding["found"]


def test_rows_that_no_fit_takes_are_found(tmp_path: Path) -> None:
    values = rows(4000)
    values[3210, 1] = np.nan
    finding = told(3, stored(tmp_path, values))["rows"]
    assert "the first is row 3210" in finding["found"]
    assert "random order" in told(0, stored(tmp_path, values, "gaps.zarr"), "--missing", "em")["rows"]["found"]
    assert "no such file" in told(3, tmp_path / "nothing.zarr")["data"]["found"]
    path = stored(tmp_path, rows(4000), "cut.zarr")
    (path / "c" / "0" / "0").write_bytes(b"cut")
    assert "chunk c/0/0 (rows 0 to 199) cannot be decoded" in told(3, path)["reading"]["found"]
    (path / "c" / "0" / "0").unlink()
    assert "chunks are missing" in told(3, path)["data"]["found"]


LAYOUTS: dict[str, tuple[dict[str, Any], str]] = {
    "tiny chunks": ({"chunks": (100, D)}, "costs more to open than to read"),
    "one chunk": ({"chunks": (4000, D)}, "3 of 4 threads will have nothing to do"),
    "cut columns": ({"chunks": (200, 1)}, "chunks of all 2 features"),
    "huge chunks": ({"chunks": (20_000_000, D)}, "A task holds several chunks of 320 MB"),
    "shards": ({"chunks": (100, D), "shards": (1000, D)}, ""),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_chunks_that_cost_time_or_memory_are_found(tmp_path: Path, name: str) -> None:
    layout, words = LAYOUTS[name]
    zarr.create_array(tmp_path / "rows.zarr", shape=(4000, D), dtype="f8", **layout)
    finding = doctor.layout(open_source(tmp_path / "rows.zarr", accept_missing=True), 4)
    assert finding.verdict is (Verdict.ADVICE if words else Verdict.FINE)
    assert words in finding.todo
    assert ("chunks of 100 in them" in finding.found) == (name == "shards")


def test_what_another_codec_would_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(stored(tmp_path, rows(4000), compressors=zarr.codecs.GzipCodec()))
    finding = doctor.codecs(source, {0: rows(200)})
    assert finding.found.startswith("GzipCodec: read again at ")
    assert "blosc lz4" in finding.found
    assert "blosc zstd" in finding.found
    monkeypatch.setattr(doctor, "timed", lambda function: 1e-9 if "decode" in str(function) else 1.0)
    assert doctor.codecs(source, {0: rows(200)}).verdict is Verdict.ADVICE


def test_a_fit_that_does_not_fit_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "rows.npy", rows(4000))
    source = NpySource(tmp_path / "rows.npy")
    assert found(Threads(1), source, settings(4001))["memory"].verdict is Verdict.CHANGE
    limited = told(3, tmp_path / "rows.npy", "-k", K, "--memory-limit", "1MB")["memory"]
    assert "memory_limit=1,000,000" in limited["found"]
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 10**7)
    assert "Set a --memory-limit" in found(Threads(1), source, settings())["memory"].todo


def test_looking_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, looked = open_source(stored(tmp_path, rows(4000), chunks=(20, D))), list[int]()
    first_piece = doctor.first_piece
    monkeypatch.setattr(doctor, "first_piece", lambda source, chunk: looked.append(chunk) or first_piece(source, chunk))
    checked = {finding.check: finding for finding in doctor.rows(source)}
    assert len(set(looked)) == doctor.PLACES
    assert (min(looked), max(looked)) == (0, 199)
    assert f"from {doctor.PLACES} places" in checked["reading"].found
    looked.clear()
    monkeypatch.setattr(doctor, "LOOK_SECONDS", 0.0)
    assert "from 1 place" in {finding.check: finding for finding in doctor.rows(source)}["reading"].found
