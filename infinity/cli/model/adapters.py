"""``infinity adapter``: look at adapters, merge them into a model, or make one from two models."""

from __future__ import annotations

from typing import Annotated

import typer

from infinity.cli.console import clear_errors, out

app = typer.Typer(no_args_is_help=True, help="Low-rank adapters (LoRA, DoRA) as files that the library peft reads.")


@app.command()
def show(adapter: Annotated[str, typer.Argument(help="Folder or .safetensors file of an adapter.")]) -> None:
    """Show the linear maps that an adapter changes, with rank and factor."""
    with clear_errors():
        from infinity import storage
        from infinity.transformer.adapters.lora_files import load_adapter

        found = load_adapter(storage.absolute(adapter))
        out.say(f"{found.name}  digest {found.digest}")
        for name, layer in found.layers.items():
            kind = "LoRA" if layer.magnitude is None else "DoRA"
            out.say(f"  {name}  {kind} of rank {layer.down.shape[0]}, factor {layer.scaling:g}")


@app.command()
def merge(
    model: Annotated[str, typer.Argument(help="Model folder.")],
    output: Annotated[str, typer.Argument(help="Model folder to write.")],
    lora: Annotated[list[str], typer.Option("--lora", help="Adapter, with a scale behind a colon; may be repeated.")],
) -> None:
    """Write a model with adapters merged into its weights; it draws the same bits as with the adapters loaded."""
    with clear_errors():
        from infinity import storage
        from infinity.checkpoint import load_checkpoint
        from infinity.generation.files.model_folder import of_run
        from infinity.generation.pipeline import KIND, TOKENIZER_FOLDER, load_transformer, save_model
        from infinity.transformer.adapters.lora import AdapterStack
        from infinity.transformer.adapters.lora_files import load_adapter, parse_adapter

        place = of_run(storage.absolute(model))
        extra = load_checkpoint(place, kind=KIND).extra
        config, transformer = load_transformer(place)
        wanted = [parse_adapter(text) for text in lora]
        AdapterStack(transformer).set((load_adapter(storage.absolute(file)), scale) for file, scale in wanted)
        digest = save_model(
            storage.absolute(output),
            transformer,
            text=config.text,
            resolution=config.resolution,
            tokenizer_uri=storage.join(place, TOKENIZER_FOLDER),
            extra=extra,
        )
        out.say(f"{output}  digest {digest}")


@app.command("from-difference")
def from_difference(
    base: Annotated[str, typer.Argument(help="Model folder before the finetuning.")],
    tuned: Annotated[str, typer.Argument(help="Model folder after it.")],
    output: Annotated[str, typer.Argument(help="Folder of the adapter to write.")],
    rank: Annotated[int, typer.Option(min=1, max=4096, help="Rank of every changed linear map.")] = 16,
) -> None:
    """Make an adapter from the difference of two models; what it leaves out is stated."""
    with clear_errors():
        from infinity import storage
        from infinity.generation.files.model_folder import of_run
        from infinity.generation.pipeline import load_transformer
        from infinity.transformer.adapters.lora import difference_adapter
        from infinity.transformer.adapters.lora_files import save_adapter

        one, other = (load_transformer(of_run(storage.absolute(place)))[1] for place in (base, tuned))
        adapter, rest = difference_adapter(one, other, rank)
        digest = save_adapter(storage.absolute(output), adapter)
        out.say(f"{output}  digest {digest}  {len(adapter.layers)} linear maps, {rest:.2%} of the change left out")
