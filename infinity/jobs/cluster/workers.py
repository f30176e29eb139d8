"""How many processes work on a job, and what each of them takes from the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from infinity.config import Config
from infinity.ranges import Count, Natural


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkersConfig(Config):
    """Number of worker processes, and what each of them takes from the cluster.

    Attributes:
        num_workers: Processes that share every batch.
        threads: CPU threads of each, and the CPUs that it takes from the cluster.
        shard: Share out the weights of a transformer, its averages and running means among the workers (FSDP2) instead
            of copying them; a tokenizer is small and always copied.
        offload: Whether, with ``shard``, the shared-out weights lie in CPU memory: for GPUs that cannot hold them.
        shard_among: Workers that hold the weights together, with ``shard``; None for all. Fewer have copies of what
            others share (HSDP): weights are gathered among these few, such as the GPUs of one machine, and only sums of
            gradients go between the copies.
        keep_gathered: Whether, with ``shard``, gathered weights of a block stay until its backward pass: one gathering
            less per micro-batch, for the memory of all weights in the form in which they are gathered.
        use_gpu: Give each worker a GPU; matrix products of the transformer are bfloat16 then.
        max_failures: How often dead workers are replaced, without a newer stored state in between, before the job
            fails.
        min_workers: Fewest processes of a training; None for one that waits for all of ``num_workers``. Where it is
            less than these, a training begins with as many as the cluster has room for, goes on with fewer when a node
            is lost, and with more when one is added; batches and micro-batches stay the same. Other jobs take as many
            as there is room for anyway.
    """

    later: ClassVar[frozenset[str]] = frozenset({"min_workers", "shard_among", "keep_gathered"})

    num_workers: Count = 1
    threads: Count = 2
    use_gpu: bool = False
    shard: bool = False
    offload: bool = False
    max_failures: Natural = 2
    min_workers: int | None = None
    shard_among: Count | None = None
    keep_gathered: bool = False

    def __post_init__(self) -> None:
        if self.offload and not self.shard:
            raise ValueError("WorkersConfig.offload: only weights that are shared out can be offloaded; set shard too")
        if (self.shard_among is not None or self.keep_gathered) and not self.shard:
            raise ValueError(
                "WorkersConfig.shard_among, keep_gathered: only weights that are shared out are gathered; set shard too"
            )
        if self.offload and self.keep_gathered:
            raise ValueError(
                "WorkersConfig.keep_gathered: expected false with offload, which is for weights that do not fit on a "
                "GPU, got true"
            )
        if self.shard_among is not None and self.num_workers % self.shard_among:
            raise ValueError(
                f"WorkersConfig.shard_among: expected a divisor of num_workers, which is {self.num_workers}, got "
                f"{self.shard_among}"
            )
        if self.shard_among is not None and self.is_elastic:
            raise ValueError(
                "WorkersConfig.min_workers: expected none, or num_workers, with shard_among: a number of workers "
                f"between them need not be a multiple of {self.shard_among}"
            )
        if self.min_workers is not None and not 1 <= self.min_workers <= self.num_workers:
            raise ValueError(
                f"WorkersConfig.min_workers: expected 1 to num_workers, which is {self.num_workers}, got "
                f"{self.min_workers}"
            )

    @property
    def sharers(self) -> int:
        """Number of workers among which weights are divided; 1 where each holds all."""
        return (self.shard_among or self.num_workers) if self.shard else 1

    def unsharded(self) -> WorkersConfig:
        """Return the same workers, each of which holds all weights."""
        return self.replace(shard=False, offload=False, shard_among=None, keep_gathered=False)

    @property
    def fewest(self) -> int:
        """Number of workers without which a training does not begin."""
        return self.num_workers if self.min_workers is None else self.min_workers

    @property
    def is_elastic(self) -> bool:
        """Whether the number of workers of a training may change while it runs."""
        return self.fewest < self.num_workers
