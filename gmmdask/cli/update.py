"""gmmdask update: a model, new rows, and statistics of old ones -> the model of all."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from gmmdask.cli._job_file import job_file
from gmmdask.cli._options import how_to_read, log_format, open_data, open_where, run_id, where_to_run


@click.command("update")
@job_file
@click.argument("data", nargs=-1)
@click.option("-m", "--model", required=True, type=click.Path(), help="Model file: where the statistics are taken.")
@click.option("--add", multiple=True, type=click.Path(), help="Statistics to add; may be repeated.")
@click.option("--minus", multiple=True, type=click.Path(), help="Statistics of expired rows; may be repeated.")
@click.option("-s", "--write-statistics", type=click.Path(dir_okay=False), help="File for the statistics of all.")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="Model file to write.")
@click.option("--reg-covar", type=click.FloatRange(0), help="Squared data units. [default: the model's, else 1e-6]")
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
@how_to_read
@where_to_run
@log_format
def command(
    data: tuple[str, ...],
    model: str,
    add: tuple[str, ...],
    minus: tuple[str, ...],
    write_statistics: str | None,
    output: str,
    reg_covar: float | None,
    overwrite: bool,
    log_format: str,
    **options: Any,
) -> None:
    """Read each DATA once, add saved statistics, subtract expired ones, and write the model of one M-step over all.

    Statistics that are added or subtracted must have been taken at MODEL.
    """
    from gmmdask.cli._tables import components, console, show
    from gmmdask.densities import check_names
    from gmmdask.model_file import load_model, save_model
    from gmmdask.outputs import check_outputs, replacing
    from gmmdask.sources import addresses
    from gmmdask.statistics import Statistics

    if not data and not add:
        raise click.UsageError("Nothing to make a model of: give DATA, or statistics to --add.")
    for names in (data, add, minus):
        if len(set(names)) < len(names):
            raise click.UsageError(f"{', '.join(names)}: a name occurs twice; its rows would count twice.")
    sources = [open_data(name, options) for name in data]
    outputs = [path for path in (output, write_statistics) if path is not None]
    check_outputs(outputs, overwrite, inputs=[address for source in sources for address in addresses(source)])
    given = load_model(model)
    for source in sources:
        check_names(given.feature_names, source)
    added, expired = ([Statistics.load(path) for path in paths] for paths in (add, minus))
    saved = (*added, *expired)
    nothing = Statistics.none(given.mixture, saved[0].frame if saved else None)
    for path, statistics in zip((*add, *minus), saved, strict=True):
        with naming(path):
            nothing.check_adds(statistics)  # before rows are read
    with open_where(options) as executor:
        added += [nothing.over(source, executor) for source in sources]
    total = sum(added, nothing)
    for path, statistics in zip(minus, expired, strict=True):
        with naming(path):
            total -= statistics
    told = {"model": model, "added": [*add, *(source.name for source in sources)], "subtracted": list(minus)}
    found = stepped(total, given, reg_covar, told)
    with replacing(outputs) as places:  # the model first: until the statistics are there, the command can be repeated
        save_model(places[0], found)
        if write_statistics is not None:
            total.save(places[1])
    numbers = {"weight": total.weight, "score": total.score, "log_likelihood": total.log_likelihood}
    show({"model": output, "statistics": write_statistics, **numbers}, log_format)
    if log_format != "json":
        console().print(components(found.mixture, found.feature_names))


def stepped(total: Any, given: Any, reg_covar: float | None, told: dict[str, Any]) -> Any:
    """The model of one M-step over all statistics, which says what they were made of."""
    from gmmdask.model_file import Model

    if reg_covar is None:
        reg_covar = given.provenance.get("settings", {}).get("reg_covar", 1e-6)
    found = total.step(reg_covar)
    provenance = {**found.provenance, "data": {**found.provenance["data"], **told}, "run_id": run_id()}
    return Model(found.mixture, provenance, feature_names=given.feature_names)


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Errors within are about this file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
