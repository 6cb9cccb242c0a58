"""What commands that fit have in common: outputs, checkpoints, and what is told before they begin."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click
import dask

from gmmdask.forecast import forecast
from gmmdask.outputs import OutputError, check_outputs, check_url
from gmmdask.place import is_url
from gmmdask.progress import check_resumable
from gmmdask.settings import Settings
from gmmdask.sources import addresses

AS_THEY_ARE = (
    *("tol", "max_iter", "reg_covar", "n_init", "weight_concentration", "noise", "missing"),
    *("checkpoint", "memory_limit", "cache", "sample_rows"),
)
OR_NONE = ("accelerate", "prior", "refine")


def parameters(options: dict[str, Any], reporter: Any) -> dict[str, Any]:
    """What the options of both `fit` and `select` say to an estimator."""
    given = {name: options[name] for name in AS_THEY_ARE}
    given |= {name: None if options[name] == "none" else options[name] for name in OR_NONE}
    return {**given, "init_params": options["init"], "random_state": options["seed"], "callbacks": (reporter,)}


def resumes(options: dict[str, Any], output: str) -> bool | str:
    """What a fit should take for `resume`; UsageError if the options contradict each other."""
    checkpoint, resume = options["checkpoint"], options["resume"] or options["force_resume"]
    if resume and checkpoint is None:
        raise click.UsageError("--resume needs --checkpoint.")
    if options["checkpoint_every"] is not None and checkpoint is None:
        raise click.UsageError("--checkpoint-every needs --checkpoint.")
    if checkpoint is not None and Path(checkpoint).resolve() == Path(output).resolve():
        raise click.UsageError("--checkpoint and --output name the same file.")
    return "force" if options["force_resume"] else bool(resume)


def check_output(
    outputs: Sequence[str],
    replaces: bool,
    resume: bool | str,
    checkpoint: Any,
    source: Any,
    settings: Callable[[Any], Settings],
) -> None:
    """Refuses outputs that may not be written: a resumed fit may replace its own.

    Raises
    ------
    OutputError
        If one exists already...
    ValueError
        ...unless the checkpoint is one of another fit, which is why the output is not this one's.
    """
    try:
        for output in filter(is_url, outputs):
            check_url(output, replaces)
        check_outputs([output for output in outputs if not is_url(output)], replaces, inputs=addresses(source))
    except OutputError:
        if resume:
            check_resumable(checkpoint, source, settings(source), resume == "force")
        raise


def interval(seconds: float | None) -> AbstractContextManager[Any]:
    """Sets how often a checkpoint is written, for a while."""
    return nullcontext() if seconds is None else dask.config.set({"gmmdask.checkpoint-interval": seconds})


def planned(source: Any, settings: Any, where: Any) -> dict[str, Any]:
    """What a fit would read and take; a cluster is asked for nothing but that it is there."""
    try:
        return forecast(source, settings, where)
    finally:
        where.__exit__(None, None, None)
