"""Where everything is: addresses and roots, read from the environment here and nowhere else."""

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, PositiveInt, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

REPOSITORY = Path(__file__).resolve().parents[1]
PREFIX = "INFINITY_"
"""What the names of our own variables begin with; those of others keep theirs."""

DATABASE = "INFINITY_DATABASE", "PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL"
Port = Annotated[int, Field(ge=1, le=65535)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class SettingsError(ValueError):
    """A variable of the environment holds what its setting cannot be."""


class Settings(BaseSettings):
    """Places and addresses; an empty variable counts as not set.

    S3 keys are not among them: they stay in the standard AWS_* variables or files, where boto3 finds them.
    """

    model_config = SettingsConfigDict(
        env_ignore_empty=True, frozen=True, extra="ignore", populate_by_name=True, env_prefix=PREFIX
    )

    runs: str = "runs"
    """Root of all outputs: a folder or s3://bucket/prefix. Relative paths start at the working folder."""
    registry: str | None = None
    """Root of the registry of champions: a folder or s3:// URI; not set: 'registry' beside the run."""
    ray_address: str | None = Field(default=None, validation_alias="RAY_ADDRESS")
    """host:port of a cluster, or http://host:8265 of its dashboard, where stages become jobs; not set: a local Ray for
    the time of a stage."""
    ray_num_cpus: PositiveInt | None = None
    """CPUs that a local Ray lends out; not set: all of the machine."""
    ray_memory: PositiveInt | None = None
    """Bytes of memory that a local Ray lends out; not set: what the machine has."""
    ray_object_store: PositiveInt | None = None
    """Bytes of shared memory for the objects of a local Ray; not set: 200 MiB while a stage needs it, otherwise 30 % of
    the memory."""
    ray_spill: Path | None = None
    """Folder where a local Ray puts objects that do not fit; not set: the folder of its session."""
    s3_endpoint: str | None = Field(
        default=None, validation_alias=AliasChoices("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    )
    """URL of an S3 server other than Amazon's."""
    prefect_api_url: str | None = Field(default=None, validation_alias="PREFECT_API_URL")
    """API of a Prefect server that runs elsewhere; not set: the local stack's own server."""
    prefect_port: Port | None = None
    """Port of the local server; not set: 4200, or any free one where that is taken."""
    database: SecretStr | None = Field(default=None, validation_alias=AliasChoices(*DATABASE))
    """Database behind the local Prefect server: sqlite or postgresql+asyncpg://user:password@host/name; not set: that
    of the last start, at first sqlite."""
    prefect_auth: SecretStr | None = Field(default=None, validation_alias="PREFECT_API_AUTH_STRING")
    """What Prefect's server asks clients for, name:password; not set: the local stack makes its own."""
    prefect_server_auth: SecretStr | None = Field(default=None, validation_alias="PREFECT_SERVER_API_AUTH_STRING")
    """The same as the server's own setting; not set: the clients' one."""
    prefect_api_key: SecretStr | None = Field(default=None, validation_alias="PREFECT_API_KEY")
    """Key of a hosted Prefect."""
    files_port: Port | None = None
    """Port of the local file server; not set: a free one, the same at every start."""
    files_url: str | None = None
    """URL under which a browser finds the root of runs; the local stack serves it and sets this."""
    server_patience_s: Amount = 6 * 3600.0
    """How long a flow that has done its work waits for a Prefect server that is away, in seconds."""
    price_cpu_hour: Amount = 0.0
    """Price of one CPU for an hour, in any currency; plans and run pages show what a run costs."""
    price_gpu_hour: Amount = 0.0
    """Price of one GPU for an hour."""
    power_cpu_w: Amount = 0.0
    """Power of one CPU at work in watts, with its share of the machine; run pages show the energy of a run."""
    power_gpu_w: Amount = 0.0
    """Power of one GPU at work in watts, with its share of the machine."""
    disk_warning_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Free share of a disk below which the reaper announces that it is nearly full."""
    log_format: Literal["text", "json"] = "text"
    """Form of the logs of all processes: text for people, or json, one object per line."""
    work_pool: str = "local"
    """Name of the work pool that prefect.yaml deploys to and the local worker serves."""
    work_pool_type: Literal["process", "docker", "kubernetes"] = "process"
    """What a run becomes in the work pool: a process of the worker, a container or a pod, by the templates of
    infra/pools."""
    environment: str | None = None
    """Environment of prefect.yaml whose deployments `make up` makes and serves; not set: local ones."""
    state: Path = REPOSITORY / ".local"
    """Folder of the local stack: process ids, logs and Prefect's database."""

    @property
    def pool(self) -> str:
        """Name of the work pool that is served: that of the environment, if there is one."""
        return self.environment or self.work_pool

    def costs(self, cpu_hours: float, gpu_hours: float) -> tuple[float, float]:
        """Return what so much work costs, in the currency of the prices, and its energy in kWh; 0 where none is set."""
        price = cpu_hours * self.price_cpu_hour + gpu_hours * self.price_gpu_hour
        return price, (cpu_hours * self.power_cpu_w + gpu_hours * self.power_gpu_w) / 1000.0

    @field_validator("ray_address", "s3_endpoint", "prefect_api_url", "files_url")
    @classmethod
    def _strip(cls, value: str | None) -> str | None:
        return value.rstrip("/") if value else value

    @field_validator("prefect_api_url")
    @classmethod
    def _ends_in_api(cls, value: str | None) -> str | None:
        if value is not None and not (value.startswith(("http://", "https://")) and "/api" in value):
            raise ValueError("expected something like http://127.0.0.1:4200/api")
        return value


@cache
def settings() -> Settings:
    """Return the settings of this process, read once.

    Raises:
        SettingsError: A variable holds what its setting cannot be.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError("; ".join(map(_sentence, error.errors()))) from error


def _sentence(error: ErrorDetails) -> str:
    name = str(error["loc"][0])  # the variable's, or the field's where the prefix makes one of the other
    said = error["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return f"{name if name.isupper() else f'{PREFIX}{name.upper()}'}: {said}, found {error['input']!r}"
