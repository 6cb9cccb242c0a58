"""Stores beyond local folders: S3 (a local moto server), obstore, Icechunk, fsspec; what opens them shows nowhere."""

import logging
import pickle
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from distributed import Client, LocalCluster
from sklearn import clone
from zarr.storage import LocalStore, MemoryStore
from zarr.testing.store import LatencyStore

from gmmdask import GaussianMixture, Place, open_source
from gmmdask.cli import main
from gmmdask.container import FileError
from gmmdask.execution import Threads
from gmmdask.execution.distributed import Cluster
from gmmdask.outcome import CheckpointWritten, Event, PassDone
from gmmdask.outputs import OutputError, partial_place
from gmmdask.predict import Prediction
from gmmdask.sources import DataError, StorageError
from gmmdask.storage import Entrusted, NotEntrustedError, recall
from gmmdask.synthetic import random_mixture
from gmmdask.write import Sink, write_predictions

SECRET = "xyzzy-never-to-be-seen"
KEY = "AKIAPLUGHPLUGH"
ROWS = random_mixture(3, 2, "full", seed=5, separation=4.0).sample(4000, np.random.default_rng(5))[0]
SETTINGS: dict[str, Any] = {"tol": 0, "max_iter": 3, "random_state": 0, "sample_rows": 500, "accelerate": None}


def estimator(**settings: Any) -> GaussianMixture:
    return GaussianMixture(3, **{**SETTINGS, **settings})


def bits(model: GaussianMixture) -> bytes:
    return b"".join(array.tobytes() for array in (model.weights_, model.means_, model.covariances_))


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows as a local Zarr array."""
    path = tmp_path_factory.mktemp("local") / "rows.zarr"
    zarr.create_array(path, data=ROWS, chunks=(250, 2))
    return path


@pytest.fixture(scope="module")
def expected(local: Path) -> bytes:
    return bits(estimator().fit(local, scheduler="synchronous"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    """One worker in a process of its own, so that whatever it has must have travelled."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as made,
        Client(made, set_as_default=False) as client,
    ):
        yield client


# --- S3 ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def options(s3_endpoint: str, local: Path) -> dict[str, Any]:
    """Storage options of a bucket on a local server that holds the rows."""
    s3fs = pytest.importorskip("s3fs")
    found = {"key": KEY, "secret": SECRET, "endpoint_url": s3_endpoint}
    system = s3fs.S3FileSystem(**found)
    system.mkdir("bucket")
    system.put(str(local), "bucket/rows.zarr", recursive=True)
    np.save(local.parent / "rows.npy", ROWS)
    system.put(str(local.parent / "rows.npy"), "bucket/rows.npy")
    return found


def interrupt(event: Event) -> None:
    if isinstance(event, PassDone) and event.lap == 2:
        raise KeyboardInterrupt


def test_a_fit_lives_on_s3(options: dict[str, Any], expected: bytes, tmp_path: Path) -> None:
    source = open_source("s3://bucket/rows.zarr", storage_options=options)
    assert source.fingerprint()["address"] == "s3://bucket/rows.zarr"
    checkpoint, stored = Place("s3://bucket/fit.ckpt", options), Place("s3://bucket/model.gmm", options)
    with pytest.raises(KeyboardInterrupt):
        estimator(checkpoint=checkpoint, callbacks=(interrupt,)).fit(source)
    with pytest.raises(FileExistsError, match=r"s3://bucket/fit\.ckpt exists.*--resume"):
        estimator(checkpoint=checkpoint).fit(source)
    told: list[Event] = []
    model = estimator(checkpoint=checkpoint, callbacks=(told.append,)).fit(source, resume=True)
    assert [event.lap for event in told if isinstance(event, PassDone)] == [2, 3]
    assert checkpoint.beside(".previous").exists()
    assert bits(model) == expected
    model.save(stored)
    found = GaussianMixture.load(stored)
    assert bits(found) == expected
    np.testing.assert_array_equal(found.predict(source).compute(scheduler="threads"), model.predict(ROWS))
    with Threads(2) as executor:
        write_predictions(found.mixture_, source, tmp_path / "out", ("labels",), executor, overwrite=False)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "out" / "labels", mode="r")[:], model.predict(ROWS))


class Watched:
    """Puts of an array count; after so many, a KeyboardInterrupt."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen, self.most, real = list[int](), 10**9, Sink._write

        def counted(sink: Sink, rows: np.ndarray) -> None:
            if len(self.seen) == self.most:
                raise KeyboardInterrupt
            self.seen.append(sink.first)
            real(sink, rows)

        monkeypatch.setattr(Sink, "_write", counted)


def test_predictions_live_on_s3_and_are_gone_on_with(
    options: dict[str, Any], cluster: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixture, whats = random_mixture(3, 2, "full", seed=5), ("labels", "proba")
    out, inputs = Place("s3://bucket/out.zarr", options), Place("s3://bucket/rows.zarr", options)
    zarr.create_array(tmp_path / "rows", data=ROWS, chunks=(1000, 2))
    source = open_source(tmp_path / "rows")
    with Threads(1) as executor:
        write_predictions(mixture, source, tmp_path / "o", whats, executor, overwrite=False)
    wanted = {what: zarr.open_array(tmp_path / "o" / what, mode="r")[:] for what in whats}

    def found() -> dict[str, np.ndarray]:
        return {what: zarr.open_array(str(out.below(what)), mode="r", storage_options=options)[:] for what in whats}

    watched = Watched(monkeypatch)
    watched.most = 3
    with Threads(1) as executor:
        with pytest.raises(KeyboardInterrupt) as stopped:
            write_predictions(mixture, source, out, whats, executor, overwrite=False)
        assert "s3://bucket/.out.zarr.partial: --resume goes on" in stopped.value.__notes__[-1]
        assert not out.exists()
        with pytest.raises(OutputError, match=r"has left s3://bucket/\.out\.zarr\.partial"):
            write_predictions(mixture, source, out, whats, executor, overwrite=False)
        watched.most, before = 10**9, set(watched.seen)
        watched.seen.clear()
        write_predictions(mixture, source, out, whats, executor, overwrite=False, resume=True)
        assert before | set(watched.seen) == {0, 1000, 2000, 3000}
        assert len(set(watched.seen)) == 3  # all but the chunk that both arrays had
        np.testing.assert_equal(found(), wanted)
        assert not partial_place(out)[1].exists()
        watched.seen.clear()
        write_predictions(mixture, source, out, whats, executor, overwrite=False, resume=True)  # it is there
        assert not watched.seen
        with pytest.raises(OutputError, match=r"out\.zarr: exists already"):
            write_predictions(mixture, source, out, whats, executor, overwrite=False)
        with pytest.raises(OutputError, match="where the input is read from"):
            write_predictions(mixture, open_source(inputs), inputs, whats, executor, overwrite=True)
    monkeypatch.undo()
    graphs: list[bytes] = []
    get = Cluster.get
    monkeypatch.setattr(
        Cluster, "get", lambda self, graph, key: graphs.append(pickle.dumps(dict(graph))) or get(self, graph, key)
    )
    with Cluster(cluster) as there:
        write_predictions(mixture.by_weight(), source, out, whats, there, overwrite=True)
    assert graphs
    assert SECRET.encode() not in b"".join(graphs)
    assert not np.array_equal(found()["proba"], wanted["proba"])
    np.testing.assert_allclose(np.sort(found()["proba"], axis=1), np.sort(wanted["proba"], axis=1), rtol=1e-9)


def test_an_interrupted_copy_to_its_place_is_done_again(
    memory: str, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    mixture, out = random_mixture(3, 2, "full", seed=5), Place(f"{memory}/out.zarr")
    system, real, left = fsspec.filesystem("memory"), fsspec.filesystem("memory").cp_file, [7]

    def some(*given: Any, **more: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return real(*given, **more)

    with Threads(1) as executor:
        monkeypatch.setattr(system, "cp_file", some)
        with pytest.raises(KeyboardInterrupt):
            write_predictions(mixture, open_source(local), out, ("labels",), executor, overwrite=False)
        assert out.exists()
        assert not out.below("zarr.json").exists()
        write_predictions(mixture, open_source(local), out, ("labels",), executor, overwrite=False, resume=True)
        expected = Prediction(mixture, "labels").of(ROWS)
        np.testing.assert_array_equal(zarr.open_array(str(out.below("labels")), mode="r")[:], expected)
        Place(f"{memory}/mine/notes.txt").write([b"not of gmmdask"])
        with pytest.raises(OutputError, match="neither a Zarr array nor an earlier output"):
            write_predictions(mixture, open_source(local), f"{memory}/mine", ("labels",), executor, overwrite=True)


def test_a_bucket_that_is_not_there(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"s3://nobody-made-this/m: cannot be reached .* credentials"):
        estimator().fit(ROWS).save(Place("s3://nobody-made-this/m", options))


@pytest.mark.parametrize("name", ["rows.npy", "rows.parquet"])
def test_files_on_s3_are_read_with_storage_options(options: dict[str, Any], cluster: Client, name: str) -> None:
    place = Place(f"s3://bucket/{name}", options)
    if name.endswith(".parquet"):
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        system, path = place.system()
        table = pyarrow.table({"x": ROWS[:, 0], "y": ROWS[:, 1]})
        parquet.write_table(table, path, filesystem=system, row_group_size=500)
    source = open_source(place)
    assert b"".join(piece.tobytes() for piece in source.read(0, source.n)) == ROWS.tobytes()
    assert SECRET.encode() not in pickle.dumps(source)
    there, here = estimator().fit(source, scheduler=cluster), estimator().fit(source, scheduler="threads")
    assert bits(there) == bits(here)


def test_no_secret_is_anywhere(
    options: dict[str, Any],
    cluster: Client,
    expected: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    seen: dict[str, bytes] = {}
    graphs: list[bytes] = []
    get = Cluster.get

    def recorded(self: Cluster, graph: Any, key: Any) -> Any:
        graphs.append(pickle.dumps(dict(graph)))
        return get(self, graph, key)

    monkeypatch.setattr(Cluster, "get", recorded)
    told: list[Event] = []
    caplog.set_level(logging.INFO)
    source = open_source("s3://bucket/rows.zarr", storage_options=options)
    checkpoint = Place("s3://bucket/secret.ckpt", options)
    model = estimator(checkpoint=checkpoint, callbacks=(told.append,)).fit(source, scheduler=cluster)
    assert bits(model) == expected
    model.save(tmp_path / "m")
    lazy = model.predict(source)
    with pytest.raises(DataError) as refused:
        open_source("s3://nobody-made-this/rows.zarr", storage_options=options)
    with pytest.raises(FileError) as missing:
        GaussianMixture.load(Place("s3://bucket/nothing", options))
    with pytest.raises(NotEntrustedError, match="they travel with fits") as lost:
        cluster.compute(lazy).result()  # the plugin went with the fit
    seen = {
        "graphs": b"".join(graphs),
        "lazy": pickle.dumps(dict(lazy.dask)),
        "source": pickle.dumps(source) + repr(vars(source)).encode(),
        "estimator": pickle.dumps(model) + repr(model).encode() + repr(clone(model).get_params()).encode(),
        "events": repr(told).encode(),
        "logs": repr((caplog.text, cluster.get_worker_logs(), cluster.get_scheduler_logs())).encode(),
        "checkpoint": checkpoint.open(b"gmmdask\n").read(),
        "model": (tmp_path / "m").read_bytes(),
        "errors": repr([(error.value, error.value.__cause__) for error in (refused, missing, lost)]).encode(),
    }
    assert len(graphs) > 3
    assert any(isinstance(event, CheckpointWritten) for event in told)
    assert all(seen.values())
    for what, data in seen.items():
        assert SECRET.encode() not in data, what
        assert KEY.encode() not in data, what


def test_the_command_line_takes_credentials_from_the_environment(
    options: dict[str, Any], expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", options["endpoint_url"])
    words = "fit s3://bucket/rows.zarr -k 3 --seed 0 --tol 0 --max-iter 2 --sample-rows 500 --accelerate none"
    command = [*words.split(), "--checkpoint", "s3://bucket/cli.ckpt", "-o", "s3://bucket/cli.gmm"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 3
    assert "s3://bucket/cli.gmm: exists already" in again.output
    more = CliRunner().invoke(main, [*command, "--max-iter", "3", "--resume"])
    assert more.exit_code == 0, more.output
    found = GaussianMixture.load(Place("s3://bucket/cli.gmm", options))
    order = np.argsort(found.weights_)
    wanted = estimator().fit(ROWS)
    np.testing.assert_allclose(found.means_[order], wanted.means_[np.argsort(wanted.weights_)], rtol=1e-9)
    predict = ["predict", "s3://bucket/rows.zarr", "-m", "s3://bucket/cli.gmm", "-o", "s3://bucket/cli.zarr"]
    written = CliRunner().invoke(main, predict)
    assert written.exit_code == 0, written.output
    labels = zarr.open_array("s3://bucket/cli.zarr/labels", mode="r", storage_options=options)[:]
    np.testing.assert_array_equal(labels, found.predict(ROWS))
    assert CliRunner().invoke(main, predict).exit_code == 3
    assert SECRET not in done.output + again.output + more.output + written.output


# --- store objects -----------------------------------------------------------------------------------------------


def test_obstore_by_its_zarr_store(local: Path, expected: bytes, cluster: Client) -> None:
    obstore = pytest.importorskip("obstore.store")
    source = open_source(zarr.storage.ObjectStore(obstore.LocalStore(local), read_only=True))
    assert bits(estimator().fit(source, scheduler=cluster)) == expected
    assert source.fingerprint()["address"].startswith("object_store://")


def test_obstore_on_s3_keeps_its_secret(options: dict[str, Any], expected: bytes) -> None:
    obstore = pytest.importorskip("obstore.store")
    config = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "aws_endpoint": options["endpoint_url"]}
    store = obstore.S3Store("bucket", prefix="rows.zarr", config=config, client_options={"allow_http": True})
    source = open_source(zarr.storage.ObjectStore(store, read_only=True))
    model = estimator().fit(source, scheduler="threads")
    assert bits(model) == expected
    shown = pickle.dumps(source) + repr(vars(source)).encode() + repr(model.provenance_).encode()
    assert SECRET.encode() not in shown


def test_an_fsspec_store_travels_without_its_options(options: dict[str, Any], expected: bytes, cluster: Client) -> None:
    array = zarr.open_array("s3://bucket/rows.zarr", mode="r", storage_options=options)
    source = open_source(array)
    assert SECRET.encode() not in pickle.dumps(source)
    assert bits(estimator().fit(source, scheduler=cluster)) == expected


def test_icechunk_by_its_store_and_snapshot(tmp_path: Path, expected: bytes, cluster: Client) -> None:
    icechunk = pytest.importorskip("icechunk")
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "repo")))
    session = repository.writable_session("main")
    zarr.create_array(session.store, name="rows", data=ROWS, chunks=(250, 2))
    snapshot = session.commit("rows")
    source = open_source(zarr.open_array(repository.readonly_session("main").store, path="rows", mode="r"))
    model = estimator().fit(source, scheduler=cluster)
    assert bits(model) == expected
    assert model.provenance_["data"]["snapshot"] == snapshot
    later = repository.writable_session("main")
    zarr.open_array(later.store, path="rows", mode="r+")[0] = 0.0
    later.commit("changed")
    assert bits(estimator().fit(source, scheduler="threads")) == expected  # a snapshot does not change
    changed = open_source(zarr.open_array(repository.readonly_session("main").store, path="rows", mode="r"))
    assert changed.fingerprint() != source.fingerprint()


def test_a_store_in_memory(expected: bytes) -> None:
    store = MemoryStore()
    zarr.create_array(store, data=ROWS, chunks=(250, 2))
    assert bits(estimator().fit(open_source(store))) == expected
    assert open_source(store).entrusted is None


# --- places ------------------------------------------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[str]:
    import fsspec

    yield "memory://gmmdask-tests"
    fsspec.filesystem("memory").rm("/gmmdask-tests", recursive=True)


def test_checkpoints_and_models_behind_any_url(memory: str, local: Path, expected: bytes) -> None:
    checkpoint = f"{memory}/c"
    with pytest.raises(KeyboardInterrupt):
        estimator(checkpoint=checkpoint, callbacks=(interrupt,)).fit(local)
    newest = Place(checkpoint)
    whole = newest.open(b"gmmdask\n").read()
    newest.write([whole[:-1]])
    with pytest.warns(UserWarning, match=f"{checkpoint}: .* Going on from {checkpoint}.previous"):
        model = estimator(checkpoint=checkpoint).fit(local, resume=True)
    assert bits(model) == expected
    model.save(f"{memory}/m")
    assert bits(GaussianMixture.load(f"{memory}/m")) == expected
    with pytest.raises(FileError, match="cannot be read"):
        GaussianMixture.load(f"{memory}/nothing")


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    model = estimator().fit(ROWS)
    model.save(f"file://{tmp_path}/m")
    assert bits(GaussianMixture.load(tmp_path / "m")) == bits(model)


def test_a_zarr_array_behind_a_url_of_any_kind(memory: str, local: Path, expected: bytes) -> None:
    import fsspec

    fsspec.filesystem("memory").put(str(local), "/gmmdask-tests/rows.zarr", recursive=True)
    assert bits(estimator().fit(f"{memory}/rows.zarr")) == expected


@pytest.mark.parametrize(
    "url", ["https://me:hunter2@example.org/rows.npy", "https://example.org/rows.npy?X-Amz-Signature=hunter2&a=1"]
)
def test_urls_with_credentials_are_refused_without_repeating_them(url: str) -> None:
    for use in (open_source, Place, GaussianMixture.load):
        with pytest.raises(ValueError, match=r"https://example\.org/rows\.npy: the URL holds") as refused:
            use(url)
        assert "hunter2" not in str(refused.value)


def test_storage_options_of_a_path_or_an_array_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="storage options belong to URLs"):
        Place(tmp_path, {"key": "1"})
    with pytest.raises(DataError, match="storage_options belong to URLs"):
        open_source(ROWS, storage_options={"key": "1"})


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object, **options: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.url_to_fs", missing)
    for use in (GaussianMixture.load, lambda url: open_source(f"{url}.npy")):
        with pytest.raises(ImportError, match=r's3://bucket/m.*pip install "gmmdask\[s3\]"'):
            use("s3://bucket/m")


# --- what is entrusted -------------------------------------------------------------------------------------------


def test_what_is_entrusted_is_pickled_as_a_reference() -> None:
    held = Entrusted({"secret": SECRET})
    assert pickle.loads(pickle.dumps(held)) is held
    assert SECRET.encode() not in pickle.dumps(held)
    assert SECRET not in repr(held)
    elsewhere = recall("unknown")
    with pytest.raises(NotEntrustedError, match=r"scheduler='threads'"):
        _ = elsewhere.value
    assert SECRET.encode() in pickle.dumps(held.parcel)  # what the executor delivers, and only this


def test_a_delivery_ends_with_the_fit(cluster: Client) -> None:
    def there(dask_worker: Any) -> list[str]:
        return [name for name in dask_worker.plugins if name.startswith("gmmdask-delivery")]

    held = Entrusted(1)
    with Cluster(cluster) as executor:
        executor.deliver(held.parcel)
        executor.deliver(held.parcel)
        assert [len(names) for names in cluster.run(there).values()] == [1]
    assert [len(names) for names in cluster.run(there).values()] == [0]


# --- stores that fail --------------------------------------------------------------------------------------------


def failures() -> list[BaseException]:
    found: list[BaseException] = [
        TimeoutError("slow"),
        ConnectionResetError(),
        OSError(16, "busy"),
        OSError(5, "error"),
    ]
    aiohttp, botocore = pytest.importorskip("aiohttp"), pytest.importorskip("botocore.exceptions")
    obstore = pytest.importorskip("obstore.exceptions")
    found += [aiohttp.ClientPayloadError("cut"), aiohttp.ServerDisconnectedError()]
    found += [
        botocore.EndpointConnectionError(endpoint_url="http://x"),
        botocore.ReadTimeoutError(endpoint_url="http://x"),
    ]
    icechunk = pytest.importorskip("icechunk")
    dead = "error getting object from object store dispatch failure | io error | tcp connect error"
    return [*found, obstore.GenericError("no answer"), icechunk.IcechunkError(dead)]


def refusals() -> list[BaseException]:
    obstore, icechunk = pytest.importorskip("obstore.exceptions"), pytest.importorskip("icechunk")
    denied = icechunk.IcechunkError("error getting object from object store service error: AccessDenied")
    return [
        PermissionError("Access Denied"),
        obstore.PermissionDeniedError("no"),
        obstore.UnauthenticatedError("who"),
        denied,
    ]


class Failing:
    """Every read of the array fails so many times before it succeeds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException, times: int) -> None:
        self.error, self.times, self.seen = error, times, dict[Any, int]()
        self.read = zarr.Array.__getitem__
        monkeypatch.setattr(zarr.Array, "__getitem__", lambda array, where: self(array, where))
        monkeypatch.setattr("gmmdask.storage.time.sleep", lambda seconds: None)

    def __call__(self, array: Any, where: Any) -> Any:
        key = str(where)
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.seen[key] <= self.times:
            raise self.error
        return self.read(array, where)


def test_a_fit_goes_on_after_two_failures(local: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = Failing(monkeypatch, TimeoutError("slow"), 2)
    assert bits(estimator().fit(local, scheduler="synchronous")) == expected
    assert max(failing.seen.values()) > 2


@pytest.mark.slow
def test_a_fit_goes_on_where_every_answer_takes_two_seconds(local: Path, expected: bytes) -> None:
    late = LatencyStore(LocalStore(local, read_only=True), get_latency=2.0)
    assert bits(estimator().fit(open_source(late), scheduler="threads")) == expected


@pytest.mark.parametrize("number", range(10))
def test_what_may_pass_is_tried_again_and_then_told(local: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    error, source = failures()[number], open_source(local)
    with monkeypatch.context() as patch:
        Failing(patch, error, 2)
        assert b"".join(piece.tobytes() for piece in source.read(0, 500)) == ROWS[:500].tobytes()
    Failing(monkeypatch, error, 10**9)
    with pytest.raises(
        StorageError, match=r"rows 250 to 499 \(from chunk c/1/0 on\) could not be read in 4 tries"
    ) as told:
        list(source.read(250, 500))
    assert "resume" not in str(told.value)  # there may be nothing to go on from: who has a checkpoint says so


@pytest.mark.parametrize("number", range(4))
def test_a_chunk_without_rights_is_no_matter_of_decoding(
    local: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    error = refusals()[number]
    failing = Failing(monkeypatch, error, 10**9)
    said = rf"chunk c/[0-9]+/0 .* cannot be read \({type(error).__name__}: {error}\).*rights"
    with pytest.raises(DataError, match=said):
        estimator().fit(local, scheduler="synchronous")
    assert max(failing.seen.values()) == 1  # another try would give no other answer


def test_what_an_icechunk_lacks_is_missing_for_good(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    icechunk = pytest.importorskip("icechunk")
    Failing(monkeypatch, icechunk.IcechunkError("object store service error: NoSuchKey"), 10**9)
    with pytest.raises(DataError, match=r"chunk c/[0-9]+/0 .* cannot be decoded \(IcechunkError: .*NoSuchKey"):
        estimator().fit(local, scheduler="synchronous")


class Once:
    """A callback that changes the data after the second lap."""

    def __init__(self, change: Any) -> None:
        self.change = change

    def __call__(self, event: Event) -> None:
        if isinstance(event, PassDone) and event.lap == 2:
            self.change()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("overwritten", "does not add up to what the first pass found.*the data changed under the fit"),
        ("appended", r"shape: \(4000, 2\) then, \(4250, 2\) now: the data changed under the fit"),
        ("a chunk deleted", r"does not add up.*In the store: .*1 of 16 stored chunks are missing.*c/3/0"),
    ],
)
def test_a_store_that_changes_between_passes(tmp_path: Path, local: Path, what: str, words: str) -> None:
    path = shutil.copytree(local, tmp_path / "rows.zarr")
    changes = {
        "overwritten": lambda: zarr.open_array(path, mode="r+").__setitem__(slice(0, 500), ROWS[:500] + 1),
        "appended": lambda: zarr.open_array(path, mode="r+").append(ROWS[:250]),
        "a chunk deleted": lambda: (path / "c" / "3" / "0").unlink(),
    }
    with pytest.raises(ValueError, match="changed under the fit") as refused:
        estimator(cache="never", callbacks=(Once(changes[what]),)).fit(path)
    said = " ".join([str(refused.value), *getattr(refused.value, "__notes__", [])])
    assert re.search(words, said), said
