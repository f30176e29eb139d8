"""Judge a training by its recipe's curves, and name the likeliest of the known faults with the evidence for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from infinity import storage
from infinity.config import Config
from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.batches import load_images
from infinity.diagnosis.findings import LikelyCause
from infinity.diagnosis.pictures import caption_findings, data_findings, reconstruction_db, tokenizer_findings
from infinity.diagnosis.settings import setting_findings
from infinity.diagnosis.weights import weight_findings
from infinity.jobs.registry import load_spec
from infinity.jobs.spec import DAMAGED_REPORT, REPORT_FILE, SPEC_FILE
from infinity.jobs.training.base import STATE_FOLDER, TrainReport
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.reporting.plots.curves import Points, read_curves
from infinity.reporting.plots.reference import ReferenceCurves, departures, reference_for
from infinity.storage.json_files import read_config
from infinity.text import build_text_encoder
from infinity.tokenizer import Tokenizer, load_tokenizer
from infinity.tokenizer.pixels import to_pixels
from infinity.tokenizer.self_correction import teacher_forcing
from infinity.training.checkpoints import StateStore
from infinity.training.metrics import METRICS_FILE
from infinity.training.optimizers.optimizer import Algorithm
from infinity.training.state import generator_for
from infinity.transformer.loss import token_cross_entropy
from infinity.transformer.model import Transformer

AnySpec = TrainTokenizerSpec | TrainTransformerSpec
CURVES = "curves"
MIN_UPDATES = 2
"""Updates before which weights are not judged: those before the first one have their initial values."""
NUM_PICTURES = 64
"""Pictures of the training split that the probes look at."""
CAPTION_STEPS: dict[Algorithm, int] = {"adamw": 500, "muon": 300}
"""Steps before which captions are not judged: a young model has learned the bits' frequencies only.

After 300 steps of the demo with Muon the captions of other pictures raise the loss 2.5 to 2.8 times (three seeds).
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis(Config):
    """Result of a diagnosis.

    Attributes:
        folder: Folder of the training.
        step: Last logged step.
        num_steps: Steps of the training.
        reference: Recipe and stage whose curves it was compared with; empty where none fits.
        departures: Sentences about metrics outside their bands.
        findings: Evidence for known faults, the surest first.
        looked_at: What was judged.
        not_judged: What was not, and why.
    """

    folder: str
    step: int
    num_steps: int
    reference: str
    departures: tuple[str, ...]
    findings: tuple[LikelyCause, ...]
    looked_at: tuple[str, ...]
    not_judged: tuple[str, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether nothing speaks for a fault."""
        return not self.departures and not self.findings

    @property
    def sentence(self) -> str:
        """The result in one sentence, or two where something was not judged."""
        left = f". Not judged: {'; '.join(self.not_judged)}" if self.not_judged else ""
        return self._verdict().removesuffix("." if left else "") + left

    def _verdict(self) -> str:
        where = f"step {self.step} of {self.num_steps}"
        if not self.looked_at:
            return f"{where}: nothing could be judged"
        if self.is_healthy:
            return f"healthy at {where}: {', '.join(self.looked_at)} show nothing wrong"
        outside = "; ".join(self.departures) or (
            "inside its band" if CURVES in self.looked_at else "no band to compare"
        )
        if not self.findings:
            return f"{where}: {outside}; none of the known faults was found"
        first = self.findings[0]
        return f"{where}: {outside}; this looks like: {first.cause} ({first.evidence}). {first.remedy.capitalize()}."


@dataclass(slots=True)
class _Evidence:
    """What was found so far, what was judged, and what was not."""

    departures: list[str] = field(default_factory=list)
    findings: list[LikelyCause] = field(default_factory=list)
    looked_at: list[str] = field(default_factory=list)
    not_judged: list[str] = field(default_factory=list)

    def add(self, what: str, findings: Sequence[LikelyCause] = ()) -> None:
        self.looked_at.append(what)
        self.findings += findings

    def leave(self, what: str, why: object) -> None:
        self.not_judged.append(f"{what}, since {why}")


def diagnose(folder: str, *, with_pictures: bool = True) -> Diagnosis:
    """Diagnose a training that runs, has stopped or is done; its files are only read.

    What cannot be judged, such as pictures of a data set that was deleted, is said in the result with the reason.

    Args:
        folder: Folder of the training, with its ``spec.json`` and ``metrics.jsonl``.
        with_pictures: Whether pictures are encoded and captions tried, which takes some seconds.

    Raises:
        ValueError: The folder is not that of a training, or nothing was logged yet.
        StorageError: The spec or the metrics cannot be read.
    """
    spec = _training(folder)
    uri = storage.join(folder, METRICS_FILE)
    if not storage.exists(uri):
        raise ValueError(f"{uri}: is not there, so nothing was logged yet; look again after some steps")
    curves = read_curves(uri)
    if not curves.get("loss"):
        raise ValueError(f"{uri}: holds no loss, so that there is nothing to judge; look again after some steps")
    step = int(curves["loss"][-1][0])
    reference = reference_for(spec.kind, spec.to_json())
    evidence = _Evidence()
    _judge_recipe(spec, curves, reference, evidence)
    weights = _weights(folder)
    if weights:
        evidence.add("weights", weight_findings(weights, _initial(spec)))
    else:
        evidence.leave("weights", f"no state after {MIN_UPDATES} updates is stored")
    if with_pictures and isinstance(spec, TrainTransformerSpec):
        try:
            _judge_pictures(spec, weights, step, evidence)
        except (ValueError, OSError) as error:
            evidence.leave("pictures and captions", error)
    return Diagnosis(
        folder=folder,
        step=step,
        num_steps=spec.loop.num_steps,
        reference="" if reference is None else f"{reference.recipe}, {reference.stage}",
        departures=tuple(evidence.departures),
        findings=tuple(sorted(evidence.findings, key=lambda finding: -finding.certainty)),
        looked_at=tuple(evidence.looked_at),
        not_judged=tuple(evidence.not_judged),
    )


def _training(folder: str) -> AnySpec:
    uri = storage.join(folder, SPEC_FILE)
    if not storage.exists(uri):
        raise ValueError(f"{uri}: is not there; expected the folder of a training{_trainings_in(folder)}")
    spec = load_spec(uri)
    if not isinstance(spec, AnySpec):
        raise ValueError(f"{folder}: expected the folder of a training, found a job of kind {spec.kind!r}")
    return spec


def _judge_recipe(
    spec: AnySpec, curves: Mapping[str, Points], reference: ReferenceCurves | None, evidence: _Evidence
) -> None:
    """Compare curves and settings with those of the recipe, and the tokenizer's data set with the run's."""
    if reference is None:
        evidence.leave("curves and settings", "no recipe has this kind, shape, length and batch")
        return
    fields = spec.to_json()
    if reference.is_of(fields):
        evidence.add(CURVES)
        evidence.departures += [each.sentence for each in departures(curves, reference)]
    else:
        evidence.leave("curves", f"the recipe {reference.recipe} has other pictures")
    evidence.add(f"settings of the recipe {reference.recipe}", setting_findings(fields, reference.spec))
    if isinstance(spec, TrainTransformerSpec):
        try:
            evidence.findings += data_findings(spec.manifest, _trained_on(spec.tokenizer))
        except (ValueError, OSError) as error:
            evidence.leave("the data of the tokenizer", error)


def _trainings_in(folder: str) -> str:
    """Return the folders of trainings in the folder of a run, in words; an empty text where there are none."""
    specs = [uri for uri in storage.list_files(folder) if storage.name(uri) == SPEC_FILE]
    folders = sorted({storage.parent(uri) for uri in specs})
    found = [each for each in folders if storage.name(each).startswith(("tokenizer-", "transformer-"))]
    return f", such as {', '.join(found)}" if found else ""


def _weights(folder: str) -> dict[str, Tensor]:
    """Return the weights of the newest stored state, or none where there is no state of ``MIN_UPDATES`` yet."""
    store = StateStore(storage.join(folder, STATE_FOLDER), background=False)
    newest, _ = store.newest()
    if newest is None or store.newest_step() < MIN_UPDATES:
        return {}
    return {name.removeprefix("weights/"): x for name, x in newest.tensors.items() if name.startswith("weights/")}


def _initial(spec: AnySpec) -> dict[str, Tensor] | None:
    """Return the weights before the first step; None for a training that starts from another model."""
    if spec.start_from is not None:
        return None
    model = Tokenizer(spec.model) if isinstance(spec, TrainTokenizerSpec) else Transformer(spec.model)
    model.init_weights(generator_for(spec.seed, "weights"))
    return {name: weight.detach() for name, weight in model.named_parameters()}


@torch.no_grad()
def _judge_pictures(spec: TrainTransformerSpec, weights: Mapping[str, Tensor], step: int, evidence: _Evidence) -> None:
    """Try the run's tokenizer on its pictures, and its weights with right and with shuffled captions."""
    manifest = Manifest.load(spec.manifest)
    ratio = Counter(map(float, manifest.aspect_ratios)).most_common(1)[0][0]
    rows = [int(row) for row in manifest.rows("train", ratio)][:NUM_PICTURES]
    tokenizer = load_tokenizer(spec.tokenizer)
    schedule = spec.resolution.schedule(ratio)
    images = torch.from_numpy(load_images(manifest, rows, schedule.image_size_px(tokenizer.config.stride_px)))
    pixels = to_pixels(images, torch.device("cpu"))
    straight, swapped = (reconstruction_db(tokenizer, each, schedule) for each in (pixels, pixels.flip(1)))
    evidence.add("pictures", tokenizer_findings(straight, swapped, _trained_db(spec.tokenizer)))
    model = Transformer(spec.model)
    if not weights or step < caption_steps(spec) or len(rows) < 2:
        evidence.leave("captions", f"that takes {caption_steps(spec)} steps, stored weights and two pictures")
        return
    if model.state_dict().keys() != weights.keys():
        evidence.leave("captions", "frozen weights, or a start model under adapters, are not in a stored state")
        return
    model.load_state_dict(dict(weights))
    model.eval()
    config = tokenizer.config
    taught = teacher_forcing(tokenizer.encode(pixels), schedule, kind=config.quantizer, fold=config.fold)
    captions = manifest.captions(rows)
    encoder = build_text_encoder(spec.text, "cpu")
    losses = []
    half = len(captions) // 2
    for texts in (captions, [*captions[half:], *captions[:half]]):
        logits = model(encoder.encode(texts), taught.inputs_BMC, schedule)
        losses.append(token_cross_entropy(logits, taught.labels.bits_BLC).mean(dim=1).tolist())
    evidence.add("captions", caption_findings(*losses))


def caption_steps(spec: TrainTransformerSpec) -> int:
    """Return the step from which captions are judged: at once where the training goes on from another one."""
    return CAPTION_STEPS[spec.optimizer.algorithm] if spec.start_from is None else 0


def _trained_on(tokenizer: str) -> str:
    """Return the manifest of a tokenizer's own training; empty where its spec is not beside it."""
    uri = storage.join(storage.parent(tokenizer), SPEC_FILE)
    spec = load_spec(uri) if storage.exists(uri) else None
    return spec.manifest if isinstance(spec, TrainTokenizerSpec) else ""


def _trained_db(tokenizer: str) -> float | None:
    """Return the PSNR at the end of a tokenizer's own training; None where its report is not beside it."""
    uri = storage.join(storage.parent(tokenizer), REPORT_FILE)
    if not storage.exists(uri):
        return None
    final = read_config(uri, TrainReport, remedy=DAMAGED_REPORT).training.final
    return final.get("psnr_db")
