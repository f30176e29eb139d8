"""Experiment trackers (TensorBoard, W&B, MLflow, Trackio): ``trackers.py`` writes, ``tracked.py`` follows a folder."""
