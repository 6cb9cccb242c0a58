"""gmmdask report: model and data -> one page that says what was fitted, and whether to trust it."""

from typing import Any

import click

from gmmdask.cli._job_file import job_file
from gmmdask.cli._options import (
    how_to_miss,
    how_to_read,
    how_to_weigh,
    log_format,
    open_weighted,
    open_where,
    where_to_run,
)


@click.command("report")
@job_file
@click.argument("model", type=click.Path())
@click.argument("data", required=False)
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="HTML file to write.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@how_to_miss
@how_to_read
@how_to_weigh
@where_to_run
@log_format
def command(model: str, data: str | None, output: str, overwrite: bool, log_format: str, **options: Any) -> None:
    """Write one HTML page about MODEL: what was fitted to what, how it went, and whether it can be trusted.

    With DATA, which is read twice, the model is also compared with its rows: best rows that the fit has not seen.
    """
    from gmmdask.cli._tables import show
    from gmmdask.model_file import load_model
    from gmmdask.outputs import check_outputs, replacing
    from gmmdask.report import report
    from gmmdask.sources import addresses

    found, source = load_model(model), None if data is None else open_weighted(data, options)
    about_data = ("missing", "columns", "accept_missing", "weights", "weights_column")
    if source is None and any(options[name] for name in about_data):
        raise click.UsageError("--missing, --columns, --accept-missing and --weights say how to read DATA: give it.")
    read = [model, *([] if source is None else addresses(source))]
    check_outputs([output], overwrite, inputs=read)
    where = None if source is None else open_where(options)
    missing = None if options["missing"] is None else options["missing"] == "em"
    page = report(found, model, source, where, missing)
    with replacing([output]) as (place,):
        place.write_text(page, encoding="utf-8")
    if log_format == "json":
        show({"output": output, "bytes": len(page.encode())}, "json")
    else:
        click.echo(f"{output}: {len(page.encode()) / 1e6:.1f} MB")
