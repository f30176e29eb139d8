"""Is self-correction far better than none, and do flips alone gain nothing? Paper Table 7.

    infinity study self_correction

"Flips only" flips bits of the inputs as self-correction does, but leaves the labels those of plain encoding.
"""

from infinity.studies import Arms, Contrast, PaperFigure, Study, World, better

ARMS = {
    "none": {"self_correction": 0.0},
    "flips only": {"self_correction": 0.3, "flips_only": True},
    "self-correction": {"self_correction": 0.3},
}
TABLE_7 = {"none": (9.76, 0.515), "flips only": (9.69, 0.52), "self-correction": (3.33, 0.775)}
GAIN = 0.02
"""Gain in score below which flips alone count as none."""


def arms(world: World, seed: int) -> Arms:
    """Return one training and evaluation per kind of correction."""
    found = {}
    for arm, changes in ARMS.items():
        jobs, model = world.model(seed, **changes)
        found[arm] = [*jobs, world.evaluation(model, seed)]
    return found


STUDY = Study(
    name="self_correction",
    number=4,
    title="Bitwise self-correction, flips alone, and neither",
    claim="Self-correction is far better than none; flips that no label undoes gain nothing.",
    source="Table 7",
    arms=arms,
    contrasts=(
        better("self-correction", "none", "score"),
        better("self-correction", "flips only", "score"),
        Contrast(name="gain of flips alone", metric="score", weights={"flips only": 1.0, "none": -1.0}, below=GAIN),
    ),
    paper=tuple(
        PaperFigure(arm=arm, metric=metric, value=value, source="Table 7")
        for arm, values in TABLE_7.items()
        for metric, value in zip(("FID", "ImageReward"), values, strict=True)
    ),
    reason="small pictures have few scales, so that errors have little room to pile up.",
)
