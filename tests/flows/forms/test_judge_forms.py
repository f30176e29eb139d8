"""The newer benchmarks can be chosen on the form of an evaluation; what is missing is said in a sentence."""

from __future__ import annotations

import pytest

from flows.forms.benchmark_forms import CmmdForm, DiversityForm, FdDinov2Form, PickScoreForm
from flows.forms.judge_forms import JudgeForm, TextRenderingForm
from flows.forms.parameters import EvaluationForm
from infinity.evaluation.judge.answers import LocalJudge
from infinity.evaluation.judge.benchmark import JudgeBenchmark
from infinity.evaluation.judge.published import Checkout
from infinity.evaluation.promotion.margins import GateConfig
from infinity.evaluation.prompts.rewriting import RewriteFile
from infinity.jobs.evaluation.spec import DRAWN_BENCHMARKS, EvaluateSpec
from infinity.perception.language.endpoint import EndpointConfig
from infinity.recipes.runs import EndToEnd, end_to_end

LOCAL = JudgeForm(suite="dsg", questions_uri="/dsg.csv", vqa_model="/vlm")
ENDPOINT = JudgeForm(
    suite="geneval2", questions_uri="/q.jsonl", endpoint_url="http://127.0.0.1:1/v1", endpoint_model="m"
)


@pytest.fixture(scope="module")
def plan() -> EndToEnd:
    return end_to_end("mini", source=None, output="/runs/mini")


def chosen(plan: EndToEnd) -> EvaluateSpec:
    form = EvaluationForm(
        pick_score=PickScoreForm(clip_model="/pick", num_prompts=5),
        diversity=DiversityForm(prompts_uri="/p.txt", pictures_per_prompt=3),
        judge=LOCAL,
        text_rendering=TextRenderingForm(prompts_uri="/signs.jsonl", rewritten_file="/r.jsonl"),
    )
    return form.change(plan.evaluation)


def test_boxes_become_benchmarks_and_stay_where_later_forms_are_empty(plan: EndToEnd) -> None:
    spec = chosen(plan)
    assert spec.pick_score is not None
    assert (spec.pick_score.clip.model, spec.pick_score.num_prompts) == ("/pick", 5)
    assert spec.diversity is not None
    assert (spec.diversity.prompts[0].file.uri, spec.diversity.pictures_per_prompt) == ("/p.txt", 3)
    assert spec.judge is not None
    assert isinstance(spec.judge.answerer, LocalJudge)
    assert (spec.judge.suite, spec.judge.answerer.vqa.model) == ("dsg", "/vlm")
    assert spec.text_rendering is not None
    assert isinstance(spec.text_rendering.rewriter, RewriteFile)
    assert EvaluationForm(seed=spec.seed).change(spec) == spec
    assert EvaluateSpec.from_json(spec.to_json(), where="stored") == spec


def test_every_benchmark_over_prompts_has_a_box_and_a_margin(plan: EndToEnd) -> None:
    given = {name for name, field in EvaluationForm.model_fields.items() if "Form" in str(field.annotation)}
    spec = chosen(plan)
    assert given == DRAWN_BENCHMARKS
    for _, benchmark in spec.prompt_benchmarks():
        assert GateConfig().margin(f"{benchmark.name}.overall") is not None, benchmark.name


def test_a_judge_changes_place_model_and_questions() -> None:
    before = ENDPOINT.change(None)
    assert before.answerer == EndpointConfig(url="http://127.0.0.1:1/v1", model="m")
    moved = JudgeForm(endpoint_model="n", key_env=" ").change(before)
    assert moved.answerer == EndpointConfig(url="http://127.0.0.1:1/v1", model="n", key_env="")
    assert moved.questions == before.questions
    assert isinstance(JudgeForm(vqa_model="/vlm").change(before).answerer, LocalJudge)
    again = JudgeForm(suite="tiif", questions_uri="/t.jsonl", prompts_uri="/p.txt", licence="MIT").change(before)
    (file,) = again.questions
    assert file.prompts is not None
    assert (again.suite, file.file.uri, file.prompts.uri, file.licence) == ("tiif", "/t.jsonl", "/p.txt", "MIT")


def test_a_checkout_asks_in_the_published_wording_and_stays_where_the_box_is_empty() -> None:
    before = LOCAL.model_copy(update={"suite": "tiif", "checkout": "/TIIF-Bench"}).change(None)
    assert before.checkout == Checkout(uri="/TIIF-Bench")
    assert JudgeForm(num_prompts=3).change(before).checkout == before.checkout
    assert LOCAL.change(None).checkout is None
    with pytest.raises(ValueError, match="expected one with tiif or unigenbench, got it with dsg"):
        JudgeForm(checkout="/TIIF-Bench").change(LOCAL.change(None))


@pytest.mark.parametrize(
    ("form", "before", "words"),
    [
        (JudgeForm(), None, "expected suite and questions_uri"),
        (JudgeForm(suite="dsg"), None, "expected questions_uri"),
        (JudgeForm(suite="dsg", questions_uri="/q"), None, "expected vqa_model, or endpoint_url"),
        (JudgeForm(suite="dsg", questions_uri="/q", endpoint_url="http://h/v1"), None, "needs endpoint_model too"),
        (JudgeForm(vqa_model="/v", endpoint_model="m"), LOCAL.change(None), "got both"),
        (JudgeForm(licence="MIT"), LOCAL.change(None), "belong to a file"),
        (JudgeForm(endpoint_url="ftp://h", endpoint_model="m"), LOCAL.change(None), "expected http"),
        (JudgeForm(endpoint_url="http://me:secret@h/v1"), ENDPOINT.change(None), "without user, password"),
        (TextRenderingForm(), None, "expected prompts_uri"),
        (TextRenderingForm(prompts_sha256="0" * 8), TextRenderingForm(prompts_uri="/p").change(None), "prompts_uri"),
    ],
)
def test_what_is_missing_or_twice_is_said(
    form: JudgeForm | TextRenderingForm, before: JudgeBenchmark | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        form.change(before)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)


def test_distances_of_sets_need_prompts_and_a_reference_once(plan: EndToEnd) -> None:
    form = EvaluationForm(
        cmmd=CmmdForm(prompts_uri="/p.txt", reference_uri="/coco", network_model="/clip"),
        fd_dinov2=FdDinov2Form(prompts_uri="/p.txt", reference_uri="/coco"),
    )
    spec = form.change(plan.evaluation)
    assert spec.cmmd is not None
    assert (spec.cmmd.reference.uri, spec.cmmd.network.model, spec.cmmd.network.kind) == ("/coco", "/clip", "cmmd")
    assert spec.fd_dinov2 is not None
    assert FdDinov2Form(num_prompts=4).change(spec.fd_dinov2) == spec.fd_dinov2.replace(num_prompts=4)
    assert EvaluateSpec.from_json(spec.to_json(), where="stored") == spec
    with pytest.raises(ValueError, match="expected prompts_uri and reference_uri"):
        CmmdForm(prompts_uri="/p.txt").change(None)
