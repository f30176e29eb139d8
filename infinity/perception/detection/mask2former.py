"""Mask2Former through transformers: objects of the 80 COCO classes with boxes, scores and masks.

The rows are those of the detector that the public GenEval scorer calls (mmdet's Mask2Former). Every pair of a query and
a class competes, and the best 100 of a picture remain. A row's score is the class's probability times the mean
probability within its mask; its box is the bounding box of the mask. The post-processing of transformers is not used,
since it decides one class per query and returns masks of another size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from infinity.config import Config
from infinity.perception.loading import check_complete, check_weights, explain
from infinity.ranges import Count, ModelName
from infinity.storage.plain_files import check_plain_files

MAX_ROWS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Mask2FormerConfig(Config):
    """Configuration of the network.

    Attributes:
        model: A local folder or hub name of a Mask2Former for instance segmentation.
        sha256: First 8 to 64 digits of the checksum of the folder's weights, or None for no check.
        batch_size: Pictures per batch.
    """

    model: ModelName = "facebook/mask2former-swin-small-coco-instance"
    sha256: str | None = None
    batch_size: Count = 4


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """Found objects of one picture, best first.

    Attributes:
        labels: Number of every object's class.
        scores: Score of every object, 0 to 1.
        boxes: Left, top, right, bottom in pixels of the picture; right and bottom are just outside of the mask.
    """

    labels: Int64[np.ndarray, " n"]
    scores: Float32[np.ndarray, " n"]
    boxes: Float32[np.ndarray, "n 4"]
    masks: Bool[np.ndarray, "n H W"]


class Mask2Former:
    """The detector in evaluation mode.

    Raises:
        ValueError: There is no Mask2Former, its weights are not the expected ones, or tensors are missing.
    """

    def __init__(self, config: Mask2FormerConfig, device: str = "cpu") -> None:
        # Imported here: transformers takes seconds to import.
        from transformers import AutoImageProcessor, Mask2FormerForUniversalSegmentation

        check_weights(config.model, config.sha256)
        self.config = config
        check_plain_files(config.model)
        try:
            # The Pillow processor on every machine, since torchvision's resizes with other rounding.
            self._processor: Any = AutoImageProcessor.from_pretrained(config.model, backend="pil")
            self._model, report = Mask2FormerForUniversalSegmentation.from_pretrained(
                config.model, output_loading_info=True
            )
        except (OSError, ValueError, ImportError, TypeError, KeyError) as error:
            raise ValueError(explain("Mask2Former", config.model, error)) from error
        check_complete(self._model, report, config.model)
        self._model.eval().requires_grad_(False).to(device)

    @property
    def num_classes(self) -> int:
        """Number of classes, 80 for COCO."""
        return int(self._model.config.num_labels)

    @torch.no_grad()
    def __call__(self, pictures: Sequence[UInt8[np.ndarray, "H W 3"]]) -> list[Instances]:
        """Return the found objects of every picture."""
        found: list[Instances] = []
        for start in range(0, len(pictures), self.config.batch_size):
            found += self._detect(pictures[start : start + self.config.batch_size])
        return found

    def _detect(self, pictures: Sequence[UInt8[np.ndarray, "H W 3"]]) -> list[Instances]:
        inputs = self._processor(images=list(pictures), return_tensors="pt", input_data_format="channels_last")
        inputs = inputs.to(self._model.device)
        output = self._model(pixel_values=inputs["pixel_values"], pixel_mask=inputs["pixel_mask"])
        padded = inputs["pixel_values"].shape[-2:]
        masks = F.interpolate(output.masks_queries_logits.float(), size=padded, mode="bilinear", align_corners=False)
        instances = []
        for picture, classes, mask, valid in zip(
            pictures, output.class_queries_logits.float(), masks, inputs["pixel_mask"], strict=True
        ):
            rows, columns = int(valid[:, 0].sum()), int(valid[0].sum())
            instances.append(rows_of(classes, mask[:, :rows, :columns], (int(picture.shape[0]), int(picture.shape[1]))))
        return instances


def rows_of(
    class_logits: Float32[Tensor, "Q C1"], mask_logits: Float32[Tensor, "Q h w"], size_px: tuple[int, int]
) -> Instances:
    """Return the found objects of one picture from the network's outputs.

    Args:
        class_logits: Class scores of every query; the last class is "no object".
        mask_logits: Mask of every query, at the size that the picture was resized to, without padding.
    """
    probabilities = class_logits.softmax(dim=-1)[:, :-1]
    num_classes = probabilities.shape[1]
    best = probabilities.flatten().topk(min(MAX_ROWS, probabilities.numel()))
    queries, labels = best.indices // num_classes, best.indices % num_classes
    used, places = queries.unique(return_inverse=True)
    resized = F.interpolate(mask_logits[used][:, None], size=size_px, mode="bilinear", align_corners=False)[:, 0]
    inside = resized > 0
    certainty = (resized.sigmoid() * inside).flatten(1).sum(1) / (inside.flatten(1).sum(1) + 1e-6)
    frames = frames_of(inside)
    scores = best.values * certainty[places]
    order = scores.argsort(descending=True, stable=True)
    places = places[order]
    return Instances(
        labels=labels[order].cpu().numpy(),
        scores=scores[order].cpu().numpy(),
        boxes=frames[places].cpu().numpy(),
        masks=inside[places].cpu().numpy(),
    )


def frames_of(masks: Bool[Tensor, "n H W"]) -> Float32[Tensor, "n 4"]:
    """Return left, top, right, bottom of every mask, the last two just outside; zeros for an empty mask."""
    boxes = torch.zeros(len(masks), 4)
    for number, mask in enumerate(masks):
        rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
        if len(rows):
            boxes[number] = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return boxes
