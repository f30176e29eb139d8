"""The first quarter of an hour on a GPU: every group runs, with a tiny layout on a CPU."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import measuring
from benchmarks.gpu.cases import GROUPS, cases
from benchmarks.gpu.text import FLAN_T5_XL, text_encoder
from infinity.jobs.estimate.estimate import FLAN_T5_XL_WEIGHTS
from tests.fixtures.limits import AGES_S

CPU = torch.device("cpu")
TINY = cases("tiny", "256", larger=None)
BY_DEFAULT = {
    "picture/tiny-1-eager",
    "text/1-prompts",
    "train/256",
    "decode/1-pictures-f32",
    "encode/1-pictures",
    "save/state",
}


def test_all_questions_are_asked_and_the_first_ones_matter_most() -> None:
    full = cases()
    keys = [case.key for case in full]
    assert len(set(keys)) == len(keys)
    assert {case.group for case in full} == set(GROUPS)
    assert keys[:2] == ["picture/2B-released-1-eager", "train/1024"]
    pictures = {(case.model, case.pictures) for case in full if case.group == "picture"}
    assert {("2B-released", 1), ("2B-released", 4), ("2B-released", 8), ("8B-released", 1)} <= pictures
    assert [case.pictures for case in full if case.key in ("train/256", "train/512", "train/1024")] == [4, 64, 16]
    assert {"train/1024-flex", "train/1024-compiled", "train/1024-lora", "train/1024-8bit"} <= set(keys)
    assert {f"picture/2B-released-1-compiled-{what}" for what in ("graphs", "float8")} <= set(keys)


def test_the_text_encoder_has_the_size_of_the_published_one() -> None:
    weights = sum(each.numel() for each in text_encoder(FLAN_T5_XL, torch.device("meta")).parameters())
    assert weights == pytest.approx(FLAN_T5_XL_WEIGHTS, rel=0.005)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # a first import of the compiler
@pytest.mark.parametrize("case", TINY, ids=lambda case: case.key)
def test_a_case_runs(case: Any, exhaustive: bool) -> None:
    if not exhaustive and case.key not in BY_DEFAULT:
        pytest.skip("one case of each group runs by default; --exhaustive runs this one too")
    with torch.compiler.set_stance("force_eager"):
        found = measuring.measure(case, CPU, seconds=0.0, most=1)
    if "error" in found and "ImportError" in found["error"]:
        pytest.skip(found["error"])
    assert found["seconds"] > 0
    assert found["memory_gb"] > 0
    if case.group == "picture":
        parts = found["coarse_scales_s"] + found["late_scales_s"] + found["decoder_s"]
        assert parts == pytest.approx(found["seconds"], rel=0.5)
    if case.group == "train" and "lora" not in case.name:
        assert found["mfu"] > 0


def test_the_command_itself_measures_in_processes_of_their_own(tmp_path: Path) -> None:
    """As a command the program is ``__main__``, of which another process cannot import anything."""
    file = tmp_path / "gpu.json"
    given = ["--device", "cpu", "--model", "tiny", "--size", "256", "--groups", "encode", "--out", str(file)]
    given += ["--limit", str(AGES_S)]  # of a busy machine
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu", *given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(file.read_text())["cases"]
    assert set(found) == {"encode/1-pictures", "encode/4-pictures"}
    assert all("error" not in figures and figures["seconds"] > 0 for figures in found.values()), found


def test_a_run_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []

    def measured(case: Any, device: torch.device, limit_s: float) -> dict[str, Any]:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(case.key)
        return {"seconds": 1.0}

    monkeypatch.setattr(gpu, "measure_apart", measured)
    file = tmp_path / "gpu.json"
    with pytest.raises(KeyboardInterrupt):
        gpu.run(TINY[:4], CPU, file, 1.0)
    first = [*done]
    done.clear()
    monkeypatch.setattr(gpu, "measure_apart", lambda case, device, limit_s: done.append(case.key) or {"seconds": 1.0})
    found = gpu.run(TINY[:4], CPU, file, 1.0)
    assert first + done == [case.key for case in TINY[:4]] == list(found["cases"])
    assert json.loads(file.read_text()) == found
    assert len(capsys.readouterr().out.splitlines()) == 4
    file.write_text(json.dumps({"about": {"device": "another"}, "cases": {}}))
    with pytest.raises(SystemExit, match="holds figures of"):
        gpu.run(TINY[:1], CPU, file, 1.0)
