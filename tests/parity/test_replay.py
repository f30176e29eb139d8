"""Golden cases pass, and any single change of what they expect is seen."""

import copy
import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.parity.__main__ import main
from tests.parity.case import Case
from tests.parity.ledger import LOGITS, LOSS, QUANTIZER, TOKENIZER
from tests.parity.replay import compare, find_cases, replay

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = ["a_bsq_d16_square", "c_self_correction", "g_dynamic_resolution"]
PUBLIC = [*SMALL, "b_tokenizer_p16", "d_transformer_train", "e_inference"]

# Steer the replay, describe how the case was made, or are the reference's own noise.
NOT_EXPECTED = ("files.", "infinity_config.", "vae.", "codebook_dim", "batch", "text_lens", "table")


def folder_of(name: str, request: pytest.FixtureRequest) -> Path:
    if name in SMALL:
        return GOLDEN / name
    shared: Path = request.getfixturevalue("shared")
    return shared / "goldens" / name


def corrupt(tensor: Tensor, name: str, index: int) -> Tensor:
    """The tensor with one number changed by little more than its tolerance."""
    changed = tensor.clone()
    flat = changed.view(-1)
    if not tensor.is_floating_point():
        flat[index] = 1 - flat[index] if flat.max() <= 1 else flat[index] + (1 if flat[index] < 255 else -1)
    elif name.startswith("grad."):
        flat[index] += max(0.003 * float(flat[index].abs()), 0.001 * float(tensor.square().mean().sqrt()))
    elif name == "logits_upstream_bf16_cross_attention":
        flat[index] += 0.03
    else:
        by_name = {"loss_per_token": LOSS, "decode": TOKENIZER, "raw_features": TOKENIZER, "image_float": TOKENIZER}
        tolerance = next((value for start, value in by_name.items() if name.startswith(start)), None)
        flat[index] += 2 * (tolerance or (LOGITS if "logits" in name else QUANTIZER))
    return changed


def corrupt_number(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value * 1.01 + 5e-4


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Places and values of all numbers and truth values below a JSON value."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if isinstance(value, bool | int | float):
            yield (*path, key), value
        else:
            yield from leaves(value, (*path, key))


def with_number(about: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(about)
    node: Any = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return changed


def expected_figures(case: Case) -> list[tuple[tuple[Any, ...], Any]]:
    """Figures of ``case.json`` that the replay compares."""
    compared = {name.replace("/", ".") for name in compare(case).numbers}
    found = [(path, value) for path, value in leaves(case.about) if ".".join(map(str, path)) in compared]
    return [item for item in found if not ".".join(map(str, item[0])).startswith(NOT_EXPECTED)]


@pytest.mark.reference
@pytest.mark.parametrize("name", PUBLIC)
def test_public_cases_pass(name: str, request: pytest.FixtureRequest) -> None:
    result = replay(folder_of(name, request))
    assert result["passed"], result["failures"]
    assert set(result["tensors"]) == set(Case.load(folder_of(name, request)).expected)


@pytest.mark.parametrize("name", ["a_bsq_d16_square", "c_self_correction"])
def test_one_changed_number_in_any_tensor_is_seen(name: str) -> None:
    case = Case.load(GOLDEN / name)
    generator = torch.Generator().manual_seed(0)
    for tensor_name, tensor in case.expected.items():
        index = int(torch.randint(tensor.numel(), (1,), generator=generator))
        changed = case.expected | {tensor_name: corrupt(tensor, tensor_name, index)}
        ledger = compare(dataclasses.replace(case, expected=changed))
        assert [f.split(":")[0] for f in ledger.failures] == [tensor_name]


@pytest.mark.reference
@pytest.mark.parametrize("name", ["b_tokenizer_p16", "d_transformer_train", "e_inference"])
def test_one_changed_number_in_each_of_all_tensors_is_seen(name: str, request: pytest.FixtureRequest) -> None:
    case = Case.load(folder_of(name, request))
    generator = torch.Generator().manual_seed(0)
    changed = {
        name: corrupt(tensor, name, int(torch.randint(tensor.numel(), (1,), generator=generator)))
        for name, tensor in case.expected.items()
    }
    ledger = compare(dataclasses.replace(case, expected=changed))
    assert {name for name, tensor in ledger.tensors.items() if not tensor["ok"]} == set(case.expected)


@pytest.mark.parametrize("name", ["a_bsq_d16_square", "c_self_correction"])
def test_one_changed_figure_is_seen(name: str) -> None:
    case = Case.load(GOLDEN / name)
    figures = expected_figures(case)
    assert len(figures) >= 7
    for path, value in figures:
        changed = with_number(case.about, path, corrupt_number(value))
        assert not compare(dataclasses.replace(case, about=changed)).passed, path


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "at_least"), [("b_tokenizer_p16", 6), ("d_transformer_train", 190), ("e_inference", 20)]
)
def test_every_changed_figure_is_seen(name: str, at_least: int, request: pytest.FixtureRequest) -> None:
    case = Case.load(folder_of(name, request))
    figures = expected_figures(case)
    assert len(figures) >= at_least
    about = case.about
    for path, value in figures:
        about = with_number(about, path, corrupt_number(value))
    numbers = compare(dataclasses.replace(case, about=about)).numbers
    failed = {number.replace("/", ".") for number, result in numbers.items() if not result["ok"]}
    assert {".".join(map(str, path)) for path, _ in figures} <= failed


def test_one_changed_entry_of_the_schedule_table_is_seen() -> None:
    case = Case.load(GOLDEN / "g_dynamic_resolution")
    places = list(leaves(case.about))
    assert len(places) > 2500
    for path, value in places[:: len(places) // 60]:
        assert not compare(dataclasses.replace(case, about=with_number(case.about, path, value + 1))).passed, path


def test_a_missing_ratio_or_size_of_the_table_is_seen() -> None:
    case = Case.load(GOLDEN / "g_dynamic_resolution")
    for remove in (lambda table: table.pop("1.5"), lambda table: table["0.4"].pop("1M")):
        about = copy.deepcopy(case.about)
        remove(about["table"])
        assert not compare(dataclasses.replace(case, about=about)).passed


def test_an_unknown_a_missing_and_a_misshaped_expected_tensor_fail() -> None:
    case = Case.load(GOLDEN / "a_bsq_d16_square")
    more = case.expected | {"surprise": torch.zeros(1)}
    assert any("surprise" in failure for failure in compare(dataclasses.replace(case, expected=more)).failures)
    fewer = {name: tensor for name, tensor in case.expected.items() if name != "var_inputs.2"}
    assert any("var_inputs.2" in failure for failure in compare(dataclasses.replace(case, expected=fewer)).failures)
    other = case.expected | {"quantized_out": case.expected["quantized_out"][:1]}
    assert any("shape" in failure for failure in compare(dataclasses.replace(case, expected=other)).failures)


def test_not_a_number_is_never_within_tolerance() -> None:
    case = Case.load(GOLDEN / "a_bsq_d16_square")
    broken = case.expected["quantized_out"].clone()
    broken[0, 0, 0, 0] = torch.nan
    ledger = compare(dataclasses.replace(case, expected=case.expected | {"quantized_out": broken}))
    assert not ledger.passed
    json.dumps(ledger.summary(), allow_nan=False)


def test_the_command_prints_json_and_its_exit_code_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once as a process, once in this one, which need not import torch again."""
    folder = tmp_path / "case"
    shutil.copytree(GOLDEN / "a_bsq_d16_square", folder)
    command = [sys.executable, "-m", "tests.parity", str(folder)]
    good = subprocess.run(command, capture_output=True, text=True, check=False)
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["tensors"]["quantized_out"]["ok"]
    outputs = safetensors.torch.load_file(folder / "outputs.safetensors")
    outputs["bit_indices.6"][0, 0, 3, 5, 7] ^= 1
    safetensors.torch.save_file(outputs, folder / "outputs.safetensors")
    assert main([str(folder)]) == 1
    assert json.loads(capsys.readouterr().out)["failures"] == [
        "bit_indices.6: off by 1 at [0, 0, 3, 5, 7], allowed {'tolerance': 0}"
    ]


def test_folders_of_cases_are_searched() -> None:
    assert [path.name for path in find_cases(GOLDEN)] == SMALL


@pytest.mark.parametrize("content", [None, "{", '{"case": "surprise"}', '{"case": "bsq_quantizer"}'])
def test_a_folder_that_is_no_case_fails_with_a_reason(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "case.json").write_text(content)
    result = replay(tmp_path)
    assert not result["passed"]
    assert result["failures"]
