"""Train on a folder of your own captioned pictures; the recipe's numbers suit a few thousand small ones, as of emoji.

    python examples/emoji.py PICTURES

PICTURES holds image files and their captions: a file ``metadata.jsonl`` with lines such as
``{"file_name": "1f600.png", "text": "grinning face"}``, or a .txt file beside every picture. A .jsonl or .parquet
table and WebDataset shards (.tar) do too. The recipe "emoji" takes about an hour on two CPU cores.
"""

import sys

from infinity import InfinityPipeline, Manifest, run_spec
from infinity.jobs.cluster.connection import connect
from infinity.recipes.runs import RecipeName, end_to_end


def main(pictures: str, output: str = "runs/emoji", recipe: RecipeName = "emoji") -> str:
    """Build a data set, train on it, draw a caption of the held-out pictures; return the folder of the model."""
    specs = end_to_end(recipe, source=pictures, output=output)

    with connect():
        # What cannot be used is dropped with a counted reason; a share of the pictures is set aside for validation.
        built = run_spec(specs.dataset)
        for reason, count in built.summary.counts.items():
            print(f"{reason:20} {count:,}")

        # Any field of a spec can be changed before it runs: here, to look at samples less often.
        loop = specs.tokenizer.loop
        tokenizer = specs.tokenizer.replace(loop=loop.replace(sample_every_steps=loop.num_steps))
        run_spec(tokenizer)

        # A stage finds its inputs by their folders, whose names follow from the specs that made them.
        pretrain = specs.pretrain.replace(tokenizer=f"{tokenizer.folder}/model")
        model = run_spec(pretrain).model

    manifest = Manifest.load(built.manifest)
    captions = manifest.captions(manifest.rows("validation")[:4])
    result = InfinityPipeline.from_pretrained(model)(captions, guidance_scale=3.0, temperature=0.4)
    for caption, image in zip(result.prompts, result.images, strict=True):
        image.save(f"{output}/{caption[:40].replace('/', ' ')}.png")
    return model


if __name__ == "__main__":
    main(sys.argv[1])
