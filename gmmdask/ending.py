"""What a fit has come to: the run that ended highest, where its starts ended, and what the model tells of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gmmdask.begin import REFINED
from gmmdask.competition import compared, labels
from gmmdask.mixture import Mixture
from gmmdask.outcome import Outcome
from gmmdask.pilot import FirstLook
from gmmdask.plan import Plan
from gmmdask.progress import Progress
from gmmdask.record import in_words, log_densities, passes_stage, versions
from gmmdask.run import Run
from gmmdask.settings import Settings
from gmmdask.task import Data


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted mixture in data units, and what happened on the way; `bounds` are lower bounds in nats per row."""

    mixture: Mixture
    outcome: Outcome
    laps: int
    bounds: tuple[float, ...]
    history: tuple[dict[str, Any], ...]
    provenance: dict[str, Any]
    without_spread: tuple[int, ...]
    too_few_rows: str


@dataclass(frozen=True, eq=False)
class Ending:
    """Of a fit of n rows with these settings; `kernels` names those that runs went over to."""

    progress: Progress
    look: FirstLook
    settings: Settings
    plan: Plan
    n: int
    kernels: Mapping[str, str]
    sample: Data

    @property
    def bounds(self) -> dict[str, float]:
        """The last lower bound of each run."""
        return {row["run"]: row["lower_bound"] for row in self.progress.history}

    @property
    def best(self) -> Run:
        """The run that ended highest."""
        bounds = self.bounds
        return max(self.progress.runs, key=lambda run: bounds.get(run.name, -np.inf))

    def starts(self) -> list[dict[str, float]]:
        """Where the starts ended that were run to their end, best first; none of them where a start was given."""
        if not self.look.whole:
            return [end for stage in self.progress.stages for end in stage.get("ends", ())]
        bounds = self.bounds
        runs = [run for run in self.progress.runs if run.name in bounds and run.name != REFINED]
        ended = [] if self.settings.start.given else runs
        if len(ended) < 2:
            return [{"score": bounds[run.name], "agreement": 1.0} for run in ended]
        found = [labels(run.state.mixture, run.frame, self.sample, run.fast) for run in ended]
        scores = [bounds[run.name] for run in ended]
        return list(compared(scores, found, int(np.argmax(scores))))

    def others(self, best: Run) -> dict[str, list[float]]:
        """Lower bounds, lap by lap, of the runs from other starts; candidates are other models."""
        found: dict[str, list[float]] = {}
        for row in () if self.settings.candidates else self.progress.history:
            if row["run"] != best.name:
                found.setdefault(row["run"], []).append(row["lower_bound"])
        return found

    def missing(self) -> list[float]:
        """The shares (d,) of the sample's rows that lack a value of each feature; empty where none may."""
        if self.settings.missing != "em":
            return []
        shares: list[float] = np.average(np.isnan(self.look.sample), axis=0, weights=self.look.sample_weights).tolist()
        return shares

    def fitted(
        self,
        best: Run,
        stages: tuple[dict[str, Any], ...],
        starts: list[dict[str, float]],
        without_spread: tuple[int, ...],
        too_few_rows: str,
    ) -> Fitted:
        """What became of a run that has ended, after these stages, of starts that ended so."""
        rows = tuple(row for row in self.progress.history if row["run"] == best.name)
        assert best.state.outcome is not None
        stages = (*stages, passes_stage(rows))
        outcome = replace(best.state.outcome, sentence=f"{best.state.outcome.sentence} {too_few_rows}".rstrip())
        if not self.look.whole:
            outcome = replace(outcome, took=in_words(stages))
        provenance = {
            "data": self.progress.data,
            "rows": self.n,
            "settings": {**self.progress.settings, "seed": self.progress.seed},
            "block_rows": self.plan.block_rows,
            "parts": len(self.plan.parts),
            "kernel": self.kernels.get(best.name, self.settings.fast),
            "versions": versions("numba") if self.settings.fast == "compiled" else versions(),
            "outcome": {
                "reason": outcome.reason.value,
                "sentence": outcome.sentence,
                "predicted_gain": outcome.predicted_gain,
                "took": outcome.took,
            },
            "stages": [{name: value for name, value in stage.items() if name != "ends"} for stage in stages],
            "starts": starts,
            **({"forced": self.progress.forced} if self.progress.forced else {}),
            "history": list(rows),
            **({"other_runs": others} if (others := self.others(best)) else {}),
            "log_densities": log_densities(best, self.sample),
            **({"missing": shares} if (shares := self.missing()) else {}),
        }
        bounds = tuple(row["lower_bound"] for row in rows)
        mixture = best.frame.mixture_out(best.state.mixture)
        return Fitted(mixture, outcome, best.state.laps, bounds, rows, provenance, without_spread, too_few_rows)
