"""Do a model's own mistakes pile up without self-correction? Paper Figure 12.

    infinity study teacher_forcing

A history with wrong bits costs a model that was trained on clean ones more loss than one that learned to correct.
"""

from infinity.studies import Arms, Study, World, better


def arms(world: World, seed: int) -> Arms:
    """Return both trainings; each is measured on histories with wrong bits, and by its drawings."""
    found = {}
    for arm, rate in (("self-correction", 0.3), ("teacher forcing", 0.0)):
        jobs, model = world.model(seed, self_correction=rate)
        found[arm] = [*jobs, world.evaluation(model, seed)]
    return found


STUDY = Study(
    name="teacher_forcing",
    number=10,
    title="Teacher forcing against self-correction",
    claim="With wrong bits in the history, a model with self-correction predicts better and draws better.",
    source="Figure 12",
    arms=arms,
    contrasts=(
        better("self-correction", "teacher forcing", "validation.loss", lower=True),
        better("self-correction", "teacher forcing", "score"),
    ),
    lower=True,
    reason="small pictures have few scales, so that errors have little room to pile up.",
)
