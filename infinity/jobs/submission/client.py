"""Ray's API of jobs, with errors in one sentence."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from infinity.jobs.cluster import ray_token
from infinity.jobs.watching import ClusterLostError, NoClusterError

T = TypeVar("T")

SCHEMES = ("http://", "https://")

ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
"""States of a job that is over."""

_SECRET = re.compile(r"//[^/?#]*@")
"""Name and password in an address, for what stands before the dashboard."""

NOT_FOUND = "status code 404"

CONNECT_S = 10.0
"""Longest time in seconds until a connection to the dashboard stands."""
ANSWER_S = 15.0
"""Longest time in seconds until the dashboard answers; a process that watches a job has to give signs of life."""
FIRST_ANSWER_S = 30.0
"""The same for the first question and for the start of a job, which may meet a busy machine."""
SETTLE_S = 3.0
"""Seconds from the end of a job until its id is used again: Ray looks after an ended job once a second, by its id, and
would say that the new one has died with the old one's process."""


class SubmissionError(RuntimeError):
    """A stage that ran as a Ray job could not be done; the message is for the user."""


def without_password(address: str) -> str:
    """Return an address of the web without the name and password that it may hold."""
    return _SECRET.sub("//", address)


def is_job_address(address: str | None) -> bool:
    """Return whether stages run as jobs of the cluster whose dashboard has this address."""
    return address is not None and address.startswith(SCHEMES)


@dataclass(frozen=True, slots=True)
class JobState:
    """What the cluster knows of a job.

    Attributes:
        status: One of PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED.
        message: Words of the cluster about it, the end of the log included where it failed.
        exit_code: Exit code of the job's process; None where it is not known.
        metadata: Texts that were submitted with it.
    """

    status: str
    message: str
    exit_code: int | None
    metadata: Mapping[str, str]

    @property
    def mark(self) -> str:
        """Text that tells this job from every other one of its id; empty where it was submitted without one."""
        return self.metadata.get("mark", "")

    @property
    def is_over(self) -> bool:
        """True for a job that does nothing any more."""
        return self.status in ENDED


class JobClient:
    """Jobs of one cluster.

    Args:
        address: Address of the cluster's dashboard, for example ``http://ray-head:8265``.

    Raises:
        NoClusterError: No cluster answers at the address.
        PermissionError: The cluster asks for a token that this process does not have.
    """

    def __init__(self, address: str) -> None:
        self.address = shown = without_password(address)  # for people: pages and logs show it
        try:
            self._client = self._asked(lambda: _new_client(address))
        except ClusterLostError as error:
            raise NoClusterError(
                f"no Ray cluster answers at {shown}; start it, correct RAY_ADDRESS, or unset it to use a local Ray"
            ) from error
        except SubmissionError as error:
            raise NoClusterError(f"what answers at {shown} is not the dashboard of a Ray cluster: {error}") from error

    def page(self, job: str) -> str:
        """Return the address of the job's page on the dashboard."""
        return f"{self.address}/#/jobs/{job}"

    def state(self, job: str) -> JobState | None:
        """Return the state of a job; None for a job that the cluster does not know.

        Raises:
            ClusterLostError: The cluster does not answer.
        """
        try:
            found = self._asked(lambda: self._client.get_job_info(job))
        except SubmissionError as error:
            if NOT_FOUND in str(error):
                return None
            raise
        return JobState(str(found.status.value), found.message or "", found.driver_exit_code, found.metadata or {})

    def submit(
        self, job: str, command: str, *, variables: Mapping[str, str], metadata: Mapping[str, str], num_cpus: float
    ) -> bool:
        """Start a job and return True, or False where another process was first with one of this id.

        Args:
            command: Shell command.
            variables: Environment of the job; everybody who sees the dashboard reads it, so it holds no secret.
            metadata: Texts that belong to the job and tell it from every other one of this id.
            num_cpus: CPUs of the process that drives the stage, besides those of its workers.
        """
        options: dict[str, Any] = {
            "entrypoint": command,
            "submission_id": job,
            "runtime_env": {"env_vars": dict(variables)},
            "metadata": dict(metadata),
            "entrypoint_num_cpus": num_cpus,
        }
        self._client.answer_s = FIRST_ANSWER_S
        try:
            self._asked(lambda: self._client.submit_job(**options))
        except (SubmissionError, ClusterLostError):  # the server fails, too, where two submit the same at once
            if (state := self.state(job)) is None:
                raise
            return bool(state.metadata == metadata)  # the answer may have been lost where the job was not
        finally:
            self._client.answer_s = ANSWER_S
        return True

    def stop(self, job: str) -> None:
        """Ask a job to end; it gets a SIGTERM and then some time. One that is gone already is no error."""
        try:
            self._asked(lambda: self._client.stop_job(job))
        except SubmissionError as error:
            if NOT_FOUND not in str(error):
                raise

    def forget(self, job: str) -> None:
        """Let the cluster forget a job that is over, so that its id is free.

        One that is gone already, or that another process has started anew meanwhile, is no error.
        """
        time.sleep(SETTLE_S)
        try:
            self._asked(lambda: self._client.delete_job(job))
        except (SubmissionError, ClusterLostError):  # the server fails, too, where the job is not over or gone
            if (state := self.state(job)) is not None and state.is_over:
                raise

    def _asked(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except PermissionError:
            raise
        except Exception as error:  # requests and Ray raise several kinds
            if ray_token.is_refusal(error):
                raise PermissionError(ray_token.refusal(self.address)) from error
            if isinstance(error, OSError) or "status code 50" in str(error):  # also those of requests
                raise ClusterLostError(
                    f"the Ray cluster at {self.address} does not answer ({_brief(error)})"
                ) from error
            raise SubmissionError(_brief(error)) from error


def _new_client(address: str) -> Any:
    """Return Ray's client of jobs, with an end to every wait: of itself it waits for ever on a dashboard that hangs."""
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):  # type: ignore[misc]  # it comes without types
        answer_s = FIRST_ANSWER_S

        def _do_request(self, *arguments: Any, **options: Any) -> Any:
            return super()._do_request(*arguments, timeout=(CONNECT_S, self.answer_s), **options)

    client = Client(address)
    client.answer_s = ANSWER_S
    return client


def _brief(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
