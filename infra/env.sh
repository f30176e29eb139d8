# Environment of every run: the Makefile, the local stack and the tests all read this file.
# One plain `export NAME=value` a line, because infra/environment.py reads it too.
# Nothing here calls home, webdataset runs no pickled member of a shard, and the throw-away Prefect server gets time to start on a small machine.
export PREFECT_SERVER_ANALYTICS_ENABLED=false
export DO_NOT_TRACK=1
export PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT=false
export PREFECT_SERVER_UI_V2_ENABLED=false
export PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS=120
export RAY_USAGE_STATS_ENABLED=0
export GRADIO_ANALYTICS_ENABLED=False
export HF_HUB_DISABLE_TELEMETRY=1
export HF_HUB_DISABLE_PROGRESS_BARS=1
export WDS_SECURE=1
