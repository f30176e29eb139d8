"""Draw pictures with a trained model: seeds, shapes, classifier-free guidance, and the bits behind the pixels.

    python examples/generate.py MODEL

MODEL is a model folder, or the folder of a run such as ``runs/demo``; a local path or an s3:// URI.
"""

import sys
from pathlib import Path

from PIL import Image

from infinity import InfinityPipeline


def main(model: str = "runs/demo", output: str = "pictures") -> None:
    """Draw the same prompts in several ways."""
    Path(output).mkdir(parents=True, exist_ok=True)
    pipe = InfinityPipeline.from_pretrained(model)  # on a GPU where there is one

    # A prompt, a seed and the settings always give the same picture, alone or in any batch.
    prompt = "a photo of a red circle"
    first = pipe(prompt, num_images_per_prompt=4, seed=7)
    for image, seed in zip(first.images, first.seeds, strict=True):
        image.save(f"{output}/seed-{seed}.png")

    # Guidance pushes towards the prompt and away from the negative prompt (or from no prompt); 1 is none. A lower
    # temperature, or a lower top_p, gives less variety and fewer errors.
    for scale in (1.0, 3.0):
        guided = pipe(prompt, guidance_scale=scale, negative_prompt="a photo of a blue circle", temperature=0.5, seed=7)
        guided.images[0].save(f"{output}/guidance-{scale:g}.png")

    # Height and width choose one of the fifteen aspect ratios; the area is that of the training.
    wide = pipe([prompt, "a photo of a green star"], height=1, width=2, output_type="np")
    Image.fromarray(wide.images[1]).save(f"{output}/wide.png")

    # A picture is a pyramid of bits, scale after scale: the transformer draws them, the tokenizer decodes them.
    grids = [f"{rows}x{columns}" for rows, columns in wide.bits.schedule.grids]
    print(f"aspect ratio {wide.aspect_ratio:g}: grids {', '.join(grids)} of {wide.bits.bits_BLC.shape[-1]} bits each")


if __name__ == "__main__":
    main(*sys.argv[1:])
