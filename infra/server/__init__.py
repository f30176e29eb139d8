"""The local Prefect server: its API, auth string, log-in page and deployments."""
