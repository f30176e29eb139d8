"""Weights of the Inception network: read from a file or the web, and checked before they are unpickled."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from infinity import storage
from infinity.checkpoint import load_weights
from infinity.config import Config
from infinity.evaluation.fid.inception import Inception
from infinity.storage.pinned import NoDownloadError, read_web

STANDARD_URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
)
STANDARD_SHA256 = "6726825d"
"""The published file has the first eight digits of its checksum in its name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InceptionWeights(Config):
    """Where the weights file lies, and its checksum.

    Args:
        uri: Local path, s3:// or http(s):// URI. A downloaded file is kept in torch's hub folder.
        sha256: The first 8 to 64 hexadecimal digits of the file's checksum.
    """

    uri: str = STANDARD_URL
    sha256: str = STANDARD_SHA256

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{8,64}", self.sha256):
            raise ValueError(
                f"InceptionWeights.sha256: expected 8 to 64 lower-case hexadecimal digits, got {self.sha256!r}"
            )


class WeightsError(ValueError):
    """The Inception weights cannot be loaded, or are not the expected ones."""


def load_inception(weights: InceptionWeights) -> Inception:
    """Return the network with the given weights, in evaluation mode.

    Raises:
        WeightsError: The download failed, the checksum differs, or the file holds no tensors.
        CheckpointError: Tensors are missing, unknown or of another shape.
        StorageError: The file cannot be read.
    """
    data = _fetch(weights)
    try:
        tensors = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's unpickler raises many types; all of them mean an unusable file
        raise WeightsError(
            f"{weights.uri}: expected a PyTorch file of tensors ({type(error).__name__}: {error})"
        ) from error
    if not isinstance(tensors, dict):
        raise WeightsError(f"{weights.uri}: expected a dictionary of tensors, got {type(tensors).__name__}")
    network = Inception()
    # A counter of training steps, which evaluation does not use; files of some versions lack it.
    counters = {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    load_weights(network, {**counters, **tensors}, where=weights.uri)
    return network


def _fetch(weights: InceptionWeights) -> bytes:
    if not weights.uri.startswith(("http://", "https://")):
        return _checked(storage.read_bytes(weights.uri), weights, weights.uri)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / f"inception-2015-{weights.sha256}.pth"
    if cached.exists():
        return _checked(cached.read_bytes(), weights, str(cached))
    try:
        data = _checked(read_web(weights.uri), weights, weights.uri)
    except NoDownloadError as error:
        raise WeightsError(str(error)) from error
    storage.write_bytes(str(cached), data)
    return data


def _checked(data: bytes, weights: InceptionWeights, where: str) -> bytes:
    digest = hashlib.sha256(data).hexdigest()
    if not digest.startswith(weights.sha256):
        raise WeightsError(
            f"{where}: expected sha256 {weights.sha256}, found {digest}; the file is damaged or another one"
        )
    return data
