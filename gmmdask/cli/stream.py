"""gmmdask stream: rows as they come -> a model that is published again and again."""

import signal
from types import FrameType
from typing import Any, Self

import click

from gmmdask.cli._job_file import job_file
from gmmdask.cli._options import COVARIANCE, how_to_read, how_to_start, log_format


class Rate(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A name or a number."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in ("power", "equal") or isinstance(value, float):
            return value
        try:
            rate = float(value)
        except ValueError:
            rate = 0.0
        if not 0 < rate < 1:
            self.fail(f"{value!r} is neither power nor equal, nor a number between 0 and 1.", param, ctx)
        return rate


RATE_HELP = "How fast old rows are forgotten: power, equal (never), or a number in (0, 1), for rows that drift."
CONTINUES_HELP = "With --resume: SOURCE begins where the stream stopped; none of its rows was taken."


@click.command("stream")
@job_file
@click.argument("source", default="-")
@click.option("-k", "--components", type=click.IntRange(1), required=True, help="Number of components.")
@click.option("--covariance", default="full", type=COVARIANCE, show_default=True, help="full, tied, diag or spherical.")
@click.option("--rate", default="power", show_default=True, type=Rate(), help=RATE_HELP)
@how_to_start
@click.option("--sample-rows", type=click.IntRange(1), help="Rows of the start. [default: about 20 a parameter]")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="Model file to publish.")
@click.option("--overwrite", is_flag=True, help="Begin anew, and replace an existing output.")
@click.option("--resume", is_flag=True, help="Go on from the output, if there is one.")
@click.option("--continues", is_flag=True, help=CONTINUES_HELP)
@click.option(
    "--every", default=10.0, show_default=True, type=click.FloatRange(0), help="Seconds between publications."
)
@click.option("--follow", is_flag=True, help="Wait for more rows of a Zarr array, or files of a Parquet folder.")
@click.option("--poll", default=1.0, show_default=True, type=click.FloatRange(0), help="Seconds between looks.")
@click.option("--idle-timeout", type=click.FloatRange(0), help="End after so many seconds without new rows.")
@how_to_read
@log_format
def command(source: str, output: str, overwrite: bool, resume: bool, continues: bool, **options: Any) -> None:
    """Learn the rows of SOURCE as they come, and publish the model every few seconds.

    SOURCE is a Zarr array, .npy or Parquet files, or - (the default): standard input, with .npy arrays one after
    another, or lines of numbers.

    Killed at any moment, it goes on with --resume from what was published last, and counts no row twice. Stored rows
    are read from there on. Standard input has to be sent again from its beginning, and what was taken is skipped; or it
    goes on where it stopped (--continues), and the rows that came after the last publication are lost with the process
    that had them.
    """
    import warnings

    from gmmdask.cli._progress import Reporter
    from gmmdask.cli._tables import components, console, peak_memory, show
    from gmmdask.execution import one_thread
    from gmmdask.publish import Publisher, begun, resumed

    if overwrite and resume:
        raise click.UsageError("--overwrite and --resume exclude each other.")
    if continues and not resume:
        raise click.UsageError("--continues needs --resume.")
    idle, poll = options["idle_timeout"], options["poll"]
    if options["follow"] and idle is not None and idle <= 2 * poll:
        raise click.UsageError(f"--idle-timeout {idle:g}: expected more than two looks at the source, --poll {poll:g}.")
    before, feed = peak_memory(), opened(source, output, overwrite or resume, options)
    stream = described(options)
    any_seed = options["seed"] is None
    state = resumed(output, feed, stream, any_seed, continues) if resume else begun(feed, stream)
    with Reporter(options["log_format"]) as reporter, warnings.catch_warnings(), one_thread(), Signals() as signals:
        warnings.simplefilter("ignore")  # what they say are events, told by the reporter
        publisher = Publisher(output, feed, state, options["every"], reporter, signals.check, reporter.run_id)
        if continues:
            publisher.publish(now=True)  # from here on, positions are those of this source
        publisher.run(idle)
    stream = publisher.stream
    told = {
        "model": output,
        "outcome": stream.describe()["outcome"]["sentence"],
        "rows": stream.taken,
        "score": publisher.score,
        "memory_added_bytes": peak_memory() - before,
    }
    show(told, options["log_format"])
    if options["log_format"] != "json":
        console().print(components(stream.mixture, publisher.feature_names))


class Signals:
    """Within it, the first SIGINT or SIGTERM waits until `check` is called, the second has its usual effect.

    An exception that a signal raises anywhere can be lost: pyarrow, for one, drops what is raised while it ends a file.
    """

    def __init__(self) -> None:
        self.received = 0
        usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.usual = {number: handler for number, handler in usual.items() if callable(handler)}

    def __enter__(self) -> Self:
        for number in self.usual:
            signal.signal(number, self.receive)
        return self

    def __exit__(self, *args: object) -> None:
        for number, handler in self.usual.items():
            signal.signal(number, handler)

    def receive(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            self.usual[signal.Signals(number)](number, frame)
        self.received = number

    def check(self) -> None:
        """Does what the signal that was received would have done."""
        if self.received:
            self.usual[signal.Signals(self.received)](self.received, None)


def opened(source: str, output: str, replace: bool, options: dict[str, Any]) -> Any:
    """The feed, once it is known that the output may be written."""
    import sys
    from pathlib import Path

    from gmmdask.feeds import STANDARD_INPUT, open_feed
    from gmmdask.outputs import OutputError, check_outputs

    if Path(output).exists() and not replace:
        raise OutputError(
            f"{output}: exists already. Go on from it with --resume, begin anew with --overwrite, or choose another "
            "name."
        )
    chosen = options["columns"]
    feed = open_feed(
        source,
        pipe=sys.stdin.buffer if source == STANDARD_INPUT else None,
        follow=options["follow"],
        poll=options["poll"],
        columns=None if chosen is None else chosen.split(","),
        accept_missing=options["accept_missing"],
    )
    check_outputs([output], replace, inputs=[] if source == STANDARD_INPUT else [feed.address])
    return feed


def described(options: dict[str, Any]) -> Any:
    """A stream that has taken nothing, as the options have it."""
    import numpy as np

    from gmmdask.algorithms import Stochastic
    from gmmdask.compiled import fast_kernel
    from gmmdask.execution import setting
    from gmmdask.start import Start
    from gmmdask.stream import Stream

    drawn = int(np.random.SeedSequence().generate_state(1)[0])
    return Stream(
        Start(options["covariance"], options["components"], options["init"]),
        Stochastic(rate=options["rate"]),
        options["reg_covar"],
        options["n_init"],
        drawn if options["seed"] is None else options["seed"],
        options["sample_rows"],
        fast_kernel(setting("kernel")),
    )
