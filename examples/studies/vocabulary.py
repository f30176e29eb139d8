"""Do large vocabularies pay with large models only? Paper Table 6 and Figure 9.

    infinity study vocabulary

Two sizes of the transformer times two numbers of bits; the claim is about the difference of the differences.
"""

from infinity.studies import Arms, Contrast, Study, World

BITS = (16, 32)
SIZES = {"narrow": (0.5, 0.5), "wide": (1.5, 1.0)}
"""Width and depth as shares of the usual model's."""


def arms(world: World, seed: int) -> Arms:
    """Return one training and evaluation per size and number of bits."""
    found = {}
    for bits in BITS:
        tokenizer = world.tokenizer(model={"num_bits": bits})
        usual = world.transformer(tokenizer).model
        for size, (width, depth) in SIZES.items():
            heads = max(1, round(usual.num_heads * width))
            shape = {"width": usual.head_width * heads, "num_heads": heads, "depth": max(1, round(usual.depth * depth))}
            model = world.transformer(tokenizer, seed, model=shape)
            found[f"{size}, d={bits}"] = [*world.data(), tokenizer, model, world.evaluation(model, seed)]
    return found


STUDY = Study(
    name="vocabulary",
    number=8,
    title="Size of the model and number of bits",
    claim="A large vocabulary gains more, or loses less, in a large model than in a small one.",
    source="Table 6, Figure 9",
    arms=arms,
    contrasts=(
        Contrast(
            name="gain of 32 bits in the wide model over that in the narrow one",
            metric="score",
            weights={"wide, d=32": 1.0, "wide, d=16": -1.0, "narrow, d=32": -1.0, "narrow, d=16": 1.0},
            above=0.0,
        ),
    ),
    reason="both sizes are far below those at which the paper sees 32 bits overtake 16 (2.2B, 40,000 steps).",
)
