"""Named recipes as spec files, to be looked at, changed and run: ``tokenizer-spec``, ``transformer-specs``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from infinity.cli.console import clear_errors, out

if TYPE_CHECKING:
    from infinity.jobs.training.base import TrainSpec

Rank = Annotated[
    int | None, typer.Option(min=1, help="Finetune low-rank adapters (LoRA) of this rank instead of all weights.")
]
QuantizeBase = Annotated[
    str | None, typer.Option(help="Store the weights below these adapters as int8 or int4 (QLoRA).")
]
PartSize = Annotated[
    int | None,
    typer.Option(help="Size of a micro-batch: pictures that a GPU computes at once; by default 64, 16 and 4."),
]


def tokenizer_spec(
    recipe: Annotated[str, typer.Argument(help="paper-1, paper-2 or scenes.")],
    manifest: Annotated[str, typer.Argument(help="The data set's manifest.parquet: a path or s3:// URI.")],
    spec_file: Annotated[str, typer.Argument(help="JSON file to write.")],
    output: Annotated[str, typer.Option(help="Folder that gets the folder of the training.")] = "runs/tokenizer",
    num_bits: Annotated[int, typer.Option(help="Bits per position of the latent: 16, 24, 32 or 64.")] = 32,
    start_from: Annotated[str | None, typer.Option(help="Tokenizer folder or published .pth to begin with.")] = None,
    reg: Annotated[bool, typer.Option("--reg", help="Train early scales to carry more (truncated pyramids).")] = False,
    vgg: Annotated[str | None, typer.Option(help="vgg16-397923af.pth; by default downloaded.")] = None,
    lpips: Annotated[str | None, typer.Option(help="LPIPS 0.1's vgg.pth; by default downloaded.")] = None,
    num_workers: Annotated[
        int | None, typer.Option(help="Number of GPUs, at most 32; for the recipe scenes processes, at most 2.")
    ] = None,
) -> None:
    """Write the spec of a tokenizer's training; ``infinity run SPEC_FILE`` trains."""
    with clear_errors():
        from infinity import storage
        from infinity.perception.lpips import PUBLISHED, LpipsConfig
        from infinity.recipes.paper_tokenizer import TOKENIZER_RECIPES, TokenizerInputs, tokenizer_recipe

        known = {name: name for name in TOKENIZER_RECIPES}
        if recipe not in known:
            raise ValueError(f"recipe: expected one of {', '.join(known)}, got {recipe!r}")
        trunk, judgements = PUBLISHED["vgg16"]
        inputs = TokenizerInputs(
            manifest=storage.absolute(manifest),
            output=storage.absolute(output),
            num_bits=num_bits,
            start_from=None if start_from is None else storage.absolute(start_from),
            reg=reg,
            lpips=LpipsConfig(
                trunk_weights=None if vgg is None else trunk.replace(uri=storage.absolute(vgg)),
                linear_weights=None if lpips is None else judgements.replace(uri=storage.absolute(lpips)),
            ),
            num_workers=num_workers,
        )
        spec = tokenizer_recipe(known[recipe], inputs)
        _write(spec, spec_file)


def transformer_specs(
    manifest: Annotated[list[str], typer.Argument(help="One manifest for all three stages, or one per stage.")],
    specs: Annotated[str, typer.Option(help="Folder for the spec files.")],
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Folder of the frozen tokenizer; with --start-from that of the model if left out."),
    ] = None,
    output: Annotated[str, typer.Option(help="Folder that gets one folder per stage.")] = "runs/transformer",
    model: Annotated[
        str | None,
        typer.Option(help="Named transformer, such as 125M; 2B-released, or that of the start, if left out."),
    ] = None,
    text_model: Annotated[
        str | None,
        typer.Option(help="Folder or hub name of the T5; google/flan-t5-xl, or that of the start, if left out."),
    ] = None,
    start_from: Annotated[
        str | None, typer.Option(help="Model folder to begin with, such as an imported one; writes finetune.json too.")
    ] = None,
    num_steps: Annotated[int, typer.Option(min=1, help="Updates of the finetuning (finetune.json).")] = 5_000,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per update of the finetuning.")] = 256,
    rank: Rank = None,
    quantize_base: QuantizeBase = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Finetune on CPUs instead of GPUs.")] = False,
    num_workers: Annotated[int, typer.Option(help="Number of GPUs, one process each.")] = 64,
    part_size: PartSize = None,
) -> None:
    """Write the specs of the paper's three stages (256, 512, 1024); `infinity run SPEC_FILE` trains one.

    With --start-from the first stage begins with that model, and finetune.json trains it further at its own size.
    """
    with clear_errors():
        from infinity import storage
        from infinity.recipes.paper_transformer import FinetuneInputs, TransformerInputs, finetune_spec, paper_stages
        from infinity.text.t5_folder import place_of
        from infinity.transformer.number_formats.quantized import check_quantization

        start = None if start_from is None else storage.absolute(start_from)
        inputs = TransformerInputs(
            manifests=tuple(storage.absolute(each) for each in manifest),
            tokenizer=_tokenizer(tokenizer, start),
            output=storage.absolute(output),
            model=model,
            text_model=None if text_model is None else place_of(text_model),
            num_workers=num_workers,
            part_size=part_size,
            start_from=start,
        )
        written = list(paper_stages(inputs))
        if start is not None:
            how = FinetuneInputs(
                num_steps=num_steps,
                batch_size=batch_size,
                rank=rank,
                quantize_base=check_quantization(quantize_base),
                use_gpu=not cpu,
            )
            written.append(finetune_spec(inputs, how))
        for spec in written:
            _write(spec, storage.join(specs, f"{spec.stage}.json"))


def _tokenizer(folder: str | None, start: str | None) -> str:
    """Return the folder of the frozen tokenizer: the given one, else that in the model to begin with."""
    from infinity import storage
    from infinity.generation.pipeline import TOKENIZER_FOLDER

    if folder is not None:
        return storage.absolute(folder)
    if start is None:
        raise ValueError("--tokenizer: expected the folder of the frozen tokenizer, got neither it nor --start-from")
    return storage.join(start, TOKENIZER_FOLDER)


def _write(spec: TrainSpec, uri: str) -> None:
    from infinity import storage

    storage.write_text(uri, json.dumps(spec.to_file(), indent=2, ensure_ascii=False) + "\n")
    out.say(f"{uri}  trains into {spec.folder}")
