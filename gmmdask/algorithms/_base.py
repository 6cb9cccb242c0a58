"""What a fitting algorithm is: a frozen value that asks for statistics and turns them into its next state."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

from gmmdask.estep import EStep
from gmmdask.frame import Prior
from gmmdask.mixture import Mixture
from gmmdask.outcome import Outcome
from gmmdask.plan import Slice
from gmmdask.stats import Stats


@dataclass(frozen=True, eq=False)
class State:
    """Where a run stands: its mixture in frame coordinates, laps over the data, outcome (None while it goes on).

    Algorithms extend it with what they carry themselves; a checkpoint holds a state and nothing else of a run.
    """

    mixture: Mixture
    laps: int = 0
    outcome: Outcome | None = None

    registry: ClassVar[dict[str, type["State"]]] = {}

    def __init_subclass__(cls) -> None:
        State.registry[cls.__name__] = cls


State.registry["State"] = State


@dataclass(frozen=True, eq=False)
class Request:
    """An E-step on some slices of the data, None for all of it."""

    work: EStep
    slices: tuple[Slice, ...] | None = None


@dataclass(frozen=True)
class Note:
    """What an algorithm wants reported of a step.

    The lower bound of the mixture that was evaluated and its gain (nats per row), and components of less than one row.
    """

    lower_bound: float
    gain: float | None = None
    empty: tuple[int, ...] = ()


class Algorithm(ABC):
    """A frozen dataclass with three verbs. It never touches data, and never loops."""

    @classmethod
    def of(cls, **settings: Any) -> Self:
        """One with those of an estimator's settings that it has fields for."""
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in settings.items() if name in known})

    @abstractmethod
    def start(self, mixture: Mixture) -> State:
        """The state before the first pass, from a mixture in frame coordinates."""

    def resume(self, state: State) -> State:
        """A state that was reached under another `max_iter` or `tol`: ended or going on as these settings have it.

        Goes on unless its laps are used up; an algorithm that can judge a state again does.
        """
        return state if state.laps >= getattr(self, "max_iter", float("inf")) else replace(state, outcome=None)

    @abstractmethod
    def ask(self, state: State) -> Request:
        """What the next step needs."""

    @abstractmethod
    def tell(self, state: State, stats: Stats, prior: Prior) -> tuple[State, Note]:
        """The next state, from the statistics that were asked for.

        Raises
        ------
        IllDefinedCovariance
            If a covariance is not positive definite any more.
        """
