"""Memory of a training step as a job: counted, stored, and not counted twice."""

from pathlib import Path

import pytest

from infinity.jobs.estimate.traced import TracedSpec, run
from infinity.studies.world import World


def test_the_penalty_over_all_codes_takes_memory_that_the_bitwise_one_does_not(tmp_path: Path) -> None:
    world = World("mini", str(tmp_path))
    found = {}
    for all_codes in (False, True):
        spec = world.tokenizer(model={"num_bits": 10})
        spec = spec.replace(losses=spec.losses.replace(all_codes=all_codes))
        job = TracedSpec(output=world.output, tokenizer=spec)
        found[all_codes] = run(job).values
        assert run(job).values == found[all_codes]
    assert found[True]["traced.weight_bytes"] == found[False]["traced.weight_bytes"]
    assert found[True]["traced.activation_bytes"] > 1.3 * found[False]["traced.activation_bytes"]


def test_a_traced_step_needs_one_training_and_a_transformer_its_tokenizer(tmp_path: Path) -> None:
    world = World("mini", str(tmp_path))
    tokenizer = world.tokenizer()
    transformer = world.transformer(tokenizer)
    with pytest.raises(ValueError, match="either a tokenizer's training or a transformer's"):
        TracedSpec(output="o")
    with pytest.raises(ValueError, match="either"):
        TracedSpec(output="o", tokenizer=tokenizer, transformer=transformer)
    with pytest.raises(ValueError, match="shape of its tokenizer"):
        TracedSpec(output="o", transformer=transformer)
