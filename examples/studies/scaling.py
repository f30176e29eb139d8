"""Does the loss fall as a power law of the parameters and of the compute, and predict the score? Paper Figures 10, 11.

    infinity study scaling

Five sizes are fitted; the loss of a sixth, larger one is predicted, and the interval written down, before it trains.
"""

from infinity.studies import Arms, PaperFigure, PowerLaw, Study, World, slope

SIZES = {"s1": (1, 1), "s2": (1, 2), "s3": (2, 2), "s4": (3, 3), "s5": (4, 4), "s6": (6, 6)}
"""Number of heads and of blocks, in units of a quarter of the usual model's."""


def arms(world: World, seed: int) -> Arms:
    """Return one training and evaluation per size."""
    found = {}
    tokenizer = world.tokenizer()
    usual = world.transformer(tokenizer).model
    for size, (heads, depth) in SIZES.items():
        heads, depth = max(1, heads * usual.num_heads // 4), max(1, depth * usual.depth // 4)
        channels = usual.width // usual.num_heads if usual.num_heads >= 4 else usual.width // 4 * SIZES[size][0]
        shape = {"width": channels * heads, "num_heads": heads, "depth": depth}
        model = world.transformer(tokenizer, seed, model=shape)
        found[size] = [*world.data(), tokenizer, model, world.evaluation(model, seed)]
    return found


FITTED = {size: float(place) for place, size in enumerate(SIZES, start=1) if size != "s6"}
STUDY = Study(
    name="scaling",
    number=9,
    title="Loss over the size of the model, with a prediction",
    claim="The loss falls as a power law of the parameters, which predicts a larger size, and the score rises with it.",
    source="Figures 10 and 11",
    arms=arms,
    contrasts=(
        slope(FITTED, "validation.loss", name="doublings of the loss per size", below=0.0, log2=True),
        slope(FITTED, "score", name="score per size", above=0.0),
    ),
    places={size: float(place) for place, size in enumerate(SIZES, start=1)},
    x_title="size, s1 to s6",
    power_law=PowerLaw(metric="validation.loss", x="transformer.num_parameters", held_out="s6"),
    paper=(
        PaperFigure(arm="loss and GenEval", metric="correlation", value=-0.983, source="Figure 10"),
        PaperFigure(arm="loss and ImageReward", metric="correlation", value=-0.981, source="Figure 10"),
    ),
    lower=True,
    reason="all sizes train for the same few steps, so that large ones are further from their end.",
)
