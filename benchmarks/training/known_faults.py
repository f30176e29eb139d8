"""Plant the known faults in real trainings of a recipe, and diagnose them while they train and at the end.

``python -m benchmarks.training.known_faults --work FOLDER`` trains in this process, prints a table, and writes
``known_faults.json``. Trainings that are done are diagnosed again, not repeated. Healthy runs count false alarms.
``--recipe demo`` takes minutes per training; with ``--stop`` one ends as soon as its fault was named.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

from infinity import storage
from infinity.diagnosis.diagnose import Diagnosis, diagnose
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset.build import MANIFEST_FILE, BuildDatasetSpec, fingerprint
from infinity.jobs.progress import Progress
from infinity.jobs.registry import run_spec
from infinity.jobs.training import transformer as training
from infinity.jobs.training.base import MODEL_FOLDER
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.recipes.runs import EndToEnd, RecipeName, end_to_end
from infinity.reporting.plots.curves import read_curves
from infinity.scenes.drawing import ScenesConfig, training_scene
from infinity.training.metrics import METRICS_FILE
from infinity.training.optimizer import make_optimizer
from infinity.transformer.model import Transformer

EARLY = 0.1
"""Share of the training after which a fault should be found."""
HEALTHY = "none"
FIRST_SEED = 100
"""The reference curves have the seeds from 0; the diagnosis was developed on those from 100."""
COLOUR, CAPTION = "wrong channel order", "captions shuffled"


@dataclass(frozen=True, slots=True)
class Trial:
    """One training with what its diagnosis said.

    Attributes:
        fault: Planted fault; "none" for a healthy run.
        seed: Seed of the training.
        early: First cause after a tenth of the steps; empty for none.
        late: First cause at the end.
        departed: Whether a curve was outside its band at the end.
        refused: Why the training did not begin; empty where it did.
    """

    fault: str
    seed: int
    early: str = ""
    late: str = ""
    departed: bool = False
    refused: str = ""

    @property
    def is_right(self) -> bool:
        """Whether the fault was named first, or nothing was said about a healthy run."""
        if self.fault == HEALTHY:
            return not (self.late or self.early or self.departed)
        return self.late == self.fault or bool(self.refused)


class Trials:
    """Data sets and tokenizers of all trials, each made when it is first needed."""

    def __init__(self, work: str, first_seed: int = FIRST_SEED, recipe: RecipeName = "mini") -> None:
        """Take a folder in which everything is kept, and the smaller of the seeds of both tokenizers."""
        self._work, self._first_seed = work, first_seed
        self._recipe = end_to_end(recipe, source=None, output=work)
        assert self._recipe.dataset.scenes is not None
        self._scenes: ScenesConfig = self._recipe.dataset.scenes

    def healthy(self, seed: int) -> TrainTransformerSpec:
        """Return the recipe's pretraining on a tokenizer of one of two seeds."""
        return self._pretrain(self._recipe, self._tokenizer(self._recipe, self._first_seed + seed % 2), seed)

    def with_other_tokenizer(self, seed: int) -> TrainTransformerSpec:
        """Return the pretraining with a tokenizer of other pictures."""
        recipe = self._recipe
        other = recipe.dataset.replace(scenes=self._scenes.replace(seed=9))
        foreign = self._tokenizer(recipe.replace(dataset=other), self._first_seed + seed % 2)
        return self._pretrain(recipe, foreign, seed)

    def with_pictures(self, fault: str, seed: int) -> TrainTransformerSpec:
        """Return the pretraining on scenes whose channels or captions are wrong."""
        folder = Path(self._work, fault.replace(" ", "-"))
        write_scenes(folder, fault, self._scenes)
        dataset = BuildDatasetSpec(
            output=self._work, source=str(folder), fingerprint=fingerprint(str(folder)), validation_share=0.04,
            filters=self._recipe.dataset.filters,
        )  # fmt: skip
        changed = self._recipe.replace(dataset=dataset)
        own = self._recipe if fault == COLOUR else changed
        return self._pretrain(changed, self._tokenizer(own, self._first_seed + seed % 2), seed)

    def _tokenizer(self, recipe: EndToEnd, seed: int) -> TrainTokenizerSpec:
        run_spec(recipe.dataset)
        manifest = storage.join(recipe.dataset.folder, MANIFEST_FILE)
        alone = recipe.tokenizer.workers.replace(num_workers=1)
        tokenizer = recipe.tokenizer.replace(seed=seed, manifest=manifest, workers=alone)
        run_spec(tokenizer)
        return tokenizer

    def _pretrain(self, recipe: EndToEnd, tokenizer: TrainTokenizerSpec, seed: int) -> TrainTransformerSpec:
        run_spec(recipe.dataset)
        return recipe.pretrain.replace(
            seed=seed,
            manifest=storage.join(recipe.dataset.folder, MANIFEST_FILE),
            tokenizer=storage.join(tokenizer.folder, MODEL_FOLDER),
            workers=tokenizer.workers,
            loop=recipe.pretrain.loop.replace(
                save_every_steps=max(1, round(EARLY / 2 * recipe.pretrain.loop.num_steps))
            ),
        )


def write_scenes(folder: Path, fault: str, config: ScenesConfig) -> None:
    """Write captioned scenes whose red and blue are swapped, or whose captions belong to other scenes."""
    if (folder / "metadata.jsonl").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    scenes = [training_scene(config, number) for number in range(config.count)]
    captions = [scene.prompt.prompt for scene in scenes]
    if fault == CAPTION:
        captions = [captions[int(i)] for i in np.random.default_rng(0).permutation(len(captions))]
    lines = []
    for number, (scene, caption) in enumerate(zip(scenes, captions, strict=True)):
        pixels = scene.image[..., ::-1] if fault == COLOUR else scene.image
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{number:03}.png")
        lines.append(json.dumps({"file_name": f"{number:03}.png", "text": caption}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")


@contextmanager
def rounded_weights() -> Iterator[None]:
    """Round all weights to bfloat16 after every step."""

    def rounding(module: Any, config: Any) -> torch.optim.Optimizer:
        optimizer = make_optimizer(module, config)

        def cut(*_: Any) -> None:
            for group in optimizer.param_groups:
                for weight in group["params"]:
                    weight.data.copy_(weight.data.bfloat16())

        optimizer.register_step_post_hook(cut)
        return optimizer

    with mock.patch.object(training, "make_optimizer", rounding):
        yield


@contextmanager
def frozen_blocks() -> Iterator[None]:
    """Train everything but the blocks."""
    real = training._transformer

    def frozen(spec: TrainTransformerSpec) -> Transformer:
        transformer = real(spec)
        for weight in transformer.blocks.parameters():
            weight.requires_grad_(False)
        return transformer

    with mock.patch.object(training, "_transformer", frozen):
        yield


Make = Callable[[Trials, int], TrainTransformerSpec]


def changed(change: Callable[[TrainTransformerSpec], TrainTransformerSpec]) -> Make:
    """Return the healthy training with a changed spec."""
    return lambda trials, seed: change(trials.healthy(seed))


def rate(factor: float) -> Make:
    """Return the healthy training with another learning rate."""
    return changed(lambda s: s.replace(optimizer=s.optimizer.replace(learning_rate=factor * s.optimizer.learning_rate)))


FAULTS: dict[str, Make] = {
    "learning rate too high": rate(10.0),
    "learning rate too low": rate(0.1),
    "another tokenizer": Trials.with_other_tokenizer,
    "folding mismatch": changed(lambda s: s.replace(model=s.model.replace(num_bits=4 * s.model.num_bits))),
    COLOUR: lambda trials, seed: trials.with_pictures(COLOUR, seed),
    "guidance trained away": changed(lambda s: s.replace(model=s.model.replace(condition_drop=0.0))),
    "self-correction off": changed(lambda s: s.replace(self_correction=0.0)),
    CAPTION: lambda trials, seed: trials.with_pictures(CAPTION, seed),
    "wrong resolution table": changed(lambda s: s.replace(resolution=s.resolution.replace(sides=(1, 3, 4)))),
    "text features of another encoder": changed(lambda s: s.replace(text=s.text.replace(seed=5))),
    "bf16 master weights": changed(lambda s: s),
    "data order not shuffled": changed(lambda s: s.replace(order=s.order.replace(window_pictures=1))),
    "frozen weights": changed(lambda s: s),
}
PATCHES = {"bf16 master weights": rounded_weights, "frozen weights": frozen_blocks}
"""Faults that no spec can ask for."""


class NamedError(Exception):
    """The planted fault was named first; the rest of its training would tell nothing."""


def run_trial(trials: Trials, fault: str, seed: int, *, stop: bool = False) -> Trial:
    """Train with a fault, diagnose after a tenth of the steps and at the end.

    Args:
        trials: Data sets and tokenizers.
        fault: Fault to plant.
        seed: Seed of the training.
        stop: Whether the training ends after the first look where its fault was named then.
    """
    spec = FAULTS[fault](trials, seed) if fault != HEALTHY else trials.healthy(seed)
    spec = spec.replace(output=storage.join(spec.output, fault.replace(" ", "-") + "-runs"))
    early: list[Diagnosis] = []

    def look(_: Progress) -> None:
        metrics = storage.join(spec.folder, METRICS_FILE)
        if not early and storage.exists(metrics):
            losses = read_curves(metrics).get("loss", ())
            if losses and losses[-1][0] >= EARLY * spec.loop.num_steps:
                early.append(diagnose(spec.folder))
                if stop and _first(early[0]) == fault:
                    raise NamedError

    with ExitStack() as patched:
        if fault in PATCHES:
            patched.enter_context(PATCHES[fault]())
        try:
            run_spec(spec, progress=look)
        except NamedError:
            return Trial(fault, seed, fault, fault, bool(early[0].departures))
        except ValueError as error:
            return Trial(fault, seed, refused=str(error))
    late = diagnose(spec.folder)
    return Trial(fault, seed, _first(early[0] if early else late), _first(late), bool(late.departures))


def _first(found: Diagnosis) -> str:
    return found.findings[0].cause if found.findings else ""


def table(found: Sequence[Trial]) -> str:
    """Return the table of all trials, one line per fault, and the sums."""
    lines = [f"{'planted':34} {'right':>6} {'by 10 %':>8}  said first"]
    for fault in dict.fromkeys(trial.fault for trial in found):
        mine = [trial for trial in found if trial.fault == fault]
        soon = sum(bool(trial.refused) or trial.early == fault for trial in mine)
        said = {f"refused: {t.refused:.60}" if t.refused else t.late or ("band" if t.departed else "-") for t in mine}
        early = "" if fault == HEALTHY else f"{soon}/{len(mine)}"
        right = f"{sum(t.is_right for t in mine)}/{len(mine)}"
        lines.append(f"{fault:34} {right:>6} {early:>8}  {', '.join(sorted(said))}")
    return "\n".join(lines)


def main() -> None:
    """Run all trials."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", default="runs/known-faults")
    parser.add_argument("--seeds", type=int, default=2, help="seeds per fault")
    parser.add_argument("--healthy", type=int, default=20, help="healthy runs")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="200 and more were never tried before")
    parser.add_argument("--only", nargs="*", choices=(*FAULTS, HEALTHY), help="some faults alone")
    parser.add_argument("--recipe", choices=("mini", "demo"), default="mini")
    parser.add_argument("--stop", action="store_true", help="end a training once its fault was named")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    work = storage.absolute(options.work)
    trials, found = Trials(work, options.first_seed, options.recipe), list[Trial]()
    wanted = [(fault, options.seeds) for fault in FAULTS] + [(HEALTHY, options.healthy)]
    with in_process():
        for fault, number in wanted:
            if not options.only or fault in options.only:
                seeds = range(options.first_seed, options.first_seed + number)
                found += [run_trial(trials, fault, seed, stop=options.stop) for seed in seeds]
                print(table([trial for trial in found if trial.fault == fault]).splitlines()[1], flush=True)
    print(table(found))
    rows = [{name: getattr(trial, name) for name in Trial.__dataclass_fields__} for trial in found]
    storage.write_text(storage.join(work, "known_faults.json"), json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
