"""Predictions written to Zarr: outliers among them, progress, and runs that go on where one was interrupted."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gmmdask import GaussianMixture
from gmmdask.cli import main
from gmmdask.densities import LogJoint
from gmmdask.execution import Threads
from gmmdask.mixture import Mixture
from gmmdask.model_file import Model, save_model
from gmmdask.outcome import Event, RowsWritten, StartedOver
from gmmdask.outputs import OutputError
from gmmdask.predict import WHATS, Prediction, predict
from gmmdask.quantiles import LEVELS, Quantiles
from gmmdask.sources import ArraySource, Source, open_source
from gmmdask.sources.zarr import ZarrSource
from gmmdask.synthetic import random_mixture
from gmmdask.testing.strategies import LAW
from gmmdask.write import write_predictions

N, D, K, CHUNK = 5000, 3, 4, 250
TRUTH = random_mixture(K, D, "full")
ROWS = TRUTH.sample(N, np.random.default_rng(1))[0]
ALL = (*WHATS, "outlier")


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    zarr.create_array(tmp_path / "rows", data=ROWS, chunks=(CHUNK, D))
    save_model(tmp_path / "model", Model(TRUTH, {}))
    return tmp_path / "rows"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def write(source: Path | Source, out: Path, mixture: Mixture = TRUTH, **options: Any) -> list[Event]:
    """All four arrays by one thread; the events."""
    events: list[Event] = []
    known: dict[str, Any] = {"whats": ALL, "threshold": -7.0, "overwrite": False, "emit": events.append, **options}
    write_predictions(mixture, open_source(source), out, executor=Threads(1), **known)
    return events


# --- quantiles and outliers ------------------------------------------------------------------------------------


@LAW
@given(values=st.lists(st.floats(-1e6, 1e3), min_size=2, max_size=300), fraction=st.floats(1e-3, 0.999))
def test_a_threshold_lies_between_the_quantiles_around_it(values: list[float], fraction: float) -> None:
    known = Quantiles.of(np.array(values))
    if fraction * len(values) < 1:
        with pytest.raises(ValueError, match="less than one of the"):
            known.threshold(fraction)
        return
    found, at = known.threshold(fraction), int(np.searchsorted(LEVELS, fraction))
    below, above = LEVELS[at - 1], LEVELS[at]
    assert np.quantile(values, below) <= found <= np.quantile(values, above)
    assert Quantiles.told_by({"log_densities": json.loads(json.dumps(known.describe()))}).threshold(fraction) == found


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2, float("nan")])
def test_a_fraction_is_between_0_and_1(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction of outliers between 0 and 1"):
        Quantiles.of(np.arange(9.0)).threshold(fraction)


@pytest.mark.parametrize("sample_rows", [None, 2000], ids=["all rows in the sample", "a sample"])
@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_a_fit_keeps_quantiles_of_its_log_densities(sample_rows: int | None, covariance_type: str) -> None:
    offset = 1e4 * np.arange(1.0, D + 1)
    model = GaussianMixture(K, covariance_type=covariance_type, random_state=0, sample_rows=sample_rows, tol=1e-2)
    model.fit(ROWS * 5 + offset)
    scores = model.score_samples(ROWS * 5 + offset)
    known = Quantiles.told_by(model.provenance_)
    assert known.rows == (sample_rows or N)
    if sample_rows is None:
        np.testing.assert_allclose(known.values, np.quantile(scores, LEVELS), rtol=1e-9)
    for fraction in (0.005, 0.01, 0.1, 0.5):
        flagged = model.outliers(ROWS * 5 + offset, fraction)
        assert flagged.dtype == bool
        assert abs(flagged.mean() - fraction) < 1e-3 + 4 * (fraction / known.rows) ** 0.5 * (sample_rows is not None)
        assert scores[flagged].max() <= scores[~flagged].min()


def test_quantiles_have_the_same_bits_on_any_number_of_threads() -> None:
    found = [
        GaussianMixture(K, random_state=0, sample_rows=2000, tol=1e-2).fit(ROWS, scheduler=scheduler).provenance_
        for scheduler in ("synchronous", Threads(3))
    ]
    assert found[0]["log_densities"] == found[1]["log_densities"]


def test_a_model_without_quantiles_says_so_and_takes_a_reference(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = GaussianMixture.load(tmp_path / "model")
    with pytest.raises(ValueError, match=r"holds no log densities of its training rows.*reference=X"):
        model.outliers(ROWS)
    scores = predict(TRUTH, ArraySource(ROWS), "score")
    found = model.outliers(str(stored), 0.25, reference=str(stored)).compute()
    np.testing.assert_array_equal(found, scores < np.quantile(scores, 0.25))
    monkeypatch.setattr("gmmdask.predict.REFERENCE_ROWS", 2000)
    assert abs(model.outliers(ROWS, 0.25, reference=stored).mean() - 0.25) < 0.03
    assert not model.outliers(ROWS, 0.01, reference=ROWS + 99).any()


def test_the_command_writes_outliers(stored: Path, tmp_path: Path) -> None:
    start = ["predict", str(stored), "-m", str(tmp_path / "model"), "-o", str(tmp_path / "out"), "--outliers", "0.01"]
    failed = CliRunner().invoke(main, start)
    assert failed.exit_code == 3
    assert "--reference DATA" in failed.stderr
    assert not (tmp_path / "out").exists()
    assert CliRunner().invoke(main, [*start[:-2], "--reference", str(stored)]).exit_code == 2
    done = CliRunner().invoke(main, [*start, "--reference", str(stored), "--log-format", "json"])
    told, written = json.loads(done.stdout), zarr.open_group(tmp_path / "out", mode="r")
    scores = predict(TRUTH, ArraySource(ROWS), "score")
    assert told["threshold"] == pytest.approx(np.quantile(scores, 0.01))
    assert told["arrays"] == ["labels", "outlier"]
    assert written["outlier"].dtype == bool  # type: ignore[union-attr]
    np.testing.assert_array_equal(written["outlier"][:], scores < told["threshold"])  # type: ignore[index]
    assert written["labels"].dtype == np.uint8  # type: ignore[union-attr]


# --- once, and told --------------------------------------------------------------------------------------------


def test_densities_are_evaluated_once_for_all_arrays(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, real = [], LogJoint.__call__

    def counted(self: LogJoint, block: Any) -> Any:
        rows.append(len(block.rows))
        return real(self, block)

    monkeypatch.setattr(LogJoint, "__call__", counted)
    write(stored, tmp_path / "out")
    assert sum(rows) == N


def test_memory_is_a_fraction_of_rows_and_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gmmdask.sources.zarr.READ_BYTES", 1 << 18)
    rows = np.resize(ROWS, (800_000, D))
    zarr.create_array(tmp_path / "rows", data=rows, chunks=(5_000, D), compressors=None)
    source = open_source(tmp_path / "rows")
    tracemalloc.start()
    write(source, tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (rows.nbytes + sum(array.nbytes for _, array in zarr.open_group(tmp_path / "out").arrays())) / 2


def test_progress_is_told(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gmmdask.write.LEAST_PARTS", 1)
    events = write(stored, tmp_path / "out")
    assert all(isinstance(event, RowsWritten) for event in events)
    rows = [event.rows for event in events if isinstance(event, RowsWritten)]
    assert len(rows) > 4
    assert rows == sorted(set(rows))
    assert rows[-1] == N
    arguments = ["predict", str(stored), "-m", str(tmp_path / "model"), "-o", str(tmp_path / "again")]
    assert f"{N:,} of {N:,} rows written" in CliRunner().invoke(main, arguments).stderr


# --- interrupted and gone on with ------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
import zarr
from gmmdask.cli import main

real, left = zarr.Array.__setitem__, int(sys.argv[1])

def counted(array, where, values):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(array, where, values)

zarr.Array.__setitem__ = counted
main(sys.argv[2:])
"""


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Row ranges that are read of stored data from here on."""
    found: list[tuple[int, int]] = []
    real = ZarrSource._rows

    def watched(self: ZarrSource, start: int, stop: int) -> Any:
        found.append((start, stop))
        return real(self, start, stop)

    monkeypatch.setattr(ZarrSource, "_rows", watched)
    return found


def test_a_killed_run_is_gone_on_with_where_it_stopped(
    stored: Path, tmp_path: Path, reads: list[tuple[int, int]]
) -> None:
    model = str(tmp_path / "model")
    rest = ["-m", model, "--what", "labels,proba,score", "--threads", "1"]
    undisturbed = ["predict", str(stored), "-o", str(tmp_path / "whole"), *rest]
    assert CliRunner().invoke(main, undisturbed).exit_code == 0
    command = ["predict", str(stored), "-o", str(tmp_path / "out"), *rest]
    done = subprocess.run([sys.executable, "-c", KILLED, "11", *command], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    partial = tmp_path / ".out.partial" / "out"
    finished = [i for i in range(N // CHUNK) if all((partial / what / "c" / str(i)).exists() for what in WHATS[::2])]
    assert 4 < len(finished) < 15
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 3
    assert "an interrupted run, or one that is still under way, has left" in refused.stderr
    reads.clear()
    assert CliRunner().invoke(main, [*command, "--resume"]).exit_code == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    again = {row // CHUNK for start, stop in reads for row in range(start, stop)}
    assert len(again) == N // CHUNK - len(finished)
    assert not again & set(finished)
    assert {file.name for file in tmp_path.iterdir()} == {"rows", "model", "out", "whole"}
    reads.clear()
    assert CliRunner().invoke(main, [*command, "--resume"]).exit_code == 0
    assert not reads


@settings(parent=LAW, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(missing=st.sets(st.tuples(st.sampled_from(ALL), st.integers(0, N // CHUNK - 1)), max_size=12))
def test_whatever_is_missing_is_written_again(
    missing: set[tuple[str, int]], stored: Path, tmp_path: Path, reads: list[tuple[int, int]]
) -> None:
    out, partial = tmp_path / "out", tmp_path / ".out.partial"
    if not out.exists():
        write(stored, out)
    whole = contents(out)
    partial.mkdir()
    shutil.move(out, partial / "out")
    for what, i in missing:
        (
            partial / "out" / what / "c" / str(i) / "0" if what == "proba" else partial / "out" / what / "c" / str(i)
        ).unlink()
    (partial / "out" / "labels" / "c" / "7.abc.partial").write_bytes(b"a write that was killed")
    reads.clear()
    events = write(stored, out, resume=True)
    assert contents(out) == whole
    again = {row // CHUNK for start, stop in reads for row in range(start, stop)}
    assert {i for _, i in missing} <= again
    assert bool(again) == bool(missing)
    last = [event for event in events if isinstance(event, RowsWritten)]
    assert not missing or (last[-1].rows == N and last[-1].before == N - len(again) * CHUNK)


@pytest.mark.parametrize("other", ["data", "mixture", "what", "threshold", "nothing"])
def test_what_belongs_to_something_else_is_not_gone_on_with(other: str, stored: Path, tmp_path: Path) -> None:
    out, partial = tmp_path / "out", tmp_path / ".out.partial"
    write(stored, tmp_path / "whole")
    partial.mkdir()
    changed: dict[str, Any] = {
        "mixture": {"mixture": random_mixture(K, D, "full", seed=9)},
        "what": {"whats": ALL[::-1]},
        "threshold": {"threshold": -8.0},
    }.get(other, {})
    source: Path = stored
    if other == "data":
        source = tmp_path / "others"
        zarr.create_array(source, data=ROWS[::-1], chunks=(CHUNK, D))
    if other != "nothing":
        write(source, partial / "out", **changed)
    (started, *_) = write(stored, out, resume=True)
    assert isinstance(started, StartedOver)
    assert (f"holds other {other}" if other != "nothing" else "nothing that can be gone on with") in started.reason
    assert contents(out) == contents(tmp_path / "whole")
    assert not partial.exists()


def test_overwriting_starts_over(stored: Path, tmp_path: Path) -> None:
    write(stored, tmp_path / "whole")
    (tmp_path / ".out.partial" / "out").mkdir(parents=True)
    (tmp_path / ".out.partial" / "out" / "zarr.json").write_text("{}")
    with pytest.raises(OutputError, match=r"out\.partial.*--resume.*--overwrite"):
        write(stored, tmp_path / "out")
    assert all(isinstance(event, RowsWritten) for event in write(stored, tmp_path / "out", overwrite=True))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_an_interrupted_command_says_how_to_go_on(stored: Path, tmp_path: Path) -> None:
    code = KILLED.replace("signal.SIGKILL", "signal.SIGTERM")
    command = ["predict", str(stored), "-m", str(tmp_path / "model"), "-o", str(tmp_path / "out"), "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "-c", code, "7", *command], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 143
    assert ".out.partial: --resume goes on from it." in done.stderr
    assert CliRunner().invoke(main, [*command, "--resume"]).exit_code == 0
    np.testing.assert_array_equal(
        zarr.open_array(tmp_path / "out" / "labels", mode="r")[:], Prediction(TRUTH, "labels").of(ROWS)
    )


def test_a_full_disk_is_75_and_the_rest_is_written_when_there_is_room(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, room = zarr.Array.__setitem__, [7]

    def until_full(array: Any, where: Any, values: Any) -> None:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(array, where, values)

    monkeypatch.setattr(zarr.Array, "__setitem__", until_full)
    command = ["predict", str(stored), "-m", str(tmp_path / "model"), "-o", str(tmp_path / "out"), "--threads", "1"]
    failed = CliRunner().invoke(main, command)
    assert failed.exit_code == 75
    assert "No space left on device" in failed.stderr
    assert ".out.partial: --resume goes on from it." in failed.stderr
    assert not (tmp_path / "out").exists()
    room[0] = 10**9
    assert CliRunner().invoke(main, [*command, "--resume"]).exit_code == 0
    np.testing.assert_array_equal(
        zarr.open_array(tmp_path / "out" / "labels", mode="r")[:], Prediction(TRUTH, "labels").of(ROWS)
    )
