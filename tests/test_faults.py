"""Files that are written while everything fails, and files that are not what they should be."""

import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gmmdask import GaussianMixture, container, place
from gmmdask.checkpoint import Checkpoint
from gmmdask.cli import main
from gmmdask.cli._sentences import sentence
from gmmdask.container import PREFIX, SCHEMA, FileError
from gmmdask.model_file import Model, load_model, save_model
from gmmdask.outcome import CheckpointWritten, Event, PassDone, PilotDone, Resumed
from gmmdask.progress import stored_classes
from gmmdask.storage import StorageError
from gmmdask.stream import STATES
from gmmdask.synthetic import random_mixture

ROWS = random_mixture(3, 2, "full", seed=5, separation=2.0).sample(900, np.random.default_rng(5))[0]


@pytest.fixture(autouse=True)
def each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints after each pass."""
    monkeypatch.setattr("gmmdask.checkpoint.setting", lambda name: 0)


def estimator(path: Path | None, **settings: Any) -> GaussianMixture:
    return GaussianMixture(3, checkpoint=path, **{"tol": 0, "max_iter": 6, "random_state": 4, **settings})


def bits(model: GaussianMixture) -> bytes:
    return b"".join(array.tobytes() for array in (model.weights_, model.means_, model.covariances_))


# --- every system call of a write --------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone: nothing after this call happened."""


class Doom:
    """The `at`-th system call of a write fails, a write halfway through; after a kill, so does every one after it.

    Parameters
    ----------
    error : what it raises.
    """

    CALLS = ("open", "close", "fsync", "replace", "unlink")

    def __init__(self, at: int, error: BaseException, patch: pytest.MonkeyPatch) -> None:
        self.left, self.error, self.reached = at, error, False
        for name in self.CALLS:
            patch.setattr(os, name, self.doomed(getattr(os, name)))
        patch.setattr(place, "open", self.opened, raising=False)

    def step(self) -> None:
        if self.left == 0 or (self.reached and isinstance(self.error, Killed)):
            self.left, self.reached = -1, True
            raise self.error
        self.left -= 1

    def doomed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def step_first(*given: Any, **options: Any) -> Any:
            self.step()
            return call(*given, **options)

        return step_first

    def opened(self, path: Path, mode: str) -> Any:
        self.step()
        return DoomedFile(self, path, mode)


class DoomedFile:
    """A file without a buffer: each write is a system call."""

    def __init__(self, doom: Doom, path: Path, mode: str) -> None:
        self.doom, self.file = doom, io.FileIO(path, mode.removesuffix("b"))
        self.fileno = self.file.fileno

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        if error is None:
            self.doom.step()

    def flush(self) -> None:
        """There is no buffer."""

    def writelines(self, parts: list[bytes]) -> None:
        for part in parts:
            try:
                self.doom.step()
            except BaseException:
                self.file.write(part[: len(part) // 2])
                raise
            self.file.write(part)


def two_saved(folder: Path) -> Checkpoint:
    """A checkpoint that was saved twice, of 1 and of 2."""
    folder.mkdir()
    checkpoint = Checkpoint(folder / "c", {}, resume=False)
    for number in (1, 2):
        checkpoint.save({"value": number, "array": np.full(9, float(number))}, now=True)
    return checkpoint


def every_call(tmp_path: Path, error: BaseException) -> Iterator[tuple[Path, BaseException]]:
    """Folders in which the save of 3 failed at one system call after another, and what it raised."""
    for at in count():
        folder = tmp_path / str(at)
        checkpoint, raised = two_saved(folder), None
        with pytest.MonkeyPatch.context() as patch:
            doom = Doom(at, error, patch)
            try:
                checkpoint.save({"value": 3, "array": np.full(9, 3.0)}, now=True)
            except (Killed, OSError) as found:
                raised = found
        if raised is not None:
            yield folder, raised
        if not doom.reached:
            assert at >= 10  # a save has that many calls
            return


def value_in(folder: Path) -> int:
    found = Checkpoint(folder / "c", {}, resume=True).load()
    assert found["array"].tolist() == [float(found["value"])] * 9
    return int(found["value"])


def test_a_kill_at_any_system_call_of_a_save_leaves_a_checkpoint(tmp_path: Path) -> None:
    found = [value_in(folder) for folder, raised in every_call(tmp_path, Killed()) if isinstance(raised, Killed)]
    assert found == sorted(found)  # the older one until the last rename, the newer one after it
    assert set(found) == {2, 3}


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only file system")])
def test_a_failure_at_any_system_call_of_a_save_is_told_and_loses_nothing(
    tmp_path: Path, number: int, words: str
) -> None:
    seen = 0
    for folder, raised in every_call(tmp_path, OSError(number, os.strerror(number))):
        assert isinstance(raised, StorageError)
        assert f"{folder / 'c'}: cannot be written ({words}" in str(raised)
        assert value_in(folder) in (2, 3)
        assert {path.name for path in folder.iterdir()} == {"c", "c.previous"} or value_in(folder) == 2
        assert not [path for path in folder.iterdir() if path.suffix == ".tmp"]
        seen += 1
    assert seen >= 10


class Full:
    """The disk is full from the third lap on, until `room` is made."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.room, self.fsync = True, os.fsync
        patch.setattr(os, "fsync", self)

    def __call__(self, handle: int) -> None:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.fsync(handle)

    def tell(self, event: Event) -> None:
        if isinstance(event, PassDone) and event.lap == 3:
            self.room = False


def test_a_fit_whose_disk_is_full_goes_on_when_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Full(monkeypatch)
    with pytest.raises(StorageError, match=r"c: cannot be written \(No space left on device\).*Make room"):
        estimator(tmp_path / "c", callbacks=(full.tell,)).fit(ROWS)
    assert not list(tmp_path.glob("*.tmp")) + list(tmp_path.glob(".*.tmp"))
    full.room = True
    assert bits(estimator(tmp_path / "c").fit(ROWS, resume=True)) == bits(estimator(None).fit(ROWS))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_an_output_without_room_is_75_and_made_from_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "rows.npy", ROWS)
    words = ("fit", tmp_path / "rows.npy", "-k", 3, "--seed", 0, "--checkpoint", tmp_path / "c", "-o", tmp_path / "m")
    full = Full(monkeypatch)
    real = save_model

    def no_room(path: Any, model: Model) -> None:
        full.room = False
        real(path, model)

    with monkeypatch.context() as patch:
        patch.setattr("gmmdask.model_file.save_model", no_room)
        failed = run(*words)
    assert failed.exit_code == 75
    assert "m: cannot be written (No space left on device)" in failed.stderr
    assert not (tmp_path / "m").exists()
    full.room = True
    done = run(*words, "--resume")
    assert done.exit_code == 0, done.output
    assert load_model(tmp_path / "m").provenance["outcome"]["reason"] == "converged"


def test_a_read_only_folder_is_refused_before_the_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    told: list[Event] = []
    with pytest.raises(FileError, match=rf"checkpoint {tmp_path}/c: the folder {tmp_path} cannot be written to"):
        estimator(tmp_path / "c", callbacks=(told.append,)).fit(ROWS)
    assert not told
    assert not list(tmp_path.iterdir())


MOMENTS = np.random.default_rng(7).integers(0, 45, 20)  # lines of the log before the kill


@pytest.fixture(scope="module")
def long_fit(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], bytes]:
    """The command of a fit of some seconds that saves itself after each pass, and the bits of its model."""
    folder = tmp_path_factory.mktemp("long")
    np.save(folder / "rows.npy", np.tile(ROWS, (400, 1)) + np.random.default_rng(0).normal(size=(360_000, 2)))
    words = f"fit {folder}/rows.npy -k 3 --seed 0 --tol 0 --max-iter 30 --sample-rows 2000 --log-format json".split()
    command = [sys.executable, "-c", "from gmmdask.cli import main; main()", *words]
    subprocess.run([*command, "-o", str(folder / "m")], check=True, capture_output=True)
    return command, arrays_in(folder / "m")


def arrays_in(path: Path) -> bytes:
    mixture = load_model(path).mixture
    return b"".join(array.tobytes() for array in (mixture.weights, mixture.means, mixture.covariances))


@pytest.mark.slow
@pytest.mark.parametrize("lines", MOMENTS)
def test_a_fit_that_is_killed_at_any_moment_resumes_to_the_same_bits(
    long_fit: tuple[list[str], bytes], tmp_path: Path, lines: int
) -> None:
    command, expected = long_fit
    words = [*command, "-o", str(tmp_path / "m"), "--checkpoint", str(tmp_path / "c")]
    environment = {**os.environ, "DASK_GMMDASK__CHECKPOINT_INTERVAL": "0"}
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment) as process:
        assert process.stderr is not None
        for _ in range(lines):
            process.stderr.readline()
        process.kill()
    subprocess.run([*words, "--resume"], check=True, capture_output=True, env=environment)
    assert arrays_in(tmp_path / "m") == expected


# --- what is told of it ------------------------------------------------------------------------------------------

STAGES = {"the first look": (PilotDone, 1), "the start": (CheckpointWritten, 2), "pass 2": (PassDone, 3)}


@pytest.mark.parametrize("behind", STAGES)
def test_a_resumed_fit_says_what_is_behind_and_in_which_file(tmp_path: Path, behind: str) -> None:
    kind, at = STAGES[behind]
    seen, told = list[Event](), list[Event]()

    def interrupt(event: Event) -> None:
        seen.append(event)
        if sum(isinstance(one, kind) for one in seen) == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        estimator(tmp_path / "c", callbacks=(interrupt,)).fit(ROWS)
    assert f"The checkpoint {tmp_path / 'c'} is kept: --resume goes on from it" in raised.value.__notes__[-1]
    estimator(tmp_path / "c", callbacks=(told.append,)).fit(ROWS, resume=True)
    (resumed,) = (event for event in told if isinstance(event, Resumed))
    assert sentence(resumed, 6) == f"resuming after {behind}, from {tmp_path / 'c'}"
    assert told.index(resumed) == 0
    assert [event.lap for event in told if isinstance(event, PassDone)] == list(range(1 + (resumed.lap or 0), 7))


def test_the_command_tells_of_a_resume_and_how_often_it_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    np.save(tmp_path / "rows.npy", ROWS)
    words = ("fit", tmp_path / "rows.npy", "-k", 3, "--seed", 0, "--tol", 0, "--checkpoint", tmp_path / "c")
    saved = {}
    for every in (0, 3600):
        options = ("--max-iter", 4, "--checkpoint-every", every, "--log-format", "json", "-o", tmp_path / "m")
        told = run(*words, *options).stderr
        saved[every] = [json.loads(line)["event"] for line in told.splitlines()].count("CheckpointWritten")
        if every == 0:
            for path in (*tmp_path.glob("c*"), tmp_path / "m"):
                path.unlink()
    assert saved == {0: 2 + 4 + 1, 3600: 2 + 1}  # the first look, the start, the end
    told = run(*words, "--max-iter", 5, "-o", tmp_path / "m", "--resume").stderr
    assert f"resuming after pass 4, from {tmp_path / 'c'}" in told
    again = run(*words, "--max-iter", 6, "-o", tmp_path / "m", "--resume", "--log-format", "json").stderr
    first = json.loads(again.splitlines()[0])
    assert (first["event"], first["path"], first["lap"]) == ("Resumed", str(tmp_path / "c"), 5)


def test_another_fit_s_checkpoint_is_told_before_its_output(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", ROWS)
    words = ("fit", tmp_path / "rows.npy", "-k", 3, "--seed", 0, "--checkpoint", tmp_path / "c", "-o", tmp_path / "m")
    assert run(*words).exit_code == 0
    other = run(*words, "--reg-covar", 1e-3, "--resume")
    assert other.exit_code == 3
    assert "reg_covar: 1e-06 then, 0.001 now" in other.stderr
    assert "--resume goes on from it" not in other.stderr
    (tmp_path / "m").write_bytes(b"something else")
    foreign = run(*words, "--resume")
    assert foreign.exit_code == 3
    assert "m: exists already" in foreign.stderr


# --- a damaged checkpoint ----------------------------------------------------------------------------------------


def sealed(header: bytes, payload: bytes = b"") -> bytes:
    """A file whose checksum is right, whatever is in it."""
    digest = hashlib.sha256(header + payload).digest()
    return container.MAGIC + len(header).to_bytes(8, "little") + digest + header + payload


def altered(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The file with another header and a right checksum."""
    length = int.from_bytes(data[8:16], "little")
    header = json.loads(data[PREFIX : PREFIX + length])
    change(header)
    return sealed(json.dumps(header).encode(), data[PREFIX + length :])


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    **{f"cut at {quarter} quarters": lambda data, q=quarter: data[: q * len(data) // 4] for quarter in range(4)},
    "cut by a byte": lambda data: data[:-1],
    "a byte of the prefix": lambda data: flipped(data, 20),
    "a byte of the header": lambda data: flipped(data, PREFIX + 9),
    "a byte of an array": lambda data: flipped(data, len(data) - 9),
    "a newer schema": lambda data: altered(data, lambda header: header.update(schema=SCHEMA + 1)),
}


def flipped(data: bytes, at: int, bit: int = 3) -> bytes:
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The two checkpoints of a fit that was interrupted in its third lap."""
    path = tmp_path_factory.mktemp("stopped") / "c"

    def interrupt(event: Event) -> None:
        if isinstance(event, PassDone) and event.lap == 4:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gmmdask.checkpoint.setting", lambda name: 0)
        with pytest.raises(KeyboardInterrupt):
            estimator(path, callbacks=(interrupt,)).fit(ROWS)
    return {name: (path.parent / name).read_bytes() for name in ("c", "c.previous")}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_a_damaged_checkpoint_means_the_older_one_or_nothing(
    stopped: dict[str, bytes], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "c").write_bytes(damage(stopped["c"]))
    (tmp_path / "c.previous").write_bytes(stopped["c.previous"])
    with pytest.warns(
        UserWarning, match=r"c: (truncated|not a gmmdask|written by a newer).*Going on from .*c\.previous"
    ):
        resumed = estimator(tmp_path / "c").fit(ROWS, resume=True)
    assert bits(resumed) == bits(estimator(None).fit(ROWS))
    for name, data in stopped.items():
        (tmp_path / name).write_bytes(damage(data))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.warns(UserWarning, match="Going on"), pytest.raises(FileError, match="no checkpoint can be read"):
        estimator(tmp_path / "c").fit(ROWS, resume=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# --- fuzzed files ------------------------------------------------------------------------------------------------

INFLATED = ([2**40], [2**70, 2], [2**62, 2**62], [10**6, 10**6], [-1, -8], [2**33, 0])
OTHER_DTYPES = ("object", "int64", "uint64", "float32", "<U4", "V8", "complex128", None, 8, [["a", "f8"]])


def fuzzed(data: bytes, seed: int) -> Iterator[tuple[str, bytes]]:
    """Over 200 files that are no file of that kind."""
    rng = np.random.default_rng(seed)
    length = int.from_bytes(data[8:16], "little")
    for at in rng.integers(0, len(data), 50):
        yield f"cut at {at}", data[:at]
    for at in [*range(PREFIX), *rng.integers(PREFIX, PREFIX + length, 40), *rng.integers(0, len(data), 40)]:
        yield f"byte {at} flipped", flipped(data, int(at), int(rng.integers(8)))
    for size in (2**31, 2**63, 2**64 - 1, len(data), length + 1, 0):
        yield f"a header of {size} bytes", data[:8] + size.to_bytes(8, "little") + data[16:]
    header = json.loads(data[PREFIX : PREFIX + length])
    named = [name for name, entry in header["arrays"].items() if entry["shape"]]
    for name in rng.choice(named, min(3, len(named)), replace=False):
        for dtype in OTHER_DTYPES:
            if dtype != header["arrays"][name]["dtype"]:
                yield f"array {name} of {dtype}", altered(data, edit(str(name), "dtype", dtype))
        for shape in INFLATED:
            yield f"array {name} of shape {shape}", altered(data, edit(str(name), "shape", shape))
        yield f"array {name} from the end", altered(data, edit(str(name), "offset", len(data)))
    yield "the same bytes for many arrays", altered(data, many_of_one)
    for bad in (b"", b"null", b"[]", b"{}", b'{"schema": 1}', b"\xff\xfe", b"[" * 10**5, b"9" * 10**4):
        yield f"{bad[:9]!r} as header", sealed(bad)


def edit(name: str, key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        header["arrays"][name][key] = value

    return change


def many_of_one(header: dict[str, Any]) -> None:
    """Each array is of all bytes: 5,000 copies of a small file are no small file."""
    size = sum(8 * int(np.prod(entry["shape"])) for entry in header["arrays"].values()) // 8
    entry = {"dtype": "float64", "shape": [size], "offset": 0}
    header["arrays"].update({f"more-{i}": entry for i in range(5000)})


def checkpoint_in(path: Path) -> Any:
    return container.unpack(*container.read(path, "checkpoint"), stored_classes())


def stream_in(path: Path) -> Any:
    return load_model(path, {**stored_classes(), **STATES})


@pytest.mark.parametrize("kind", ["model", "checkpoint", "stream"])
def test_fuzzed_files_are_file_errors_of_little_memory(tmp_path: Path, stopped: dict[str, bytes], kind: str) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    if kind == "model":
        save_model(good, Model(random_mixture(3, 2), {"rows": 7}))
    elif kind == "stream":
        GaussianMixture(3, random_state=0, sample_rows=200).partial_fit(ROWS).save(good)
    else:
        good.write_bytes(stopped["c"])
    load: Callable[[Path], Any] = {"model": load_model, "checkpoint": checkpoint_in, "stream": stream_in}[kind]
    load(good)
    tried, wrong = 0, []
    tracemalloc.start()
    try:
        for name, data in fuzzed(good.read_bytes(), seed=1):
            bad.write_bytes(data)
            tracemalloc.reset_peak()
            tried += 1
            try:
                load(bad)
                wrong.append(f"{name}: was taken")
            except FileError:
                pass
            except Exception as error:
                wrong.append(f"{name}: {error!r}")
            if tracemalloc.get_traced_memory()[1] > 50e6:
                wrong.append(f"{name}: took {tracemalloc.get_traced_memory()[1] / 1e6:.0f} MB")
    finally:
        tracemalloc.stop()
    assert tried >= 200
    assert not wrong, "\n".join(wrong)


# --- a forced resume ---------------------------------------------------------------------------------------------


def test_a_moved_data_set_is_gone_on_with_by_force(tmp_path: Path) -> None:
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, ROWS)
    words = ("-k", 3, "--seed", 0, "--tol", 0, "--checkpoint", tmp_path / "c")
    assert run("fit", tmp_path / "a.npy", *words, "--max-iter", 2, "-o", tmp_path / "m").exit_code == 0
    refused = run("fit", tmp_path / "b.npy", *words, "--max-iter", 4, "-o", tmp_path / "n", "--resume")
    assert refused.exit_code == 3
    assert "address:" in refused.stderr
    assert "--force-resume" in refused.stderr
    done = run("fit", tmp_path / "b.npy", *words, "--max-iter", 4, "-o", tmp_path / "n", "--force-resume")
    assert done.exit_code == 0, done.output
    whole = run("fit", tmp_path / "b.npy", *words[:-1], tmp_path / "d", "--max-iter", 4, "-o", tmp_path / "w")
    assert whole.exit_code == 0
    forced, wanted = load_model(tmp_path / "n"), load_model(tmp_path / "w")
    assert forced.mixture.means.tobytes() == wanted.mixture.means.tobytes()
    assert "a.npy' then" in forced.provenance["forced"]
    assert "forced" not in wanted.provenance


@pytest.mark.parametrize(
    ("change", "rows", "words"),
    [
        ({"covariance_type": "diag"}, ROWS, "No force accepts another covariance_type"),
        ({"reg_covar": 1e-3}, ROWS, "No force accepts another reg_covar"),
        ({}, ROWS[:-1], "No force accepts another shape"),
    ],
    ids=str,
)
def test_no_force_makes_another_fit_of_a_checkpoint(
    tmp_path: Path, stopped: dict[str, bytes], change: dict[str, Any], rows: np.ndarray, words: str
) -> None:
    for name, data in stopped.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=words):
        estimator(tmp_path / "c", **change).fit(rows, resume="force")
    assert (tmp_path / "c").read_bytes() == stopped["c"]


def test_resume_is_a_word_that_is_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="resume='please': expected True, False or 'force'"):
        estimator(tmp_path / "c").fit(ROWS, resume="please")
