"""Several processes that share a batch: data parallel gradients and sharded weights (FSDP2).

Start with ``parallel.py``. Decision 8 says why it is not DistributedDataParallel.
"""
