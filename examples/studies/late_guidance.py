"""Does guidance at the late scales cost nothing to leave out? After the paper: guidance off at late scales.

    infinity study late_guidance

Without guidance a scale needs no unconditional half, which is the larger part of the work at the finest scale.
"""

from infinity.studies import Arms, Contrast, Study, World, same

STRENGTH, MARGIN = 2.0, 0.02
"""Strength of the guidance, and the difference in score that counts as none."""


def arms(world: World, seed: int) -> Arms:
    """Return evaluations of one model with guidance at all scales, at all but the last, and at none."""
    jobs, model = world.model(seed)
    number = model.resolution.schedule(1.0).num_scales
    ways = {
        "all scales": STRENGTH,
        "all but the last": (STRENGTH,) * (number - 1) + (1.0,),
        "none": 1.0,
    }
    return {way: [*jobs, world.evaluation(model, seed, sampling={"guidance": c})] for way, c in ways.items()}


STUDY = Study(
    name="late_guidance",
    number=13,
    title="Guidance off at the last scale",
    claim="Guidance off at the last scale costs nothing, where guidance as a whole gains something.",
    source="successors of the paper",
    arms=arms,
    contrasts=(
        same("all but the last", "all scales", "score", margin=MARGIN),
        Contrast(name="gain of guidance", metric="score", weights={"all but the last": 1.0, "none": -1.0}, above=0.0),
    ),
    only_draws=True,
    reason="the last of few scales holds more than half of all tokens.",
)
