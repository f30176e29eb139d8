"""Fixtures for all tests: one local Ray, one S3 server and one Prefect server a session, each only when asked for."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import hypothesis
import pytest

from infra.environment import apply_common_environment, free_port
from infra.settings import Settings
from infra.stack import Stack
from tests.fixtures.limits import AGES_S
from tests.fixtures.servers.s3_server import s3_server
from tests.lanes import CLAIMS, Lane
from tests.sampling import Sample

# Set before torch, ray or prefect are imported by any test: threads, homes and telemetry are read at import.
apply_common_environment()
SESSION_FOLDER = Path(tempfile.mkdtemp(prefix="inf-"))  # short: Ray's socket paths must stay under 107 bytes
os.environ.update(
    {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "GOMP_SPINCOUNT": "0",  # lanes share the cores: threads of a training that wait for one another must not spin
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PREFECT_HOME": str(SESSION_FOLDER / "prefect"),
        "INFINITY_STATE": str(SESSION_FOLDER / "state"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
)
PREFECT_AUTH = ("PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_KEY")
for name in (*PREFECT_AUTH, "PREFECT_API_URL", "PREFECT_PROFILE", "RAY_ADDRESS", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
    os.environ.pop(name, None)

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_unconfigure() -> None:
    """Remove the homes and Ray folders of this session."""
    shutil.rmtree(SESSION_FOLDER, ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--exhaustive", action="store_true", help="run every case of tests that sample by default")
    parser.addoption("--share", default="1/1", help="with --exhaustive: 2/8 runs the second eighth of the kill points")


def pytest_configure(config: pytest.Config) -> None:
    """Sample long sweeps, and share the tests with other processes where `tests.lanes` started this one."""
    if not config.getoption("--exhaustive"):
        config.pluginmanager.register(Sample(), "sample")
    if folder := os.environ.pop(CLAIMS, None):  # tests that start pytest are no lanes
        config.pluginmanager.register(Lane(Path(folder)), "lane")


@pytest.fixture(scope="session")
def exhaustive(request: pytest.FixtureRequest) -> bool:
    """Whether every case shall run where a test otherwise samples a few."""
    return bool(request.config.getoption("--exhaustive"))


@pytest.fixture(scope="session")
def share(request: pytest.FixtureRequest) -> slice:
    """Which of the cases of a long sweep run here, so that several processes or evenings can share it."""
    text = str(request.config.getoption("--share"))
    which, _, of = text.partition("/")
    if not (which.isdecimal() and of.isdecimal() and 1 <= int(which) <= int(of)):
        raise pytest.UsageError(f"--share: expected k/n with 1 <= k <= n, got {text!r}")
    return slice(int(which) - 1, None, int(of))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared goldens and pictures: ``../shared`` beside the repository, or ``INFINITY_SHARED``."""
    folder = Path(os.environ.get("INFINITY_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared folder at {folder}; set INFINITY_SHARED to run the reference tests")
    return folder


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """URL of an S3 server (moto over real HTTP); AWS_* in the environment point to it for the whole session."""
    with s3_server() as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield variables["AWS_ENDPOINT_URL_S3"]


_bucket_numbers = itertools.count(1)


@pytest.fixture(name="s3_server")
def _s3_bucket(s3_endpoint: str) -> str:
    """URI of a fresh bucket, for example ``s3://infinity-test-3``."""
    import boto3
    from botocore.config import Config

    bucket = f"infinity-test-{next(_bucket_numbers)}"
    client = boto3.client("s3", endpoint_url=s3_endpoint, config=Config(s3={"addressing_style": "path"}))
    client.create_bucket(Bucket=bucket)
    return f"s3://{bucket}"


@pytest.fixture(scope="session")
def local_ray(s3_endpoint: str) -> Iterator[None]:
    """A local Ray with two CPUs, shared by all tests of the session.

    It depends on the S3 server because Ray's workers inherit the environment of the moment Ray starts.
    """
    from infinity.jobs.cluster.connection import connect

    with connect(num_cpus=2):
        yield


@pytest.fixture(scope="session")
def prefect_stack() -> Iterator[Stack]:
    """A local stack with nothing but a Prefect server, whose SQLite database is new."""
    folder = SESSION_FOLDER
    stack = Stack(Settings(state=folder, runs=str(folder / "runs"), prefect_api_url=None, prefect_port=free_port()))
    try:
        server = stack.server_up(timeout_s=AGES_S)
        yield stack
    finally:
        stopped = stack.down()
    assert stopped == ["server"]
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.api_url}/health", timeout=AGES_S, trust_env=False)


@pytest.fixture(scope="session")
def prefect_server(prefect_stack: Stack) -> Iterator[str]:
    """API URL of a real Prefect server process; this process's flows use it too."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    url, auth = prefect_stack.server_up().api_url, prefect_stack.auth()
    assert auth is not None
    patch = pytest.MonkeyPatch()
    patch.setenv("PREFECT_API_URL", url)  # for processes that tests start
    patch.setenv("PREFECT_API_AUTH_STRING", auth)
    with temporary_settings(updates={PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: auth}):
        yield url
    patch.undo()
