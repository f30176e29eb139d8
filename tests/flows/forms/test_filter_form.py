"""The boxes of the form that change filters."""

from flows.forms.parameters import DatasetForm
from infinity.data.curation.filters import PAPER_FILTERS, CaptionFilters, Decontamination, FilterConfig
from infinity.data.curation.storing import StoringConfig
from infinity.data.dedup.config import NearDuplicates
from infinity.jobs.dataset.build import BuildDatasetSpec
from infinity.perception.detection.image_classifier import WatermarkConfig
from infinity.perception.scorers import PAPER_SCORERS
from infinity.scenes.drawing import ScenesConfig

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


def test_one_word_takes_the_papers_filters_with_their_networks() -> None:
    spec = DatasetForm(filter_set="paper").change(SPEC)
    assert spec.filters == FilterConfig(models=PAPER_FILTERS)
    assert set(spec.scorers) == set(PAPER_SCORERS)
    stricter = DatasetForm(filter_set="paper", min_aesthetic=6.0).change(SPEC)
    assert stricter.filters.models == PAPER_FILTERS.replace(min_aesthetic=6.0)
    assert DatasetForm(filter_set="none").change(spec).filters == FilterConfig()


def test_networks_that_a_spec_names_stay() -> None:
    own = WatermarkConfig(model="/networks/mine")
    spec = DatasetForm(filter_set="paper").change(SPEC.replace(scorers=(own,)))
    assert own in spec.scorers
    assert [scorer.score for scorer in spec.scorers].count("watermark") == 1


def test_box_of_the_stored_size_reaches_the_spec() -> None:
    spec = BuildDatasetSpec(output="out", source="pictures")
    assert DatasetForm(store_side_px=512).change(spec).storing == StoringConfig(side_px=512)
    assert DatasetForm().change(spec) == spec
