"""Which rate of flipped bits is best: p from 0 to 0.3? Paper Table 8.

infinity study flip_rate
"""

from infinity.studies import Arms, PaperFigure, Study, World, better, slope

RATES = (0.0, 0.1, 0.2, 0.3)
TABLE_8 = {0.0: (9.76, 0.515), 0.1: (3.45, 0.751), 0.2: (3.48, 0.763), 0.3: (3.33, 0.775)}


def arms(world: World, seed: int) -> Arms:
    """Return one training and evaluation per rate."""
    found = {}
    for rate in RATES:
        jobs, model = world.model(seed, self_correction=rate)
        found[f"p={rate:g}"] = [*jobs, world.evaluation(model, seed)]
    return found


PLACES = {f"p={rate:g}": rate for rate in RATES}
STUDY = Study(
    name="flip_rate",
    number=5,
    title="Score over the rate of flipped bits",
    claim="The score grows with the rate p from 0 to 0.3, most from 0 to 0.1.",
    source="Table 8",
    arms=arms,
    contrasts=(
        slope(PLACES, "score", name="score per unit of p", above=0.0),
        better("p=0.1", "p=0", "score"),
    ),
    places=PLACES,
    x_title="highest rate p of flipped bits",
    paper=tuple(
        PaperFigure(arm=f"p={rate:g}", metric=metric, value=value, source="Table 8")
        for rate, values in TABLE_8.items()
        for metric, value in zip(("FID", "ImageReward"), values, strict=True)
    ),
    reason="small pictures have few scales, so that errors have little room to pile up.",
)
