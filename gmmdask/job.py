"""One fit from data to model: plan, pilot, start, passes. What the estimator and the command line both run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from gmmdask.begin import REFINED, Opening
from gmmdask.checkpoint import Checkpoint
from gmmdask.compiled import warm_up
from gmmdask.covariance import Family
from gmmdask.covariance._base import Array
from gmmdask.degenerate import distinct_rows, without_spread
from gmmdask.degenerate import told as too_few
from gmmdask.ending import Ending, Fitted
from gmmdask.execution import Executor, one_thread
from gmmdask.fit import advance
from gmmdask.forecast import check_workers
from gmmdask.frame import Frame
from gmmdask.initialise import in_memory
from gmmdask.moments import Moments
from gmmdask.outcome import (
    Callback,
    CentresFound,
    CheckpointDamaged,
    CheckpointWritten,
    DirectionsWithoutSpread,
    Event,
    FewDistinctRows,
    FitStarted,
    KernelChanged,
    KernelReady,
    MovesDone,
    PassDone,
    PilotDone,
    Resumed,
    RowsSorted,
    StartChosen,
)
from gmmdask.pilot import FirstLook, first_look
from gmmdask.place import Place
from gmmdask.planning import fit_plan, plan_fit, sample_sizes
from gmmdask.progress import Progress, stored_classes
from gmmdask.run import Run
from gmmdask.selfcheck import CHANGED, WEIGHT_ROUNDING, ChangedData, Expected
from gmmdask.settings import Settings
from gmmdask.sources import ArraySource, DataError, Source
from gmmdask.sources.weights import weighted
from gmmdask.task import Data


class Job:
    """A fit under way: owns the order of its stages and what is saved between them.

    Parameters
    ----------
    executor : entered by the caller.
    emit : receives events.
    checkpoint : path or URL, or None for no checkpoint.
    resume : whether an existing checkpoint is continued; "force" does on other data or settings too, where that can be.
    """

    def __init__(
        self,
        source: Source,
        settings: Settings,
        executor: Executor,
        emit: Callback,
        checkpoint: str | Path | Place | None = None,
        resume: bool | str = False,
    ) -> None:
        self.source, self.settings, self.executor = source, settings, executor
        self.plan, self.memory = plan_fit(source, settings, executor)
        check_workers(source, settings, executor, self.memory)
        executor.planned = self.memory.task
        self.callback, self.kernels = emit, dict[str, str]()
        if resume not in (False, True, "force"):
            raise ValueError(f"resume={resume!r}: expected True, False or 'force'.")
        self.force = resume == "force"
        self.checkpoint = None if checkpoint is None else Checkpoint(checkpoint, stored_classes(), bool(resume))
        self.progress = self._begin()

    def emit(self, event: Event) -> None:
        """Passes an event on, and keeps what the history and the model tell of it."""
        if isinstance(event, PassDone):
            self.progress = replace(self.progress, history=(*self.progress.history, asdict(event)))
        if isinstance(event, KernelChanged):
            self.kernels[event.run] = event.kernel
        if isinstance(event, PilotDone):
            self._stage({"stage": "first look", "seconds": event.seconds})
        own = {"run": event.run} if self.settings.candidates else {}
        if isinstance(event, StartChosen):
            chosen = {"starts": event.starts, "ends": list(event.ends)}
            self._stage({"stage": "start", **own, "gained": event.gained, "seconds": event.seconds, **chosen})
        if isinstance(event, CentresFound):
            self._stage({"stage": "start", "passes": event.passes, "seconds": event.seconds})
        if isinstance(event, MovesDone):
            told = {"moves": event.moves, "gained": event.gained, "seconds": event.seconds}
            self._stage({"stage": "split-merge", **own, **told})
        self.callback(event)

    def _stage(self, stage: dict[str, Any]) -> None:
        self.progress = replace(self.progress, stages=(*self.progress.stages, stage))

    def _begin(self) -> Progress:
        found: Progress | None = self.checkpoint.load() if self.checkpoint is not None else None
        data = self.source.fingerprint()
        if self.checkpoint is not None and self.checkpoint.damaged:
            self.callback(CheckpointDamaged("fit", self.checkpoint.damaged))
        if found is None:
            return Progress(data, self.settings.describe(), self._seed())
        assert self.checkpoint is not None
        progress = found.resumed(data, self.settings, self.force)
        self.callback(Resumed("fit", self.checkpoint.kept, progress.lap))
        return progress

    def _seed(self) -> int:
        """The seed that was given, or drawn: from a copy if starts are still to be drawn as scikit-learn does."""
        given = self.settings.random_state
        if isinstance(given, int):
            return given
        whole = self.source.n <= sample_sizes(self.source, self.settings)[0]
        return int(check_random_state(deepcopy(given) if whole else given).randint(2**32, dtype=np.uint32))

    def save(self, now: bool = False) -> None:
        if self.checkpoint is not None and self.checkpoint.save(self.progress, now):
            self.callback(CheckpointWritten("fit", str(self.checkpoint.path)))

    def run(self) -> Fitted:
        """Goes through all stages that are not behind yet."""
        with self.under_way():
            data, look = self.looked_at()
            frame = self.frame(self.settings.family, look.moments)
            lacks = self._lacks(frame, look)
            if look.whole:
                data = self.beside(look.sample, look.sample_weights)
            opening = Opening(self.settings, look, frame, self.progress.seed, self.executor.beside, self.emit)
            if not self.progress.runs:
                runs = opening.runs(data)  # whose events are progress too
                self.progress = replace(self.progress, runs=runs)
                self.save(now=True)
            self._advance(data, look)
            if self.settings.refine and look.whole and self.progress.runs[-1].name != REFINED:
                moved = opening.moved(self.ending.best, data)
                self.progress = replace(self.progress, runs=(*self.progress.runs, *moved))
                self._advance(data, look)
        ending = self.ending
        return ending.fitted(ending.best, self.progress.stages, ending.starts(), *lacks)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Tells that it begins. Where it breaks off, saves; then says where to go on, or what changed in the store."""
        source, limit = self.source, getattr(self.settings.algorithm, "max_iter", 0)
        try:
            self.callback(FitStarted("fit", source.n, source.d, len(self.plan.parts), limit, self.executor.name))
            if self.settings.fast == "compiled":
                self.callback(KernelReady("fit", "compiled", warm_up()))
            with one_thread(), self._saved():
                yield
        except ChangedData:
            raise
        except BaseException as error:
            if self.checkpoint is not None and self.checkpoint.kept:
                error.add_note(
                    f"The checkpoint {self.checkpoint.kept} is kept: --resume goes on from it (resume=True)."
                )
            raise

    @contextmanager
    def _saved(self) -> Iterator[None]:
        try:
            yield
        except ChangedData as error:
            if changes := self.source.changes(chunks=True):
                error.add_note(f"In the store: {changes}")
            raise
        except BaseException:
            if self.progress.look is not None:
                self.save(now=True)
            raise

    def looked_at(self) -> tuple[Data, FirstLook]:
        """All rows, in the unit of their weights, and what the first look finds, or has found before."""
        data = Data(self.source, self.plan, self.executor, self.memory.cache)
        if self.progress.look is None:
            self._first_look(data)
        look = self.progress.look
        assert look is not None
        return data.in_unit(look.unit), look

    def beside(self, rows: np.ndarray, weights: Array | None) -> Data:
        """Rows of this process, for passes."""
        source = weighted(ArraySource(rows, "the sample"), weights)
        return Data(source, fit_plan(source, self.settings), self.executor.beside)

    def _first_look(self, data: Data) -> None:
        began = time.perf_counter()
        sizes = sample_sizes(self.source, self.settings)
        how = {
            "box": self.settings.noise,
            "numbered": bool(self.settings.candidates),
            "missing": self.settings.missing == "em",
        }
        look = first_look(data, self.progress.seed, *sizes, **how)
        if len(look.sample) < self.settings.start.n_components:
            raise DataError(
                f"{self.source.name}: {len(look.sample)} rows have a weight above zero, too few for n_components = "
                f"{self.settings.start.n_components}. Ask for fewer components, or give more rows a weight."
            )
        self.progress = replace(self.progress, look=look)
        self.emit(PilotDone("fit", len(look.sample), len(look.held_out), time.perf_counter() - began))
        if look.is_sorted:
            self.emit(RowsSorted("fit", look.order_ratio))
        self.save(now=True)

    def frame(self, family: Family, moments: Moments) -> Frame:
        """That suits the data; where values are missing, one that mixes no feature with another."""
        mean, covariance = moments.mean, moments.covariance
        if self.settings.missing == "em":
            return Frame.by_feature(family, mean, np.diag(covariance))
        return Frame.of(family, mean, covariance)

    def expected(self, moments: Moments) -> Expected:
        """What passes over rows with these moments must find again; where values are missing, their weight."""
        slack = 0.0 if self.source.weights is None else WEIGHT_ROUNDING
        if self.settings.missing == "em":
            return Expected(moments.weight, None, None, slack)
        return Expected(moments.weight, moments.mean, moments.covariance, slack)

    def _lacks(self, frame: Frame, look: FirstLook) -> tuple[tuple[int, ...], str]:
        """Features without spread, and what is to be said of too few different rows: told, as events too."""
        k = self.settings.start.n_components
        features = without_spread(frame, look.moments.covariance, self.settings, self.source.name)
        if features:
            self.emit(DirectionsWithoutSpread("fit", features))
        distinct = distinct_rows(look.sample, max(2, k))
        if distinct is None:
            return features, ""
        self.emit(FewDistinctRows("fit", distinct, k))
        return features, too_few(distinct, k, len(look.sample), self.source.n)

    def _beside(self, rows: np.ndarray, weights: Array | None) -> Data:
        """The sample or the held-out rows as data of the driver's process."""
        start = self.settings.start
        return in_memory(rows, start.covariance_type, start.n_components, self.executor.beside, weights)

    def _advance(self, data: Data, look: FirstLook) -> None:
        def save(runs: tuple[Run, ...]) -> None:
            self.progress = replace(self.progress, runs=runs)
            self.save()

        held_out = self._beside(look.held_out, look.held_out_weights) if len(look.held_out) else None
        advance(self.progress.runs, data, self.emit, self.expected(look.moments), save, held_out)
        self.save(now=True)
        self.check_unchanged(data)

    def check_unchanged(self, data: Data) -> None:
        """ChangedData if what was read, where it was read from a store, is not what is there now."""
        if data.source is self.source and (changes := self.source.changes(chunks=False)):
            raise ChangedData(f"{self.source.name}: {changes}: {CHANGED}")

    @property
    def ending(self) -> Ending:
        """What the fit has come to so far."""
        look = self.progress.look
        assert look is not None
        sample = self._beside(look.sample, look.sample_weights)
        return Ending(self.progress, look, self.settings, self.plan, self.source.n, self.kernels, sample)
