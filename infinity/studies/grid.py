"""The cells of a study: every arm with every seed, in the order in which they run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from infinity.jobs.spec import JobSpec
from infinity.studies.study import Arms, Study
from infinity.studies.world import World


@dataclass(frozen=True, slots=True)
class Cell:
    """One arm with one seed.

    Attributes:
        jobs: Jobs in the order in which they run; cells share jobs with equal folders.
    """

    arm: str
    seed: int
    jobs: tuple[JobSpec, ...]


def cells_of(study: Study, world: World, seeds: Sequence[int]) -> list[Cell]:
    """Return all cells, seed by seed, so that a study that ends early has complete seeds; held-out arms come last.

    Raises:
        ValueError: There are too few seeds, a seed twice, arms that the contrasts need are missing, or the page's
            function of the arms fails.
    """
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds: expected different ones, got {', '.join(map(str, seeds))}")
    if len(seeds) < study.min_seeds:
        raise ValueError(f"seeds: study {study.name} needs at least {study.min_seeds}, got {len(seeds)}")
    found = [Cell(arm, seed, tuple(jobs)) for seed in seeds for arm, jobs in _arms(study, world, seed).items()]
    _check(study, {cell.arm for cell in found})
    held_out = None if study.power_law is None else study.power_law.held_out
    return sorted(found, key=lambda cell: cell.arm == held_out)


def _arms(study: Study, world: World, seed: int) -> Arms:
    """Return what the page's function says; whatever it raises is told as a fault of the page."""
    try:
        found = study.arms(world, seed)
    except ValueError:
        raise
    except (Exception, SystemExit) as error:
        raise ValueError(f"study {study.name}: its arms raised {type(error).__name__}: {error}") from error
    if not isinstance(found, Mapping):
        raise ValueError(f"study {study.name}: expected arms as a dict of jobs, got {type(found).__name__}")
    for arm, jobs in found.items():
        if not jobs or not all(isinstance(job, JobSpec) for job in jobs):
            raise ValueError(f"study {study.name}: arm {arm!r} needs a list of at least one job, got {jobs!s:.80}")
    return found


def _check(study: Study, arms: set[str]) -> None:
    needed = (
        {arm for contrast in study.contrasts for arm in contrast.weights} | study.explores | set(study.places or ())
    )
    if study.power_law is not None:
        needed.add(study.power_law.held_out)
    if missing := sorted(needed - arms):
        raise ValueError(
            f"study {study.name}: no arm {', '.join(map(repr, missing))}; it has {', '.join(sorted(arms))}"
        )


def jobs_of(cells: Sequence[Cell]) -> Iterator[JobSpec]:
    """Yield every job once, in order."""
    seen: set[str] = set()
    for cell in cells:
        for job in cell.jobs:
            if job.folder not in seen:
                seen.add(job.folder)
                yield job


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds that a text names: numbers and ranges joined by commas, such as "0-2,7".

    Example:
        >>> parse_seeds("0-2,7")
        (0, 1, 2, 7)

    Raises:
        ValueError: The text is not such a list.
    """
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not 0 <= last - first < 1000:
            raise ValueError(f"--seeds: expected numbers and ranges such as 0-2,7, got {text!r:.80}")
        found += range(first, last + 1)
    return tuple(found)
