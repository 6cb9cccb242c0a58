"""Options of commands that fit: when passes end, what is written, and what it may take."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def default(name: str, value: Any) -> Callable[[F], F]:
    """Another default of an option that stands below."""

    def change(command: F) -> F:
        (option,) = (found for found in command.__click_params__ if found.name == name)  # type: ignore[attr-defined]
        option.default = value
        return command

    return change


def how_to_end(command: F) -> F:
    """--tol, --accelerate and --max-iter."""
    faster = "Extrapolate the steps of em: fewer passes; auto does where the data is larger than the sample."
    ways, least = click.Choice(["auto", "squarem", "none"]), click.IntRange(0)
    for option in (
        click.option("--max-iter", default=100, show_default=True, type=least, help="Laps over all rows."),
        click.option("--accelerate", default="auto", show_default=True, type=ways, help=faster),
        click.option(
            "--tol", default=1e-3, show_default=True, type=click.FloatRange(0), help="Nats per row; 0 runs --max-iter."
        ),
    ):
        command = option(command)
    return command


def prior(command: F) -> F:
    kinds = click.Choice(["none", "mclust"])
    return click.option("--prior", type=kinds, default="none", show_default=True, help="Prevents collapse.")(command)


def refine(command: F) -> F:
    kinds, text = click.Choice(["none", "split-merge"]), "Merge and split components where the score rises by it."
    return click.option("--refine", type=kinds, default="none", show_default=True, help=text)(command)


def weight_concentration(command: F) -> F:
    text = "Draws weights together, as if every component held this less one rows more; 1 or above."
    return click.option("--weight-concentration", type=float, default=1.0, show_default=True, help=text)(command)


def missing(command: F) -> F:
    kinds, text = click.Choice(["error", "em"]), "What NaN is: an error, or (em) a value that is missing at random."
    return click.option("--missing", default="error", show_default=True, type=kinds, help=text)(command)


def noise(command: F) -> F:
    text = "A uniform component beside the others, for outliers; its label is -1."
    return click.option("--noise", is_flag=True, help=text)(command)


def what_to_write(command: F) -> F:
    """--output and --overwrite, --checkpoint and --checkpoint-every, --resume and --force-resume."""
    file, least = click.Path(dir_okay=False), click.FloatRange(0)
    often = "Least seconds between checkpoints; 0 for one after each pass. [default: gmmdask.checkpoint-interval, 5]"
    for option in (
        click.option("--force-resume", is_flag=True, help="As --resume, on moved data or other starts too."),
        click.option("--resume", is_flag=True, help="Continue from --checkpoint, if there is one."),
        click.option("--checkpoint-every", type=least, help=often),
        click.option("--checkpoint", type=file, help="File in which the fit saves itself."),
        click.option("--overwrite", is_flag=True, help="Replace an existing output."),
        click.option("-o", "--output", required=True, type=file, help="Model file to write."),
    ):
        command = option(command)
    return command


def what_to_take(command: F) -> F:
    """--memory-limit, --cache, --sample-rows, --dry-run and --require-convergence."""
    keep = "Keep rows in memory once they are read; auto does if they fit."
    rows = "Rows of the sample. [default: about 100 a parameter]"
    when = click.Choice(["auto", "never", "always"])
    for option in (
        click.option("--require-convergence", is_flag=True, help="Exit with 4 if the fit did not converge."),
        click.option("--dry-run", is_flag=True, help="Say what the fit would read and take, from headers, and end."),
        click.option("--sample-rows", type=click.IntRange(1), help=rows),
        click.option("--cache", default="auto", show_default=True, type=when, help=keep),
        click.option("--memory-limit", help="What the fit may add to the process, such as 1GB."),
    ):
        command = option(command)
    return command
