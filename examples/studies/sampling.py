"""Is guidance on the logits the best way of sampling? Paper Table 9 and Figure 14.

    infinity study sampling

One model per seed with the usual tokenizer; every way of sampling draws the same captions with the same seeds.
"""

from infinity.generation import PyramidGuidance
from infinity.studies import Arms, PaperFigure, Study, World, better

WAYS = {
    "greedy": {"greedy": True, "guidance": 1.0},
    "plain": {"guidance": 1.0},
    "pyramid 1 to 3": {"guidance": PyramidGuidance(start=1.0, end=3.0)},
    "features c=3": {"guidance": 3.0, "guide_logits": False, "guided_blocks": (-1,)},
    "logits c=2": {"guidance": 2.0},
    "logits c=3": {"guidance": 3.0},
    "logits c=4": {"guidance": 4.0},
}
TABLE_9 = {"greedy": 9.97, "plain": 4.84, "pyramid 1 to 3": 3.48, "features c=3": 3.00, "logits c=3": 2.91}
BEST = "logits c=3"


def arms(world: World, seed: int) -> Arms:
    """Return the jobs of every way of sampling: they share the model, and differ in the evaluation."""
    jobs, transformer = world.model(seed)
    return {way: [*jobs, world.evaluation(transformer, seed, sampling=how)] for way, how in WAYS.items()}


STUDY = Study(
    name="sampling",
    number=6,
    title="Guidance on the logits against other ways of sampling",
    claim="Guidance on the logits is the best of the ways of sampling.",
    source="Table 9, Figure 14",
    arms=arms,
    contrasts=tuple(better(BEST, way, "score") for way in ("greedy", "plain", "pyramid 1 to 3", "features c=3")),
    explores=frozenset({"logits c=2", "logits c=4"}),
    paper=tuple(PaperFigure(arm=way, metric="FID", value=fid, source="Table 9") for way, fid in TABLE_9.items()),
    only_draws=True,
    reason="an undertrained model gains little from guidance, and differences of few drawings are small.",
)
