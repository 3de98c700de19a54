"""Whether an assignment of customers to workers is as good as shuffle sharding promises.

It is read from one of three places:

- `file`: a `.json` file, either `{customer: [worker, …], …}`, alone or under `shards` beside
  `workers`, or `[{"customer": …, "workers": [worker, …]}, …]`; or a `.csv` file whose first line is
  `customer` and a name for each column of workers.
- `url`: an http or https address that answers with such JSON.
- `table`: a DynamoDB table with an attribute for each customer's name and one for the list or set
  of workers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from chaoslib.types import Configuration, Secrets

from chaosgrade.probes.sharding_assignment import read_assignment
from chaosgrade.probes.sharding_statistics import covers, loads, overlaps, reference_of
from chaosgrade.session import aws_of, reported

__all__ = ["assignment"]

READS: tuple[str, ...] = ("dynamodb:Scan",)
"""IAM actions that reading a table needs; a file or an address needs none."""


def assignment(
    *,
    file: str | None = None,
    url: str | None = None,
    table: str | None = None,
    customer_key: str = "customer",
    workers_key: str = "workers",
    workers: Sequence[str] | int | None = None,
    zones: Mapping[str, Sequence[str]] | None = None,
    by: int = 2,
    configuration: Configuration = None,
    secrets: Secrets = None,
) -> dict[str, Any]:
    """How much customers share: pairs beside what is expected, fairness, who covers whom.

    Returns {customers, workers, shard, overlap, fairness, coverage}:

    - `overlap`: {customers_compared, pairs, shared, p_value, excess_sd, most_shared, worst_pair}.
      `shared` has {workers, pairs, share, expected} for each number of workers that a pair may
      share; `p_value` is the chance that shuffle sharding deviates as much in either direction,
      `excess_sd` by how many standard deviations overlaps are heavier (lighter when negative), both
      null where too few pairs can tell. Beyond 20,000 customers a sample is compared; same shards
      are found among all.
    - `fairness`: {mean, most, least, max_to_mean, p_value, busiest, idle} of customers per worker.
      `p_value` is that of a chi-square test that knows that no shard has a worker twice; null with
      less than one customer for each worker.
    - `coverage`: {covered_by_one, pair, customers_examined, by, covered, least_cover, given_up}.
      `covered_by_one` counts, among all, the customers whose workers are also those of another one,
      as of `pair`; `covered` is the share of those examined (up to 500) all of whose workers some
      others have, at most `by`; `least_cover` how many need exactly that many. For those given up
      there are too many unions of others' shards to try.

    Arguments:
        file, url, table: where the assignment is; exactly one.
        customer_key, workers_key: names of fields, columns or attributes.
        workers: all workers that there are, or how many, where some may serve nobody.
        zones: {zone: [worker, …]} where every shard has as many workers of each zone.
        by: how many others together may cover a customer.

    Example:
        ```yaml
        type: probe
        name: nobody-shares-all-workers-with-another
        tolerance: {type: jsonpath, path: $.coverage.covered_by_one, expect: [0]}
        provider:
          type: python
          module: chaosgrade.probes.shuffle_sharding
          func: assignment
          arguments: {file: assignment.json, workers: 100}
        ```
    """
    with reported() as session:
        found = read_assignment(
            lambda: session.aws if session is not None else aws_of(configuration),
            file=file,
            url=url,
            table=table,
            customer_key=customer_key,
            workers_key=workers_key,
            workers=workers,
        )
        reference = reference_of(found, zones)
        return {
            "customers": len(found.shards),
            "workers": len(found.workers),
            "shard": found.shard,
            "overlap": overlaps(found, reference),
            "fairness": loads(found, reference),
            "coverage": covers(found, by),
        }
