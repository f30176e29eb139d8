"""A changed stage moves every stage after it and none before it."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from flows.forms.parameters import EvaluationForm, FinetuneForm, PretrainForm, TokenizerForm
from flows.records.plan import STAGES, change_plan, changed, folder_of, load_plan, new_plan, save_plan, with_data
from infinity.jobs.training.encode import store_for
from infinity.recipes.runs import EndToEnd
from infinity.training.transformer.adapters import AdapterConfig
from infra.settings import REPOSITORY
from tests.fixtures.limits import AGES_S


@pytest.fixture
def plan(tmp_path: Path) -> EndToEnd:
    return new_plan("mini", None, str(tmp_path))


def _moved(before: EndToEnd, after: EndToEnd) -> list[str]:
    return [stage for stage in STAGES if getattr(before, stage).folder != getattr(after, stage).folder]


def test_nothing_changed_is_the_same_plan(plan: EndToEnd) -> None:
    assert changed(plan, {}) == plan
    assert changed(plan, {"evaluation": EvaluationForm().change}) == plan


def test_changing_only_the_evaluation_moves_only_the_evaluation(plan: EndToEnd) -> None:
    after = changed(plan, {"evaluation": EvaluationForm(guidance=1.25).change})
    assert _moved(plan, after) == ["evaluation"]


def test_a_changed_stage_moves_all_that_build_on_it(plan: EndToEnd) -> None:
    assert _moved(plan, changed(plan, {"finetune": FinetuneForm(num_steps=3).change})) == ["finetune", "evaluation"]
    after = changed(plan, {"tokenizer": TokenizerForm(num_steps=3).change})
    assert _moved(plan, after) == ["tokenizer", "pretrain", "finetune", "evaluation"]
    assert after.pretrain.tokenizer.startswith(after.tokenizer.folder)
    assert after.finetune.start_from is not None
    assert after.finetune.start_from.startswith(after.pretrain.folder)
    assert after.evaluation.model.startswith(after.finetune.folder)


def test_transformers_follow_the_bits_and_the_shape_before_them(plan: EndToEnd) -> None:
    changes = {"tokenizer": TokenizerForm(num_bits=6).change, "pretrain": PretrainForm(depth=1).change}
    after = changed(plan, changes)
    assert (after.pretrain.model.num_bits, after.finetune.model.num_bits) == (6, 6)
    assert (after.pretrain.model.depth, after.finetune.model.depth) == (1, 1)
    assert after.finetune.model.drop_path == plan.finetune.model.drop_path


def test_a_plan_is_found_again_beside_its_outputs(plan: EndToEnd, tmp_path: Path) -> None:
    save_plan(plan, str(tmp_path))
    assert load_plan(str(tmp_path)) == plan


def test_a_run_that_was_never_begun_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="begin it with the flow build-dataset or end-to-end"):
        load_plan(f"{tmp_path}/nothing")


def test_a_run_is_a_name_a_path_or_a_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert folder_of("demo") == str(tmp_path / "runs" / "demo")
    assert folder_of("s3://bucket/demo") == "s3://bucket/demo"
    assert folder_of("/data/demo") == "/data/demo"
    for wrong in ("", "  ", "../demo"):
        with pytest.raises(ValueError, match="expected a name like 'demo'"):
            folder_of(wrong)


@pytest.mark.parametrize(
    "run", ["demo ", " demo", "a\nb", "a\x00b", "/runs/demo\t", "s3://bucket/a\x1b[2Jb", "\u202ea", "a\udc80"]
)
def test_a_name_that_nobody_can_read_on_a_page_is_refused(run: str) -> None:
    with pytest.raises(ValueError, match="expected a name without spaces around it"):
        folder_of(run)


@pytest.mark.parametrize("run", ["registry", "studies", "/data/registry", "s3://bucket/runs/studies/"])
def test_a_run_does_not_lie_where_the_champions_or_the_studies_do(run: str) -> None:
    with pytest.raises(ValueError, match=r"is the folder of the \w+ beside the runs"):
        folder_of(run)


@pytest.mark.parametrize(
    "run", ["Meine Bilder 猫", "a'b\"c`d", "a{b}%20#?&", "-x", "ü" * 60, "👩\u200d🔬", "می\u200cخواهم"]
)
def test_any_other_name_is_one(run: str) -> None:
    assert folder_of(run).endswith(f"/{run}")


def test_a_run_that_begins_anew_waits_for_a_flow_that_changes_its_plan(plan: EndToEnd, tmp_path: Path) -> None:
    """Otherwise the change would be written over it, and the stages that it does would be in no plan."""
    run = str(tmp_path / "demo")
    save_plan(plan, run)
    script = (
        "import sys; from flows.records.plan import new_plan, replace_plan\n"
        "print('begins', flush=True); replace_plan(new_plan('demo', None, sys.argv[1]), sys.argv[1])\n"
    )

    def change(before: EndToEnd) -> EndToEnd:
        begun.append(
            subprocess.Popen([sys.executable, "-c", script, run], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        )
        assert begun[0].stdout is not None
        assert begun[0].stdout.readline() == "begins\n"
        with pytest.raises(subprocess.TimeoutExpired):
            begun[0].wait(timeout=1.0)
        return changed(before, {"tokenizer": lambda spec: spec.replace(seed=7)})

    begun = list[subprocess.Popen[str]]()
    assert change_plan(run, change).tokenizer.seed == 7
    begun[0].communicate(timeout=AGES_S)
    assert load_plan(run) == new_plan("demo", None, run)


def test_other_pictures_move_the_finetuning_but_not_the_model_it_starts_from(plan: EndToEnd, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (40, 40)).save(pictures / "a.png")
    (pictures / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "black"}\n')
    dataset, after = with_data(plan, str(pictures), lambda spec: spec)
    assert dataset.source == str(pictures)
    assert dataset.scenes is None
    assert _moved(plan, after) == ["finetune", "evaluation"]
    assert after.finetune.manifest.startswith(dataset.folder)
    assert after.finetune.start_from == plan.finetune.start_from
    assert after.dataset == plan.dataset


def test_a_training_from_a_store_names_the_store_of_what_it_will_train_on(plan: EndToEnd) -> None:
    stored = changed(plan, {"finetune": FinetuneForm(stored=True, self_correction=0.1).change})
    assert stored.pretrain.encoded is None
    assert stored.finetune.encoded == store_for(stored.finetune).index
    assert stored.evaluation.model.startswith(stored.finetune.folder)
    later = changed(stored, {"tokenizer": TokenizerForm(num_steps=7).change})
    assert later.finetune.encoded == store_for(later.finetune).index != stored.finetune.encoded
    assert store_for(later.finetune).tokenizer == f"{later.tokenizer.folder}/model"
    without = changed(later, {"finetune": FinetuneForm(stored=False).change})
    assert without.finetune.encoded is None
    assert without.finetune.folder == later.finetune.folder
    assert changed(later, {"finetune": FinetuneForm().change}) == later


def test_the_form_stores_weights_below_adapters_in_few_bits(plan: EndToEnd) -> None:
    adapted = changed(plan, {"finetune": FinetuneForm(adapter_rank=4, adapter_base="int8").change})
    assert adapted.finetune.adapters == AdapterConfig(rank=4, alpha=4.0, base="int8")
    again = changed(adapted, {"finetune": FinetuneForm(adapter_rank=8).change})
    assert again.finetune.adapters == AdapterConfig(rank=8, alpha=8.0, base="int8")
    with pytest.raises(ValueError, match="adapter_base: expected adapters"):
        changed(plan, {"finetune": FinetuneForm(adapter_base="int8").change})


def test_two_flows_of_one_run_lose_nothing_of_each_others_changes(tmp_path: Path) -> None:
    """Processes change their own stage again and again, all at once."""
    run = str(tmp_path / "run")
    save_plan(new_plan("mini", None, run), run)
    script = (
        "import sys; from flows.records.plan import change_plan, changed\n"
        "from flows.forms.parameters import EvaluationForm, FinetuneForm, PretrainForm\n"
        "forms = {'pretrain': PretrainForm, 'finetune': FinetuneForm, 'evaluation': EvaluationForm}\n"
        "run, stage, field = sys.argv[1:]\n"
        "for number in range(1, 6):\n"
        "    form = forms[stage](**{field: number})\n"
        "    change_plan(run, lambda before: changed(before, {stage: form.change}))\n"
    )
    wanted = {"pretrain": "num_steps", "finetune": "num_steps", "evaluation": "sample_pictures"}
    flows = [
        subprocess.Popen([sys.executable, "-c", script, run, stage, field], cwd=REPOSITORY)
        for stage, field in wanted.items()
    ]
    assert [flow.wait(timeout=AGES_S) for flow in flows] == [0, 0, 0]
    plan = load_plan(run)
    assert (plan.pretrain.loop.num_steps, plan.finetune.loop.num_steps) == (5, 5)
    assert plan.evaluation.samples is not None
    assert plan.evaluation.samples.num_pictures == 5
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]
