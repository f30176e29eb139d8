"""Where Infinity runs: settings from the environment and the local stack. Knows nothing of the model."""
