"""Several processes that share a batch: data parallel gradients and sharded weights (FSDP2).

Start with ``parallel.py``. Decision 30 says why not DistributedDataParallel.
"""
