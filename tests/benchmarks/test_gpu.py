"""Every case of the GPU benchmark really runs, with a tiny layout on a CPU."""

import pytest
import torch

from benchmarks.gpu import cases, run

CASES = cases("tiny", "256", batch_size=1)


def test_all_questions_are_asked() -> None:
    full = cases("2B-released")
    assert [(case.name, case.batch_size) for case in full if case.group == "size"] == [
        ("256-class", 64),
        ("512-class", 16),
        ("1024-class", 4),
    ]
    names = {(case.group, case.name) for case in full}
    assert {("attention", "flex"), ("attention", "dense"), ("compile", "eager"), ("compile", "compiled")} <= names
    assert {("finetune", "lora"), ("finetune", "full")} <= names


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # a first import of the compiler
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.group}-{case.name}")
def test_a_case_runs(case, exhaustive: bool) -> None:  # type: ignore[no-untyped-def]
    if not exhaustive and case.name not in ("256-class", "compiled", "lora"):
        pytest.skip("one case of each kind runs by default; --exhaustive runs this one too")
    if case.name == "full-8bit":
        pytest.importorskip("torchao", reason="8-bit means need torchao: pip install -e .[eight-bit]")
    if case.name == "lora":
        pytest.importorskip("peft", reason="adapters need peft: pip install -e .[adapters]")
    with torch.compiler.set_stance("force_eager"):
        found = run(case, torch.device("cpu"), repeats=1, peak_tflops=790.0)
    assert found["seconds_per_step"] > 0
    assert (found["mfu"] is None) == (case.name == "lora")
    assert found["tokens_per_s"] == pytest.approx(521 / found["seconds_per_step"])
