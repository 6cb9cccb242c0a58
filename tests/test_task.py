"""One task and one pass: blocks, slices, sums."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmmdask.execution import Threads
from gmmdask.plan import Part, Plan, Slice
from gmmdask.sources import ArraySource
from gmmdask.task import Block, Data, ahead, cut_blocks, run_task
from gmmdask.testing.strategies import LAW, cuts


@st.composite
def streams(draw: st.DrawFn) -> list[np.ndarray]:
    """Rows (n, 2) that hold their own number, cut into pieces."""
    n = draw(st.integers(1, 200))
    rows = np.arange(2.0 * n).reshape(n, 2)
    return [rows[start:stop] for start, stop in draw(cuts(n))]


@LAW
@given(pieces=streams(), block_rows=st.integers(1, 220), first_row=st.integers(0, 10**12))
def test_blocks_are_full_but_the_last(pieces: list[np.ndarray], block_rows: int, first_row: int) -> None:
    rows = np.concatenate(pieces)
    blocks = list(cut_blocks(iter(pieces), first_row, block_rows))
    assert [len(block.rows) for block in blocks[:-1]] == [block_rows] * (len(blocks) - 1)
    assert 1 <= len(blocks[-1].rows) <= block_rows
    np.testing.assert_array_equal(np.concatenate([block.rows for block in blocks]), rows)
    assert [block.first_row for block in blocks] == list(range(first_row, first_row + len(rows), block_rows))


def test_a_block_inside_one_piece_is_a_view() -> None:
    piece = np.zeros((10, 2))
    blocks = list(cut_blocks([piece], 0, 4))
    assert all(block.rows.base is piece for block in blocks)


def test_a_stream_is_read_no_further_than_needed() -> None:
    read = []

    def pieces() -> object:
        for i in range(5):
            read.append(i)
            yield np.zeros((3, 1))

    blocks = cut_blocks(pieces(), 0, 3)  # type: ignore[arg-type]
    next(blocks)
    assert read == [0]


def numbers(blocks: object) -> list[float]:
    """Work that adds: the first column of every row."""
    return [value for block in blocks for value in block.rows[:, 0]]  # type: ignore[attr-defined]


@LAW
@given(n=st.integers(1, 200), of=st.integers(1, 9), block_rows=st.integers(1, 60))
def test_slices_interleave_and_cover(n: int, of: int, block_rows: int) -> None:
    source, part = ArraySource(np.arange(float(n))[:, None]), Part(0, 0, n)
    found = [run_task(source, Slice(part, k, of), block_rows, numbers) for k in range(of)]
    assert sorted(value for values in found for value in values) == list(range(n))
    for k, values in enumerate(found):
        assert all(int(value) % of == k for value in values)


@LAW
@given(n=st.integers(1, 300), bounds=st.data(), block_rows=st.integers(1, 50), threads=st.sampled_from([1, 2]))
def test_a_pass_visits_every_row_once_in_order(n: int, bounds: st.DataObject, block_rows: int, threads: int) -> None:
    parts = tuple(Part(i, start, stop) for i, (start, stop) in enumerate(bounds.draw(cuts(n))))
    with Threads(threads) as executor:
        data = Data(ArraySource(np.arange(float(n))[:, None]), Plan(parts, block_rows), executor)
        assert data.sums(numbers) == list(range(n))
        last = (Slice(parts[-1]),)
        assert data.sums(numbers, last) == list(range(parts[-1].start, parts[-1].stop))


def test_two_slices_of_one_part_are_both_visited() -> None:
    part = Part(0, 0, 12)
    data = Data(ArraySource(np.arange(12.0)[:, None]), Plan((part,), 2), Threads(1))
    assert sorted(data.sums(numbers, (Slice(part, 0, 3), Slice(part, 2, 3)))) == [0, 2, 3, 5, 6, 8, 9, 11]


def test_blocks_carry_the_numbers_of_their_rows() -> None:
    def first_rows(blocks: list[Block]) -> list[tuple[int, float]]:
        return [(block.first_row, float(block.rows[0, 0])) for block in blocks]

    parts = (Part(0, 0, 7), Part(1, 7, 20))
    data = Data(ArraySource(np.arange(20.0)[:, None]), Plan(parts, 3), Threads(1))
    found = data.sums(first_rows)  # type: ignore[arg-type]
    assert [number for number, _ in found] == [0, 3, 6, 7, 10, 13, 16, 19]
    assert all(number == value for number, value in found)


def test_passes_of_one_fit_have_keys_of_their_own() -> None:
    keys: list[set[str]] = []

    class Watching(Threads):
        def get(self, graph: object, key: object) -> object:
            keys.append({str(name) for name in graph})  # type: ignore[attr-defined]
            return super().get(graph, key)  # type: ignore[arg-type]

    data = Data(ArraySource(np.zeros((4, 1))), Plan((Part(0, 0, 4),), 2), Watching(1))
    other = Data(data.source, data.plan, data.executor)
    for passes in (data, data, other):
        passes.sums(numbers)
    assert all(not (a & b) for i, a in enumerate(keys) for b in keys[:i])


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_source_of_a_graph_is_visited_in_order(n_threads: int) -> None:
    da = pytest.importorskip("dask.array")
    from gmmdask.sources.dask import DaskSource

    source = DaskSource(da.from_array(np.arange(50.0)[:, None], chunks=7))
    with Threads(n_threads) as executor:
        data = Data(source, Plan((Part(0, 0, 14), Part(1, 14, 50)), 4), executor)
        assert data.sums(numbers) == list(range(50))


def test_reading_runs_one_piece_ahead_and_errors_come_through() -> None:
    began, go = [], threading.Event()

    def pieces() -> Iterator[np.ndarray]:
        for i in range(3):
            began.append(i)
            if i == 1:
                go.set()
            yield np.full((2, 1), i)
        raise OSError("gone")

    reading = ahead(pieces())
    assert next(reading)[0, 0] == 0
    assert go.wait(10)  # the second is read while the first is worked on
    assert began == [0, 1]
    assert [int(next(reading)[0, 0]) for _ in range(2)] == [1, 2]
    with pytest.raises(OSError, match="gone"):
        next(reading)


def test_weights_of_blocks_are_laid_out_alike() -> None:
    """Sums along odd steps or odd addresses, where what a worker was sent may lie, have other bits."""
    weights = np.random.default_rng(0).uniform(1, 2, 60)
    odd = np.frombuffer(b"." + weights.tobytes(), np.uint8)[1:].view(np.float64)
    assert not odd.flags.aligned
    for each in (odd, odd[::2], weights[::2]):
        blocks = list(cut_blocks([np.zeros((len(each), 1))], 0, 20, [each]))
        assert all(block.weights.flags.aligned and block.weights.flags.c_contiguous for block in blocks)
        np.testing.assert_array_equal(np.concatenate([block.weights for block in blocks]), each)
