#!/usr/bin/env python
"""Fits on a Dask cluster that is there, as a job file says, and goes on after trouble with cluster or storage.

python scripts/submit/on_address.py tcp://scheduler:8786 job.yaml --retries 3
"""

import argparse
import sys
import time

TRY_AGAIN = 75


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("scheduler", help="address, such as tcp://scheduler:8786")
    parser.add_argument("job", help="job file of `gmmdask fit`; options behind it win")
    parser.add_argument("--retries", type=int, default=3, help="after exit code 75; the job needs a checkpoint")
    parser.add_argument("--pause", type=float, default=60, help="seconds before another try")
    arguments, options = parser.parse_known_args()

    from gmmdask.cli import main as gmmdask

    command = ["fit", "--config", arguments.job, "--scheduler", arguments.scheduler, *options]
    for left in range(arguments.retries, -1, -1):
        try:
            gmmdask(command)
        except SystemExit as end:
            if end.code != TRY_AGAIN or not left:
                raise
        print(f"trying again in {arguments.pause:g} s, {left} tries left", file=sys.stderr)
        time.sleep(arguments.pause)
        command = [*command, "--resume"]


if __name__ == "__main__":
    main()
