"""Are late tokens redundant? After the paper: a share of the last scale's tokens is left out.

    infinity study pruning

The tokens that differ least from their scale's mean are not computed; they take the features of the coarser scale.
"""

from infinity.studies import Arms, Study, World, same

SHARES = (0.0, 0.25, 0.5, 0.75)
MARGIN = 0.02
"""Difference in score that counts as none."""


def arms(world: World, seed: int) -> Arms:
    """Return evaluations of one model that leave out shares of the last scale."""
    jobs, model = world.model(seed)
    return {
        f"{share:.0%} left out": [*jobs, world.evaluation(model, seed, sampling={"pruned": (share,) if share else ()})]
        for share in SHARES
    }


STUDY = Study(
    name="pruning",
    number=12,
    title="Tokens of the last scale left out",
    claim="Late tokens are redundant: without half of the last scale's tokens the score is the same.",
    source="successors of the paper (FastVAR, arXiv 2503.23367)",
    arms=arms,
    contrasts=(same("50% left out", "0% left out", "score", margin=MARGIN),),
    places={f"{share:.0%} left out": share for share in SHARES},
    x_title="share of the last scale's tokens that is left out",
    only_draws=True,
    reason="the last grid of a small picture has few tokens, each of which shows a large part of an object.",
)
