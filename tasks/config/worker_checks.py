"""Checks of `[workers]`: what a runner cannot do with the other settings."""

from collections.abc import Iterator

from tasks.config.family_checks import Report
from tasks.config.models import Config
from tasks.config.problems import Problem

RUNNER = "workers.runner"
CLUSTERS = ("dask", "ray")
FOR_CLUSTERS = 'is for runner = "dask" or "ray"'


def worker_problems(config: Config, problem: Report) -> Iterator[Problem]:
    """What the chosen runner cannot do with the other settings."""
    workers = config.workers
    is_cluster = workers.runner in CLUSTERS
    if workers.runner != "threads" and config.store.url.startswith("memory:"):
        message = f"must be a folder or s3://BUCKET/PREFIX: {workers.runner} are other processes, "
        yield problem(("store", "url"), message + "which cannot see this one's memory", RUNNER)
    if workers.runner == "threads" and workers.count > 1:
        message = "must be 0 or 1: each partition uses all cores; processes work on several"
        yield problem(("workers", "count"), message, RUNNER)
    if workers.address is not None and not is_cluster:
        yield problem(("workers", "address"), FOR_CLUSTERS, RUNNER)
    if (workers.address or "").startswith("ray://"):
        message = "must be HOST:PORT of a Ray cluster that this machine is a node of"
        yield problem(("workers", "address"), message + ", not that of Ray Client", RUNNER)
    if workers.address is not None and is_cluster and workers.count:
        message = "is for workers on this machine; a cluster at an address has its own"
        yield problem(("workers", "count"), message, RUNNER, "workers.address")
    if workers.gpus and not is_cluster:
        message = (
            'is for runner = "dask" or "ray"; on this machine partitions take turns (gpu_limit)'
        )
        yield problem(("workers", "gpus"), message, RUNNER)
