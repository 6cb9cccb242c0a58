"""Rows of Parquet files: the contract of a source, and what is said about files that cannot be fitted."""

import errno
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from click.testing import CliRunner

from gmmdask import GaussianMixture
from gmmdask.cli import main
from gmmdask.execution import Threads
from gmmdask.predict import predict
from gmmdask.sources import DataError, StorageError, addresses, open_source
from gmmdask.sources.parquet import ParquetSource
from gmmdask.synthetic import random_mixture
from gmmdask.testing.contracts import SourceTests
from gmmdask.write import write_predictions

ROWS = np.random.default_rng(0).normal(size=(1000, 3))


def write(path: Path | str, rows: np.ndarray = ROWS, group: int = 100, **more: Any) -> str:
    """A file with columns x0, x1, ... and those of `more`."""
    columns = {f"x{j}": rows[:, j] for j in range(rows.shape[1])}
    pq.write_table(pa.table({**columns, **more}), path, row_group_size=group)
    return str(path)


# --- the contract ----------------------------------------------------------------------------------------------


class TestFile(SourceTests):
    group: ClassVar[int] = 130

    def make(self, rows: np.ndarray, folder: Path) -> ParquetSource:
        return self.opened(write(folder / "rows.parquet", rows, self.group))

    def opened(self, path: Any, **options: Any) -> ParquetSource:
        source = open_source(path, **options)
        assert isinstance(source, ParquetSource)
        return source

    def test_it_reads_any_rows(self, source: ParquetSource, rows: np.ndarray) -> None:
        for start, stop in [(0, 1), (77, 78), (100, 421), (129, 131), (260, 1000), (999, 1000)]:
            pieces = list(source.read(start, stop))
            assert all(piece.flags.c_contiguous for piece in pieces)
            assert np.concatenate(pieces).tobytes() == rows[start:stop].tobytes()

    def test_reads_with_all_that_arrow_holds_stay_within_the_stated_memory(self, source: ParquetSource) -> None:
        before, most = pa.total_allocated_bytes(), 0
        for piece in source.read(0, source.n):
            most = max(most, pa.total_allocated_bytes() - before + 2 * piece.nbytes)
        assert 0 < most <= source.read_bytes(0, source.n)


class TestFloat32File(TestFile):
    dtype = "float32"


class TestFileOfOneRowGroup(TestFile):
    group: ClassVar[int] = 1000


class TestFileOfOneRowGroupInSmallReads(TestFileOfOneRowGroup):
    @pytest.fixture(autouse=True)
    def small_reads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gmmdask.sources.parquet.READ_BYTES", 2000)


class TestChosenColumns(TestFile):
    """In an order that is not the file's, beside columns that are no features."""

    def make(self, rows: np.ndarray, folder: Path) -> ParquetSource:
        words = pa.array(["word"] * len(rows))
        path = write(folder / "rows.parquet", rows[:, ::-1], self.group, words=words, more=rows[:, 0])
        return self.opened(path, columns=["x2", "x1", "x0"])


class TestFolder(TestFile):
    """Spark's and pandas' other files are no data; a file or a row group may be empty."""

    def make(self, rows: np.ndarray, folder: Path) -> ParquetSource:
        for name, part in zip("abcd", np.split(rows, [311, 311, 555]), strict=True):
            write(folder / f"part-{name}.parquet", part, 100)
        for other in ("_SUCCESS", "_metadata.parquet", ".part-a.parquet.crc", ".hidden.parquet", "notes.txt"):
            (folder / other).write_text("not data")
        return self.opened(folder)

    def test_a_task_is_given_the_files_of_its_rows(self, source: ParquetSource, rows: np.ndarray) -> None:
        there = source.argument(320, 500)
        assert [Path(path).name for path in there.paths] == ["part-c.parquet"]
        assert np.concatenate(list(there.read(320, 500))).tobytes() == rows[320:500].tobytes()
        assert [Path(path).name for path in source.argument(300, 1000).paths][::3] == [
            "part-a.parquet",
            "part-d.parquet",
        ]


class TestPattern(TestFile):
    def make(self, rows: np.ndarray, folder: Path) -> ParquetSource:
        for day, part in enumerate(np.array_split(rows, 4)):
            (folder / f"day={day}").mkdir()
            write(folder / f"day={day}" / "rows.parquet", part, 99)
        return self.opened(f"{folder}/day=*/*.parquet")


class TestUrl(TestFile):
    def make(self, rows: np.ndarray, folder: Path) -> ParquetSource:
        for number, part in enumerate(np.split(rows, [400])):
            with fsspec.open(f"memory://{folder.name}/{number}.parquet", "wb") as file:
                file.write(Path(write(folder / "local", part, 130)).read_bytes())
        return self.opened(f"memory://{folder.name}/*.parquet")


# --- what columns become ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "dtype"),
    [
        (["f4", "f4"], "float32"),
        (["f4", "f8"], "float64"),
        (["i4", "i4"], "float64"),
        (["f2", "u1"], "float64"),
        (["?", "f4"], "float64"),
        (["i8", "?"], "float64"),
    ],
)
def test_numbers_of_any_type_become_floats(tmp_path: Path, kinds: list[str], dtype: str) -> None:
    wanted = np.array([[1, 0], [0, 1], [1, 1]])
    columns = {kind + str(j): pa.array(wanted[:, j].astype(kind)) for j, kind in enumerate(kinds)}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet")
    (rows,) = source.read(0, 3)
    assert source.dtype == rows.dtype == dtype
    np.testing.assert_array_equal(rows, wanted)


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.int64(), pa.uint8(), pa.bool_()], ids=str)
def test_a_null_is_nan_and_refused_with_its_row_and_chunk(tmp_path: Path, kind: pa.DataType) -> None:
    values = [True, False] * 100 if kind == pa.bool_() else [1, 0] * 100
    null = pa.array([*values[:131], None, *values[132:]], kind)
    pq.write_table(pa.table({"a": pa.array(values, kind), "b": null}), tmp_path / "a.parquet", row_group_size=50)
    source = open_source(tmp_path / "a.parquet")
    found = np.concatenate(list(source.read(0, 200)))
    assert np.argwhere(np.isnan(found)).tolist() == [[131, 1]]
    np.testing.assert_array_equal(found[:, 0], values)
    with pytest.raises(DataError, match=r"NaN.*1 of 200 rows.*first in row 131 \(storage chunk 2\)"):
        GaussianMixture(2).fit(source)


def test_an_index_that_pandas_wrote_is_no_feature(tmp_path: Path) -> None:
    table = pa.table({"a": [1.0, 2.0], "time": [3, 4]})
    table = table.replace_schema_metadata({"pandas": json.dumps({"index_columns": ["time"], "columns": []})})
    pq.write_table(table, tmp_path / "a.parquet")
    assert ParquetSource(tmp_path / "a.parquet").columns == ("a",)
    assert ParquetSource(tmp_path / "a.parquet", ["time", "a"]).columns == ("time", "a")
    assert ParquetSource(tmp_path / "a.parquet", "time").columns == ("time",)


def test_fingerprints_tell_columns_and_files_apart(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet")
    one, other = ParquetSource(tmp_path), ParquetSource(tmp_path, ["x0", "x2", "x1"])
    write(tmp_path / "1.parquet", group=50)
    assert len({json.dumps(source.fingerprint()) for source in (one, other, ParquetSource(tmp_path))}) == 3
    assert addresses(one) == [str(tmp_path), str(tmp_path / "1.parquet")]


# --- files that cannot be fitted -------------------------------------------------------------------------------


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-100])
    return path


def differing(folder: Path, **column: Any) -> Path:
    write(folder / "1.parquet")
    pq.write_table(pa.table({"x0": ROWS[:, 0], "x1": ROWS[:, 1], **column}), folder / "2.parquet")
    return folder


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "strings": (lambda f: write(f / "a.pq", s=["a"] * 1000), {}, r"a.pq: .*numbers.*'s' of type string.*columns="),
    "lists": (lambda f: write(f / "a.pq", s=[[1.0]] * 1000), {}, "'s' of type list.*columns="),
    "dates": (lambda f: write(f / "a.pq", s=np.zeros(1000, "M8[s]")), {}, r"'s' of type timestamp.*columns="),
    "missing": (lambda f: write(f / "a.pq"), {"columns": ["x0", "y"]}, "a.pq: no column 'y'.*x0, x1, x2"),
    "twice": (lambda f: write(f / "a.pq"), {"columns": ["x0", "x0"]}, "'x0' comes twice"),
    "no columns": (lambda f: write(f / "a.pq"), {"columns": []}, "a.pq: 0 feature"),
    "no rows": (lambda f: write(f / "a.pq", ROWS[:0]), {}, r"a.pq: Found array with 0 sample.*\(0, 3\)"),
    "truncated": (lambda f: cut(Path(write(f / "a.pq"))), {}, "a.pq cannot be read as Parquet.*truncated.*copy"),
    "another kind": (lambda f: (f / "a.pq").write_text("x,y\n") and f / "a.pq", {}, "a.pq cannot be read as Parquet"),
    "no file": (lambda f: f / "a.parquet", {}, "a.parquet: no such file or folder"),
    "no match": (lambda f: f"{f}/*.parquet", {}, r"\*.parquet: no Parquet file is there"),
    "hidden only": (lambda f: write(f / "_a.parquet") and f, {}, r"no Parquet file is there.*pattern"),
    "other type": (
        lambda f: differing(f, x2=ROWS[:, 2].astype("f4")),
        {},
        r"2.parquet: column 'x2' is float, but double in .*1.parquet",
    ),
    "one fewer": (differing, {}, r"2.parquet: column 'x2' is missing, but double in .*1.parquet"),
    "one more": (
        lambda f: differing(f, x2=ROWS[:, 2], x3=ROWS[:, 2]),
        {},
        r"2.parquet: column 'x3' is double, but missing in .*1.parquet",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    make, options, words = BAD[name]
    with pytest.raises(DataError, match=words):
        open_source(make(tmp_path), **options)


def test_files_may_differ_in_columns_that_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no option column for .*: expected columns"):
        open_source(differing(tmp_path, x2=ROWS[:, 2]), column="x2")
    source = open_source(differing(tmp_path, x2=ROWS[:, 2], other=ROWS[:, 0]), columns=["x2", "x0"])
    assert np.concatenate(list(source.read(0, 2000))).tobytes() == np.tile(ROWS[:, [2, 0]], (2, 1)).tobytes()


def test_a_path_with_the_characters_of_a_pattern_is_a_path(tmp_path: Path) -> None:
    for name in ("a[1].parquet", "a1.parquet"):
        write(tmp_path / name)
    assert addresses(open_source(tmp_path / "a[1].parquet"))[1:] == [str(tmp_path / "a[1].parquet")]
    zarr.create_array(tmp_path / "a[1]", data=ROWS)
    assert open_source(tmp_path / "a[1]").fingerprint()["kind"] == "zarr"


def test_a_corrupt_row_group_is_named(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a.parquet"))
    source, content = open_source(path), bytearray(path.read_bytes())
    at = pq.read_metadata(path).row_group(4).column(0).dictionary_page_offset
    content[at : at + 300] = bytes(300)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a.parquet: row group 4 \(rows 400 to 499\) cannot be read"):
        list(source.read(200, 800))


def test_a_file_that_changed_under_a_fit(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "a.parquet"))
    write(tmp_path / "a.parquet", ROWS[:950])
    with pytest.raises(DataError, match=r"a.parquet: row group 9 changed"):
        list(source.read(0, 1000))


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.parquet")
    monkeypatch.delitem(sys.modules, "gmmdask.sources.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'pip install "gmmdask\[parquet\]"'):
        open_source(tmp_path / "a.parquet")


# --- storage that does not answer ------------------------------------------------------------------------------


@pytest.mark.parametrize("failures", [3, 4])
def test_a_read_is_tried_four_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    """It goes on at the batch that failed: no row twice, none left out."""
    monkeypatch.setattr("gmmdask.storage.time.sleep", lambda seconds: None)
    monkeypatch.setattr("gmmdask.sources.parquet.READ_BYTES", 24 * 30)
    source = open_source(write(tmp_path / "a.parquet"))
    read, left = pq.ParquetFile.iter_batches, [failures]

    def iter_batches(*args: Any, **options: Any) -> Iterator[Any]:
        for number, batch in enumerate(read(*args, **options)):
            if number == 2 and left[0]:
                left[0] -= 1
                raise OSError(errno.ETIMEDOUT, "no answer")
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    if failures == 4:
        with pytest.raises(StorageError, match=r"a.parquet: rows 60 to 999 could not be read in 4 tries.*Try again"):
            list(source.read(0, 1000))
    else:
        assert np.concatenate(list(source.read(0, 1000))).tobytes() == ROWS.tobytes()


# --- predictions -----------------------------------------------------------------------------------------------


def test_predictions_of_uneven_row_groups_go_to_chunks_of_a_decent_size(tmp_path: Path) -> None:
    mixture = random_mixture(3, 3, "full", seed=1)
    rows = mixture.sample(1000, np.random.default_rng(1))[0]
    (tmp_path / "rows").mkdir()
    for number, part in enumerate(np.split(rows, [331, 662])):
        write(tmp_path / "rows" / f"{number}.parquet", part, 100)
    source = open_source(tmp_path / "rows")
    write_predictions(mixture, source, tmp_path / "out", ("score",), Threads(2), overwrite=False)
    written = zarr.open_array(tmp_path / "out" / "score", mode="r")
    assert written.chunks == (100,)
    np.testing.assert_allclose(written[:], predict(mixture, open_source(rows), "score"), rtol=1e-12)
    np.testing.assert_allclose(predict(mixture, source, "score").compute(), written[:], rtol=1e-12)


# --- the command line ------------------------------------------------------------------------------------------


def run(code: int, *arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.stderr


def test_commands_read_the_columns_that_are_named(tmp_path: Path) -> None:
    rows = random_mixture(2, 2, "full", seed=2, separation=9).sample(2000, np.random.default_rng(2))[0]
    path, model, out = tmp_path / "rows.parquet", tmp_path / "m.gmm", tmp_path / "out"
    write(path, rows, 300, name=["name"] * 2000)
    assert "'name' of type string" in run(3, "fit", path, "-k", 2, "-o", model)
    run(0, "fit", f"{tmp_path}/*.parquet", "-k", 2, "--seed", 0, "-o", model, "--columns", "x1,x0", "--accept-missing")
    fitted = GaussianMixture.load(model)
    ours = GaussianMixture(2, random_state=0, stop="predicted").fit(rows[:, ::-1])
    order = np.argsort(-ours.weights_)
    np.testing.assert_allclose(fitted.means_, ours.means_[order], rtol=1e-9)
    assert fitted.provenance_["data"]["columns"] == ["x1", "x0"]
    run(0, "predict", path, "-m", model, "-o", out, "--columns", "x1,x0")
    write(tmp_path / "more.parquet", np.c_[rows, rows[:, 0]], 300)
    assert "Choose them: columns= (--columns x1,x0)." in run(3, "score", tmp_path / "more.parquet", "-m", model)
    np.save(tmp_path / "nameless.npy", ROWS[:9, 1::-1])
    assert "UserWarning" not in run(0, "score", tmp_path / "nameless.npy", "-m", model)
    labels = fitted.predict(open_source(path, columns=["x1", "x0"]))
    np.testing.assert_array_equal(zarr.open_array(out / "labels", mode="r")[:], labels)
    run(0, "score", path, "-m", model, "--columns", "x1,x0")
    assert "this is where the input is read from" in run(
        3, "fit", f"{tmp_path}/*.parquet", "-k", 2, "-o", path, "--columns", "x0", "--overwrite"
    )


def test_columns_of_rows_that_have_no_names_are_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", ROWS)
    said = run(2, "fit", tmp_path / "rows.npy", "-k", 2, "-o", tmp_path / "m", "--columns", "x0")
    assert "no named columns" in said
