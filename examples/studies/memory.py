"""Is the memory of BSQ flat in the number of bits, where that of LFQ is exponential? Paper Table 3.

    infinity study memory

The peak of a whole training step is counted on tensors without memory, so that nothing can run out of it.
"""

from infinity.jobs.estimate.traced import TracedSpec
from infinity.studies import Arms, PaperFigure, Study, World, slope

BITS = (8, 10, 12, 14, 16)
TABLE_3 = {("lfq", 16): 37.6, ("lfq", 18): 53.7, ("lfq", 20): None, ("bsq", 16): 32.4, ("bsq", 64): 32.4}


def arms(world: World, seed: int) -> Arms:
    """Return a traced step per quantizer and number of bits."""
    found = {}
    for kind in ("bsq", "lfq"):
        for bits in BITS:
            spec = world.tokenizer(seed, model={"num_bits": bits, "quantizer": kind})
            spec = spec.replace(losses=spec.losses.replace(all_codes=kind == "lfq"))
            found[f"{kind} d={bits}"] = [TracedSpec(output=world.output, tokenizer=spec)]
    return found


def places(kind: str, least: int = 8) -> dict[str, float]:
    """Return the number of bits of a quantizer's arms."""
    return {f"{kind} d={bits}": float(bits) for bits in BITS if bits >= least}


METRIC, COUNTED = "traced.activation_bytes", {"log2": True, "counted": True}
FLAT = 0.02
"""Doublings per bit that count as none. A table of d bits for each of 2^d codes has 1.096 from 14 to 16 bits."""
STUDY = Study(
    name="memory",
    number=1,
    title="Memory of BSQ and LFQ over the number of bits",
    claim="The memory of BSQ is flat in the number of bits d, that of LFQ grows exponentially.",
    source="Table 3",
    arms=arms,
    contrasts=(
        slope(places("bsq"), METRIC, name="BSQ's doublings per bit", above=-FLAT, below=FLAT, **COUNTED),
        slope(places("lfq", 14), METRIC, name="LFQ's doublings per bit", above=0.5, below=1.1, **COUNTED),
    ),
    places=places("bsq") | places("lfq"),
    x_title="bits d",
    paper=tuple(
        PaperFigure(arm=f"{kind} d={bits}", metric="training memory in GB", value=value, source="Table 3")
        for (kind, bits), value in TABLE_3.items()
    ),
    reason="at few bits the activations of the networks outweigh the table of codes.",
)
