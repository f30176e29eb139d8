"""Train a text-to-image model from nothing: drawn scenes, tokenizer, transformer, scores, a picture.

    python examples/scenes.py

The recipe "demo" takes less than 10 minutes on two CPU cores and needs no download: the training pictures are drawn
(coloured shapes with captions such as "a photo of two red circles"). The recipe "mini" takes two minutes and learns
next to nothing. An interrupted run goes on where it stopped when it is started again.
"""

from infinity import InfinityPipeline, run_spec
from infinity.jobs.cluster.connection import connect
from infinity.recipes.runs import RecipeName, end_to_end


def main(output: str = "runs/scenes", recipe: RecipeName = "demo") -> str:
    """Run the five stages one after the other and return the folder of the trained model."""
    # A recipe gives five specs. A spec is a frozen value that goes to JSON and back, and says everything about a stage.
    specs = end_to_end(recipe, source=None, output=output)

    # The stages run on Ray: here a small local cluster, which ends with the block.
    with connect():
        run_spec(specs.dataset)  # draw pictures, filter them, write shards and a manifest
        run_spec(specs.tokenizer)  # train the bitwise tokenizer: pictures <-> pyramids of bits
        run_spec(specs.pretrain)  # train the transformer: caption -> bits, scale by scale
        run_spec(specs.finetune)  # train it further while the learning rate falls to zero
        report = run_spec(specs.evaluation)  # reconstruction, accuracy of bits, GenEval over drawn scenes

    for score in report.scores:
        print(f"{score.metric:40} {score.value} {score.unit}")

    # The last model is a folder of safetensors and JSON files.
    pipe = InfinityPipeline.from_pretrained(specs.evaluation.model)
    pipe("a photo of a red circle", guidance_scale=2.0, temperature=0.5).images[0].save(f"{output}/circle.png")
    return specs.evaluation.model


if __name__ == "__main__":
    main()
