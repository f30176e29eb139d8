"""Does search at drawing time raise the score at equal FLOPs? After the paper: best of n with several scorers.

    infinity study search

A model of half the width needs a quarter of the products, so that its best of four costs as much as one drawing of the
usual model. Decoding and scoring the candidates are not counted.
"""

from infinity.evaluation.geneval.search import BestOf
from infinity.studies import Arms, PaperFigure, Study, World, better

SCORERS = {"ideal": "verdict", "weak": "objects"}
"""The weak scorer sees which objects are there, but neither colours nor positions."""


def arms(world: World, seed: int) -> Arms:
    """Return drawings of the usual model, alone and the best of four, and those of a quarter of it."""
    jobs, usual = world.model(seed)
    heads = max(1, usual.model.num_heads // 2)
    half = {"width": usual.model.head_width * heads, "num_heads": heads}
    quarter_jobs, quarter = world.model(seed, model=half)
    found = {"one": [*jobs, world.evaluation(usual, seed)]}
    for scorer, kind in SCORERS.items():
        search = BestOf(candidates=4, scorer=kind)
        found[f"best of 4, {scorer} scorer"] = [*jobs, world.evaluation(usual, seed, best_of=search)]
        found[f"quarter, best of 4, {scorer} scorer"] = [*quarter_jobs, world.evaluation(quarter, seed, best_of=search)]
    return found


STUDY = Study(
    name="search",
    number=11,
    title="Best of four drawings",
    claim="The best of four by a scorer raises the score, also at equal FLOPs with a model of a quarter of the size.",
    source="successors of the paper",
    arms=arms,
    contrasts=(
        better("best of 4, ideal scorer", "one", "score"),
        better("best of 4, weak scorer", "one", "score"),
        better("quarter, best of 4, ideal scorer", "one", "score"),
    ),
    paper=(
        PaperFigure(arm="one", metric="GenEval of Infinity-2B", value=0.69, source="arXiv 2507.18537"),
        PaperFigure(arm="search with scorers", metric="GenEval of Infinity-2B", value=0.75, source="arXiv 2507.18537"),
    ),
    reason="a scorer that sees objects alone cannot tell drawings apart that fail in colour or position.",
)
