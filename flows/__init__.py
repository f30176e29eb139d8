"""What happens in which order: the stages as Prefect flows. No tensors here, and the only room that imports prefect."""
