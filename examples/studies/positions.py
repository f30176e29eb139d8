"""Do rotary positions with a scale embedding learn faster than learned absolute ones? Paper Figure 13.

infinity study positions
"""

from infinity.studies import Arms, Study, World, better

ARMS = {
    "rotary + scale embedding": {},
    "rotary": {"scale_embedding_period": None},
    "learned absolute": {"positions": "learned", "scale_embedding_period": None},
}


def arms(world: World, seed: int) -> Arms:
    """Return one training and evaluation per kind of position."""
    found = {}
    for arm, shape in ARMS.items():
        jobs, model = world.model(seed, model=shape)
        found[arm] = [*jobs, world.evaluation(model, seed)]
    return found


STUDY = Study(
    name="positions",
    number=7,
    title="Rotary positions with scale embedding against learned absolute positions",
    claim="After equal steps, rotary positions with a scale embedding have a lower loss than learned absolute ones.",
    source="Figure 13",
    arms=arms,
    contrasts=(better("rotary + scale embedding", "learned absolute", "validation.loss", lower=True),),
    lower=True,
    reason="grids of at most six rows are learned quickly by any table.",
)
