"""Is the bitwise head at least as good as a joint one, with a fraction of its parameters and memory? Paper Table 5.

    infinity study heads

Both heads learn the bits of one tokenizer of 12 bits: 24 outputs against 4,096 classes.
"""

from infinity.jobs.estimate.traced import TracedSpec
from infinity.studies import Arms, Contrast, PaperFigure, Study, World, better

BITS = 12


def arms(world: World, seed: int) -> Arms:
    """Return a training, its traced memory and its evaluation per head."""
    found = {}
    tokenizer = world.tokenizer(model={"num_bits": BITS})
    for head in ("bitwise", "joint"):
        model = world.transformer(tokenizer, seed, model={"head": head})
        traced = TracedSpec(output=world.output, transformer=model.replace(seed=0), shape=tokenizer.model)
        found[head] = [*world.data(), traced, tokenizer, model, world.evaluation(model, seed)]
    return found


def fraction(metric: str, most: float) -> Contrast:
    """Return the contrast that holds where the bitwise head needs less than a share of the joint one's."""
    name, weights = f"bitwise below {most:g} of joint ({metric})", {"bitwise": 1.0, "joint": -most}
    return Contrast(name=name, metric=metric, weights=weights, below=0.0, counted=True)


TABLE_5 = {("bitwise", "loss"): 0.180, ("joint", "loss"): 0.184, ("bitwise", "FID"): 3.83, ("joint", "FID"): 4.49}
STUDY = Study(
    name="heads",
    number=3,
    title="Bitwise head against joint head",
    claim="The bitwise head is at least as good in loss and score, with a fraction of the parameters and memory.",
    source="Table 5",
    arms=arms,
    contrasts=(
        better("bitwise", "joint", "validation.loss", lower=True, by=-0.002),
        better("bitwise", "joint", "score", by=-0.02),
        fraction("transformer.num_parameters", 0.9),
        fraction("traced.activation_bytes", 0.9),
    ),
    paper=tuple(
        PaperFigure(arm=a, metric=m, value=x, source="Table 5", ours={"FID": "score"}.get(m, ""))
        for (a, m), x in TABLE_5.items()
    ),
    reason="with few bits a joint head is small, and can express what bits have in common.",
)
