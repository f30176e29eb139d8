"""A form changes what was filled in, and nothing else."""

import pytest
from pydantic import ValidationError

from flows.forms.benchmark_forms import ClipScoreForm, DpgForm, GenevalForm, Hps3Form, HpsForm, ImageRewardForm
from flows.forms.parameters import DatasetForm, EvaluationForm, FinetuneForm, PretrainForm, TokenizerForm
from infinity.evaluation.dpg.benchmark import DpgBenchmark
from infinity.evaluation.geneval.benchmark import GenevalBenchmark
from infinity.evaluation.geneval.coco_detector import CocoDetectorConfig
from infinity.evaluation.geneval.scenes import SceneDetector
from infinity.evaluation.preference.benchmark import ImageRewardBenchmark
from infinity.evaluation.prompts.rewriting import InstructRewriter, RewriteFile
from infinity.perception.preference.hps3 import Hps3Config
from infinity.recipes.runs import EndToEnd, end_to_end


@pytest.fixture(scope="module")
def plan() -> EndToEnd:
    return end_to_end("mini", source=None, output="/runs/mini")


def test_an_empty_form_leaves_the_spec_as_it_is(plan: EndToEnd) -> None:
    assert DatasetForm().change(plan.dataset) == plan.dataset
    assert TokenizerForm().change(plan.tokenizer) == plan.tokenizer
    assert PretrainForm().change(plan.pretrain) == plan.pretrain
    assert FinetuneForm().change(plan.finetune) == plan.finetune
    assert EvaluationForm().change(plan.evaluation) == plan.evaluation


def test_dataset_form_changes_scenes_filters_and_shares(plan: EndToEnd) -> None:
    form = DatasetForm(num_scenes=7, min_side_px=20, duplicates="keep", validation_share=0.25, seed=3)
    spec = form.change(plan.dataset)
    assert spec.scenes is not None
    assert (spec.scenes.count, spec.scenes.seed, spec.seed) == (7, 3, 3)
    assert (spec.filters.min_side_px, spec.filters.duplicates) == (20, "keep")
    assert spec.filters.max_elongation == plan.dataset.filters.max_elongation
    assert spec.validation_share == 0.25


def test_a_number_of_scenes_for_given_pictures_is_refused(plan: EndToEnd) -> None:
    spec = plan.dataset.replace(source="/pictures", scenes=None)
    with pytest.raises(ValueError, match="this run has pictures of its own"):
        DatasetForm(num_scenes=7).change(spec)


def test_training_forms_change_loop_optimizer_workers_and_model(plan: EndToEnd) -> None:
    form = PretrainForm(num_steps=5, batch_size=4, learning_rate=0.1, threads=3, depth=1, self_correction=0.2, seed=9)
    spec = form.change(plan.pretrain)
    assert (spec.loop.num_steps, spec.loop.batch_size) == (5, 4)
    assert spec.loop.ema_decay == plan.pretrain.loop.ema_decay
    assert (spec.optimizer.learning_rate, spec.workers.threads) == (0.1, 3)
    assert (spec.model.depth, spec.model.width) == (1, plan.pretrain.model.width)
    assert (spec.self_correction, spec.seed) == (0.2, 9)
    workers = FinetuneForm(num_workers=2, shard=True).change(plan.finetune).workers
    assert workers == plan.finetune.workers.replace(num_workers=2, shard=True)
    assert TokenizerForm(num_bits=5).change(plan.tokenizer).model.num_bits == 5


def test_evaluation_form_changes_measures_sampling_and_weights(plan: EndToEnd) -> None:
    form = EvaluationForm(
        reconstruction_pictures=3, scene_prompts_per_task=1, pictures_per_prompt=2, guidance=1.5, inception_uri="w.pth"
    )
    spec = form.change(plan.evaluation)
    assert spec.reconstruction is not None
    assert spec.reconstruction.num_pictures == 3
    assert spec.scenes is not None
    assert (spec.scenes.prompts_per_task, spec.scenes.pictures_per_prompt) == (1, 2)
    assert (spec.sampling.guidance, spec.sampling.temperature) == (1.5, plan.evaluation.sampling.temperature)
    assert spec.inception is not None
    assert spec.inception.uri == "w.pth"
    assert spec.validation == plan.evaluation.validation


@pytest.mark.parametrize(
    ("form", "values"),
    [
        (TokenizerForm, {"num_bits": 65}),
        (TokenizerForm, {"num_steps": 0}),
        (PretrainForm, {"learning_rate": 0.0}),
        (PretrainForm, {"self_correction": 1.5}),
        (FinetuneForm, {"depth": 3}),
        (TokenizerForm, {"shard": True}),
        (DatasetForm, {"validation_share": 1.0}),
        (EvaluationForm, {"nucleus": 0.0}),
        (EvaluationForm, {"guidence": 2.0}),
    ],
)
def test_values_out_of_bounds_and_unknown_names_are_refused(form: type, values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        form(**values)


@pytest.mark.parametrize("form", [DatasetForm, TokenizerForm, PretrainForm, FinetuneForm, EvaluationForm])
def test_every_box_says_what_it_is(form: type) -> None:
    schema = form.model_json_schema()  # type: ignore[attr-defined]
    assert schema["description"]
    assert all(field.get("description") for field in schema["properties"].values())


def test_benchmark_boxes_change_their_networks_prompts_and_rewriting(plan: EndToEnd) -> None:
    form = EvaluationForm(
        geneval=GenevalForm(
            prompts_uri="/p.jsonl", objects_model="/m2f", prompts_per_task=2, rewritten_file="/r.jsonl"
        ),
        dpg=DpgForm(prompts="/dpg", questions_uri="/q.csv", vqa_model="/blip", rewriter_model="org/chat"),
    )
    spec = form.change(plan.evaluation)
    geneval, dpg = spec.geneval, spec.dpg
    assert geneval is not None
    assert dpg is not None
    assert isinstance(geneval.detector, CocoDetectorConfig)
    assert (geneval.prompts.uri, geneval.detector.objects.model, geneval.prompts_per_task) == ("/p.jsonl", "/m2f", 2)
    assert geneval.prompts.sha256 == GenevalBenchmark().prompts.sha256
    assert isinstance(geneval.rewriter, RewriteFile)
    assert (dpg.prompts, dpg.questions.uri, dpg.vqa.model) == ("/dpg", "/q.csv", "/blip")
    assert dpg.questions.git_blob == DpgBenchmark().questions.git_blob
    assert isinstance(dpg.rewriter, InstructRewriter)
    assert EvaluationForm(seed=1).change(spec).geneval == geneval
    scenes = GenevalForm(detector="scenes").change(geneval)
    assert isinstance(scenes.detector, SceneDetector)
    assert GenevalForm(detector="coco").change(scenes).detector == CocoDetectorConfig()
    with pytest.raises(ValueError, match="a file or a model, got both"):
        DpgForm(rewritten_file="/r", rewriter_model="m").change(None)


def test_boxes_of_scorers_change_weights_prompts_and_numbers(plan: EndToEnd) -> None:
    form = EvaluationForm(
        clip_score=ClipScoreForm(clip_model="/clip", prompts_uri="/p.txt", pictures_per_prompt=2),
        image_reward=ImageRewardForm(weights_uri="/reward.pt", weights_sha256="0" * 8, tokenizer="/bert"),
        hps=HpsForm(version="v2.0", num_prompts=3, rewriter_model="org/chat"),
    )
    spec = form.change(plan.evaluation)
    clip_score, reward, hps = spec.clip_score, spec.image_reward, spec.hps
    assert clip_score is not None
    assert reward is not None
    assert hps is not None
    assert (clip_score.clip.model, clip_score.prompts[0].file.uri) == ("/clip", "/p.txt")
    assert (clip_score.pictures_per_prompt, reward.pictures_per_prompt, hps.pictures_per_prompt) == (2, 10, 1)
    assert (reward.network.weights.uri, reward.network.weights.sha256) == ("/reward.pt", "0" * 8)
    assert (reward.network.tokenizer, reward.prompts) == ("/bert", ImageRewardBenchmark().prompts)
    assert (hps.metric, hps.num_prompts, len(hps.prompts)) == ("hps_v20", 3, 4)
    assert hps.network.file.uri.endswith("HPS_v2_compressed.pt")
    assert isinstance(hps.rewriter, InstructRewriter)
    given = HpsForm(weights_sha256="1" * 8).change(None).network
    assert (given.file.sha256, given.file.uri[-23:]) == ("1" * 8, "/HPS_v2.1_compressed.pt")
    assert EvaluationForm(seed=1).change(spec).hps == hps


def test_boxes_of_hps3_name_its_files_and_keep_the_others() -> None:
    form = Hps3Form(weights_uri="/hps3.safetensors", tokenizer="/qwen", instruction_uri="/texts.py", num_prompts=2)
    network = form.change(None).network
    assert (network.weights.uri, network.base, network.instruction.uri) == (
        "/hps3.safetensors", "/qwen", "/texts.py",
    )  # fmt: skip
    assert network.instruction_sha256 == Hps3Config().instruction_sha256
    assert Hps3Form(pictures_per_prompt=2).change(form.change(None)).network == network
