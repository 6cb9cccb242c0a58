#!/usr/bin/env python
"""Fits on workers that Coiled starts in a cloud, as a job file says. Needs coiled; data must be in an object store.

python scripts/submit/on_coiled.py job.yaml --workers 20 --memory 8GiB --region eu-central-1
"""

import argparse


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("job", help="job file of `gmmdask fit`; options behind it win")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--memory", default="8GiB", help="of a worker")
    parser.add_argument("--region", help="where the data are; elsewhere, reading them costs money")
    parser.add_argument("--name", help="of the cluster")
    arguments, options = parser.parse_known_args()

    import coiled
    from distributed import Client

    from gmmdask.cli import main as gmmdask

    with (
        coiled.Cluster(
            name=arguments.name,
            n_workers=arguments.workers,
            worker_memory=arguments.memory,
            region=arguments.region,
        ) as cluster,
        Client(cluster),
    ):
        gmmdask(["fit", "--config", arguments.job, *options])


if __name__ == "__main__":
    main()
