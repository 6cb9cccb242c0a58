"""gmmdask doctor: what would go wrong in a fit, before it does."""

from typing import Any

import click

from gmmdask.cli._fit_options import missing
from gmmdask.cli._job_file import job_file
from gmmdask.cli._options import COVARIANCE, how_to_read, log_format, open_data, open_where, where_to_run

COLOURS = {"fine": "green", "advice": "yellow", "change": "red"}


@click.command("doctor")
@job_file
@click.argument("data", required=False)
@click.option("-k", "--components", type=click.IntRange(1), help="Of the fit whose memory is checked.")
@click.option("--covariance", default="full", type=COVARIANCE, show_default=True, help="full, tied, diag or spherical.")
@click.option("--memory-limit", help="Of that fit, such as 1GB.")
@missing
@how_to_read
@where_to_run
@log_format
def command(data: str | None, **options: Any) -> None:
    """Check the machines, a cluster, and DATA: versions, access, chunks, speed, order, and memory for -k components.

    Exits with 3 if something must be changed before a fit; advice alone is no error.
    """
    from gmmdask.doctor import Finding, Verdict, examine
    from gmmdask.sources import DataError

    found, source = [], None
    if data is not None:
        try:
            source = open_data(data, options)
        except DataError as error:
            found.append(Finding("data", Verdict.CHANGE, str(error)))
    settings = None if options["components"] is None else settings_of(options)
    executor = open_where(options)
    try:
        found += examine(executor, source, settings, options["missing"] == "em")
    finally:
        executor.__exit__(None, None, None)
    told(found, options["log_format"])
    if any(finding.verdict is Verdict.CHANGE for finding in found):
        click.get_current_context().exit(3)


def settings_of(options: dict[str, Any]) -> Any:
    """Those of the fit that is planned, as far as memory depends on them."""
    from gmmdask.algorithms import Batch
    from gmmdask.compiled import fast_kernel
    from gmmdask.execution import setting
    from gmmdask.parameters import bytes_of
    from gmmdask.settings import Settings
    from gmmdask.start import Start

    start = Start(options["covariance"], options["components"], "kmeans")
    kernel = fast_kernel(setting("kernel"))
    known = {"kernel": kernel, "cache": "auto", "missing": options["missing"]}
    return Settings(start, Batch(), memory_limit=bytes_of(options["memory_limit"]), **known)


def told(found: list[Any], form: str) -> None:
    """A table, or a JSON object."""
    from rich.table import Table

    from gmmdask.cli._tables import console, show

    if form == "json":
        rows = [{**vars(finding), "verdict": finding.verdict.value} for finding in found]
        show({"findings": rows}, "json")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("check", "verdict", "found"):
        table.add_column(heading)
    for finding in found:
        colour = COLOURS[finding.verdict.value]
        text = f"{finding.found}\n{finding.todo}" if finding.todo else finding.found
        table.add_row(finding.check, f"[{colour}]{finding.verdict.value}[/]", text)
    console().print(table, highlight=False)
