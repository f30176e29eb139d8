"""Judge a training by its recipe's curves, and name the likeliest of the known faults with the evidence for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

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
from infinity.jobs.spec import REPORT_FILE, SPEC_FILE
from infinity.jobs.training.base import STATE_FOLDER, TrainReport
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.reporting.plots.curves import Points, read_curves
from infinity.reporting.plots.reference import departures, reference_for
from infinity.text import build_text_encoder
from infinity.tokenizer import Tokenizer, load_tokenizer
from infinity.tokenizer.pixels import to_pixels
from infinity.tokenizer.self_correction import teacher_forcing
from infinity.training.checkpoints import StateStore
from infinity.training.metrics import METRICS_FILE
from infinity.training.optimizer import Algorithm
from infinity.training.state import generator_for
from infinity.transformer.loss import token_cross_entropy
from infinity.transformer.model import Transformer

AnySpec = TrainTokenizerSpec | TrainTransformerSpec
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
        looked_at: What was looked at.
    """

    folder: str
    step: int
    num_steps: int
    reference: str
    departures: tuple[str, ...]
    findings: tuple[LikelyCause, ...]
    looked_at: tuple[str, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether nothing speaks for a fault."""
        return not self.departures and not self.findings

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        where = f"step {self.step} of {self.num_steps}"
        if self.is_healthy:
            return f"healthy at {where}: {', '.join(self.looked_at)} show nothing wrong"
        outside = "; ".join(self.departures) or "inside its band"
        if not self.findings:
            return f"{where}: {outside}; none of the known faults was found"
        first = self.findings[0]
        return f"{where}: {outside}; this looks like: {first.cause} ({first.evidence}). {first.remedy.capitalize()}."


def diagnose(folder: str, *, with_pictures: bool = True) -> Diagnosis:
    """Diagnose a training that runs, has stopped or is done; its files are only read.

    Args:
        folder: Folder of the training, with its ``spec.json`` and ``metrics.jsonl``.
        with_pictures: Whether pictures are encoded and captions tried, which takes some seconds.

    Raises:
        ValueError: The folder is not that of a training, or nothing was logged yet.
        StorageError: A file cannot be read.
    """
    uri = storage.join(folder, SPEC_FILE)
    if not storage.exists(uri):
        raise ValueError(f"{uri}: is not there; expected the folder of a training{_trainings_in(folder)}")
    spec = load_spec(uri)
    if not isinstance(spec, AnySpec):
        raise ValueError(f"{folder}: expected the folder of a training, found a job of kind {spec.kind!r}")
    uri = storage.join(folder, METRICS_FILE)
    if not storage.exists(uri):
        raise ValueError(f"{uri}: is not there, so nothing was logged yet; look again after some steps")
    curves = read_curves(uri)
    fields = spec.to_json()
    reference = reference_for(spec.kind, fields)
    looked_at = [f"curves of {len(curves.get('loss', ()))} logged steps"]
    findings: list[LikelyCause] = []
    outside: list[str] = []
    if reference is not None:
        looked_at.append(f"settings of the recipe {reference.recipe}")
        if reference.is_of(fields):
            outside = [each.sentence for each in departures(curves, reference)]
        else:
            looked_at[0] += ", which were not compared since the recipe has other pictures"
        findings += setting_findings(fields, reference.spec)
        if isinstance(spec, TrainTransformerSpec):
            findings += data_findings(spec.manifest, _trained_on(spec.tokenizer))
    weights = _weights(folder)
    if weights:
        looked_at.append("weights")
        findings += weight_findings(weights, _initial(spec))
    if with_pictures and isinstance(spec, TrainTransformerSpec):
        looked_at.append("pictures and captions")
        findings += _probe(spec, weights, curves)
    return Diagnosis(
        folder=folder,
        step=int(curves["loss"][-1][0]) if curves.get("loss") else 0,
        num_steps=spec.loop.num_steps,
        reference="" if reference is None else f"{reference.recipe}, {reference.stage}",
        departures=tuple(outside),
        findings=tuple(sorted(findings, key=lambda finding: -finding.certainty)),
        looked_at=tuple(looked_at),
    )


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
def _probe(
    spec: TrainTransformerSpec, weights: Mapping[str, Tensor], curves: Mapping[str, Points]
) -> list[LikelyCause]:
    """Try the run's tokenizer on its pictures, and its weights with right and with shuffled captions."""
    manifest = Manifest.load(spec.manifest)
    ratio = Counter(map(float, manifest.aspect_ratios)).most_common(1)[0][0]
    rows = [int(row) for row in manifest.rows("train", ratio)][:NUM_PICTURES]
    tokenizer = load_tokenizer(spec.tokenizer)
    schedule = spec.resolution.schedule(ratio)
    images = torch.from_numpy(load_images(manifest, rows, schedule.image_size_px(tokenizer.config.stride_px)))
    pixels = to_pixels(images, torch.device("cpu"))
    straight, swapped = (reconstruction_db(tokenizer, each, schedule) for each in (pixels, pixels.flip(1)))
    found = tokenizer_findings(straight, swapped, _trained_db(spec.tokenizer))
    step = curves["loss"][-1][0] if curves.get("loss") else 0
    if not weights or step < caption_steps(spec) or len(rows) < 2:
        return found
    model = Transformer(spec.model)
    if model.state_dict().keys() != weights.keys():
        return found  # frozen weights, and a start model under adapters, are not in a stored state
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
    return found + caption_findings(*losses)


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
    final = TrainReport.parse(storage.read_text(uri), where=uri).training.final
    return final.get("psnr_db")
