"""Do more bits reconstruct better? Paper Table 4.

    infinity study bits

Tokenizers that differ in the number of bits alone; the distance is PSNR on held-out pictures, since the weights of the
Inception network behind rFID need a download.
"""

from infinity.studies import Arms, PaperFigure, Study, World, slope

BITS = (16, 24, 32, 48, 64)
TABLE_4 = {16: 1.22, 24: 0.75, 32: 0.61, 64: 0.33}
PSNR = {16: 20.9, 24: 22.0, 32: 22.7, 64: 24.9}


def arms(world: World, seed: int) -> Arms:
    """Return a tokenizer per number of bits; a model of one step carries it to the evaluation."""
    found = {}
    for bits in BITS:
        tokenizer = world.tokenizer(seed, model={"num_bits": bits})
        carrier = world.transformer(tokenizer)
        carrier = carrier.replace(loop=carrier.loop.replace(num_steps=1))
        evaluation = world.evaluation(carrier, drawings=False)
        found[f"d={bits}"] = [*world.data(), tokenizer, carrier, evaluation]
    return found


PLACES = {f"d={bits}": float(bits) for bits in BITS}
STUDY = Study(
    name="bits",
    number=2,
    title="Reconstruction over the number of bits",
    claim="More bits reconstruct better.",
    source="Table 4",
    arms=arms,
    contrasts=(slope(PLACES, "reconstruction.psnr_db", name="PSNR per bit", above=0.0),),
    places=PLACES,
    x_title="bits d",
    paper=(
        *(PaperFigure(arm=f"d={d}", metric="rFID at 256 px", value=x, source="Table 4") for d, x in TABLE_4.items()),
        *(PaperFigure(arm=f"d={d}", metric="PSNR at 256 px", value=x, source="README") for d, x in PSNR.items()),
    ),
    reason="a short training does not yet use the bits, and drawn scenes need few of them.",
)
