"""What a checkpoint holds of a fit, and how a fit goes on from it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gmmdask.algorithms import KEPT, Algorithm, Beginning, Online, State
from gmmdask.checkpoint import Checkpoint
from gmmdask.frame import Conjugate, Frame, Prior
from gmmdask.mixture import Mixture
from gmmdask.moments import Moments
from gmmdask.noise import Noise
from gmmdask.outcome import Outcome, Reason
from gmmdask.pilot import FirstLook
from gmmdask.place import Place
from gmmdask.record import fixed
from gmmdask.run import Run
from gmmdask.settings import Settings
from gmmdask.sources import Source
from gmmdask.stats import Layout, Stats

# What may differ where a resume is forced: neither the model nor what a state means depends on it.
FORCED_DATA = ("address", "codecs", "columns", "digest", "files", "kind", "rows", "snapshot", "token")
FORCED_LAYOUT = ("chunks", "grid", "memory_limit")  # the plan does: mini-batches are cut by it
FORCED_SETTINGS = ("init_params", "kernel", "n_init", "random_state", "refine", "sample_rows")


@dataclass(frozen=True, eq=False)
class Progress:
    """What a checkpoint holds: enough to go on to the same bits; `forced` says what else a forced resume changed."""

    data: dict[str, Any]
    settings: dict[str, Any]
    seed: int
    look: FirstLook | None = None
    runs: tuple[Run, ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    stages: tuple[dict[str, Any], ...] = ()
    forced: str = ""

    @property
    def lap(self) -> int | None:
        """Laps that are behind; None where no start has been chosen yet."""
        return max((run.state.laps for run in self.runs), default=None)

    def resumed(self, data: dict[str, Any], settings: Settings, force: bool) -> "Progress":
        """What a fit of data with this fingerprint goes on from, under the present `max_iter` and `tol`.

        Raises
        ------
        ValueError
            If the checkpoint is one of other data or settings, which `force` may accept.
        """
        told = self._differences(data, settings, force)
        runs = tuple(continued(run, settings, force) for run in self.runs)
        laps = {run.name: run.state.laps for run in runs}
        # an interruption between the event of a pass and its checkpoint leaves a row of a pass that is made again
        history = tuple(row for row in self.history if row["lap"] <= laps.get(row["run"], 0))
        forced = "; ".join(filter(None, (self.forced, told)))
        return replace(self, data=data, settings=settings.describe(), runs=runs, history=history, forced=forced)

    def _differences(self, data: dict[str, Any], settings: Settings, force: bool) -> str:
        """What differs and is accepted, in words."""
        layout = () if settings.algorithm.mini_batches else FORCED_LAYOUT
        accepted = {*FORCED_DATA, *FORCED_SETTINGS, *layout} if force else set()
        told = []
        pairs = ("data", self.data, data), ("settings", fixed(self.settings), fixed(settings.describe()))
        for what, old, new in pairs:
            different = [key for key in {**old, **new} if old.get(key) != new.get(key)]
            words = [f"{key}: {old.get(key)!r} then, {new.get(key)!r} now" for key in different]
            if refused := set(different) - accepted:
                remedy = (
                    f"No force accepts another {', '.join(sorted(refused))}: it would not be the fit that is asked for."
                    if force
                    else "Only max_iter and tol may change on resume, unless forced: resume='force' (--force-resume)."
                )
                raise ValueError(
                    f"the checkpoint belongs to a fit of other {what} ({'; '.join(words)}). {remedy} Remove the "
                    "checkpoint to start anew."
                )
            told.extend(words)
        return "; ".join(told)


def check_resumable(checkpoint: str | Path | Place, source: Source, settings: Settings, force: bool) -> None:
    """ValueError if there is a checkpoint of other data or settings, which names them; `force` accepts some."""
    found: Progress | None = Checkpoint(checkpoint, stored_classes(), resume=True).load()
    if found is not None:
        found.resumed(source.fingerprint(), settings, force)


def continued(run: Run, settings: Settings, force: bool) -> Run:
    """A run from a checkpoint under the present `max_iter` and `tol`, which may end or reopen it."""
    algorithm = settings.algorithm
    state = run.state if run.algorithm == algorithm else algorithm.resume(run.state)
    return replace(run, algorithm=algorithm, state=state, fast=settings.fast if force else run.fast)


def stored_classes() -> dict[str, type]:
    """Names and types of the frozen values that a checkpoint may hold."""
    plain = (Progress, FirstLook, Moments, Run, Frame, Prior, Conjugate, Mixture, Noise, Outcome, Reason)
    learned = (Stats, Layout, Online, Beginning, *KEPT)
    return {kind.__name__: kind for kind in (*plain, *learned, *State.registry.values(), *all_algorithms(Algorithm))}


def all_algorithms(kind: type) -> list[type]:
    """A class and all that extend it."""
    children: list[type] = kind.__subclasses__()
    return [kind, *(found for child in children for found in all_algorithms(child))]
