"""A golden case as it lies in its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from infinity.scales import ASPECT_RATIOS, SIZES, Grid, ScaleSchedule, published_schedule
from infinity.text import TextCondition

SIZE_OF_PN = dict(zip(("0.06M", "0.25M", "0.60M", "1M"), SIZES, strict=True))
PN_OF_SIZE = {size: pn for pn, size in SIZE_OF_PN.items()}

_OF_TOKENIZER = ("encoder.", "decoder.", "quantizer.", "quantize.")


class CaseError(ValueError):
    """A folder that is no golden case, or one whose files contradict each other."""


@dataclass(frozen=True)
class Case:
    """Configuration and tensors of one case; absent files are empty."""

    folder: Path
    about: dict[str, Any]
    state: dict[str, Tensor]
    inputs: dict[str, Tensor]
    expected: dict[str, Tensor]

    @classmethod
    def load(cls, folder: Path) -> Case:
        """Read a case folder and check that its files hold what ``case.json`` lists."""
        if not (folder / "case.json").is_file():
            raise CaseError(f"{folder}: expected a case folder with case.json, found none")
        about = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        files = {name: _load(folder / f"{name}.safetensors") for name in ("state_dict", "inputs", "outputs")}
        return cls(folder, about, files["state_dict"], files["inputs"], files["outputs"])

    def listed_tensors(self) -> dict[str, tuple[dict[str, Any], dict[str, Tensor]]]:
        """For each listed file what ``case.json`` says of it and what it holds."""
        held = {"state_dict": self.state, "inputs": self.inputs, "outputs": self.expected}
        found = {}
        for name, tensors in self.about.get("files", {}).items():
            stem = name.removesuffix(".safetensors")
            found[name] = (tensors, held[stem] if stem in held else _load(self._beside(name)))
        return found

    def _beside(self, name: str) -> Path:
        """Any other file that is listed, such as a tokenizer's in the folder of the case."""
        if name != self.about.get("vae_state_dict") and (Path(name).is_absolute() or ".." in Path(name).parts):
            raise CaseError(f"files: expected names of files in the folder of the case, found {name!r}")
        path = self.folder / name
        return path if path.suffix else path.with_suffix(".safetensors")

    @property
    def folds(self) -> bool:
        """Whether 2x2 positions of the tokenizer make one token."""
        config = self.about.get("infinity_config", {})
        return bool(self.about.get("apply_spatial_patchify", config.get("apply_spatial_patchify", 0)))

    def schedule(self) -> ScaleSchedule:
        """The schedule of the tokens, in the frame of its aspect ratio."""
        grids = _grids(self.about["scale_schedule"])
        return find_schedule(grids, self.about.get("ratio_h_div_w"))

    def position_schedule(self, grid: tuple[int, ...]) -> ScaleSchedule:
        """The schedule of the tokenizer's positions, which ends in ``grid``: twice as fine where tokens fold."""
        schedule = self.schedule()
        listed = _grids(self.about.get("vae_scale_schedule", self.about["scale_schedule"]))
        for grids in (listed, schedule.unfolded().grids):
            if grids[-1] == grid:
                return ScaleSchedule(aspect_ratio=schedule.aspect_ratio, grids=grids, frame=grids[-1])
        raise CaseError(f"expected features of {listed[-1]} rows and columns, the last grid, found {grid}")

    def text(self, prefix: str = "") -> TextCondition:
        """Captions from ``kv_compact`` and the offsets ``cu_seqlens_k``."""
        offsets = self.inputs[f"{prefix}cu_seqlens_k"].tolist()
        lengths = tuple(b - a for a, b in pairwise(offsets))
        return TextCondition(self.inputs[f"{prefix}kv_compact"], lengths)

    def transformer_state(self) -> dict[str, Tensor]:
        """The tensors of ``state_dict`` that are not the tokenizer's."""
        return {name: tensor for name, tensor in self.state.items() if not name.startswith(_OF_TOKENIZER)}

    def tokenizer_state(self) -> dict[str, Tensor]:
        """The tokenizer's tensors: in the file that ``vae_state_dict`` names, or among the case's own; else empty."""
        if "vae_state_dict" not in self.about:
            return {name: tensor for name, tensor in self.state.items() if name.startswith(_OF_TOKENIZER)}
        path = (self.folder / self.about["vae_state_dict"]).resolve()
        if not path.is_file():
            raise CaseError(f"vae_state_dict: expected the tokenizer's tensors at {path}, found nothing there")
        return _load(path)


def find_schedule(grids: tuple[Grid, ...], aspect_ratio: float | None) -> ScaleSchedule:
    """The published schedule that begins with these grids, else a custom one framed by its last grid."""
    ratios = ASPECT_RATIOS if aspect_ratio is None else tuple(r for r in ASPECT_RATIOS if r == aspect_ratio)
    fits = [s for r in ratios for s in [published_schedule(r, "1024")] if s.grids[: len(grids)] == grids]
    if len(fits) >= 1:
        # A few coarse grids belong to several ratios; tokenizer cases have such, and do not need the frame.
        return fits[0].prefix(len(grids))
    ratio = aspect_ratio if aspect_ratio is not None else grids[-1][0] / grids[-1][1]
    return ScaleSchedule(aspect_ratio=float(ratio), grids=grids, frame=grids[-1])


def _grids(scales: list[list[int]]) -> tuple[Grid, ...]:
    for scale in scales:
        if len(scale) != 3 or scale[0] != 1:
            raise CaseError(f"expected scales (1, rows, columns), found {scale}")
    return tuple((h, w) for _, h, w in scales)


def _load(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        return {}
    try:
        return dict(safetensors.torch.load_file(path))
    except safetensors.SafetensorError as error:
        raise CaseError(f"{path}: not a safetensors file ({error})") from error
