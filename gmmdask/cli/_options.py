"""Options that several commands share, and what they open."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class OneOf(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A key of a dictionary of the package, which is imported when a value has to be checked."""

    name = "name"

    def __init__(self, module: str, dictionary: str) -> None:
        self.module, self.dictionary = module, dictionary

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        known = getattr(import_module(self.module), self.dictionary)
        if value not in known:
            self.fail(f"{value!r} is not one of {', '.join(known)}.", param, ctx)
        return value


COVARIANCE = OneOf("gmmdask.covariance", "FAMILIES")
ALGORITHM = OneOf("gmmdask.algorithms", "ALGORITHMS")


def how_to_start(command: F) -> F:
    """--n-init, --init, --reg-covar and --seed."""
    methods = click.Choice(["kmeans", "k-means++", "random", "random_from_data", "kmeans-whitened", "k-means||"])
    squared, least = "Squared data units.", click.FloatRange(0)
    for option in (
        click.option("--seed", type=int, help="[default: drawn, and recorded in the model]"),
        click.option("--reg-covar", default=1e-6, show_default=True, type=least, help=squared),
        click.option("--init", default="kmeans", show_default=True, type=methods),
        click.option(
            "--n-init", default=1, show_default=True, type=click.IntRange(1), help="Starts, at least; the best is kept."
        ),
    ):
        command = option(command)
    return command


def by_gradients(command: F) -> F:
    """--optimizer and --learning-rate."""
    methods, rates = click.Choice(["lbfgs", "sgd", "adam", "projected"]), "0.01 for sgd and adam, 0.1 for projected"
    for option in (
        click.option(
            "--learning-rate", type=click.FloatRange(0, min_open=True), help=f"Of its steps. [default: {rates}]"
        ),
        click.option("--optimizer", type=methods, help="Of --algorithm gradient, as the rate. [default: lbfgs]"),
    ):
        command = option(command)
    return command


def chosen(algorithm: str, optimizer: str | None, learning_rate: float | None, settings: dict[str, Any]) -> Any:
    """What an estimator takes for the algorithm of this name and the options of `by_gradients`.

    Raises
    ------
    click.UsageError
        If these are given and it has none.
    """
    both = {"optimizer": optimizer, "learning_rate": learning_rate}
    given: dict[str, Any] = {name: value for name, value in both.items() if value is not None}
    if not given:
        return algorithm
    if algorithm != "gradient":
        named = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"{named}: --algorithm {algorithm} has none. Leave it out, or use --algorithm gradient.")
    from gmmdask.algorithms import Gradient

    return Gradient(**settings, **given)


def how_to_miss(command: F) -> F:
    """--missing, of a command that reads a model."""
    text = "What NaN is: an error, or (em) a missing value. [default: as in the fit of the model]"
    return click.option("--missing", type=click.Choice(["error", "em"]), help=text)(command)


def where_to_run(command: F) -> F:
    """--scheduler and how to trust it, --scheduler-file, --workers and --threads."""
    for option in (
        tls("--tls-key", "Its private key, if the certificate's file does not hold it."),
        tls("--tls-cert", "The certificate that this process shows to a scheduler."),
        tls("--tls-ca-file", "Who must have signed a scheduler's certificate: for tls:// addresses."),
        click.option("--threads", type=click.IntRange(1), help="Local threads. [default: all cores]"),
        click.option("--workers", type=click.IntRange(1), help="A local cluster of this many processes."),
        click.option("--scheduler-file", type=click.Path(), help="File that a Dask scheduler wrote."),
        click.option("--scheduler", help="Address of a Dask scheduler, such as tcp://host:8786."),
    ):
        command = option(command)
    return command


def tls(name: str, text: str) -> Callable[[F], F]:
    """An option of files in PEM form, kept where `open_where` finds it."""
    return click.option(name, type=click.Path(dir_okay=False), callback=remember, expose_value=False, help=text)


def log_format(command: F) -> F:
    choice = click.Choice(["auto", "plain", "json"])
    text = "Events on standard error, results on standard output: for people, or as JSON lines."
    return click.option("--log-format", type=choice, default="auto", callback=remember, help=text)(command)


def remember(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Keeps a value where errors and `open_where` find it."""
    ctx.meta[f"gmmdask.{param.name}"] = value
    return value


def run_id() -> str:
    """Of the command that is run."""
    found: str = click.get_current_context().meta["gmmdask.run_id"]
    return found


def how_to_read(command: F) -> F:
    """--accept-missing and --columns."""
    missing = "Zarr chunks that are absent count as rows of the fill value."
    columns = "Features by name, in this order, of Parquet files: a,b,c. [default: all columns]"
    for option in (
        click.option("--columns", help=columns),
        click.option("--accept-missing", is_flag=True, help=missing),
    ):
        command = option(command)
    return command


def how_to_weigh(command: F) -> F:
    """--weights and --weights-column."""
    weights = "Weights of the rows: a Zarr array or .npy file of one number a row, or Parquet. [default: all ones]"
    for option in (
        click.option("--weights-column", help="The one with weights, by name, where --weights is Parquet."),
        click.option("--weights", help=weights),
    ):
        command = option(command)
    return command


def open_weighted(data: str, options: dict[str, Any]) -> Any:
    """The source that a DATA argument, --weights and the options of `how_to_read` and `how_to_weigh` name.

    Raises
    ------
    click.UsageError
        If columns are named of data whose columns have no names, or of no data.
    """
    from gmmdask.sources import is_parquet
    from gmmdask.sources.weights import open_weights, weighted

    source, weights, column = open_data(data, options), options["weights"], options["weights_column"]
    if column is not None and not (weights is not None and is_parquet(weights)):
        raise click.UsageError("--weights-column needs --weights: the Parquet files that the column is in.")
    if weights is None:
        return source
    chosen = {} if column is None else {"columns": [column]}
    return weighted(source, open_weights(weights, **chosen, **how_to_open(weights, options)))


def open_data(data: str, options: Mapping[str, Any]) -> Any:
    """The source that a DATA argument and the options of `how_to_read` name.

    Raises
    ------
    click.UsageError
        If columns are named of data whose columns have no names.
    """
    from gmmdask.sources import is_parquet, open_source

    columns = options["columns"]
    if is_parquet(data):
        return open_source(data, columns=None if columns is None else columns.split(","))
    if columns is not None:
        raise click.UsageError(f"--columns: {data} has no named columns; only those of Parquet files can be chosen.")
    return open_source(data, **how_to_open(data, options))


def how_to_open(data: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the source of a path: only Zarr arrays have chunks that could be missing."""
    from gmmdask.sources import is_parquet, is_path

    chunked = not (is_path(data, ".npy") or is_parquet(data))
    return {"accept_missing": True} if options["accept_missing"] and chunked else {}


def open_where(options: Mapping[str, Any]) -> Any:
    """The executor that the options of `where_to_run` name; else the current Dask client, or local threads.

    Raises
    ------
    click.UsageError
        If more than one is named, or certificates are without need.
    """
    from gmmdask.execution import Threads, open_executor

    names = ("scheduler", "scheduler_file", "workers", "threads")
    scheduler, scheduler_file, workers, threads = places = [options[name] for name in names]
    if sum(place is not None for place in places) > 1:
        raise click.UsageError("--scheduler, --scheduler-file, --workers and --threads exclude each other.")
    certificates = trusted(scheduler, scheduler_file)
    if workers is not None:
        from gmmdask.execution.distributed import local_cluster

        return local_cluster(workers)
    if scheduler is not None or scheduler_file is not None:
        from gmmdask.execution.distributed import connect, security

        return connect(scheduler, scheduler_file, security(*certificates) if certificates else None)
    return Threads(threads) if threads is not None else open_executor()


def trusted(scheduler: str | None, scheduler_file: str | None) -> tuple[str, str, str | None] | None:
    """The files that --tls-ca-file, --tls-cert and --tls-key name; None if none was given."""
    meta = click.get_current_context().meta
    authority, certificate, key = (meta.get(f"gmmdask.tls_{name}") for name in ("ca_file", "cert", "key"))
    if authority is certificate is key is None:
        return None
    if authority is None or certificate is None:
        raise click.UsageError(
            "--tls-ca-file and --tls-cert go together, with --tls-key if the key is in its own file."
        )
    if scheduler_file is None and not (scheduler or "").startswith("tls://"):
        raise click.UsageError(
            "--tls-ca-file, --tls-cert and --tls-key need a --scheduler of the form tls://host:8786."
        )
    return authority, certificate, key
