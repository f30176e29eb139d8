"""Plant the known faults in real trainings of a recipe, and diagnose them while they train and at the end.

``python -m benchmarks.training.known_faults --work FOLDER`` trains in this process, prints a table, and writes
``known_faults.json`` after every trial. The same command goes on where it was stopped; with ``--again`` all trainings
are diagnosed once more, which repeats none of them. Every fault gets its first seed before any gets its second. Healthy
runs count false alarms. ``--recipe demo`` takes minutes per training; with ``--stop`` one ends as soon as its fault was
named, and a healthy one after a tenth of its steps.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
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
from infinity.jobs.training.encode import from_store, store_for
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.recipes.runs import EndToEnd, RecipeName, end_to_end
from infinity.reporting.plots.curves import read_curves
from infinity.scenes.drawing import ScenesConfig, training_scene
from infinity.training.metrics import METRICS_FILE
from infinity.training.optimizers.optimizer import make_optimizer
from infinity.transformer.model import Transformer

EARLY = 0.1
"""Share of the training after which a fault should be found."""
LOOKS = (EARLY / 2, EARLY, 0.35, 0.7)
"""Shares of the training after which it is diagnosed, besides its end."""
RECORD = "known_faults.json"
HEALTHY = "none"
FIRST_SEED = 100
"""The reference curves have the seeds from 0; the diagnosis was developed on those from 100."""
COLOUR, CAPTION = "wrong channel order", "captions shuffled"


@dataclass(frozen=True, slots=True)
class Trial:
    """One training with what its diagnosis said.

    Attributes:
        fault: Planted fault; "none" for a healthy run.
        early: First cause after a tenth of the steps; empty for none.
        late: First cause at the last look.
        departed: Whether a curve was outside its band at any look.
        refused: Why the training did not begin; empty where it did.
        rank: Place of the planted fault among the causes of the last look, from 1; 0 where it is not among them.
        found: Step of the first look at which the planted fault, or of a healthy run any alarm, came first; 0 for none.
        steps: Last step that was looked at.
    """

    fault: str
    seed: int
    early: str = ""
    late: str = ""
    departed: bool = False
    refused: str = ""
    rank: int = 0
    found: int = 0
    steps: int = 0

    @property
    def is_right(self) -> bool:
        """Whether the fault was named first, or nothing was said about a healthy run."""
        if self.fault == HEALTHY:
            return not (self.late or self.early or self.departed or self.found)
        return self.late == self.fault or bool(self.refused)


class Trials:
    """Data sets and tokenizers of all trials, each made when it is first needed."""

    def __init__(
        self, work: str, first_seed: int = FIRST_SEED, recipe: RecipeName = "mini", num_tokenizers: int = 2
    ) -> None:
        """Take a folder that keeps everything, the smallest seed of the tokenizers, and their number per data set."""
        self._work, self._first_seed, self._num_tokenizers = work, first_seed, num_tokenizers
        self._recipe = end_to_end(recipe, source=None, output=work)
        assert self._recipe.dataset.scenes is not None
        self._scenes: ScenesConfig = self._recipe.dataset.scenes

    def healthy(self, seed: int) -> TrainTransformerSpec:
        """Return the recipe's pretraining on a tokenizer of one of two seeds."""
        return self._pretrain(self._recipe, self._tokenizer(self._recipe, seed), seed)

    def with_other_tokenizer(self, seed: int) -> TrainTransformerSpec:
        """Return the pretraining with a tokenizer of other pictures."""
        recipe = self._recipe
        other = recipe.dataset.replace(scenes=self._scenes.replace(seed=9))
        foreign = self._tokenizer(recipe.replace(dataset=other), seed)
        return self._pretrain(recipe, foreign, seed)

    def with_pictures(self, fault: str, seed: int) -> TrainTransformerSpec:
        """Return the pretraining on scenes whose channels or captions are wrong, with the healthy tokenizer."""
        folder = Path(self._work, fault.replace(" ", "-"))
        write_scenes(folder, fault, self._scenes)
        dataset = BuildDatasetSpec(
            output=self._work, source=str(folder), fingerprint=fingerprint(str(folder)), validation_share=0.04,
            filters=self._recipe.dataset.filters,
        )  # fmt: skip
        changed = self._recipe.replace(dataset=dataset)
        return self._pretrain(changed, self._tokenizer(self._recipe, seed), seed)

    def _tokenizer(self, recipe: EndToEnd, seed: int) -> TrainTokenizerSpec:
        seed = self._first_seed + seed % self._num_tokenizers
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

    def rounding(*given: Any) -> torch.optim.Optimizer:
        optimizer = make_optimizer(*given)

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


class Decided(BaseException):  # it ends a training as Ctrl-C does; no error of a listener would
    """The rest of a training would tell nothing more, or its diagnosis failed."""


def run_trial(trials: Trials, fault: str, seed: int, *, stop: bool = False) -> Trial:
    """Train with a fault, and diagnose at every look and at the end.

    Args:
        trials: Data sets and tokenizers.
        stop: Whether the training ends at the look that names its fault, or, of a healthy one, after a tenth.
    """
    spec = FAULTS[fault](trials, seed) if fault != HEALTHY else trials.healthy(seed)
    run_spec(store_for(spec))  # trials with the same inputs encode them once
    spec = from_store(spec).replace(output=storage.join(spec.output, fault.replace(" ", "-") + "-runs"))
    looks: list[Diagnosis] = []

    def look(_: Progress) -> None:
        if len(looks) < len(LOOKS) and _logged(spec) >= LOOKS[len(looks)] * spec.loop.num_steps:
            try:
                looks.append(diagnose(spec.folder))
            except Exception as error:
                raise Decided from error
            if stop and is_decided(fault, looks):
                raise Decided

    with ExitStack() as patched:
        if fault in PATCHES:
            patched.enter_context(PATCHES[fault]())
        try:
            run_spec(spec, progress=look)
        except Decided as end:
            if end.__cause__ is not None:
                raise end.__cause__ from None
            return told(fault, seed, looks)
        except ValueError as error:
            if _logged(spec):
                raise
            return Trial(fault, seed, refused=str(error))
    return told(fault, seed, [*looks, diagnose(spec.folder)])


def is_decided(fault: str, looks: Sequence[Diagnosis]) -> bool:
    """Return whether the last look named the fault first, or a healthy run was looked at after a tenth."""
    return len(looks) > LOOKS.index(EARLY) if fault == HEALTHY else _first(looks[-1]) == fault


def told(fault: str, seed: int, looks: Sequence[Diagnosis]) -> Trial:
    """Return what the looks at a training said, in the order of its steps."""
    last = looks[-1]
    causes = [each.cause for each in last.findings]
    is_hit = [not each.is_healthy if fault == HEALTHY else _first(each) == fault for each in looks]
    return Trial(
        fault=fault,
        seed=seed,
        early=_first(looks[min(len(looks) - 1, LOOKS.index(EARLY))]),
        late=_first(last),
        departed=any(each.departures for each in looks),
        rank=causes.index(fault) + 1 if fault in causes else 0,
        found=next((each.step for each, hit in zip(looks, is_hit, strict=True) if hit), 0),
        steps=last.step,
    )


def _logged(spec: TrainTransformerSpec) -> float:
    """Return the last step in the file of metrics; 0 before there is one."""
    metrics = storage.join(spec.folder, METRICS_FILE)
    losses = read_curves(metrics).get("loss", ()) if storage.exists(metrics) else ()
    return losses[-1][0] if losses else 0


def _first(found: Diagnosis) -> str:
    return found.findings[0].cause if found.findings else ""


def table(found: Sequence[Trial]) -> str:
    """Return the table of all trials, one line per fault, and the sums."""
    lines = [f"{'planted':34} {'right':>6} {'by 10 %':>8} {'ranks':>6} {'at steps':>9}  said first"]
    for fault in dict.fromkeys(trial.fault for trial in found):
        mine = [trial for trial in found if trial.fault == fault]
        soon = sum(bool(trial.refused) or trial.early == fault for trial in mine)
        said = {f"refused: {t.refused:.60}" if t.refused else t.late or ("band" if t.departed else "-") for t in mine}
        early = "" if fault == HEALTHY else f"{soon}/{len(mine)}"
        right = f"{sum(t.is_right for t in mine)}/{len(mine)}"
        ranks, steps = (",".join(str(number or "-") for number in each) for each in _numbers(mine))
        lines.append(f"{fault:34} {right:>6} {early:>8} {ranks:>6} {steps:>9}  {', '.join(sorted(said))}")
    return "\n".join(lines)


def _numbers(mine: Sequence[Trial]) -> tuple[list[int], list[int]]:
    """Return ranks of the planted fault, and steps at which it was found; of healthy runs the alarms alone."""
    if all(trial.fault == HEALTHY for trial in mine):
        return [], [trial.found for trial in mine if trial.found]
    return [trial.rank for trial in mine], [trial.found for trial in mine]


def main() -> None:
    """Run all trials."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", default="runs/known-faults")
    parser.add_argument("--seeds", type=int, default=2, help="seeds per fault")
    parser.add_argument("--healthy", type=int, default=20, help="healthy runs")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="200 and more were never tried before")
    parser.add_argument("--only", nargs="*", choices=(*FAULTS, HEALTHY), help="some faults alone")
    parser.add_argument("--recipe", choices=("mini", "demo"), default="mini")
    parser.add_argument("--tokenizers", type=int, choices=(1, 2), default=2, help="tokenizers per data set")
    parser.add_argument("--stop", action="store_true", help="end a training once all is told that counts")
    parser.add_argument("--again", action="store_true", help="diagnose what is in the record once more")
    options = parser.parse_args()
    with _only_errors():
        _run(options)


@contextmanager
def _only_errors() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _run(options: argparse.Namespace) -> None:
    work = storage.absolute(options.work)
    trials = Trials(work, options.first_seed, options.recipe, options.tokenizers)
    wanted = {fault: options.healthy if fault == HEALTHY else options.seeds for fault in (*FAULTS, HEALTHY)}
    wanted = {fault: number for fault, number in wanted.items() if not options.only or fault in options.only}
    record = storage.join(work, RECORD)
    found = kept(record)
    with in_process():
        for fault, seed in ordered(wanted, options.first_seed):
            if (fault, seed) in found and not options.again:
                continue
            trial = run_trial(trials, fault, seed, stop=options.stop)
            found = kept(record) | {(fault, seed): trial}  # another process may have added to it
            print(f"seed {seed}, steps {trial.steps}: {table([trial]).splitlines()[1]}", flush=True)
            storage.write_text(record, json.dumps([asdict(each) for each in found.values()], indent=2))
    print(table([found[each] for each in ordered(wanted, options.first_seed)]))


def ordered(wanted: Mapping[str, int], first_seed: int) -> list[tuple[str, int]]:
    """Return faults with seeds, the first seed of every fault before the second of any."""
    most = max(wanted.values(), default=0)
    return [(fault, first_seed + n) for n in range(most) for fault, number in wanted.items() if n < number]


def kept(record: str) -> dict[tuple[str, int], Trial]:
    """Return the trials that a record holds by fault and seed; none where there is no record."""
    rows = json.loads(storage.read_text(record)) if storage.exists(record) else []
    return {(trial.fault, trial.seed): trial for trial in (Trial(**row) for row in rows)}


if __name__ == "__main__":
    main()
