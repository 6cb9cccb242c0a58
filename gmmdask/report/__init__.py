"""One self-contained HTML page of a fitted mixture: what was fitted to what, and whether to trust it."""

from typing import Any

from gmmdask.execution import open_executor
from gmmdask.model_file import Model
from gmmdask.report.examine import drawn_scores, look_at
from gmmdask.report.findings import Facts
from gmmdask.report.page import render
from gmmdask.sources import Source

__all__ = ["report"]


def report(
    model: Model, path: str, source: Source | None = None, scheduler: Any = None, missing: bool | None = None
) -> str:
    """The page, as text. With rows, it reads them twice.

    Parameters
    ----------
    path : what the page calls the file of the model.
    source : rows that the model is compared with, best such as it was not fitted to; None does without.
    scheduler : as `GaussianMixture.fit` takes it, or an executor.
    missing : whether NaN is a missing value; None goes by the fit of the model.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    gmmdask.sources.DataError, ValueError
        If the rows do not go with the model, or hold infinity, or NaN that is not `missing`.
    """
    drawn = drawn_scores(model.mixture)
    if source is None:
        return render(Facts(model, drawn, None), path)
    with open_executor(scheduler) as executor:
        look = look_at(model, source, executor, drawn, missing)
    return render(Facts(model, drawn, look), path)
