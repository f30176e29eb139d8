"""The estimate of a study, written down beside its result before it runs, so that the page can compare both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from infinity import storage
from infinity.config import Config
from infinity.storage.json_files import read_config
from infinity.studies.cost import JobCost

ESTIMATE_FILE = "estimate.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenEstimate(Config):
    """Estimate of the jobs of a study that were not done.

    Attributes:
        seconds: Seconds by the clock.
        pace: Seconds per processor second that were assumed.
        num_left: Number of jobs that were not done.
    """

    seconds: float
    pace: float
    num_left: int


def write_estimate(folder: str, costs: Sequence[JobCost], pace: float) -> WrittenEstimate:
    """Write the estimate into the folder of a study, unless all of its jobs are done.

    Args:
        folder: URI of the folder of the study's result.
        pace: Seconds per processor second.

    Raises:
        StorageError: The file cannot be written.
    """
    left = [cost.seconds for cost in costs if cost.source != "done"]
    found = WrittenEstimate(seconds=round(math.fsum(left), 2), pace=round(pace, 3), num_left=len(left))
    if left:
        storage.write_text(storage.join(folder, ESTIMATE_FILE), found.dump())
    return found


def estimated_seconds(folder: str, num_left: int) -> float | None:
    """Return the seconds that were written down for just the jobs that are left now; None where none were.

    Args:
        folder: URI of the folder of the study's result.
        num_left: Number of jobs that are not done.

    Raises:
        ConfigError: The file is not an estimate.
    """
    uri = storage.join(folder, ESTIMATE_FILE)
    if not storage.exists(uri):
        return None
    found = read_config(uri, WrittenEstimate, remedy="delete the file, and --estimate writes another")
    return found.seconds if found.num_left == num_left else None
