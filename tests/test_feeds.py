"""Feeds: all rows once, from any position; what grows is followed, and what is wrong is said."""

import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from gmmdask.feeds import Batch, Feed, Wait, open_feed
from gmmdask.feeds.pipe import PipeFeed
from gmmdask.sources import DataError
from gmmdask.sources.zarr import ZarrSource
from gmmdask.testing.strategies import LAW, generators

N, D = 1000, 3
ROWS = np.random.default_rng(0).normal(size=(N, D))
SMALL = 3000  # bytes of a read: 125 rows of numbers


@pytest.fixture(autouse=True)
def small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sources.array", "sources.zarr", "sources.parquet", "feeds.pipe"):
        monkeypatch.setattr(f"gmmdask.{module}.READ_BYTES", SMALL)
    monkeypatch.setattr("gmmdask.feeds.pipe.CHUNK", SMALL)
    monkeypatch.setattr("gmmdask.feeds.pipe.FORTRAN_BYTES", 8 * SMALL)


def npy(*blocks: np.ndarray) -> bytes:
    file = io.BytesIO()
    for block in blocks:
        np.save(file, block)
    return file.getvalue()


def text(rows: np.ndarray, separator: str = ",", end: str = "\n") -> bytes:
    return "".join(separator.join(map(repr, row)) + end for row in rows.tolist()).encode()


def pipe(data: bytes) -> Feed:
    return PipeFeed(io.BytesIO(data))


def table(path: Path, rows: np.ndarray, names: str = "abc", **options: Any) -> None:
    pq.write_table(pa.table({name: rows[:, j] for j, name in enumerate(names)}), path, **options)


def folder_of(path: Path, *sizes: int) -> Path:
    path.mkdir()
    for i, (start, stop) in enumerate(zip(np.cumsum([0, *sizes]), np.cumsum(sizes), strict=False)):
        table(path / f"{i}.parquet", ROWS[start:stop], row_group_size=90)
    return path


def stored(path: Path, rows: np.ndarray = ROWS, **layout: Any) -> Path:
    zarr.create_array(path, data=rows, **{"chunks": (40, D), **layout})
    return path


def saved(path: Path, rows: np.ndarray = ROWS) -> Path:
    np.save(path, rows)
    return path


def at(path: Path | str) -> Callable[[], Feed]:
    return lambda: open_feed(str(path))


MAKERS: dict[str, Callable[[Path], Callable[[], Feed]]] = {
    "npy": lambda f: at(saved(f / "r.npy")),
    "Fortran npy": lambda f: at(saved(f / "r.npy", np.asfortranarray(ROWS))),
    "Zarr": lambda f: at(stored(f / "r.zarr")),
    "sharded Zarr": lambda f: at(stored(f / "r.zarr", shards=(240, D))),
    "Parquet": lambda f: at(folder_of(f / "p", N) / "0.parquet"),
    "a folder": lambda f: at(folder_of(f / "p", 300, 0, 1, 699)),
    "a pattern": lambda f: at(folder_of(f / "p", 500, 500) / "?.parquet"),
    "blocks": lambda f: (
        lambda: pipe(npy(ROWS[:1], ROWS[1:1], ROWS[1:400], np.asfortranarray(ROWS[400:500]), ROWS[500:]))
    ),
    "lines": lambda f: lambda: pipe(text(ROWS)),
    "lines without commas": lambda f: lambda: pipe(text(ROWS, "  \t", "\r\n")),
    "lines with gaps": lambda f: lambda: pipe(b"\n" + text(ROWS, " , ", " \n\n")[:-3]),
}


@pytest.fixture(params=MAKERS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Feed]:
    return MAKERS[request.param](tmp_path)


def all_of(feed: Feed, position: Any = None, d: int | None = None) -> list[Batch]:
    found = list(feed.batches(feed.beginning if position is None else position, d))
    assert all(isinstance(item, Batch) for item in found)
    return [item for item in found if isinstance(item, Batch)]


def rows_of(batches: list[Batch]) -> np.ndarray:
    return np.concatenate([batch.rows for batch in batches]) if batches else np.empty((0, D))


# --- every feed ------------------------------------------------------------------------------------------------


def test_all_rows_come_once_in_order_and_in_bounded_batches(opened: Callable[[], Feed]) -> None:
    batches = all_of(opened())
    assert rows_of(batches).tobytes() == ROWS.tobytes()
    assert len(batches) > 4
    assert all(batch.rows.ndim == 2 and batch.rows.nbytes <= 2 * SMALL for batch in batches)


def test_every_position_leads_to_the_rows_behind_it(opened: Callable[[], Feed]) -> None:
    batches, at = all_of(opened()), 0
    for batch in batches:
        at += len(batch.rows)
        position = json.loads(json.dumps(batch.position))
        rest = all_of(opened(), position, D)
        assert rows_of(rest).tobytes() == ROWS[at:].tobytes()
        if rest:
            assert rest[-1].position == batches[-1].position


def test_positions_do_not_change_behind_the_back_of_who_keeps_them(opened: Callable[[], Feed]) -> None:
    told = [(batch.position, json.dumps(batch.position)) for batch in all_of(opened())]
    assert all(json.dumps(position) == then for position, then in told)


def test_the_position_says_which_source_it_is_in(opened: Callable[[], Feed]) -> None:
    feed = opened()
    assert {batch.position["source"] for batch in all_of(feed)} == {feed.address} == {feed.beginning["source"]}


def test_rows_of_another_width_are_refused(opened: Callable[[], Feed]) -> None:
    with pytest.raises(DataError, match="has 3 features, but the stream began with 2"):
        all_of(opened(), d=2)


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e200])
def test_a_bad_row_is_named(tmp_path: Path, value: float) -> None:
    rows = ROWS.copy()
    rows[[731, 900], [1, 0]] = value
    table(tmp_path / "r.parquet", rows, row_group_size=90)
    feeds = {
        "r.npy: .*row 731: .*Drop or impute": open_feed(str(saved(tmp_path / "r.npy", rows))),
        "r.zarr: .*row 731": open_feed(str(stored(tmp_path / "r.zarr", rows))),
        "r.parquet: .*row 731": open_feed(str(tmp_path / "r.parquet")),
        "standard input, block 1: .*row 231": pipe(npy(rows[:500], rows[500:])),
        "standard input, line 733: ": pipe(b"\n" + text(rows)),
    }
    for words, feed in feeds.items():
        with pytest.raises(DataError, match=words):
            all_of(feed)
    with pytest.raises(DataError, match="row 731"):
        all_of(open_feed(str(tmp_path / "r.npy")), {"source": str(tmp_path / "r.npy"), "rows": 700})


def test_infinity_in_single_precision_is_not_finite() -> None:
    with pytest.raises(DataError, match="row 1"):
        all_of(pipe(npy(np.array([[1, 2], [np.inf, 3]], "f4"))))


@pytest.mark.parametrize("data", [npy(*np.split(ROWS, 8)), text(ROWS)], ids=["npy", "text"])
@pytest.mark.parametrize("taken", [1, 124, 125, 126, 555, 999])
def test_rows_that_were_taken_are_skipped_wherever_they_end(data: bytes, taken: int) -> None:
    batches = all_of(pipe(data), {"source": "-", "rows": taken})
    assert rows_of(batches).tobytes() == ROWS[taken:].tobytes()
    assert [batch.position["rows"] for batch in batches] == list(
        taken + np.cumsum([len(batch.rows) for batch in batches])
    )


def test_reads_keep_to_the_chunks_after_the_first(tmp_path: Path) -> None:
    path = stored(tmp_path / "r.zarr")
    ends = [batch.position["rows"] for batch in all_of(open_feed(str(path)), {"source": str(path), "rows": 333})]
    assert ends == [360, 480, 600, 720, 840, 960, 1000]


def test_the_address_does_not_depend_on_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stored(Path("r.zarr"))
    saved(Path("r.npy"))
    folder_of(Path("p"), 9)
    for name in ("r.zarr", "r.npy", "p"):
        assert open_feed(name).address == open_feed(str(tmp_path / name)).address == str(tmp_path / name)


# --- pipes -----------------------------------------------------------------------------------------------------

BAD_INPUT: dict[str, tuple[bytes, str]] = {
    "a cut block": (npy(ROWS[:10], ROWS[:10])[:-70], "block 1: the input ended within row 7 of its 10 rows"),
    "a cut header": (npy(ROWS[:10]) + npy(ROWS[:10])[:40], "block 1: the input ended within its header"),
    "a cut magic": (npy(ROWS[:10]) + b"\x93NU", "block 1: the input ended within its header"),
    "another magic": (npy(ROWS[:10]) + b"1,2,3\n" * 9, "block 1: begins with b'1,2,3.*expected a .npy array"),
    "no header": (b"\x93NUMPY\x01\x00\x06\x00hello\n" + bytes(99), "block 0: its .npy header cannot be read"),
    "a long header": (b"\x93NUMPY\x02\x00" + b"\xff" * 9, "block 0: a header of 4,294,967,307 bytes"),
    "a negative shape": (
        npy(ROWS[:10]).replace(b"(10, 3)", b"(-9, 3)"),
        r"block 0: its .npy header cannot be read \(shape \(-9, 3\)\)",
    ),
    "1-d": (npy(ROWS[:10], ROWS[0]), "block 1: expected a 2-d array.*1 dimensions"),
    "3-d": (npy(ROWS[:10].reshape(5, 2, 3)), "block 0: expected a 2-d array.*3 dimensions"),
    "no columns": (npy(ROWS[:10], np.empty((5, 0))), r"block 1: 0 feature\(s\)"),
    "other d": (npy(ROWS[:10], ROWS[:10, :2]), "block 1 has 2 features, but the stream began with 3"),
    "other d without rows": (npy(ROWS[:10], ROWS[:0, :2]), "block 1 has 2 features, but the stream began with 3"),
    "objects": (npy(ROWS[:10], np.array([[None, 1]])), "block 1: expected real numbers.*objects"),
    "strings": (npy(np.array([["a", "b"]])), "block 0: expected real numbers.*strings"),
    "complex": (npy(ROWS[:10] * 1j), "block 0: expected real numbers.*Complex"),
    "columns first": (npy(np.asfortranarray(np.ones((9000, 3)))), "block 0: 216,000 bytes.*ascontiguousarray"),
    "a column header": (b"a,b,c\n1,2,3\n", "line 1: expected numbers separated by commas, found 'a,b,c'.*tail -n .2"),
    "a word": (b"1,2,3\n\n4,five,6\n", "line 3: expected numbers separated by commas, found '4,five,6'"),
    "an empty field": (b"1,2,3\n4,,6\n", "line 2: expected numbers"),
    "a field too many": (b"1,2,3\n4,5,6,7\n", "line 2 has 4 features, but the stream began with 3"),
    "a comma at the end": (b"1,2,3,\n", "line 1: expected numbers"),
    "a field too few": (text(ROWS) + b"1,2\n", "line 1001 has 2 features, but the stream began with 3"),
    "commas later": (b"1 2 3\n1,2,3\n", "line 2: expected numbers separated by white space"),
    "commas much later": (b"1 2 3\n" * 500 + b"1,2,3\n" * 500, "line 501: expected numbers separated by white space"),
    "semicolons": (b"1;2;3\n", "line 1: expected numbers separated by white space .or commas.*found '1;2;3'"),
    "nan": (b"1,2,3\n4,nan,6\n", "line 2: NaN or infinity"),
    "no lines": (b"7" * 2 * SMALL + b"8" * 2 * SMALL, "line 1: longer than 3,000 bytes"),
    "bytes": (bytes(range(128, 256)) * 9, "line 1: expected numbers"),
    "a comment": (b"# 3 columns\n1 2 3\n", "line 1: expected numbers"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_refused_in_words(name: str) -> None:
    data, words = BAD_INPUT[name]
    with pytest.raises(DataError, match=f"^standard input, {words}"):
        all_of(pipe(data))


def test_rows_before_the_bad_ones_come_first() -> None:
    data = npy(ROWS[:10], ROWS[:10])[:-70]
    items = pipe(data).batches({"source": "-", "rows": 0})
    item = next(items)
    assert isinstance(item, Batch)
    assert len(item.rows) == 10
    with pytest.raises(DataError):
        next(items)


def test_empty_input_has_no_rows() -> None:
    assert all_of(pipe(b"")) == all_of(pipe(b"\n \n")) == []


def test_a_last_line_needs_no_end() -> None:
    assert rows_of(all_of(pipe(b"1 2 3\n4 5 6"))).tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("data", [npy(ROWS[:300], ROWS[300:600]), text(ROWS[:600])], ids=["npy", "text"])
def test_input_that_ends_before_what_was_taken_is_not_the_same(data: bytes) -> None:
    with pytest.raises(DataError, match=r"ended after 600 rows, but 601 were taken before.*--continues"):
        all_of(pipe(data), {"source": "-", "rows": 601})


@pytest.mark.parametrize("data", [npy(*np.split(ROWS, 8)), text(ROWS)], ids=["npy", "text"])
@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_bytes_may_come_in_any_pieces(data: bytes, piece: int) -> None:
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb", buffering=0) as end:
            for at in range(0, len(data), piece):
                end.write(data[at : at + piece])

    thread = threading.Thread(target=write)
    thread.start()
    with open(reading, "rb") as begin:
        feed = PipeFeed(begin)
        items = [item for item in feed.batches(feed.beginning) if isinstance(item, Batch)]
    thread.join()
    assert rows_of(items).tobytes() == ROWS.tobytes()


@pytest.mark.parametrize("make", [npy, text], ids=["npy", "text"])
def test_rows_come_when_they_are_there_and_who_waits_is_told(make: Callable[[np.ndarray], bytes]) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as begin, open(writing, "wb", buffering=0) as end:
        feed = PipeFeed(begin, patience=0)
        items = feed.batches(feed.beginning)
        assert next(items) == Wait()
        for start in (0, 50):
            data = make(ROWS[start : start + 50])
            end.write(data[:-9])
            seen = look(items)[0]
            end.write(data[-9:])
            seen = np.concatenate([seen, look(items)[0]])
            assert seen.tobytes() == ROWS[start : start + 50].tobytes()


# --- a Zarr array that grows -----------------------------------------------------------------------------------


def look(items: Iterator[Batch | Wait]) -> tuple[np.ndarray, str]:
    """Rows that come until there are none, and why there are not more."""
    batches = []
    for item in items:
        if isinstance(item, Wait):
            return rows_of(batches), item.reason
        batches.append(item)
    pytest.fail("a followed source has no end")


def followed(path: Path, position: Any = None, **options: Any) -> Iterator[Batch | Wait]:
    feed = open_feed(str(path), follow=True, poll=0, **options)
    return feed.batches(feed.beginning if position is None else position)


def test_rows_that_are_appended_come_at_the_second_look(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "r.zarr", shape=(0, D), chunks=(40, D), dtype="f8")
    items = followed(tmp_path / "r.zarr")
    assert not len(look(items)[0])
    for start, stop in [(0, 100), (100, 101), (101, 700), (700, 1000)]:
        array.append(ROWS[start:stop])
        assert not len(look(items)[0])
        rows, reason = look(items)
        assert rows.tobytes() == ROWS[start:stop].tobytes()
        assert not reason


def test_rows_whose_array_was_lengthened_and_that_are_not_written_yet_are_not_taken(tmp_path: Path) -> None:
    """An append that is caught between its two halves: the fill values that stand there are never taken for rows."""
    array = zarr.open_array(stored(tmp_path / "r.zarr", ROWS[:100]))
    items = followed(tmp_path / "r.zarr")
    assert [len(look(items)[0]) for _ in range(2)] == [0, 100]
    array.resize((150, D))
    assert not len(look(items)[0])
    array[100:150] = ROWS[100:150]
    assert look(items)[0].tobytes() == ROWS[100:150].tobytes()


@pytest.mark.parametrize("fill", [0.0, np.nan, -1.0])
@pytest.mark.parametrize("layout", [{}, {"chunks": (10, D), "shards": (40, D)}, {"chunks": (40, 2)}], ids=str)
def test_an_append_of_any_length_is_not_taken_before_it_is_written(
    tmp_path: Path, fill: float, layout: dict[str, Any]
) -> None:
    """However late its chunks come, and in whatever order: the last, which was stored before, among them."""
    path = tmp_path / "r.zarr"
    layout = {"chunks": (40, D), "shape": (100, D), "dtype": "f8", "fill_value": fill, **layout}
    array = zarr.create_array(path, **layout)
    array[:] = ROWS[:100]
    items = followed(path)
    assert [len(look(items)[0]) for _ in range(2)] == [0, 100]
    array.resize((170, D))
    for start, stop, come in [(160, 170, 0), (120, 160, 0), (100, 120, 70)]:
        look(items)
        assert "row 100 may not be written yet" in look(items)[1]
        array[start:stop] = ROWS[start:stop]
        rows, reason = look(items)
        assert rows.tobytes() == ROWS[100 : 100 + come].tobytes()
    assert not reason


def test_columns_in_chunks_of_their_own_may_come_apart(tmp_path: Path) -> None:
    array = zarr.open_array(stored(tmp_path / "r.zarr", ROWS[:40], chunks=(40, 2)))
    items = followed(tmp_path / "r.zarr")
    assert [len(look(items)[0]) for _ in range(2)] == [0, 40]
    for start, stop, late in [(40, 80, slice(0, 2)), (80, 120, slice(2, 3))]:
        array.resize((stop, D))
        early = slice(2, 3) if late.start == 0 else slice(0, 2)
        array[start:stop, early] = ROWS[start:stop, early]
        assert [len(look(items)[0]) for _ in range(3)] == [0, 0, 0]
        array[start:stop, late] = ROWS[start:stop, late]
        assert look(items)[0].tobytes() == ROWS[start:stop].tobytes()


@LAW
@given(st.integers(0, 30), st.integers(1, 30), st.integers(1, 12), st.sampled_from([1, 2, 3]), generators)
def test_doubt_is_about_fill_values_with_which_a_chunk_ends(
    start: int, m: int, tall: int, wide: int, rng: np.random.Generator
) -> None:
    array = zarr.create_array(zarr.storage.MemoryStore(), shape=(60, D), chunks=(tall, wide), dtype="f8", fill_value=7)
    rows = np.where(rng.random((m, D)) < 0.7, 7.0, 1.0)
    sure = ZarrSource(array, accept_missing=True).surely_written(rows, start)
    blank = [any((row[j : j + wide] == 7).all() for j in range(0, D, wide)) for row in rows]
    expected = 0
    for chunk in range(start // tall, (start + m - 1) // tall + 1):
        low, high = max(start, chunk * tall) - start, min(start + m, (chunk + 1) * tall) - start
        while high > low and blank[high - 1]:
            high -= 1
        expected = high
        if high < min(start + m, (chunk + 1) * tall) - start:
            break
    assert sure == expected


def test_rows_that_equal_the_fill_value_come_with_what_follows_them(tmp_path: Path) -> None:
    rows = ROWS[:75].copy()
    rows[[5, 10, 11, 12, 60, 70, 74]] = 0
    path = stored(tmp_path / "r.zarr", rows[:13])
    items = followed(path)
    look(items)
    assert len(look(items)[0]) == 10
    for stop, wanted in [(14, 14), (75, 74)]:
        zarr.open_array(path).append(rows[zarr.open_array(path).shape[0] : stop])
        look(items)
        rows_now, reason = look(items)
        assert rows_now.tobytes() == rows[10 if stop == 14 else 14 : wanted].tobytes()
    assert "row 74 may not be written yet" in reason
    position = {"source": str(path), "rows": 74, "dtype": "float64"}
    accepting = followed(path, position, accept_missing=True)
    look(accepting)
    assert look(accepting)[0].tobytes() == rows[74:].tobytes()


def test_chunks_that_are_missing_are_waited_for(tmp_path: Path) -> None:
    array = zarr.open_array(stored(tmp_path / "r.zarr", ROWS[:80]))
    items = followed(tmp_path / "r.zarr")
    assert [len(look(items)[0]) for _ in range(2)] == [0, 80]
    array.resize((200, D))
    array[160:200] = ROWS[160:200]
    look(items)
    for _ in range(3):
        rows, reason = look(items)
        assert not len(rows)
        assert "r.zarr: row 80 may not be written yet" in reason
        assert "--accept-missing" in reason
    array[80:120] = ROWS[80:120]
    rows, reason = look(items)
    assert rows.tobytes() == ROWS[80:120].tobytes()
    assert "row 120 may not be written" in reason
    array[120:160] = ROWS[120:160]
    assert look(items)[0].tobytes() == ROWS[120:200].tobytes()
    assert look(items)[1] == ""


def test_missing_chunks_may_be_accepted(tmp_path: Path) -> None:
    zarr.open_array(stored(tmp_path / "r.zarr", ROWS[:80])).resize((120, D))
    with pytest.raises(DataError, match="1 of 3 stored chunks are missing"):
        open_feed(str(tmp_path / "r.zarr"))
    expected = np.concatenate([ROWS[:80], np.zeros((40, D))])
    np.testing.assert_array_equal(rows_of(all_of(open_feed(str(tmp_path / "r.zarr"), accept_missing=True))), expected)
    items = followed(tmp_path / "r.zarr", accept_missing=True)
    look(items)
    np.testing.assert_array_equal(look(items)[0], expected)


def test_a_followed_array_goes_on_from_a_position(tmp_path: Path) -> None:
    items = followed(stored(tmp_path / "r.zarr"), {"source": str(tmp_path / "r.zarr"), "rows": 333, "dtype": "float64"})
    assert not len(look(items)[0])
    assert look(items)[0].tobytes() == ROWS[333:].tobytes()


def again(path: Path, rows: np.ndarray) -> None:
    zarr.create_array(path, data=rows, chunks=(40, rows.shape[1]), overwrite=True)


CHANGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "shrinks": (
        lambda p: zarr.open_array(p).resize((60, D)),
        "r.zarr: 100 rows were taken, but now it has 60: it has shr",
    ),
    "is emptied": (lambda p: zarr.open_array(p).resize((0, D)), "100 rows were taken, but now it has 0"),
    "has other features": (lambda p: again(p, np.ones((100, 4))), "has 4 features, but the stream began with 3"),
    "has another dtype": (lambda p: again(p, ROWS[:100].astype("f4")), "float64 then, float32 now"),
    "is none any more": (lambda p: (p / "zarr.json").unlink(), "r.zarr: no Zarr array can be opened there"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_an_array_that_is_not_what_it_was_is_refused(tmp_path: Path, name: str) -> None:
    change, words = CHANGED[name]
    path = stored(tmp_path / "r.zarr", ROWS[:100])
    items, position = followed(path), all_of(open_feed(str(path)))[-1].position
    assert [len(look(items)[0]) for _ in range(2)] == [0, 100]
    change(path)
    with pytest.raises(DataError, match=words):
        look(items)
    with pytest.raises(DataError, match=f"{words}|nothing to fit"):
        all_of(open_feed(str(path)), position, D)


# --- a Parquet folder that grows -------------------------------------------------------------------------------


def test_files_are_taken_in_the_order_of_their_names_as_they_appear(tmp_path: Path) -> None:
    items = followed(tmp_path)
    assert not len(look(items)[0])
    for name, start, stop in [("m", 0, 300), ("z", 300, 301), ("a", 301, 650)]:
        (tmp_path / f".{name}.parquet").write_bytes(b"not complete")
        assert not len(look(items)[0])
        table(tmp_path / f".{name}.parquet", ROWS[start:stop])
        (tmp_path / f".{name}.parquet").rename(tmp_path / f"{name}.parquet")
        assert look(items)[0].tobytes() == ROWS[start:stop].tobytes()
    for name, start, stop in [("c", 800, 1000), ("b", 650, 800)]:
        table(tmp_path / f"{name}.parquet", ROWS[start:stop])
    assert look(items)[0].tobytes() == ROWS[650:].tobytes()
    assert not len(look(items)[0])


def test_a_file_that_was_begun_is_ended_before_new_ones(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p", 400)
    position = next(iter(all_of(open_feed(str(folder))))).position
    (taken,) = (file["taken"] for file in position["files"].values())
    assert 0 < taken < 400
    table(folder / "+.parquet", ROWS[400:])
    assert rows_of(all_of(open_feed(str(folder)), position)).tobytes() == ROWS[taken:].tobytes()


def test_files_that_were_taken_may_go_and_others_may_not(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p", 400, 600)
    batches = all_of(open_feed(str(folder)))
    begun = next(batch.position for batch in batches if len(batch.position["files"]) == 2)
    (folder / "0.parquet").unlink()
    taken = begun["files"][str(folder / "1.parquet")]["taken"]
    assert rows_of(all_of(open_feed(str(folder)), begun)).tobytes() == ROWS[400 + taken :].tobytes()
    with pytest.raises(DataError, match=r"0.parquet: gone, with \d+ rows that were not taken"):
        all_of(open_feed(str(folder)), batches[0].position)


@pytest.mark.parametrize("taken", ["begun", "whole"])
def test_a_file_that_was_written_again_is_refused(tmp_path: Path, taken: str) -> None:
    folder = folder_of(tmp_path / "p", 400)
    position = all_of(open_feed(str(folder)))[0 if taken == "begun" else -1].position
    items = followed(folder)
    assert len(look(items)[0]) == 400
    size = (folder / "0.parquet").stat().st_size
    table(folder / "0.parquet", ROWS[:401])
    words = rf"0.parquet: {size} bytes when it was taken, \d+ now: it was written again"
    with pytest.raises(DataError, match=words):
        look(items)
    with pytest.raises(DataError, match=words):
        all_of(open_feed(str(folder)), position)


def test_a_begun_file_with_other_rows_of_the_same_size_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p", 400)
    position = all_of(open_feed(str(folder)))[0].position
    position["files"][str(folder / "0.parquet")]["rows"] = 401
    with pytest.raises(DataError, match="401 rows when it was taken, 400 now"):
        all_of(open_feed(str(folder)), position)


def test_columns(tmp_path: Path) -> None:
    table(tmp_path / "0.parquet", ROWS[:500])
    table(tmp_path / "1.parquet", ROWS[500:, ::-1], "cba")
    with pytest.raises(DataError, match=r"1.parquet: columns \['c', 'b', 'a'\], but \['a', 'b', 'c'\] in the files be"):
        all_of(open_feed(str(tmp_path)))
    batches = all_of(open_feed(str(tmp_path), columns=["c", "a"]))
    assert rows_of(batches).tobytes() == ROWS[:, [2, 0]].tobytes()
    with pytest.raises(DataError, match=r"columns \['c', 'a'\] then, \['a', 'c'\] now"):
        all_of(open_feed(str(tmp_path), columns=["a", "c"]), batches[0].position)
    with pytest.raises(DataError, match=r"0.parquet: columns \['a', 'b', 'c'\], but \['c', 'a'\]"):
        all_of(open_feed(str(tmp_path)), batches[0].position)


# --- what cannot be fed ----------------------------------------------------------------------------------------


def test_what_cannot_grow_is_not_followed(tmp_path: Path) -> None:
    table(tmp_path / "r.parquet", ROWS)
    for name, words in [
        (str(saved(tmp_path / "r.npy")), "--follow: a .npy file does not grow"),
        (str(tmp_path / "r.parquet"), "r.parquet: a Parquet file does not grow.*folder"),
        ("-", "--follow: standard input is read until it ends"),
    ]:
        with pytest.raises(DataError, match=words):
            open_feed(name, follow=True)


def test_only_parquet_has_columns_to_choose(tmp_path: Path) -> None:
    for name in (str(saved(tmp_path / "r.npy")), str(stored(tmp_path / "r.zarr")), "-"):
        with pytest.raises(DataError, match=f"--columns: {name} has no named columns"):
            open_feed(name, columns=["a"])


def test_nothing_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, words in [("nothing.zarr", "no such file or folder"), ("empty", "no Zarr array"), ("*.pq", "no Parquet")]:
        with pytest.raises(DataError, match=words):
            open_feed(str(tmp_path / name))
