#!/usr/bin/env python
"""Fits on workers that SLURM starts, as a job file says. Needs dask-jobqueue; data and package must be shared.

Run it where jobs may be submitted from, or as a job of its own:

python scripts/submit/on_slurm.py job.yaml --jobs 16 --memory 4GB --walltime 02:00:00 --interface ib0
"""

import argparse


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("job", help="job file of `gmmdask fit`; options behind it win")
    parser.add_argument("--jobs", type=int, default=4, help="SLURM jobs of one worker each")
    parser.add_argument("--threads", type=int, default=1, help="of a worker")
    parser.add_argument("--memory", default="4GB", help="of a worker")
    parser.add_argument("--walltime", default="01:00:00", help="of a job; one that ends is replaced")
    parser.add_argument("--queue", help="SLURM partition")
    parser.add_argument("--account")
    parser.add_argument("--interface", help="network of the nodes, such as ib0")
    arguments, options = parser.parse_known_args()

    from dask_jobqueue import SLURMCluster
    from distributed import Client

    from gmmdask.cli import main as gmmdask

    with (
        SLURMCluster(
            queue=arguments.queue,
            account=arguments.account,
            interface=arguments.interface,
            walltime=arguments.walltime,
            cores=arguments.threads,
            processes=1,
            memory=arguments.memory,
        ) as cluster,
        Client(cluster) as client,
    ):
        cluster.adapt(minimum_jobs=arguments.jobs, maximum_jobs=arguments.jobs)
        client.wait_for_workers(1)  # for as long as the queue takes
        gmmdask(["fit", "--config", arguments.job, *options])


if __name__ == "__main__":
    main()
