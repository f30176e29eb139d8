"""GenEval and DPG-Bench with tiny random networks: a model folder, judges in published formats, a question table."""

from __future__ import annotations

import csv
from pathlib import Path

from infinity.evaluation.coco_detector import CocoDetectorConfig
from infinity.evaluation.dpg_measure import DpgMeasure, read_prompts
from infinity.evaluation.geneval_measure import GenevalMeasure
from infinity.generation.sampling import SamplingConfig
from infinity.jobs.evaluate import EvaluateSpec
from infinity.jobs.training import WorkersConfig
from infinity.perception.colours import ColourConfig
from infinity.perception.mask2former import Mask2FormerConfig
from infinity.perception.vqa import VqaConfig
from infinity.storage.pinned import PinnedFile, git_blob_id
from tests.infinity.evaluation.small_world import write_model
from tests.infinity.perception.tiny_networks import write_clip, write_mask2former, write_vilt

THINGS = ("cup", "dog", "cat", "bench", "photo", "picture", "white object")


def write_table(path: Path, names: list[str]) -> PinnedFile:
    """Three questions about every item, two of which depend on the first, behind a first row that is lost."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "text", "keywords", "proposition_id", "dependency", "category_broad",
                         "category_detailed", "tuple", "question_natural_language"])  # fmt: skip
        writer.writerow(["lost_row", "", "", 1, "0", "entity", "whole", "entity - whole (x)", "Is there an x?"])
        for number, name in enumerate(names):
            thing = THINGS[number % len(THINGS)]
            for question, (parent, about, text) in enumerate(
                (
                    ("0", f"entity - whole ({thing})", f"is there a {thing} ?"),
                    ("1", f"attribute - color ({thing})", f"is the {thing} red ?"),
                    ("1,2", f"relation - spatial ({thing})", f"is there a dog left of the {thing} ?"),
                ),
                start=1,
            ):
                writer.writerow([name, "", "", question, parent, "", "", about, text])
    return PinnedFile(uri=str(path), git_blob=git_blob_id(path.read_bytes()))


def prompt_sets_spec(
    folder: Path, shared: Path, *, prompts_per_task: int | None, num_prompts: int | None, batch_size: int
) -> EvaluateSpec:
    """Both benchmarks over the official prompts; None takes all of them."""
    prompts = str(shared / "bench/dpg/prompts")
    geneval = shared / "bench/geneval/evaluation_metadata.jsonl"
    (folder / "networks").mkdir()
    networks = folder / "networks"
    return EvaluateSpec(
        output=str(folder / "run"),
        model=write_model(folder),
        reconstruction=None,
        validation=None,
        samples=None,
        geneval=GenevalMeasure(
            prompts=GenevalMeasure().prompts.replace(uri=str(geneval)),
            detector=CocoDetectorConfig(
                objects=Mask2FormerConfig(model=write_mask2former(networks / "mask2former"), batch_size=16),
                colours=ColourConfig(model=write_clip(networks / "clip")),
            ),
            prompts_per_task=prompts_per_task,
        ),
        dpg=DpgMeasure(
            prompts=prompts,
            questions=write_table(folder / "questions.csv", sorted(read_prompts(prompts))),
            vqa=VqaConfig(model=write_vilt(networks / "vilt"), batch_size=64),
            num_prompts=num_prompts,
        ),
        sampling=SamplingConfig(guidance=2.0),
        batch_size=batch_size,
        workers=WorkersConfig(num_workers=2, threads=1, max_failures=3),
    )
