"""The sources: the contract applied to each, and what they say about data that cannot be fitted."""

import json
import pickle
from pathlib import Path
from typing import Any, ClassVar

import dask.array as da
import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, WrapperStore

from gmmdask.execution import Threads
from gmmdask.pilot import first_look
from gmmdask.sources import ArraySource, DataError, NpySource, Source, open_source
from gmmdask.sources.dask import DaskSource
from gmmdask.sources.weights import weighted
from gmmdask.sources.zarr import ZarrSource
from gmmdask.testing.contracts import SourceTests
from gmmdask.testing.passes import data_of

# --- the contract ----------------------------------------------------------------------------------------------


class TestArray(SourceTests):
    n = 20_000
    stored = False

    def make(self, rows: np.ndarray, folder: Path) -> Source:
        return open_source(rows)


class TestFortranArray(TestArray):
    def make(self, rows: np.ndarray, folder: Path) -> Source:
        return open_source(np.asfortranarray(rows))


class TestIntegerArray(TestArray):
    dtype = "int16"


class TestNpy(SourceTests):
    n = 20_000

    def make(self, rows: np.ndarray, folder: Path) -> Source:
        np.save(folder / "rows.npy", rows)
        return open_source(folder / "rows.npy")


class TestFloat32Npy(TestNpy):
    dtype = "float32"


class TestBigEndianNpy(TestNpy):
    dtype = ">f8"


class TestOneColumnNpy(TestNpy):
    d = 1


class TestFortranNpy(SourceTests):
    n = 20_000

    def make(self, rows: np.ndarray, folder: Path) -> Source:
        np.save(folder / "rows.npy", np.asfortranarray(rows))
        return open_source(str(folder / "rows.npy"))


@pytest.fixture
def small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads of few rows, as an array of gigabytes would need."""
    for module in ("array", "zarr"):
        monkeypatch.setattr(f"gmmdask.sources.{module}.READ_BYTES", 2000)


@pytest.mark.usefixtures("small_reads")
class TestNpyInSmallReads(TestNpy):
    n = 9000


@pytest.mark.usefixtures("small_reads")
class TestFortranNpyInSmallReads(TestFortranNpy):
    n = 9000


class TestZarr(SourceTests):
    layout: ClassVar[dict[str, Any]] = {"chunks": (250, 3)}

    def make(self, rows: np.ndarray, folder: Path) -> Source:
        array = zarr.create_array(folder / "rows.zarr", shape=rows.shape, dtype=rows.dtype, **self.layout)
        array[:] = rows
        return open_source(folder / "rows.zarr")


class TestZarrFormat2(TestZarr):
    layout: ClassVar[dict[str, Any]] = {"chunks": (250, 3), "zarr_format": 2}


class TestZarrColumn(SourceTests):
    """An array of n numbers, as weights are stored."""

    d = 1
    layout: ClassVar[dict[str, Any]] = {"chunks": (130,)}

    def make(self, rows: np.ndarray, folder: Path) -> Source:
        zarr.create_array(folder / "weights.zarr", data=rows[:, 0], **self.layout)
        return open_source(folder / "weights.zarr", column=True)


class TestShardedZarrColumn(TestZarrColumn):
    layout: ClassVar[dict[str, Any]] = {"chunks": (20,), "shards": (300,)}


class TestNpyColumn(SourceTests):
    n, d = 20_000, 1

    def make(self, rows: np.ndarray, folder: Path) -> Source:
        np.save(folder / "weights.npy", rows[:, 0])
        return open_source(folder / "weights.npy", column=True)


class TestWeighted(SourceTests):
    """Rows and their weights are read as the rows are."""

    def make(self, rows: np.ndarray, folder: Path) -> Source:
        zarr.create_array(folder / "rows.zarr", data=rows, chunks=(250, self.d))
        zarr.create_array(folder / "weights.zarr", data=np.ones(self.n), chunks=(300,))
        return weighted(open_source(folder / "rows.zarr"), folder / "weights.zarr")

    def test_the_pilot_draws_the_sample_of_the_same_rows_in_memory(self, source: Source, rows: np.ndarray) -> None:
        found, wanted = (
            first_look(data_of(s), 3, 60, 30) for s in (source, weighted(ArraySource(rows), np.ones(self.n)))
        )
        assert found.sample.tobytes() == wanted.sample.tobytes()
        assert found.held_out.tobytes() == wanted.held_out.tobytes()


class TestZarrOfOneChunk(TestZarr):
    layout: ClassVar[dict[str, Any]] = {"chunks": (1000, 3)}


class TestZarrOfOddChunks(TestZarr):
    layout: ClassVar[dict[str, Any]] = {"chunks": (37, 3)}
    dtype = "float32"


class TestZarrOfShards(TestZarr):
    layout: ClassVar[dict[str, Any]] = {"chunks": (50, 3), "shards": (200, 3)}


class TestZarrOfColumnChunks(TestZarr):
    layout: ClassVar[dict[str, Any]] = {"chunks": (300, 2)}


class TestZarrOfColumnShards(TestZarr):
    layout: ClassVar[dict[str, Any]] = {"chunks": (50, 1), "shards": (200, 2)}


@pytest.mark.usefixtures("small_reads")
class TestZarrInSmallReads(TestZarr):
    layout: ClassVar[dict[str, Any]] = {"chunks": (37, 3), "shards": (148, 3)}


class TestZarrInItsGroup(TestZarr):
    """By an open array, whose store holds other things too."""

    def make(self, rows: np.ndarray, folder: Path) -> Source:
        group = zarr.create_group(folder / "data.zarr")
        group.create_array("other", data=np.zeros((5, 5)))
        group.create_array("rows", data=rows, chunks=(128, 3))
        found = zarr.open(folder / "data.zarr", mode="r")
        return open_source(found["rows"])


class TestDask(SourceTests):
    stored = False

    def make(self, rows: np.ndarray, folder: Path) -> Source:
        return open_source(da.from_array(rows, chunks=((100, 1, 399, 250, 250), (2, 1))))


class TestDaskOfUnknownChunks(SourceTests):
    stored = False

    def make(self, rows: np.ndarray, folder: Path) -> Source:
        padded = np.concatenate([rows[:400], np.full((70, self.d), np.nan), rows[400:]])
        array = da.from_array(padded, chunks=(35, self.d))
        return open_source(array[~da.isnan(array[:, 0])])


def test_chunks_are_the_parts_of_the_write_grid(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "rows", shape=(1000, 3), dtype="f8", chunks=(50, 3), shards=(200, 3))
    array[:] = 1.0
    assert list(np.diff(ZarrSource(tmp_path / "rows").edges)) == [200] * 5


def test_a_zarr_source_travels_without_its_open_handle(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a", data=np.ones((4, 2)), chunks=(2, 2))
    source = open_source(tmp_path / "a")
    there = pickle.loads(pickle.dumps(source))
    assert there._array is None
    assert next(there.read(0, 2)).tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_empty_blocks_of_a_dask_array_hold_no_rows() -> None:
    array = da.from_array(np.arange(20.0).reshape(10, 2), chunks=5)
    source = DaskSource(array[array[:, 0] >= 10])
    assert list(source.edges) == [0, 5]
    assert next(source.read(0, 5))[0, 0] == 10


def test_a_source_is_taken_as_it_is() -> None:
    source = ArraySource(np.ones((2, 2)))
    assert open_source(source) is source
    assert open_source([[1, 2], [3, 4]]).d == 2


# --- data that cannot be fitted --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(7), ["2-d", "1 dimensions", r"\(7,\)", r"\(n, 1\)"]),
        (np.zeros((2, 3, 4)), ["2-d", "3 dimensions", r"\(2, 3, 4\)"]),
        (np.zeros((0, 3)), ["0 sample", r"shape=\(0, 3\)"]),
        (np.zeros((3, 0)), ["0 feature", r"shape=\(3, 0\)"]),
        (np.array([["a", "b"]]), ["real numbers", "<U1", "strings"]),
        (np.array([[b"a"]]), ["real numbers", "byte strings"]),
        (np.ones((2, 2), complex), ["real numbers", "Complex data not supported"]),
        (np.array([[None, 1]]), ["real numbers", "objects"]),
        (np.zeros((2, 2), "M8[s]"), ["real numbers", "datetime64"]),
    ],
    ids=["1-d", "3-d", "no rows", "no columns", "strings", "bytes", "complex", "objects", "dates"],
)
@pytest.mark.parametrize("kind", ["array", "npy", "dask"])
def test_rows_must_be_two_dimensional_real_and_some(
    kind: str, array: np.ndarray, words: list[str], tmp_path: Path
) -> None:
    if kind == "npy":
        if array.dtype.hasobject:
            pytest.skip("a file of objects is refused before its shape is known")
        np.save(tmp_path / "rows.npy", array)
    data = {"array": array, "npy": tmp_path / "rows.npy", "dask": da.from_array(array, chunks=-1)}[kind]
    with pytest.raises(DataError) as caught:
        open_source(data)
    for word in words:
        caught.match(word)


@pytest.mark.parametrize("shape", [(7,), (2, 3, 4), (0, 3)])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_arrays_must_be_two_dimensional_and_some(shape: tuple[int, ...], zarr_format: Any, tmp_path: Path) -> None:
    zarr.create_array(
        tmp_path / "a", shape=shape, chunks=tuple(max(1, n) for n in shape), dtype="f8", zarr_format=zarr_format
    )
    with pytest.raises(DataError, match=r"2-d|0 sample"):
        open_source(tmp_path / "a")


@pytest.mark.parametrize("dtype", ["complex64", "bool"])
def test_zarr_arrays_must_be_real(dtype: str, tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a", shape=(4, 2), chunks=(4, 2), dtype=dtype)[:] = 1
    if dtype == "bool":
        assert open_source(tmp_path / "a").dtype == bool
        return
    with pytest.raises(DataError, match="Complex data not supported"):
        open_source(tmp_path / "a")


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        open_source(tmp_path / "nothing.zarr")
    with pytest.raises(DataError, match="no such file or folder"):
        open_source(str(tmp_path / "nothing.npy"))


def test_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("1,2\n3,4\n")
    with pytest.raises(DataError, match=r"rows\.csv: .*Zarr array"):
        open_source(tmp_path / "rows.csv")
    (tmp_path / "rows.npy").write_text("1,2\n3,4\n")
    with pytest.raises(DataError, match=r"rows\.npy: not a readable \.npy file"):
        open_source(tmp_path / "rows.npy")


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="folder: no Zarr array can be opened there"):
        open_source(tmp_path / "folder")


def test_a_group_lists_its_arrays(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "g")
    group.create_array("energies", data=np.zeros((3, 2)))
    group.create_array("times", data=np.zeros((3, 1)))
    with pytest.raises(DataError, match=r"group \(arrays in it: energies, times\).*g/energies"):
        open_source(tmp_path / "g")


@pytest.mark.parametrize("data", [object(), 3.5, None, {"a": 1}, iter([1])], ids=lambda data: type(data).__name__)
def test_things_that_are_no_rows(data: object) -> None:
    with pytest.raises(DataError, match=f"cannot read rows from {type(data).__name__}"):
        open_source(data)


# --- damage ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=[2, 3])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[Path]]:
    """An array of 10 chunks of 100 rows, and the files of its chunks in order."""
    path = tmp_path / "rows.zarr"
    zarr.create_array(
        path, data=np.random.default_rng(0).normal(size=(1000, 3)), chunks=(100, 3), zarr_format=request.param
    )
    names = [f"{i}.0" for i in range(10)] if request.param == 2 else [f"c/{i}/0" for i in range(10)]
    return path, [path / name for name in names]


def key_of(path: Path, file: Path) -> str:
    return file.relative_to(path).as_posix()


def test_a_missing_chunk_is_named(stored: tuple[Path, list[Path]]) -> None:
    path, files = stored
    files[3].unlink()
    files[7].unlink()
    with pytest.raises(
        DataError, match=f"2 of 10 stored chunks are missing.*{key_of(path, files[3])} .rows 300 to 399"
    ):
        open_source(path)
    source = open_source(path, accept_missing=True)
    assert np.all(next(source.read(300, 400)) == 0)


def test_a_missing_chunk_is_found_in_stores_that_are_no_folders(stored: tuple[Path, list[Path]]) -> None:
    path, files = stored
    open_source(zarr.open_array(WrapperStore(LocalStore(path)), mode="r"))
    files[3].unlink()
    with pytest.raises(DataError, match=f"1 of 10 stored chunks are missing.*{key_of(path, files[3])}"):
        open_source(zarr.open_array(WrapperStore(LocalStore(path)), mode="r"))


def test_chunks_in_a_folder_are_found_without_listing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = zarr.create_group(tmp_path / "g")
    group.create_array("a/b", data=np.random.default_rng(0).normal(size=(30, 2)), chunks=(10, 2))

    def listed(store: LocalStore, prefix: str) -> None:
        raise AssertionError(f"{prefix} was listed")

    monkeypatch.setattr(LocalStore, "list_prefix", listed)
    assert open_source(tmp_path / "g" / "a" / "b").n == 30
    assert open_source(group["a/b"]).n == 30


def test_what_travels_to_a_worker_does_not_grow_with_the_chunks(tmp_path: Path) -> None:
    sizes = []
    for chunk in (1, 1000):
        path = tmp_path / f"{chunk:04d}.zarr"
        zarr.create_array(path, shape=(10_000, 1), chunks=(chunk, 1), dtype=float)
        source = open_source(path, accept_missing=True)
        travelled = pickle.dumps(source)
        assert np.array_equal(pickle.loads(travelled).edges, source.edges)
        sizes.append(len(travelled))
    assert sizes[0] == pytest.approx(sizes[1], abs=100)


def test_a_stray_file_does_not_stand_in_for_a_missing_chunk(stored: tuple[Path, list[Path]]) -> None:
    path, files = stored
    files[3].rename(files[3].with_name(f"{files[3].name}.partial"))
    with pytest.raises(DataError, match=f"{key_of(path, files[3])} .rows 300 to 399"):
        open_source(path)


def test_a_corrupt_chunk_is_named(stored: tuple[Path, list[Path]]) -> None:
    path, files = stored
    files[4].write_bytes(files[4].read_bytes()[:40])
    source = open_source(path)
    with pytest.raises(DataError, match=f"{path}: chunk {key_of(path, files[4])} .rows 400 to 499. cannot be decoded"):
        list(source.read(200, 800))
    with pytest.raises(DataError, match=key_of(path, files[4])), Threads(2) as executor:
        data_of(source, executor).sums(lambda blocks: sum(len(block.rows) for block in blocks))


def test_a_corrupt_chunk_of_columns_is_named(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a", data=np.random.default_rng(0).normal(size=(400, 4)), chunks=(100, 2))
    (tmp_path / "a" / "c" / "2" / "1").write_bytes(b"not a chunk")
    with pytest.raises(DataError, match=r"chunk c/2/1 \(rows 200 to 299\)"):
        list(open_source(tmp_path / "a").read(0, 400))


def test_missing_chunks_of_shards_are_counted_by_the_shard(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(400, 2))
    zarr.create_array(tmp_path / "a", data=data, chunks=(50, 2), shards=(200, 2))
    (tmp_path / "a" / "c" / "1" / "0").unlink()
    with pytest.raises(DataError, match=r"1 of 2 stored chunks are missing.*c/1/0 \(rows 200 to 399\)"):
        open_source(tmp_path / "a")


def test_codecs_that_unpickle_are_refused(tmp_path: Path) -> None:
    zarr.create_array(
        tmp_path / "a", data=np.ones((4, 2)), chunks=(4, 2), zarr_format=2, filters=None, compressors=None
    )
    header = json.loads((tmp_path / "a" / ".zarray").read_text())
    header["compressor"] = {"id": "pickle", "protocol": 5}
    (tmp_path / "a" / ".zarray").write_text(json.dumps(header))
    with pytest.raises(DataError, match="pickle"):
        open_source(tmp_path / "a")


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_truncated_npy_file(tmp_path: Path, order: Any) -> None:
    path = tmp_path / "rows.npy"
    np.save(path, np.asarray(np.random.default_rng(0).normal(size=(1000, 3)), order=order))
    whole, source = path.read_bytes(), NpySource(path)
    path.write_bytes(whole[:-2000])
    with pytest.raises(DataError, match=r"rows\.npy: not a readable \.npy file"):
        NpySource(path)
    with pytest.raises(DataError, match="the file ends before row 999"):
        list(source.read(0, 1000))


def test_a_npy_file_of_objects(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.array([[None, 1]]), allow_pickle=True)
    with pytest.raises(DataError, match="Arrays of objects are refused"):
        open_source(tmp_path / "rows.npy")


def test_fingerprints_tell_data_apart(tmp_path: Path) -> None:
    found = []
    for name, value in (("a.npy", 1.0), ("b.npy", 2.0)):
        rows = np.full((4, 2), value)
        np.save(tmp_path / name, rows)
        sources = (open_source(tmp_path / name), open_source(rows), open_source(da.from_array(rows)))
        found.extend(json.dumps(source.fingerprint()) for source in sources)
    assert len(set(found)) == 6
