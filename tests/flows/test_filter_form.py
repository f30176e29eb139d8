"""The boxes of the form that change filters."""

from flows.parameters import DatasetForm
from infinity.data.filters import CaptionFilters, Decontamination, FilterConfig, NearDuplicates
from infinity.data.scenes import ScenesConfig
from infinity.jobs.build_dataset import BuildDatasetSpec

SPEC = BuildDatasetSpec(output="out", scenes=ScenesConfig(count=4))


def test_empty_boxes_keep_the_recipe() -> None:
    assert DatasetForm().change(SPEC) == SPEC


def test_filled_boxes_become_filters() -> None:
    form = DatasetForm(
        near_duplicates=True, min_sharpness=5.0, min_caption_words=3, min_english=0.1, evaluation_prompts="p.jsonl"
    )
    assert form.change(SPEC).filters == FilterConfig(
        near_duplicates=NearDuplicates(),
        min_sharpness=5.0,
        captions=CaptionFilters(min_words=3, min_english=0.1),
        evaluation=Decontamination(prompts=("p.jsonl",)),
    )
