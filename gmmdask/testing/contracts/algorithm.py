"""What every fitting algorithm has to keep."""

import dataclasses
import json
from typing import Any, ClassVar

import numpy as np
import pytest

from gmmdask import container
from gmmdask.algorithms import Algorithm, Beginning, Request, State
from gmmdask.covariance import FAMILIES
from gmmdask.covariance._base import Array
from gmmdask.estep import ESteps
from gmmdask.execution import Executor, Threads
from gmmdask.fit import advance
from gmmdask.mixture import Mixture
from gmmdask.outcome import Callback, Event, PassDone, RunEnded, StepDone
from gmmdask.progress import stored_classes
from gmmdask.run import Run
from gmmdask.selfcheck import Expected
from gmmdask.sources import ArraySource
from gmmdask.task import Data
from gmmdask.testing.contracts.executor import plan_of
from gmmdask.testing.passes import data_of, e_step, fit_data, frame_of_rows, mixture_of, run_of
from gmmdask.testing.strategies import random_mixture

SHAPE = (3, 3)
PLAN = dataclasses.replace(plan_of(9), window=4, slices=3)  # nine steps a lap, of four parts or one


def bits(mixture: Mixture) -> bytes:
    """All numbers of a mixture."""
    return b"".join(array.tobytes() for array in (mixture.proportions, mixture.means, mixture.covariances))


class Interrupted(Exception):
    """Ends a run after a step, as SIGKILL would."""


class AlgorithmTests:
    """A subclass sets `algorithm`, a value with small `max_iter`; `monotone` if it promises never to fall.

    `sampled` starts it with statistics of a sample and with held-out rows.
    """

    algorithm: ClassVar[Algorithm]
    max_iter: ClassVar[int]
    monotone: ClassVar[bool] = False
    sampled: ClassVar[bool] = False
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

    @pytest.fixture
    def run(self, start: Mixture, rows: Array) -> Run:
        frame = frame_of_rows(start, rows)
        sample = e_step(rows[:100], frame.mixture_in(start), "products", frame, [(0, 100)]) if self.sampled else None
        return run_of("run", self.algorithm, start, frame, beginning=Beginning(3, PLAN.steps, sample, self.sampled))

    def held_out(self, rows: Array) -> Array | None:
        return rows[::7] if self.sampled else None

    def ended(
        self, run: Run, rows: Array, executor: Executor | None = None, emit: Callback = lambda event: None
    ) -> Run:
        """The run at its end."""
        data = Data(ArraySource(rows), PLAN, executor or Threads(1))
        return fit_data(data, run, emit=emit, held_out=self.held_out(rows))[0]

    def one_step(self, run: Run, rows: Array) -> tuple[bytes, State]:
        """The statistics that a state asks for, and the state that follows."""
        request = self.algorithm.ask(run.state, PLAN)
        work = ESteps(tuple((run.frame, step.by(run.fast)) for step in request.steps), PLAN.block_rows)
        answer = Data(ArraySource(rows), PLAN, Threads(1)).sums(work, request.slices).items
        vectors = b"".join(stats.vector.tobytes() for stats in answer)
        state = self.algorithm.tell(run.state, answer, run.prior)[0]
        assert b"".join(stats.vector.tobytes() for stats in answer) == vectors
        return vectors, state

    def asked(self, request: Request) -> tuple[Any, ...]:
        return (request.slices, request.held_out, [(bits(step.mixture), step.kernel) for step in request.steps])

    def test_algorithm_and_state_are_frozen(self, run: Run) -> None:
        assert run.state.outcome is None
        for value in (self.algorithm, run.state):
            assert dataclasses.is_dataclass(value)
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(value, dataclasses.fields(value)[0].name, None)

    def test_ask_and_tell_are_pure(self, run: Run, rows: Array) -> None:
        before, mixture = self.asked(self.algorithm.ask(run.state, PLAN)), bits(run.state.mixture)
        vectors, following = self.one_step(run, rows)
        again, same = self.one_step(run, rows)
        assert again == vectors
        assert bits(run.state.mixture) == mixture
        assert self.asked(self.algorithm.ask(run.state, PLAN)) == before
        assert self.asked(self.algorithm.ask(same, PLAN)) == self.asked(self.algorithm.ask(following, PLAN))

    def test_it_ends_with_an_outcome(self, run: Run, rows: Array) -> None:
        events: list[Event] = []
        ended = self.ended(run, rows, emit=events.append)
        assert ended.state.outcome is not None
        assert ended.state.outcome.sentence
        assert 1 <= ended.state.laps <= self.max_iter
        assert [event.outcome for event in events if isinstance(event, RunEnded)] == [ended.state.outcome]
        laps = [event for event in events if isinstance(event, PassDone)]
        assert [event.lap for event in laps] == list(range(1, ended.state.laps + 1))
        assert {event.rows for event in laps} == {len(rows)}

    def test_every_lap_adds_up_to_all_rows(self, run: Run, rows: Array) -> None:
        """Promise P10: and a lap in which the data has changed is an error."""
        expected = Expected(float(len(rows)), rows.mean(axis=0), np.cov(rows.T, bias=True))
        held_out = self.held_out(rows)
        beside = None if held_out is None else data_of(held_out)
        data = Data(ArraySource(rows.copy()), PLAN, Threads(1))
        advance((run,), data, lambda event: None, expected, held_out=beside)
        changed = Data(ArraySource(rows + 1e-3), PLAN, Threads(1))
        with pytest.raises(ValueError, match="the data changed under the fit"):
            advance((run,), changed, lambda event: None, expected, held_out=beside)

    def test_bits_do_not_depend_on_threads(self, run: Run, rows: Array) -> None:
        serial = self.ended(run, rows)
        threaded = self.ended(run, rows, Threads(2))
        assert bits(mixture_of(threaded)) == bits(mixture_of(serial))
        assert threaded.state.outcome == serial.state.outcome

    def test_interrupted_after_every_step_it_ends_in_the_same_bits(self, run: Run, rows: Array) -> None:
        """What a checkpoint holds is all there is of a run."""
        whole, kept = self.ended(run, rows), list[Run]()

        def save(runs: tuple[Run, ...]) -> None:
            arrays: container.Arrays = {}
            text = json.dumps(container.pack(runs[0], arrays))
            kept.append(container.unpack(json.loads(text), arrays, stored_classes()))
            raise Interrupted

        held_out = self.held_out(rows)
        while run.going:
            beside = None if held_out is None else data_of(held_out)
            with pytest.raises(Interrupted):
                advance((run,), Data(ArraySource(rows), PLAN, Threads(1)), lambda e: None, save=save, held_out=beside)
            run = kept[-1]
        assert len(kept) >= whole.state.laps
        assert bits(mixture_of(run)) == bits(mixture_of(whole))
        assert run.state.outcome == whole.state.outcome

    def test_it_never_falls(self, run: Run, rows: Array) -> None:
        """From the end of the first lap on, step by step."""
        if not self.monotone:
            pytest.skip("not promised")
        bounds: list[float] = []

        def emit(event: Event) -> None:
            if isinstance(event, PassDone) or (isinstance(event, StepDone) and event.lap > 1):
                bounds.append(event.lower_bound)

        self.ended(run, rows, emit=emit)
        assert len(bounds) > 1
        assert np.all(np.diff(bounds) >= -1e-12 * np.abs(bounds[1:]))
