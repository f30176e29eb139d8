"""Where everything is: addresses and roots, read from the environment here and nowhere else."""

import os
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

REPOSITORY = Path(__file__).resolve().parents[1]


class Settings(BaseSettings):
    """Places and addresses; an empty variable counts as not set.

    S3 keys are not among them: they stay in the standard AWS_* variables or files, where boto3 finds them.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, extra="ignore", populate_by_name=True)

    runs: str = Field(
        default="runs",
        validation_alias=AliasChoices("runs", "INFINITY_RUNS"),
        description="Root of all outputs: a folder or s3://bucket/prefix. Relative paths start at the working folder.",
    )
    registry: str | None = Field(
        default=None,
        validation_alias=AliasChoices("registry", "INFINITY_REGISTRY"),
        description="Root of the registry of champions: a folder or s3:// URI; not set: 'registry' beside the run.",
    )
    ray_address: str | None = Field(
        default=None,
        validation_alias=AliasChoices("ray_address", "RAY_ADDRESS"),
        description="host:port of a cluster, or http://host:8265 of its dashboard, where stages become jobs; not set: "
        "a local Ray for the time of a stage.",
    )
    ray_num_cpus: int | None = Field(
        default=None,
        ge=1,
        validation_alias=AliasChoices("ray_num_cpus", "INFINITY_RAY_NUM_CPUS"),
        description="CPUs that a local Ray lends out; not set: all of the machine.",
    )
    s3_endpoint: str | None = Field(
        default=None,
        validation_alias=AliasChoices("s3_endpoint", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        description="URL of an S3 server other than Amazon's.",
    )
    prefect_api_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("prefect_api_url", "PREFECT_API_URL"),
        description="API of a Prefect server that runs elsewhere; not set: the local stack's own server.",
    )
    prefect_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        validation_alias=AliasChoices("prefect_port", "INFINITY_PREFECT_PORT"),
        description="Port of the local server; not set: 4200, or any free one where that is taken.",
    )
    database: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices(
            "database",
            "INFINITY_DATABASE",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL",
            "PREFECT_API_DATABASE_CONNECTION_URL",
        ),
        description="Database behind the local Prefect server: sqlite or postgresql+asyncpg://user:password@host/name; "
        "not set: that of the last start, at first sqlite.",
    )
    prefect_auth: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("prefect_auth", "PREFECT_API_AUTH_STRING"),
        description="What Prefect's server asks clients for, name:password; not set: the local stack makes its own.",
    )
    prefect_server_auth: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("prefect_server_auth", "PREFECT_SERVER_API_AUTH_STRING"),
        description="The same as the server's own setting; not set: the clients' one.",
    )
    prefect_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("prefect_api_key", "PREFECT_API_KEY"),
        description="Key of a hosted Prefect.",
    )
    files_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        validation_alias=AliasChoices("files_port", "INFINITY_FILES_PORT"),
        description="Port of the local file server; not set: a free one, the same at every start.",
    )
    files_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("files_url", "INFINITY_FILES_URL"),
        description="URL under which a browser finds the root of runs; the local stack serves it and sets this.",
    )
    server_patience_s: float = Field(
        default=6 * 3600.0,
        ge=0.0,
        allow_inf_nan=False,
        validation_alias=AliasChoices("server_patience_s", "INFINITY_SERVER_PATIENCE_S"),
        description="How long a flow that has done its work waits for a Prefect server that is away, in seconds.",
    )
    price_cpu_hour: float = Field(
        default=0.0,
        ge=0.0,
        allow_inf_nan=False,
        validation_alias=AliasChoices("price_cpu_hour", "INFINITY_PRICE_CPU_HOUR"),
        description="Price of one CPU for an hour, in any currency; plans and run pages show what a run costs.",
    )
    price_gpu_hour: float = Field(
        default=0.0,
        ge=0.0,
        allow_inf_nan=False,
        validation_alias=AliasChoices("price_gpu_hour", "INFINITY_PRICE_GPU_HOUR"),
        description="Price of one GPU for an hour.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        validation_alias=AliasChoices("log_format", "INFINITY_LOG_FORMAT"),
        description="Form of the logs of all processes: text for people, or json, one object per line.",
    )
    work_pool: str = Field(
        default="local",
        validation_alias=AliasChoices("work_pool", "INFINITY_WORK_POOL"),
        description="Name of the work pool that prefect.yaml deploys to and the local worker serves.",
    )
    environment: str | None = Field(
        default=None,
        validation_alias=AliasChoices("environment", "INFINITY_ENVIRONMENT"),
        description="Environment of prefect.yaml whose deployments `make up` makes and serves; not set: local ones.",
    )
    state: Path = Field(
        default=REPOSITORY / ".local",
        validation_alias=AliasChoices("state", "INFINITY_STATE"),
        description="Folder of the local stack: process ids, logs and Prefect's database.",
    )

    @property
    def pool(self) -> str:
        """Name of the work pool that is served: that of the environment, if there is one."""
        return self.environment or self.work_pool

    @field_validator("ray_address", "s3_endpoint", "prefect_api_url", "files_url")
    @classmethod
    def _strip(cls, value: str | None) -> str | None:
        return value.rstrip("/") if value else value

    @field_validator("prefect_api_url")
    @classmethod
    def _ends_in_api(cls, value: str | None) -> str | None:
        if value is not None and not (value.startswith(("http://", "https://")) and "/api" in value):
            raise ValueError(f"PREFECT_API_URL: expected something like http://127.0.0.1:4200/api, got {value!r}")
        return value


@cache
def settings() -> Settings:
    """Return the settings of this process, read once.

    Raises:
        ValueError: A variable holds something else than its setting; one sentence for each.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise ValueError("; ".join(map(_sentence, error.errors()))) from error


def _sentence(problem: Any) -> str:
    """Return what is wrong with a variable: its name, what is expected and what was found."""
    field = Settings.model_fields.get(str(problem["loc"][0]))
    choices = field.validation_alias.choices if field and isinstance(field.validation_alias, AliasChoices) else []
    variable = next((str(name) for name in choices if os.environ.get(str(name))), str(problem["loc"][0]))
    if problem["type"] == "value_error":  # a sentence of our own
        return str(problem["ctx"]["error"])
    return f"{variable}: {problem['msg'][:1].lower()}{problem['msg'][1:]}, got {problem['input']!r:.80}"
