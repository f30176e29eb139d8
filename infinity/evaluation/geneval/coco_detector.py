"""GenEval's own detector: boxes and masks by Mask2Former, colours of what lies within a mask by CLIP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import numpy as np

from infinity.config import Config
from infinity.evaluation.geneval.scoring import COLOURS, ClassDetections, Detections
from infinity.evaluation.networks import Networks
from infinity.evaluation.pictures.store import Picture
from infinity.perception.detection.colours import ColourClassifier, ColourConfig
from infinity.perception.detection.mask2former import Instances, Mask2Former, Mask2FormerConfig

GREY = 0x99
"""Value of all three channels outside of an object's mask."""

CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "computer mouse", "tv remote", "computer keyboard", "cell phone", "microwave", "oven", "toaster",
    "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""The benchmark's names of the 80 classes of COCO, in the order of the detector's outputs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CocoDetectorConfig(Config):
    """The networks of the benchmark.

    Attributes:
        objects: Network that finds objects.
        colours: Network that names colours.
        kind: Tag that tells this detector from others in JSON.
    """

    objects: Mask2FormerConfig = field(default_factory=Mask2FormerConfig)
    colours: ColourConfig = field(default_factory=ColourConfig)
    kind: Literal["coco"] = "coco"

    def load(self, networks: Networks) -> CocoDetector:
        """Return the detector with its networks loaded.

        Raises:
            ValueError: A network cannot be loaded, or the detector has other classes than COCO's.
        """
        objects = networks.get(self.objects, Mask2Former)
        if objects.num_classes != len(CLASSES):
            raise ValueError(
                f"{self.objects.model}: expected a detector of the {len(CLASSES)} classes of COCO, found "
                f"{objects.num_classes} classes"
            )
        return CocoDetector(objects, networks.get(self.colours, ColourClassifier))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes that the detector can find."""
        return CLASSES

    @property
    def colour_names(self) -> tuple[str, ...]:
        """Names of all colours that the detector can tell."""
        return COLOURS

    def describe(self) -> str:
        """Return the networks in words, for the protocol."""
        named = [(self.objects.model, self.objects.sha256), (self.colours.model, self.colours.sha256)]
        first, second = (f"{model} sha256 {sha[:16]}" if sha else model for model, sha in named)
        return f"Mask2Former {first} (Pillow resize), colours by CLIP {second}"

    def settings(self) -> dict[str, Any]:
        """Return all settings that a detection depends on."""
        return {**self.to_json(), "version": 1}


@dataclass(frozen=True, slots=True)
class CocoDetector:
    """Both networks, loaded."""

    objects: Mask2Former
    colours: ColourClassifier

    def __call__(self, pictures: Sequence[Picture]) -> list[Detections]:
        """Return the objects of every picture by class; a colour is computed when it is first read."""
        found = zip(pictures, self.objects(pictures), strict=True)
        return [self._by_class(picture, instances) for picture, instances in found]

    def _by_class(self, picture: Picture, instances: Instances) -> Detections:
        detections = {}
        for label in sorted(set(instances.labels.tolist())):
            rows = np.flatnonzero(instances.labels == label)
            boxes, masks = instances.boxes[rows], instances.masks[rows]
            colours = _Colours(self.colours, CLASSES[label], picture, boxes, masks)
            detections[CLASSES[label]] = ClassDetections(boxes, instances.scores[rows], colours)
        return detections


@dataclass(frozen=True, slots=True, eq=False)
class _Colours(Sequence[str]):
    """Colours of the objects of one class, each computed when it is read."""

    classifier: ColourClassifier
    thing: str
    picture: Picture
    boxes: np.ndarray
    masks: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        crop = crop_of(self.picture, self.boxes[index], self.masks[index])
        (name,) = self.classifier.name([crop], self.thing, COLOURS)
        return name

    def __iter__(self) -> Iterator[str]:
        return (self[place] for place in range(len(self)))


def crop_of(picture: Picture, box: np.ndarray, mask: np.ndarray) -> Picture:
    """Return the picture within a box (left, top, right, bottom), grey where the mask is not.

    Corners are rounded to whole pixels. An empty box, which an empty mask has, gives one grey pixel.
    """
    left, top, right, bottom = (round(float(side)) for side in box)
    grey = np.where(mask[..., None], picture, np.uint8(GREY))
    crop = grey[max(top, 0) : bottom, max(left, 0) : right]
    return crop if crop.size else np.full((1, 1, 3), GREY, np.uint8)
