"""How often rounding decides a bit: the same pictures sampled in one batch and one by one.

``python -m benchmarks.drawn.rounding --pictures 64`` prints one JSON line a guidance. Random numbers are equal in both
runs, so a bit can differ only where its probability and its random number agree to within rounding. A bit that differs
changes what later scales read; therefore bits are counted up to and including the first scale that differs.
"""

from __future__ import annotations

import argparse
import json

import torch

from benchmarks.run.tokenizer import codes_alone
from infinity.generation import Conditions, SamplingConfig, picture_generator, sample_bits
from infinity.scales import Resolution
from infinity.text import BuiltinTextConfig, TextCondition, build_text_encoder
from infinity.tokenizer import Tokenizer
from infinity.transformer import Transformer, TransformerConfig

NUM_BITS = 16
SCHEDULE = Resolution(sides=(1, 2, 3, 4, 6, 8)).schedule(1.0)


def compare(num_pictures: int, guidance: float) -> dict[str, float]:
    """Sample every picture twice and count."""
    transformer, tokenizer = random_parts()
    prompts = [f"picture {number} of {'a red cube and ' * (number % 3)}a ball" for number in range(num_pictures)]
    text = build_text_encoder(BuiltinTextConfig(channels=128, max_tokens=32)).encode(prompts)
    together = sample(transformer, tokenizer, text, prompts, guidance)
    differing = exposed = pictures = 0
    for row, prompt in enumerate(prompts):
        alone = sample(transformer, tokenizer, text.select([row]), [prompt], guidance)
        wrong = (alone[0] != together[row]).sum(dim=-1)
        scales = [int(wrong[span].sum()) for span in SCHEDULE.spans]
        first = next((k for k, count in enumerate(scales) if count), len(scales) - 1)
        differing += scales[first]
        exposed += SCHEDULE.spans[first].stop * NUM_BITS
        pictures += any(scales)
    return {
        "guidance": guidance,
        "pictures": num_pictures,
        "pictures_that_differ": pictures,
        "bits_compared": exposed,
        "bits_that_rounding_decided": differing,
    }


def sample(
    transformer: Transformer, tokenizer: Tokenizer, text: TextCondition, prompts: list[str], guidance: float
) -> torch.Tensor:
    """Return bits (B, L, C) of one picture per prompt, seed 0."""
    return sample_bits(
        transformer,
        tokenizer,
        Conditions(text, [picture_generator(prompt, 0, SCHEDULE) for prompt in prompts]),
        schedule=SCHEDULE,
        sampling=SamplingConfig(guidance=guidance, nucleus=1.0),
    ).labels.bits_BLC


def random_parts() -> tuple[Transformer, Tokenizer]:
    """Return a transformer whose logits spread as trained ones do (deviation near 2), and a tokenizer for its codes."""
    transformer = Transformer(
        TransformerConfig(width=128, num_heads=4, depth=4, num_bits=NUM_BITS, text_channels=128, max_text_tokens=32)
    ).eval()
    generator = torch.Generator().manual_seed(0)
    transformer.init_weights(generator)
    with torch.no_grad():
        for block in transformer.blocks:
            block.modulation_offset[:2].fill_(0.3)  # type: ignore[index]
        transformer.head.weight.normal_(std=0.13, generator=generator)
    return transformer, codes_alone(NUM_BITS)


def main() -> None:
    """Parse the command line and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=64)
    args = parser.parse_args()
    for guidance in (1.0, 3.0):
        print(json.dumps(compare(args.pictures, guidance)), flush=True)


if __name__ == "__main__":
    main()
