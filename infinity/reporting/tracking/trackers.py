"""Experiment trackers behind one interface: TensorBoard, Weights & Biases (offline), MLflow, Trackio.

Each tracker is written through its own package, into a local folder unless its own environment variables name a server.
Only TensorBoard's package is always installed; the others come with ``pip install 'infinity-t2i[trackers]'``.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from infinity.evaluation.score import Score


class Tracker(ABC):
    """One run of an experiment at a tracker."""

    @abstractmethod
    def curve(self, values: dict[str, float], step: int) -> None:
        """Log values of one step by their names."""

    @abstractmethod
    def picture(self, name: str, picture: Image.Image, step: int, caption: str = "") -> None:
        """Log an RGB picture of one step."""

    @abstractmethod
    def score(self, score: Score) -> None:
        """Log a score of an evaluation with its interval, sample size and protocol; a gap is logged as a text alone."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left and end the run."""


def values_of(score: Score) -> dict[str, float]:
    """Return a score's numbers by name: the value, both ends of the interval, and the sample size."""
    parts = {"": score.value, ".low": score.low, ".high": score.high, ".n": float(score.n)}
    return {f"{score.metric}{part}": value for part, value in parts.items() if value is not None}


def about(score: Score) -> str:
    """Return protocol and note of a score."""
    return f"{score.protocol}; {score.note}" if score.note else score.protocol


class TensorBoardTracker(Tracker):
    """TensorBoard files in ``<folder>/tensorboard/<run>``."""

    def __init__(self, folder: Path, project: str, run: str) -> None:
        from infinity.training.tensorboard_file import TensorBoardFile  # slow to import, and most processes write none

        # A name of its own: files of one second would overwrite each other.
        self._board = TensorBoardFile(str(folder / "tensorboard" / run), filename_suffix=f".{time.time_ns()}")

    def curve(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._board.add_scalar(name.replace(".", "/", 1), value, step)

    def picture(self, name: str, picture: Image.Image, step: int, caption: str = "") -> None:
        """Log an RGB picture of one step; a caption becomes a text beside it."""
        self._board.add_image(name, np.asarray(picture), step, dataformats="HWC")
        if caption:
            self._board.add_text(name, caption, step)

    def score(self, score: Score) -> None:
        """Log a score's numbers at step 0, and its protocol as a text."""
        self.curve(values_of(score), 0)
        self._board.add_text(score.metric, about(score), 0)

    def close(self) -> None:
        self._board.close()


class WandbTracker(Tracker):
    """Weights & Biases in ``<folder>/wandb``; offline unless ``WANDB_MODE`` says otherwise."""

    def __init__(self, folder: Path, project: str, run: str) -> None:
        wandb: Any = importlib.import_module("wandb")
        self._wandb = wandb
        settings = wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True)
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=project, name=run, id=run, dir=str(folder), mode=mode, settings=settings, resume="allow",
            reinit="create_new",
        )  # fmt: skip

    def curve(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step)

    def picture(self, name: str, picture: Image.Image, step: int, caption: str = "") -> None:
        self._run.log({name: self._wandb.Image(picture, caption=caption or None)}, step=step)

    def score(self, score: Score) -> None:
        """Write a score's numbers and its protocol into the run's summary."""
        self._run.summary.update({**values_of(score), f"{score.metric}.about": about(score)})

    def close(self) -> None:
        self._run.finish()


class MlflowTracker(Tracker):
    """MLflow in ``<folder>/mlflow.db``, or at ``MLFLOW_TRACKING_URI``."""

    def __init__(self, folder: Path, project: str, run: str) -> None:
        mlflow: Any = importlib.import_module("mlflow")
        folder.mkdir(parents=True, exist_ok=True)
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        artifacts = None if uri else (folder / "mlflow-artifacts").absolute().as_uri()
        self._client = mlflow.MlflowClient(tracking_uri=uri or f"sqlite:///{(folder / 'mlflow.db').absolute()}")
        known = self._client.get_experiment_by_name(project)
        number = known.experiment_id if known else self._client.create_experiment(project, artifact_location=artifacts)
        quote = '"' if "'" in run else "'"  # the query's language knows no other way to write a quotation mark
        found = self._client.search_runs([number], f"tags.infinity = {quote}{run}{quote}")
        tags = {"infinity": run}
        self._id = (found[0] if found else self._client.create_run(number, run_name=run, tags=tags)).info.run_id

    def curve(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._id, name, value, step=step)

    def picture(self, name: str, picture: Image.Image, step: int, caption: str = "") -> None:
        """Log an RGB picture of one step as an artifact, and its caption beside it."""
        file = f"{name}/step-{step:08d}"
        self._client.log_image(self._id, picture, f"{file}.png")
        if caption:
            self._client.log_text(self._id, caption, f"{file}.txt")

    def score(self, score: Score) -> None:
        """Log a score's numbers, and its protocol as a file."""
        self.curve(values_of(score), 0)
        self._client.log_text(self._id, about(score), f"scores/{score.metric}.txt")

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._id)


class TrackioTracker(Tracker):
    """Trackio in ``<folder>/trackio``, or where ``TRACKIO_DIR`` says."""

    def __init__(self, folder: Path, project: str, run: str) -> None:
        os.environ.setdefault("TRACKIO_DIR", str((folder / "trackio").absolute()))  # read when it is imported
        with _quiet():
            self._trackio: Any = importlib.import_module("trackio")
            self._trackio.init(project=project, name=run, resume="allow", auto_log_gpu=False)

    def curve(self, values: dict[str, float], step: int) -> None:
        with _quiet():
            self._trackio.log(values, step=step)

    def picture(self, name: str, picture: Image.Image, step: int, caption: str = "") -> None:
        with _quiet():
            self._trackio.log({name: self._trackio.Image(picture, caption=caption or None)}, step=step)

    def score(self, score: Score) -> None:
        """Log a score's numbers and its protocol at step 0."""
        with _quiet():
            self._trackio.log({**values_of(score), f"{score.metric}.about": about(score)}, step=0)

    def close(self) -> None:
        with _quiet():
            self._trackio.finish()


TRACKERS: dict[str, Callable[[Path, str, str], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "wandb": WandbTracker,
    "mlflow": MlflowTracker,
    "trackio": TrackioTracker,
}
"""All trackers by name; each takes a local folder, the project's name and the run's name."""


_PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}


def check_tracker(name: str, where: str = "--to") -> None:
    """Check that there is a tracker of a name, and that its package is installed, without importing it.

    Raises:
        ValueError: One of both is not so.
    """
    if name not in TRACKERS:
        raise ValueError(f"{where}: expected one of {', '.join(TRACKERS)}, got {name!r}")
    if importlib.util.find_spec(_PACKAGES[name]) is None:
        raise ValueError(
            f"{where} {name}: its package is not installed here; install it with: pip install 'infinity-t2i[trackers]'"
        )


def open_tracker(name: str, folder: Path, project: str, run: str) -> Tracker:
    """Return a tracker.

    Raises:
        ValueError: There is no tracker of that name, or its package is not installed.
    """
    check_tracker(name)
    try:
        return TRACKERS[name](folder, project, run)
    except ImportError as error:
        raise ValueError(
            f"{name}: its package is not installed ({error}); install it with: pip install 'infinity-t2i[trackers]'"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep a package from printing into the output of commands."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
