"""What every source of rows has to keep."""

import json
import pickle
from abc import abstractmethod
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from gmmdask.estep import EStep, ESteps
from gmmdask.execution import Threads
from gmmdask.pilot import first_look
from gmmdask.sources import ArraySource, Source
from gmmdask.testing.passes import data_of, identity_frame
from gmmdask.testing.strategies import random_mixture

Rows = np.ndarray[Any, np.dtype[Any]]


def joined(pieces: Iterable[Rows]) -> bytes:
    """The bits of all rows, one after another."""
    return b"".join(np.ascontiguousarray(piece).tobytes() for piece in pieces)


class SourceTests:
    """A subclass makes a source of given rows; `stored` says that it is an address and not the rows themselves."""

    n: ClassVar[int] = 1000
    d: ClassVar[int] = 3
    dtype: ClassVar[str] = "float64"
    stored: ClassVar[bool] = True

    @abstractmethod
    def make(self, rows: Rows, folder: Path) -> Source:
        """A source of rows (n, d), kept in an empty folder if anywhere."""

    @pytest.fixture
    def rows(self) -> Rows:
        return (100 * np.random.default_rng(7).normal(size=(self.n, self.d))).astype(self.dtype)

    @pytest.fixture
    def source(self, rows: Rows, tmp_path: Path) -> Source:
        return self.make(rows, tmp_path)

    def test_it_knows_its_shape(self, source: Source, rows: Rows) -> None:
        assert (source.n, source.d) == rows.shape
        assert source.dtype == rows.dtype
        assert source.in_memory is False or not self.stored

    def test_edges_cut_all_rows_in_order(self, source: Source) -> None:
        assert source.edges[0] == 0
        assert source.edges[-1] == source.n
        assert np.all(np.diff(source.edges) > 0)
        assert source.chunk_rows == max(np.diff(source.edges))
        for chunk in {0, len(source.edges) // 2, len(source.edges) - 2} & set(range(len(source.edges) - 1)):
            assert source.chunk_of(int(source.edges[chunk])) == chunk
            assert source.chunk_of(int(source.edges[chunk + 1]) - 1) == chunk

    def test_it_reads_any_run_of_chunks_bit_for_bit(self, source: Source, rows: Rows) -> None:
        ranges = list(combinations([int(edge) for edge in source.edges], 2))
        if len(ranges) > 40:
            ranges = [ranges[i] for i in np.random.default_rng(1).choice(len(ranges), 40, replace=False)]
        for start, stop in [(0, source.n), *ranges]:
            pieces = list(source.read(start, stop))
            assert all(piece.ndim == 2 and len(piece) and piece.dtype == rows.dtype for piece in pieces)
            assert joined(pieces) == rows[start:stop].tobytes()

    def test_reads_stay_within_the_stated_memory(self, source: Source) -> None:
        if self.stored:
            assert max(piece.nbytes for piece in source.read(0, source.n)) <= source.read_bytes(0, source.n)

    def test_it_travels_as_an_address(self, source: Source, rows: Rows) -> None:
        if not self.stored:
            pytest.skip("rows in memory travel as data")
        message = pickle.dumps(source)
        assert len(message) < rows.nbytes / 2
        there = pickle.loads(message)
        assert joined(there.read(0, source.n)) == rows.tobytes()
        assert there.fingerprint() == source.fingerprint()

    def test_its_fingerprint_is_json_and_stable(self, source: Source) -> None:
        found = source.fingerprint()
        assert json.loads(json.dumps(found)) == found
        assert source.fingerprint() == found
        assert found["shape"] == [source.n, source.d]

    def test_the_pilot_draws_the_sample_of_the_same_rows_in_memory(self, source: Source, rows: Rows) -> None:
        found = first_look(data_of(source), 3, 60, 30)
        wanted = first_look(data_of(ArraySource(np.ascontiguousarray(rows))), 3, 60, 30)
        assert found.sample.tobytes() == wanted.sample.tobytes()
        assert found.held_out.tobytes() == wanted.held_out.tobytes()

    def test_passes_over_it_add_up(self, source: Source, rows: Rows) -> None:
        mixture = random_mixture(np.random.default_rng(0), "full", 2, self.d, separation=50.0)
        frame = identity_frame(self.d)
        work = ESteps(((frame, EStep(mixture, "products")),), 64)
        found = {}
        for n in (1, 2):
            with Threads(n) as executor:
                data = data_of(source, executor)
                first, second = data.sums(work).items[0], data.sums(work).items[0]
                assert first.vector.tobytes() == second.vector.tobytes()
                found[n] = first
        assert found[1].vector.tobytes() == found[2].vector.tobytes()
        assert found[1].weight == source.n
        scale = np.abs(rows.astype(np.float64)).sum(axis=0)
        assert np.all(np.abs(found[1].first.sum(axis=0) - rows.astype(np.float64).sum(axis=0)) <= 1e-12 * scale)
