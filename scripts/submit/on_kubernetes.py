#!/usr/bin/env python
"""Fits on workers that the Dask operator starts in Kubernetes, as a job file says. Needs dask-kubernetes.

The image must hold gmmdask in the versions of here, and data must be where pods can read them.

python scripts/submit/on_kubernetes.py job.yaml --image registry.example/gmmdask:0.1 --workers 8 --memory 4Gi
"""

import argparse


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("job", help="job file of `gmmdask fit`; options behind it win")
    parser.add_argument("--image", required=True, help="with gmmdask in it")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--memory", default="4Gi", help="of a worker")
    parser.add_argument("--cpu", default="1", help="of a worker")
    parser.add_argument("--name", default="gmmdask", help="of the cluster")
    parser.add_argument("--namespace")
    arguments, options = parser.parse_known_args()

    from dask_kubernetes.operator import KubeCluster
    from distributed import Client

    from gmmdask.cli import main as gmmdask

    amounts = {"memory": arguments.memory, "cpu": arguments.cpu}
    with (
        KubeCluster(
            name=arguments.name,
            namespace=arguments.namespace,
            image=arguments.image,
            n_workers=arguments.workers,
            resources={"requests": amounts, "limits": amounts},
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(1)  # for as long as the queue takes
        gmmdask(["fit", "--config", arguments.job, *options])


if __name__ == "__main__":
    main()
