"""What every fitting algorithm has to keep."""

import dataclasses
from typing import ClassVar

import numpy as np
import pytest

from gmmdask.algorithms import Algorithm, State
from gmmdask.covariance import FAMILIES
from gmmdask.covariance._base import Array
from gmmdask.estep import ESteps
from gmmdask.execution import Threads
from gmmdask.mixture import Mixture
from gmmdask.outcome import Event, PassDone, RunEnded
from gmmdask.sources import ArraySource
from gmmdask.stats import Stats
from gmmdask.task import Data
from gmmdask.testing.contracts.executor import plan_of
from gmmdask.testing.passes import data_of, fit_data, frame_of_rows, mixture_of, run_of
from gmmdask.testing.strategies import random_mixture

SHAPE = (3, 3)


def bits(mixture: Mixture) -> bytes:
    """All numbers of a mixture."""
    return b"".join(array.tobytes() for array in (mixture.weights, mixture.means, mixture.covariances))


class AlgorithmTests:
    """A subclass sets `algorithm`, a value with small `max_iter`; `monotone` if it promises never to fall."""

    algorithm: ClassVar[Algorithm]
    max_iter: ClassVar[int]
    monotone: ClassVar[bool] = False
    families: ClassVar[tuple[str, ...]] = tuple(FAMILIES)

    @pytest.fixture(params=sorted(FAMILIES))
    def covariance_type(self, request: pytest.FixtureRequest) -> str:
        if request.param not in self.families:
            pytest.skip(f"this algorithm does not fit {request.param}")
        return str(request.param)

    @pytest.fixture
    def start(self, covariance_type: str) -> Mixture:
        return random_mixture(np.random.default_rng(8), covariance_type, *SHAPE)

    @pytest.fixture
    def rows(self, start: Mixture) -> Array:
        truth = random_mixture(np.random.default_rng(9), start.covariance_type, *SHAPE)
        return truth.sample(650, np.random.default_rng(10))[0]

    def one_step(self, rows: Array, state: State, start: Mixture) -> tuple[Stats, State]:
        """The statistics that a state asks for, and the state that follows."""
        run = run_of("run", self.algorithm, start, frame_of_rows(start, rows))
        request = self.algorithm.ask(state)
        stats = data_of(rows).sums(ESteps(((run.frame, request.work),), 64), request.slices).items[0]
        return stats, self.algorithm.tell(state, stats, run.prior)[0]

    def test_algorithm_and_state_are_frozen(self, start: Mixture) -> None:
        state = self.algorithm.start(start)
        assert state.outcome is None
        for value in (self.algorithm, state):
            assert dataclasses.is_dataclass(value)
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(value, dataclasses.fields(value)[0].name, None)

    def test_states_are_registered_for_checkpoints(self, start: Mixture) -> None:
        state = self.algorithm.start(start)
        assert State.registry.get(type(state).__name__, State) is type(state)

    def test_ask_and_tell_are_pure(self, start: Mixture, rows: Array) -> None:
        state = self.algorithm.start(frame_of_rows(start, rows).mixture_in(start))
        before = self.algorithm.ask(state)
        mixture = bits(state.mixture)
        stats, following = self.one_step(rows, state, start)
        vector = stats.vector.tobytes()
        again, same = self.one_step(rows, state, start)
        assert (again.vector.tobytes(), bits(same.mixture)) == (vector, bits(following.mixture))
        assert stats.vector.tobytes() == vector
        assert bits(state.mixture) == mixture
        after = self.algorithm.ask(state)
        assert (after.slices, after.work.kernel) == (before.slices, before.work.kernel)
        assert bits(after.work.mixture) == bits(before.work.mixture)

    def test_it_ends_with_an_outcome(self, start: Mixture, rows: Array) -> None:
        events: list[Event] = []
        run = run_of("run", self.algorithm, start, frame_of_rows(start, rows))
        (ended,) = fit_data(data_of(rows), run, emit=events.append)
        assert ended.state.outcome is not None
        assert ended.state.outcome.sentence
        assert 1 <= ended.state.laps <= self.max_iter
        assert [event.outcome for event in events if isinstance(event, RunEnded)] == [ended.state.outcome]

    def test_bits_do_not_depend_on_threads(self, start: Mixture, rows: Array) -> None:
        found: list[bytes] = []
        for n in (1, 2):
            data = Data(ArraySource(rows), plan_of(9), Threads(n))
            assert data.plan.n == len(rows)
            run = run_of("run", self.algorithm, start, frame_of_rows(start, rows))
            found.extend(bits(mixture_of(ended)) for ended in fit_data(data, run))
        assert found[0] == found[1]

    def test_it_never_falls(self, start: Mixture, rows: Array) -> None:
        if not self.monotone:
            pytest.skip("not promised")
        bounds: list[float] = []

        def emit(event: Event) -> None:
            if isinstance(event, PassDone):
                bounds.append(event.lower_bound)

        fit_data(data_of(rows), run_of("run", self.algorithm, start, frame_of_rows(start, rows)), emit=emit)
        assert len(bounds) > 1
        assert np.all(np.diff(bounds) >= -1e-12 * np.abs(bounds[1:]))
