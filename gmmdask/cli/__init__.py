"""The command line: one file per command, each imported when it is called."""

import importlib
import json
import signal
import sys
import time
import uuid
import warnings
from types import FrameType
from typing import Any, NoReturn

import click

COMMANDS = ("demo", "doctor", "fit", "inspect", "predict", "report", "sample", "score", "select", "stream", "update")


NAMELESS = "X (has|does not have valid) feature names"  # Zarr arrays have none: nothing could be done about it
NOT_THERE = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)


class NotConverged(Exception):
    """The fit ended without convergence, and --require-convergence was given."""


class Terminated(BaseException):
    """SIGTERM arrived: unwinds like KeyboardInterrupt, so that a checkpoint is written."""


class Group(click.Group):
    """Commands by name; errors become one line on standard error and an exit code that says whether to try again.

    0 done; 2 usage; 3 bad data or settings (do not retry); 4 not converged; 75 trouble with cluster or storage (safe to
    retry with --resume); 130 and 143 interrupted. Any other error is a fault of this package, and comes as it is.

    Every run has an id, which its JSON lines and its models carry.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"gmmdask.cli.{name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        ctx.meta["gmmdask.run_id"] = uuid.uuid4().hex
        earlier = signal.signal(signal.SIGTERM, terminate)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", NAMELESS)
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt as error:
            stop(ctx, error, 130, "interrupted.")
        except Terminated as error:
            stop(ctx, error, 143, "terminated.")
        except NotConverged as error:
            stop(ctx, error, 4)
        except (ValueError, TypeError, ImportError, *NOT_THERE) as error:
            stop(ctx, error, 3)
        except MemoryError as error:
            stop(ctx, error, 3, f"out of memory ({error}): set a --memory-limit, or a smaller one.")
        except (OSError, RuntimeError) as error:
            stop(ctx, error, 75)
        finally:
            signal.signal(signal.SIGTERM, earlier)


def terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def stop(ctx: click.Context, error: BaseException, code: int, what: str = "") -> NoReturn:
    """Ends with one line on standard error: words, or JSON if --log-format asked for it."""
    message = " ".join([what or str(error), *getattr(error, "__notes__", [])])
    as_json = ctx.meta.get("gmmdask.log_format") == "json"
    run_id = ctx.meta["gmmdask.run_id"]
    failed = json.dumps({"event": "Failed", "time": time.time(), "run_id": run_id, "message": message, "exit": code})
    click.echo(failed if as_json else f"gmmdask: {message}", err=True)
    sys.exit(code)


@click.group("gmm", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gmmdask")
def main() -> None:
    """Fit Gaussian mixtures to rows that do not fit in memory."""
