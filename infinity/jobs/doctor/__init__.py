"""Checks of a set-up before anything runs on it: what is wrong, and what to do.

Start with `examine`. Each module holds checks of one kind: a function from the set-up to findings. May import
`infinity.jobs.cluster` and what is below it.
"""

from infinity.jobs.doctor.examine import examine
from infinity.jobs.doctor.finding import Finding, Setup

__all__ = ["Finding", "Setup", "examine"]
