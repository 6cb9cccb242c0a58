"""What the runs of a fit begin with: starts of its settings, on what the first look has found."""

from dataclasses import dataclass, replace

import numpy as np

from gmmdask.algorithms import Beginning
from gmmdask.competition import Ground, best_start
from gmmdask.covariance._base import Array
from gmmdask.emptiness import FIRST_SHARE
from gmmdask.execution import Executor
from gmmdask.frame import Conjugate, Frame, Prior
from gmmdask.initialise import in_memory, lone_gaussian, one_start
from gmmdask.mixture import Mixture
from gmmdask.noise import Noise
from gmmdask.outcome import Callback, Event
from gmmdask.pilot import FirstLook
from gmmdask.refine import refined
from gmmdask.run import Run
from gmmdask.scalable import one_of, scalable_start
from gmmdask.settings import Settings
from gmmdask.stats import Stats
from gmmdask.task import Data

REFINED = "refined"  # the run that goes on from moved components, where all rows are in memory


@dataclass(frozen=True, eq=False)
class Opening:
    """All that a start depends on: settings, the first look, the frame, the seed.

    `executor` works on rows in memory, `emit` receives the events; `gaussian` is what is known of gaps, if it was found
    before.
    """

    settings: Settings
    look: FirstLook
    frame: Frame
    seed: int
    executor: Executor
    emit: Callback
    gaussian: Mixture | None = None

    def runs(self, data: Data) -> tuple[Run, ...]:
        """One run for every start that goes on to the passes over `data`, which are all rows."""
        settings, frame, prior = self.settings, self.frame, self.prior
        (mixtures, statistics), runs = self._mixtures(data), []
        beginning = self._beginning(data, statistics)
        for index, mixture in enumerate(mixtures):
            state = settings.algorithm.start(mixture, beginning)
            if settings.bounds and hasattr(state, "bounds"):  # a stochastic run judges laps by other rows
                state = replace(state, bounds=tuple(bound - frame.log_det for bound in settings.bounds))  # type: ignore[call-arg]
            name = f"start-{index}" if len(mixtures) > 1 else "fit"
            runs.append(Run(name, settings.algorithm, state, frame, prior, settings.fast))
        return tuple(runs)

    def moved(self, run: Run, data: Data) -> tuple[Run, ...]:
        """A run that goes on where moves of components have led from the end of this one; none if none was accepted.

        For rows in memory: larger data has had its moves on the sample.
        """
        before = run.state.mixture
        mixture = refined(before, self.settings.start, self.ground(), self.seed, self.emit)
        if mixture is before:
            return ()
        return (replace(run, name=REFINED, state=run.algorithm.start(mixture, self._beginning(data))),)

    @property
    def prior(self) -> Prior:
        """What the settings say, in the frame."""
        settings, frame, k = self.settings, self.frame, self.settings.start.n_components
        conjugate = Conjugate.named(settings.prior, k, frame.d)
        regularised = Prior.of(settings.start.covariance_type, k, frame, settings.reg_covar)
        known = replace(regularised, conjugate=conjugate, empty=settings.empty, weight=self.look.moments.weight)
        return replace(known, concentration=settings.weight_concentration, noise=self.noise)

    @property
    def noise(self) -> Noise | None:
        """In the frame, if the settings ask for it: its box is that of all rows, its weight a beginning."""
        if not self.settings.noise:
            return None
        assert self.look.low is not None
        assert self.look.high is not None
        return Noise(FIRST_SHARE, self.look.low, self.look.high, self.frame.log_det)

    @property
    def searching(self) -> Prior:
        """That of starts. What becomes of one of them is no news: another may be better."""
        return replace(self.prior, empty="reseed")

    def _beginning(self, data: Data, statistics: Stats | None = None) -> Beginning:
        look, plan = self.look, data.plan
        mixed = not look.is_sorted or plan.window == len(plan.parts)
        return Beginning(self.seed, plan.steps, statistics, held_out=len(look.held_out) > 0, mixed=mixed)

    def _mixtures(self, data: Data) -> tuple[list[Mixture], Stats | None]:
        """What runs begin with, and statistics of the sample where it was fitted to that and an algorithm asks."""
        settings, look, start = self.settings, self.look, self.settings.start
        if start.by_passes:
            return self._from_all_rows(data), None
        if look.whole:
            drawn = (look.sample, self.frame, self.prior, self._random(), look.sample_weights, self.expecting())
            return [one_start(start, *drawn) for _ in range(settings.n_init)], None
        ground = self.ground()
        mixture = best_start(start, settings.n_init, self.seed, ground, self.emit)
        if settings.refine:
            mixture = refined(mixture, start, ground, self.seed, self.emit)
        learns = settings.algorithm.mini_batches and not start.given
        return [mixture], ground.statistics(mixture) if learns else None

    def _from_all_rows(self, data: Data) -> list[Mixture]:
        """By k-means||: one start, or as many as are asked for where passes cost no read."""
        look, random = self.look, self._random()
        seeds, emit = [self.seed], self.emit
        if look.whole:
            seeds = [int(random.randint(2**32, dtype=np.uint32)) for _ in range(self.settings.n_init)]
            emit = unheard
        found = []
        for seed in seeds:
            first = one_of(look.sample, look.sample_weights, seed)
            how = (first, seed, self.settings.n_init, emit)
            found.append(scalable_start(self.settings.start, data, self.frame, self.searching, *how))
        return found

    def _random(self) -> np.random.RandomState:
        """What starts are drawn from, one after another, where all rows are in memory: as scikit-learn has it."""
        given = self.settings.random_state
        return given if isinstance(given, np.random.RandomState) else np.random.RandomState(self.seed % 2**32)

    def ground(self) -> Ground:
        """What starts compete on. Where the sample is all rows, they are judged by it too."""
        look = self.look
        sample = self._beside(look.sample, look.sample_weights)
        held_out = sample if look.whole else self._beside(look.held_out, look.held_out_weights)
        known = (self.settings.fast, look.sample_weights, self.expecting())
        return Ground(look.sample, sample, held_out, self.frame, self.searching, *known)

    def expecting(self) -> Mixture | None:
        """What is known of missing values before there is a start; None where none are."""
        if self.settings.missing != "em" or self.gaussian is not None:
            return self.gaussian
        return lone_gaussian(self.look.sample, self.frame, self.executor, self.look.sample_weights)

    def _beside(self, rows: np.ndarray, weights: Array | None) -> Data:
        start = self.settings.start
        return in_memory(rows, start.covariance_type, start.n_components, self.executor, weights)


def unheard(event: Event) -> None:
    """Receives what nobody has to know."""
