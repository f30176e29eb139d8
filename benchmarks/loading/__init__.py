"""From pictures to batches: the data stage, its decisions, and readers beside others."""
