#!/usr/bin/env python
"""Fits on the ranks of an MPI job, as a job file says: one is the scheduler, one this script, the others workers.

Needs dask-mpi and at least three ranks.

mpirun -n 18 python scripts/submit/on_mpi.py job.yaml --memory 4GB --interface ib0
"""

import argparse


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("job", help="job file of `gmmdask fit`; options behind it win")
    parser.add_argument("--memory", default="auto", help="of a worker")
    parser.add_argument("--interface", help="network of the nodes, such as ib0")
    arguments, options = parser.parse_known_args()

    from dask_mpi import initialize
    from distributed import Client

    from gmmdask.cli import main as gmmdask

    initialize(interface=arguments.interface, nthreads=1, memory_limit=arguments.memory, dashboard=False)
    with Client():
        gmmdask(["fit", "--config", arguments.job, *options])


if __name__ == "__main__":
    main()
