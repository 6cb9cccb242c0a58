"""What a fitting algorithm is: a frozen value that asks for statistics and turns them into its next state."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Self

from gmmdask.covariance._base import Array
from gmmdask.estep import EStep
from gmmdask.frame import Prior
from gmmdask.mixture import Mixture
from gmmdask.outcome import Outcome
from gmmdask.plan import Plan, Slice
from gmmdask.repair import Repair, repaired, without_rows
from gmmdask.stats import Stats

Answer = tuple[Stats, ...] | Array


@dataclass(frozen=True, eq=False)
class State:
    """Where a run stands: its mixture in frame coordinates, laps over the data, outcome (None while it goes on), and
    the mini-batches of the present lap that are behind.

    `empty` are components of less than one row; `reseeds` and `dropped` count what was done about such components.

    Algorithms extend it with what they carry themselves; a checkpoint holds a state and nothing else of a run.
    """

    mixture: Mixture
    laps: int = 0
    outcome: Outcome | None = None
    step: int = 0
    empty: tuple[int, ...] = ()
    reseeds: int = 0
    dropped: int = 0

    registry: ClassVar[dict[str, type["State"]]] = {}

    def mended(self, stats: Stats, prior: Prior) -> tuple[Self, Stats, tuple[Repair, ...]]:
        """With what is done about components of too few rows in these statistics of all rows counted, the statistics
        for the M-step, and the repairs; EmptyComponent if `prior.empty` asks for it.
        """
        stats, repairs = repaired(stats, prior, self.reseeds, self.laps + 1)
        dropped = sum(repair.shift is None for repair in repairs)
        state = replace(self, empty=without_rows(stats, prior), dropped=self.dropped + dropped)
        return replace(state, reseeds=self.reseeds + len(repairs) - dropped), stats, repairs

    @property
    def told(self) -> str:
        """What became of components that held too few rows: sentences, each with a space before it."""
        told = ""
        if self.reseeds:
            times = "once" if self.reseeds == 1 else f"{self.reseeds} times"
            told += f" A component with too few rows was reseeded, {times}."
        if self.dropped:
            left = self.mixture.n_components
            told += f" Components with too few rows were dropped: {left} of {left + self.dropped} are left."
        if self.empty:
            told += f" Components {list(self.empty)} hold less than one row: ask for fewer components."
        return told

    def __init_subclass__(cls) -> None:
        State.registry[cls.__name__] = cls


State.registry["State"] = State


@dataclass(frozen=True, eq=False)
class Request:
    """E-steps of one or more mixtures on some slices of the data, None for all of it.

    With `held_out`, the log densities of the held-out rows under the mixtures are wanted instead.
    """

    steps: tuple[EStep, ...]
    slices: tuple[Slice, ...] | None = None
    held_out: bool = False


@dataclass(frozen=True)
class Note:
    """What an algorithm wants reported of a step.

    The lower bound of the mixture that was evaluated and its gain (nats per row), components of less than one row,
    what was done about components that held too few rows, and how much of the bound is the log prior (nats per row).
    """

    lower_bound: float
    gain: float | None = None
    empty: tuple[int, ...] = ()
    repairs: tuple[Repair, ...] = ()
    log_prior: float = 0.0


@dataclass(frozen=True, eq=False)
class Beginning:
    """What a run may build on beside its mixture.

    Parameters
    ----------
    seed : keys whatever the algorithm draws.
    steps : mini-batches of a lap, as the plan has them.
    sample : statistics of the pilot's sample under the mixture, which was fitted to it; None without such a sample.
    held_out : whether there are held-out rows to ask for.
    mixed : whether every mini-batch is like all rows: not where they are sorted and too many to be in flight at once.
    """

    seed: int = 0
    steps: int = 1
    sample: Stats | None = None
    held_out: bool = False
    mixed: bool = True

    @property
    def fitted(self) -> bool:
        return self.sample is not None


class Algorithm(ABC):
    """A frozen dataclass with three verbs. It never touches data, and never loops.

    `mini_batches` is how many steps a lap should have at least; with 0, every step is a pass over all rows. `families`
    are the covariance types that it fits; none named are all.
    """

    families: ClassVar[tuple[str, ...]] = ()
    mini_batches: int = 0

    @classmethod
    def of(cls, **settings: Any) -> Self:
        """One with those of an estimator's settings that it has fields for."""
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in settings.items() if name in known})

    def describe(self) -> dict[str, Any]:
        """Its name and settings, as JSON values."""
        return {"name": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]

    @abstractmethod
    def start(self, mixture: Mixture, beginning: Beginning) -> State:
        """The state before the first pass, from a mixture in frame coordinates."""

    def resume(self, state: State) -> State:
        """A state that was reached under another `max_iter` or `tol`: ended or going on as these settings have it.

        Goes on unless its laps are used up; an algorithm that can judge a state again does.
        """
        return state if state.laps >= getattr(self, "max_iter", float("inf")) else replace(state, outcome=None)

    @abstractmethod
    def ask(self, state: State, plan: Plan) -> Request:
        """What the next step needs."""

    @abstractmethod
    def tell(self, state: State, answer: Answer, prior: Prior) -> tuple[State, Note]:
        """The next state, from what was asked for.

        Parameters
        ----------
        answer : Stats of each E-step, in their order; or log densities (mixtures, rows) of the held-out rows, in nats,
            and where these have weights a last line of them.

        Raises
        ------
        IllDefinedCovariance
            If a covariance is not positive definite any more.
        """

    def kept_bytes(self, stats_bytes: int, steps: int) -> int:
        """Bytes that a state takes at most, where statistics take `stats_bytes` and a lap has so many steps."""
        return 4 * stats_bytes
