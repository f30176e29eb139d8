"""Folded cases, and cases whose tokenizer lies in a file beside them, are replayed and counted as they are recorded."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.parity.replay import replay
from tests.parity.scores.folded import VAE_FILE, write_folded_case


@pytest.mark.parametrize("tokens", [False, True])
def test_a_folded_case_with_its_tokenizer_beside_it_passes(tmp_path: Path, tokens: bool) -> None:
    write_folded_case(tmp_path / "case", tokens=tokens)
    result = replay(tmp_path / "case")
    assert result["passed"], result["failures"]
    assert result["tensors"]["bits.2"]["ok"]


def test_planes_of_positions_and_of_tokens_are_counted_apart(tmp_path: Path) -> None:
    counts = {}
    for tokens in (False, True):
        write_folded_case(tmp_path / str(tokens), tokens=tokens)
        about = json.loads((tmp_path / str(tokens) / "case.json").read_text())
        counts[tokens] = about["fraction_of_bit_planes_that_vary_in_space"]
    assert counts[True][0] == 0.0  # one token cannot vary
    assert counts[False][0] > 0.0  # its four positions can
    for tokens in (False, True):
        path = tmp_path / str(tokens) / "case.json"
        wrong = json.loads(path.read_text()) | {"fraction_of_bit_planes_that_vary_in_space": counts[not tokens]}
        path.write_text(json.dumps(wrong))
        failures = replay(tmp_path / str(tokens))["failures"]
        assert failures
        assert all(failure.startswith("fraction_of_bit_planes_that_vary_in_space") for failure in failures)


def test_a_tensor_of_a_file_beside_the_case_that_is_absent_or_not_listed_is_named(tmp_path: Path) -> None:
    write_folded_case(tmp_path / "case")
    path = tmp_path / "case" / VAE_FILE
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file(tensors | {"surprise": torch.zeros(1)}, path)
    assert any(f"{VAE_FILE}: surprise is not listed" in failure for failure in replay(tmp_path / "case")["failures"])
    about = json.loads((tmp_path / "case" / "case.json").read_text())
    about["files"]["other.safetensors"] = {"x": {"shape": [1], "dtype": "float32"}}
    about["files"]["../outside.safetensors"] = {"x": {"shape": [1], "dtype": "float32"}}
    (tmp_path / "case" / "case.json").write_text(json.dumps(about))
    safetensors.torch.save_file(tensors, path)
    assert any("in the folder of the case" in failure for failure in replay(tmp_path / "case")["failures"])
    del about["files"]["../outside.safetensors"]
    (tmp_path / "case" / "case.json").write_text(json.dumps(about))
    assert replay(tmp_path / "case")["failures"] == ["other.safetensors: x is listed but absent"]
