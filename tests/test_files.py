"""Files: what comes back is what went in, damage is told, and nothing that was there is lost."""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmmdask import GaussianMixture, container
from gmmdask.checkpoint import Checkpoint
from gmmdask.container import PREFIX, SCHEMA, FileError
from gmmdask.covariance import FAMILIES
from gmmdask.execution import Threads
from gmmdask.model_file import Model, load_model, save_model
from gmmdask.outcome import CheckpointWritten, Event, PassDone, Reason
from gmmdask.progress import Progress, stored_classes
from gmmdask.storage import StorageError
from gmmdask.synthetic import random_mixture
from gmmdask.testing.strategies import LAW

ROWS = random_mixture(3, 2, "full", seed=5, separation=2.0).sample(900, np.random.default_rng(5))[0]


# --- the container ---------------------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Leaf:
    value: Any
    colour: Colour


@dataclass(frozen=True)
class Branch:
    left: Any
    right: Any = None


KNOWN = {kind.__name__: kind for kind in (Colour, Leaf, Branch)}

arrays = st.builds(
    lambda dtype, shape, seed: np.random.default_rng(seed).integers(0, 2**60, shape).astype(dtype),
    st.sampled_from(container.DTYPES),
    st.lists(st.integers(0, 4), max_size=3).map(tuple),
    st.integers(0, 99),
)
plain = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(), arrays)
colours = st.sampled_from(Colour)
values = st.recursive(
    plain | colours,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(), inner, max_size=3),
        st.builds(Leaf, inner, colours),
        st.builds(Branch, inner, inner),
    ),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    """Equal in type, value and bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, Leaf | Branch):
        return same(vars(a), vars(b))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return bool(np.array(a).tobytes() == np.array(b).tobytes()) if isinstance(a, float) else bool(a == b)


@LAW
@given(values)
def test_what_is_read_is_what_was_written(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("files") / "value"
    held: container.Arrays = {}
    container.write(path, "test", container.pack(value, held), held)
    assert same(container.unpack(*container.read(path, "test"), KNOWN), value)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -0.0, 5e-324, 0.1])
def test_floats_keep_their_bits(tmp_path: Path, value: float) -> None:
    container.write(tmp_path / "f", "test", [value], {"a": np.array([value])})
    content, held = container.read(tmp_path / "f", "test")
    assert np.array(content).tobytes() == held["a"].tobytes() == np.array([value]).tobytes()


def test_arrays_of_any_layout_come_back_in_one(tmp_path: Path) -> None:
    array = np.arange(24.0).reshape(4, 6)
    container.write(tmp_path / "f", "test", None, {"F": np.asfortranarray(array), "cut": array[::2, ::-1]})
    found = container.read(tmp_path / "f", "test")[1]
    np.testing.assert_array_equal(found["F"], array)
    np.testing.assert_array_equal(found["cut"], array[::2, ::-1])
    assert all(a.flags.c_contiguous and a.flags.writeable and a.flags.owndata for a in found.values())


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, 1j, b"bytes", np.int64(3), [lambda: None]], ids=lambda value: type(value).__name__
)
def test_what_cannot_be_stored_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="cannot store a"):
        container.pack(value, {})


@pytest.mark.parametrize("dtype", ["O", "c16", "bool", "i4", ">f8", "f2", "U3", "M8[s]"])
def test_arrays_that_could_not_be_read_back_are_not_written(tmp_path: Path, dtype: str) -> None:
    with pytest.raises((TypeError, ValueError), match="dtype"):
        container.write(tmp_path / "f", "test", None, {"a": np.zeros(3, dtype)})
    assert not list(tmp_path.iterdir())


def test_only_known_classes_are_made(tmp_path: Path) -> None:
    held: container.Arrays = {}
    container.write(tmp_path / "f", "test", container.pack(Branch(1), held), held)
    with pytest.raises(FileError, match="'Branch', which this version of gmmdask does not know"):
        container.unpack(*container.read(tmp_path / "f", "test"), {})


@pytest.mark.parametrize(
    "content",
    [
        {"is": "Branch", "fields": {"left": 1, "right": 2, "middle": 3}},
        {"is": "Branch", "fields": {}},
        {"is": "Branch"},
        {"is": "Colour", "name": "GREEN"},
        {"array": "7"},
        {"unheard of": 1},
    ],
    ids=str,
)
def test_values_of_another_version_are_a_file_error(content: Any) -> None:
    with pytest.raises(FileError):
        container.unpack(content, {}, KNOWN)


# --- a write is all or nothing ---------------------------------------------------------------------------------


class Full(OSError):
    """As the system has it."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("fails", ["replace", "fsync"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str, exists: bool
) -> None:
    path = tmp_path / "value"
    if exists:
        container.write(path, "test", "old", {})

    def refuse(*args: object) -> None:
        raise Full

    with monkeypatch.context() as patch:
        patch.setattr(os, fails, refuse)
        with pytest.raises(StorageError, match=f"{path}: cannot be written"):
            container.write(path, "test", "new", {"a": np.zeros(9)})
    assert [file.name for file in tmp_path.iterdir()] == ["value"] * exists
    if exists:
        assert container.read(path, "test")[0] == "old"


def test_a_write_goes_to_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args)))
    container.write(tmp_path / "value", "test", "new", {})
    assert calls == ["fsync", "replace", "fsync"]


# --- damaged, foreign and hostile files ------------------------------------------------------------------------


def sealed(header: bytes, payload: bytes = b"", length: int | None = None) -> bytes:
    """A file whose checksum is right, whatever is in it."""
    size = len(header) if length is None else length
    digest = hashlib.sha256(header + payload).digest()
    return container.MAGIC + size.to_bytes(8, "little") + digest + header + payload


def altered(data: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """A model file with another header and a right checksum."""
    length = int.from_bytes(data[8:16], "little")
    header = json.loads(data[PREFIX : PREFIX + length])
    change(header)
    return sealed(json.dumps(header).encode(), data[PREFIX + length :])


def edit(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        for key in path[:-1]:
            header = header[key]
        if to is KeyError:
            del header[path[-1]]
        else:
            header[path[-1]] = to

    return change


HOSTILE_HEADERS = {
    "newer schema": edit("schema", to=SCHEMA + 1),
    "another kind": edit("kind", to="checkpoint"),
    "no kind": edit("kind", to=KeyError),
    "no schema": edit("schema", to=KeyError),
    "schema of text": edit("schema", to="one"),
    "no arrays": edit("arrays", to=KeyError),
    "arrays of numbers": edit("arrays", to=[1, 2]),
    "no content": edit("content", to=KeyError),
    "content of nothing": edit("content", to=None),
    "unknown family": edit("content", "covariance_type", to="round"),
    "family of lists": edit("content", "covariance_type", to=[]),
    "no family": edit("content", "covariance_type", to=KeyError),
    "no provenance": edit("content", "provenance", to=KeyError),
    "provenance of text": edit("content", "provenance", to="from somewhere"),
    "no weights": edit("arrays", "weights", to=KeyError),
    "dtype of objects": edit("arrays", "means", "dtype", to="object"),
    "dtype of text": edit("arrays", "means", "dtype", to="<U4"),
    "dtype of nothing": edit("arrays", "means", "dtype", to=None),
    "no dtype": edit("arrays", "means", "dtype", to=KeyError),
    "weights of integers": edit("arrays", "weights", "dtype", to="int64"),
    "huge shape": edit("arrays", "means", "shape", to=[2**40, 2**40]),
    "shape beyond int64": edit("arrays", "means", "shape", to=[2**70, 2]),
    "empty and huge shape": edit("arrays", "means", "shape", to=[2**70, 0]),
    "negative shape": edit("arrays", "means", "shape", to=[-3, -2]),
    "shape of text": edit("arrays", "means", "shape", to="32"),
    "shape of fractions": edit("arrays", "means", "shape", to=[1.5, 2]),
    "shape of one number": edit("arrays", "means", "shape", to=6),
    "other shape": edit("arrays", "means", "shape", to=[2, 3]),
    "flat means": edit("arrays", "means", "shape", to=[6]),
    "no components": edit("arrays", "means", "shape", to=[0, 2]),
    "offset beyond the end": edit("arrays", "means", "offset", to=10**9),
    "negative offset": edit("arrays", "means", "offset", to=-8),
    "offset of text": edit("arrays", "means", "offset", to="0"),
}


def fuzzed(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Files that are no models: damaged, foreign, or made to do harm."""
    for quarter in range(4):
        for less in range(8):
            yield f"cut at quarter {quarter}, {less}", data[: max(0, quarter * len(data) // 4 - less)]
    yield "cut by a byte", data[:-1]
    yield "longer by a byte", data + b"\0"
    rng = np.random.default_rng(0)
    flips = [*range(PREFIX), *rng.integers(PREFIX, len(data), 100)]
    for at in flips:
        yield f"byte {at} flipped", data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
    for size in (2**63, 2**64 - 1, len(data), len(data) - PREFIX + 1):
        yield f"header of {size} bytes", sealed(data[PREFIX:], length=size)
    for name, change in HOSTILE_HEADERS.items():
        yield name, altered(data, change)
    for name, header in (("no header", b""), ("a list", b"[1]"), ("a number", b"3"), ("no JSON", b"\xff{")):
        yield name, sealed(header)
    yield "deep header", sealed(b"[" * 100_000)
    yield "nothing", b""
    yield "magic alone", container.MAGIC
    yield "text", b"weights,means\n0.5,1.0\n" * 10
    yield "npy", b"\x93NUMPY\x01\x00v\x00" + bytes(200)
    yield "pickle", b"\x80\x04\x95" + bytes(100)
    yield "zip", b"PK\x03\x04" + bytes(100)


def test_fuzzed_files_are_file_errors_and_nothing_else(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    save_model(good, Model(random_mixture(3, 2), {"rows": 7}))
    tried, wrong = 0, []
    for name, data in fuzzed(good.read_bytes()):
        bad.write_bytes(data)
        tried += 1
        try:
            load_model(bad)
        except FileError as error:
            if str(bad) not in str(error):
                wrong.append(f"{name}: the message does not name the file: {error}")
        except Exception as error:
            wrong.append(f"{name}: {error!r}")
        else:
            wrong.append(f"{name}: was taken for a model")
    assert tried >= 200
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", r"not a gmmdask file: it begins with b'', expected b'gmmdask\\n'"),
        (b"\x93NUMPY\x01\x00 and more", r"not a gmmdask file: it begins with b'\\x93NUMPY.*, expected b'gmmdask\\n'"),
        (
            sealed(json.dumps({"schema": SCHEMA + 1, "kind": "model"}).encode()),
            rf"newer gmmdask \(schema {SCHEMA + 1}, this version reads up to {SCHEMA}\)\. Install a newer gmmdask",
        ),
        (sealed(json.dumps({"schema": SCHEMA, "kind": "checkpoint"}).encode()), "expected a model file, found a chec"),
        (sealed(b"{}")[:-1], "truncated or damaged: its 1 bytes have the checksum 021fb596db81, written with 4"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(FileError, match=words):
        load_model(tmp_path / "file")


def test_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(FileError, match=f"{path}: cannot be read"):
            load_model(path)


def test_a_large_foreign_file_is_refused_by_its_first_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "rows.npy", "wb") as file:
        file.truncate(1 << 40)  # sparse: reading it whole would take a TiB
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("the whole file was read"))
    with pytest.raises(FileError, match="not a gmmdask file"):
        load_model(tmp_path / "rows.npy")


# --- models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_models_come_back_in_the_same_bits(tmp_path: Path, covariance_type: str) -> None:
    mixture = random_mixture(4, 3, covariance_type, seed=2)
    provenance = {"rows": 7, "history": [{"lap": 1, "gain": None, "lower_bound": -0.1}], "settings": {"tol": 1e-3}}
    save_model(tmp_path / "m", Model(mixture, provenance))
    found = load_model(tmp_path / "m")
    assert found.provenance == provenance
    assert found.mixture.covariance_type == covariance_type
    for name in ("weights", "means", "covariances"):
        assert same(getattr(found.mixture, name), getattr(mixture, name))


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_a_saved_estimator_predicts_the_same(tmp_path: Path, covariance_type: str) -> None:
    fitted = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(ROWS)
    fitted.save(tmp_path / "m")
    found = GaussianMixture.load(tmp_path / "m")
    assert found.get_params()["covariance_type"] == covariance_type
    for method in ("predict", "predict_proba", "score_samples"):
        assert same(getattr(found, method)(ROWS), getattr(fitted, method)(ROWS))
    assert same(found.precisions_cholesky_, fitted.precisions_cholesky_)


@pytest.mark.parametrize("covariance_type", FAMILIES)
@pytest.mark.parametrize(
    "change", [{"weights": np.ones(4)}, {"means": np.ones((3, 5))}, {"covariances": np.ones((3, 7))}], ids=str
)
def test_a_model_whose_arrays_do_not_fit_together_is_refused(
    tmp_path: Path, covariance_type: str, change: dict[str, np.ndarray]
) -> None:
    save_model(tmp_path / "m", Model(replace(random_mixture(3, 2, covariance_type), **change), {}))
    if covariance_type == "spherical" and "means" in change:
        assert load_model(tmp_path / "m").mixture.d == 5  # spherical covariances fit any number of features
        return
    with pytest.raises(FileError, match="do not fit together"):
        load_model(tmp_path / "m")


SETTINGS = {
    "n_components": np.int64(3),
    "n_init": np.int32(2),
    "max_iter": np.int64(4),
    "tol": np.float32(1e-3),
    "reg_covar": np.float32(1e-6),
    "memory_limit": np.int64(10**9),
    "sample_rows": np.int64(500),
    "random_state": np.int64(0),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # what it ends with is not the question
@pytest.mark.parametrize("name", SETTINGS)
def test_numbers_of_numpy_are_settings_that_can_be_stored(tmp_path: Path, name: str) -> None:
    """A loop over np.arange(2, 9) is how people choose K."""
    settings = {"n_components": 3, "max_iter": 4, "random_state": 0, name: SETTINGS[name]}
    fitted = GaussianMixture(**settings, checkpoint=tmp_path / "c").fit(ROWS)
    fitted.save(tmp_path / "m")
    stored = load_model(tmp_path / "m").provenance["settings"]
    assert {**stored, **stored["algorithm"]}[name] == SETTINGS[name]


# --- checkpoints -----------------------------------------------------------------------------------------------


class Interrupt:
    """A callback that interrupts when a run has made some laps, before or after the checkpoint of that lap."""

    def __init__(self, lap: int, after: type[Event] = CheckpointWritten) -> None:
        self.lap, self.after, self.laps = lap, after, 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, PassDone):
            self.laps = event.lap
        if isinstance(event, self.after) and self.laps == self.lap:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints after each pass."""
    monkeypatch.setattr("gmmdask.checkpoint.setting", lambda name: 0)


def estimator(path: Path | None, **settings: Any) -> GaussianMixture:
    settings = {"tol": 0, "max_iter": 6, "random_state": 4, **settings}
    return GaussianMixture(3, checkpoint=path, **settings)


def interrupted(path: Path, lap: int, rows: np.ndarray = ROWS, **settings: Any) -> None:
    after = settings.pop("after", CheckpointWritten)
    with pytest.raises(KeyboardInterrupt):
        estimator(path, callbacks=(Interrupt(lap, after),), **settings).fit(rows)


def bits(model: GaussianMixture) -> bytes:
    held = (model.weights_, model.means_, model.covariances_, np.array(model.lower_bounds_))
    return b"".join(array.tobytes() for array in held)


def ending(model: GaussianMixture) -> tuple[object, ...]:
    return bits(model), model.n_iter_, model.outcome_, [row["lap"] for row in model.history_]


LARGE = {"sample_rows": 300, "n_init": 2}  # a sample, held-out rows and several starts


@pytest.mark.parametrize(
    ("lap", "after"),
    [
        (0, CheckpointWritten),
        (1, PassDone),
        (3, CheckpointWritten),
        (3, PassDone),
        (6, CheckpointWritten),
        (6, PassDone),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"n_init": 3}, LARGE], ids=str)
def test_a_resumed_fit_ends_as_an_undisturbed_one(
    tmp_path: Path, lap: int, settings: dict[str, Any], after: type[Event]
) -> None:
    interrupted(tmp_path / "c", lap, after=after, **settings)
    resumed = estimator(tmp_path / "c", **settings).fit(ROWS, resume=True)
    assert ending(resumed) == ending(estimator(None, **settings).fit(ROWS))


def test_the_seed_that_was_drawn_is_kept(tmp_path: Path) -> None:
    told: list[Event] = []
    whole = estimator(tmp_path / "whole", random_state=None).fit(ROWS)
    again = estimator(tmp_path / "whole", random_state=None, callbacks=(told.append,)).fit(ROWS, resume=True)
    assert bits(again) == bits(whole)
    assert not any(isinstance(event, PassDone) for event in told)
    interrupted(tmp_path / "c", 0, random_state=None, **LARGE)  # after the first look, before the start
    seed = content_of(tmp_path / "c").seed
    resumed = estimator(tmp_path / "c", random_state=None, **LARGE).fit(ROWS, resume=True)
    assert resumed.provenance_["settings"]["seed"] == seed
    assert bits(resumed) == bits(estimator(None, random_state=seed, **LARGE).fit(ROWS))


def test_an_existing_checkpoint_needs_resume(tmp_path: Path) -> None:
    interrupted(tmp_path / "c", 2)
    before = (tmp_path / "c").read_bytes()
    with pytest.raises(FileExistsError, match=r"c exists.*--resume.*remove .*c and .*c\.previous"):
        estimator(tmp_path / "c").fit(ROWS)
    assert (tmp_path / "c").read_bytes() == before


def test_the_older_of_two_checkpoints_is_one_too(tmp_path: Path) -> None:
    """Removing the newer file must not make a fit without resume go on from the older."""
    interrupted(tmp_path / "c", 4)
    (tmp_path / "c").unlink()
    with pytest.raises(FileExistsError, match=r"c\.previous exists.*remove .*c\.previous"):
        estimator(tmp_path / "c").fit(ROWS)


def test_a_crash_between_the_two_renames_of_a_save_loses_one_step(tmp_path: Path) -> None:
    interrupted(tmp_path / "c", 4)
    (tmp_path / "c").unlink()
    told: list[Event] = []
    resumed = estimator(tmp_path / "c", callbacks=(told.append,)).fit(ROWS, resume=True)
    assert next(event.lap for event in told if isinstance(event, PassDone)) in (4, 5)
    assert bits(resumed) == bits(estimator(None).fit(ROWS))


def test_resume_without_a_file_starts_from_the_beginning(tmp_path: Path) -> None:
    found = estimator(tmp_path / "c").fit(ROWS, resume=True)
    assert bits(found) == bits(estimator(None).fit(ROWS))


def test_resume_without_a_checkpoint_is_an_error() -> None:
    with pytest.raises(ValueError, match="checkpoint"):
        estimator(None).fit(ROWS, resume=True)


def test_a_checkpoint_in_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    told: list[Event] = []
    with pytest.raises(FileError, match=f"there is no folder {tmp_path / 'nowhere'}"):
        estimator(tmp_path / "nowhere" / "c", callbacks=(told.append,)).fit(ROWS)
    assert told == []
    assert not list(tmp_path.iterdir())


def content_of(path: Path) -> Progress:
    found = container.unpack(*container.read(path, "checkpoint"), stored_classes())
    assert isinstance(found, Progress)
    return found


def laps_in(path: Path) -> int:
    return content_of(path).runs[0].state.laps


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    interrupted(tmp_path / "c", 4)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["c", "c.previous"]
    # the interruption itself saves once more
    assert (laps_in(tmp_path / "c.previous"), laps_in(tmp_path / "c")) in ((3, 4), (4, 4))


def test_a_save_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint(tmp_path / "c", KNOWN, resume=False)
    checkpoint.save(Branch(1), now=True)
    checkpoint.save(Branch(2), now=True)

    def refuse(handle: int) -> None:
        raise Full

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StorageError, match=r"c: cannot be written \(No space left"):
            checkpoint.save(Branch(3), now=True)
    assert Checkpoint(tmp_path / "c", KNOWN, resume=True).load() == Branch(2)


def test_saves_wait_for_the_interval_unless_they_must_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gmmdask.checkpoint.setting", lambda name: 3600)
    checkpoint = Checkpoint(tmp_path / "c", KNOWN, resume=False)
    assert [checkpoint.save(Branch(1)), checkpoint.save(Branch(2)), checkpoint.save(Branch(3), now=True)] == [
        True,
        False,
        True,
    ]
    assert Checkpoint(tmp_path / "c", KNOWN, resume=True).load() == Branch(3)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[::-1]])
def test_a_damaged_checkpoint_falls_back_to_the_older_one(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "c"
    interrupted(path, 4)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=f"{path}: .* Going on from {path}.previous"):
        resumed = estimator(path).fit(ROWS, resume=True)
    assert ending(resumed) == ending(estimator(None).fit(ROWS))


def test_a_damaged_checkpoint_never_takes_the_place_of_the_good_one(tmp_path: Path) -> None:
    path = tmp_path / "c"
    interrupted(path, 4)
    path.write_bytes(b"damaged")
    checkpoint = Checkpoint(path, stored_classes(), resume=True)
    with pytest.warns(UserWarning, match="Going on from"):
        value = checkpoint.load()
    checkpoint.save(value, now=True)
    assert laps_in(path) == laps_in(tmp_path / "c.previous")


def test_two_damaged_checkpoints_are_an_error(tmp_path: Path) -> None:
    interrupted(tmp_path / "c", 4)
    for name in ("c", "c.previous"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1])
    with pytest.warns(UserWarning, match="Going on"), pytest.raises(FileError, match=r"c: trunc.*c\.previous: trunc"):
        estimator(tmp_path / "c").fit(ROWS, resume=True)


def test_a_model_is_no_checkpoint_and_the_other_way_round(tmp_path: Path) -> None:
    save_model(tmp_path / "m", Model(random_mixture(3, 2), {}))
    with pytest.raises(FileError, match="expected a checkpoint file, found a model file"):
        estimator(tmp_path / "m").fit(ROWS, resume=True)
    interrupted(tmp_path / "c", 1)
    with pytest.raises(FileError, match="expected a model file, found a checkpoint file"):
        load_model(tmp_path / "c")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"covariance_type": "diag"}, "covariance_type: 'full' then, 'diag' now"),
        ({"random_state": 5}, "random_state: 4 then, 5 now"),
        ({"random_state": np.int64(5)}, "random_state: 4 then, 5 now"),
        ({"random_state": None}, "random_state: 4 then, None now"),
        ({"n_init": 2}, "n_init: 1 then, 2 now"),
        ({"reg_covar": 1e-3}, "reg_covar: 1e-06 then, 0.001 now"),
        ({"init_params": "random"}, "init_params: 'kmeans' then, 'random' now"),
        ({"stop": "predicted"}, "stop.*gain.*then.*predicted.*now"),
        ({"memory_limit": "1GB"}, "memory_limit: None then, 1000000000 now"),
        ({"sample_rows": 500}, "sample_rows: None then, 500 now"),
        ({"means_init": ROWS[:3]}, "given"),
    ],
    ids=str,
)
def test_other_settings_are_named_with_both_values(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    interrupted(tmp_path / "c", 2)
    before = (tmp_path / "c").read_bytes()
    with pytest.raises(ValueError, match=words):
        estimator(tmp_path / "c", **change).fit(ROWS, resume=True)
    assert (tmp_path / "c").read_bytes() == before


def test_another_number_of_components_is_named(tmp_path: Path) -> None:
    interrupted(tmp_path / "c", 2)
    with pytest.raises(ValueError, match="n_components: 3 then, 2 now"):
        GaussianMixture(2, tol=0, max_iter=6, random_state=4, checkpoint=tmp_path / "c").fit(ROWS, resume=True)


def test_the_same_seed_by_another_name_is_the_same(tmp_path: Path) -> None:
    interrupted(tmp_path / "c", 2)
    resumed = estimator(tmp_path / "c", random_state=np.int64(4)).fit(ROWS, resume=True)
    assert bits(resumed) == bits(estimator(None).fit(ROWS))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (ROWS[:-1], r"shape: \[900, 2\] then, \[899, 2\] now"),
        (ROWS.astype("f4"), "dtype: 'float64' then, 'float32' now"),
        (ROWS[::-1], "rows: .* then, .* now"),
    ],
    ids=["fewer", "narrower", "another order"],
)
def test_other_data_are_named_with_both_values(tmp_path: Path, rows: np.ndarray, words: str) -> None:
    interrupted(tmp_path / "c", 2)
    with pytest.raises(ValueError, match=f"of other data .*{words}"):
        estimator(tmp_path / "c").fit(rows, resume=True)


@pytest.mark.parametrize("settings", [{}, {"n_init": 3}, LARGE], ids=str)
def test_a_finished_fit_goes_on_under_a_larger_max_iter(tmp_path: Path, settings: dict[str, Any]) -> None:
    estimator(tmp_path / "c", max_iter=3, **settings).fit(ROWS)
    longer = estimator(tmp_path / "c", max_iter=8, **settings).fit(ROWS, resume=True)
    assert ending(longer) == ending(estimator(None, max_iter=8, **settings).fit(ROWS))


def test_a_start_alone_goes_on_under_a_larger_max_iter(tmp_path: Path) -> None:
    start = estimator(tmp_path / "c", max_iter=0).fit(ROWS)
    again = estimator(tmp_path / "c", max_iter=0).fit(ROWS, resume=True)
    assert bits(again) == bits(start)
    longer = estimator(tmp_path / "c", max_iter=4).fit(ROWS, resume=True)
    assert ending(longer) == ending(estimator(None, max_iter=4).fit(ROWS))


@pytest.mark.parametrize("stop", ["gain", "predicted"])
def test_a_converged_fit_stays_what_it_is_under_a_larger_max_iter(tmp_path: Path, stop: str) -> None:
    settings = {"tol": 1e-3, "stop": stop}
    done = estimator(tmp_path / "c", max_iter=100, **settings).fit(ROWS)
    assert done.outcome_.reason is Reason.CONVERGED
    again = estimator(tmp_path / "c", max_iter=200, **settings).fit(ROWS, resume=True)
    assert ending(again) == ending(estimator(None, max_iter=200, **settings).fit(ROWS)) == ending(done)


def test_a_converged_fit_goes_on_under_a_smaller_tol(tmp_path: Path) -> None:
    done = estimator(tmp_path / "c", tol=1e-2, max_iter=100).fit(ROWS)
    finer = estimator(tmp_path / "c", tol=1e-4, max_iter=100).fit(ROWS, resume=True)
    assert finer.n_iter_ > done.n_iter_
    assert ending(finer) == ending(estimator(None, tol=1e-4, max_iter=100).fit(ROWS))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # that it did not converge is the point
def test_a_smaller_max_iter_or_larger_tol_ends_a_fit_where_it_is(tmp_path: Path) -> None:
    interrupted(tmp_path / "c", 4)
    told: list[Event] = []
    fewer = estimator(tmp_path / "c", max_iter=2, callbacks=(told.append,)).fit(ROWS, resume=True)
    assert not any(isinstance(event, PassDone) for event in told)
    assert (fewer.n_iter_, fewer.outcome_.reason) == (4, Reason.MAX_ITER)
    coarser = estimator(tmp_path / "c", tol=10.0, max_iter=9).fit(ROWS, resume=True)
    assert (coarser.n_iter_, coarser.outcome_.reason) == (4, Reason.CONVERGED)


def test_a_fit_from_stored_rows_resumes_on_another_scheduler(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.tile(ROWS, (20, 1)))
    data = str(tmp_path / "rows.npy")
    with pytest.raises(KeyboardInterrupt):
        estimator(tmp_path / "c", callbacks=(Interrupt(2),), **LARGE).fit(data, scheduler=Threads(2))
    resumed = estimator(tmp_path / "c", **LARGE).fit(data, scheduler="synchronous", resume=True)
    assert ending(resumed) == ending(estimator(None, **LARGE).fit(data))


def test_neither_models_nor_checkpoints_hold_a_pickle(tmp_path: Path) -> None:
    interrupted(tmp_path / "c", 2)
    estimator(None).fit(ROWS).save(tmp_path / "m")
    for name in ("c", "m"):
        data = (tmp_path / name).read_bytes()
        header = json.loads(data[PREFIX : PREFIX + int.from_bytes(data[8:16], "little")])
        assert {entry["dtype"] for entry in header["arrays"].values()} <= set(container.DTYPES)
