"""``infinity published``: exchange weights with the published code's file formats."""

from __future__ import annotations

from typing import Annotated

import typer

from infinity.cli.console import clear_errors, out

app = typer.Typer(no_args_is_help=True, help="Exchange weights with the published code's file formats.")


@app.command("import-tokenizer")
def import_tokenizer(
    source: Annotated[str, typer.Argument(help="Published file that holds the tensors under the key 'vae'.")],
    output: Annotated[str, typer.Argument(help="Folder to write.")],
    fold: Annotated[bool, typer.Option("--fold", help="2x2 positions make one token (8B model).")] = False,
) -> None:
    """Read a published tokenizer and write it as a checkpoint folder."""
    with clear_errors():
        from infinity.convert import import_tokenizer as convert

        out.print(f"{output}  digest {convert(source, output, fold=fold)}", soft_wrap=True)


@app.command("import-transformer")
def import_transformer(
    source: Annotated[str, typer.Argument(help="Published .pth file, or folder of shards.")],
    tokenizer: Annotated[str, typer.Argument(help="Tokenizer checkpoint folder, from import-tokenizer.")],
    output: Annotated[str, typer.Argument(help="Model folder to write.")],
    size: Annotated[str, typer.Option(help="Pixel class: 256, 512, 768 or 1024.")] = "1024",
    text_model: Annotated[str, typer.Option(help="Flan-T5: a local folder or a hub name.")] = "google/flan-t5-xl",
    ema: Annotated[bool, typer.Option("--ema", help="Of a training checkpoint take the averaged weights.")] = False,
) -> None:
    """Read a published transformer and write it as a model folder, from which pictures can be drawn."""
    with clear_errors():
        from infinity.convert import import_transformer as convert
        from infinity.generation.pipeline import save_model
        from infinity.scales import Resolution
        from infinity.text import T5TextConfig

        imported = convert(source, ema=ema)
        digest = save_model(
            output,
            imported.build(),
            text=T5TextConfig(model=text_model, max_tokens=imported.config.max_text_tokens),
            resolution=Resolution.from_json({"size": size}, where="--size"),
            tokenizer_uri=tokenizer,
            extra=imported.extra,
        )
        out.print(f"{output}  digest {digest}", soft_wrap=True)


@app.command("export")
def export(
    checkpoint: Annotated[str, typer.Argument(help="Model folder or tokenizer checkpoint folder.")],
    target: Annotated[str, typer.Argument(help="File ending in .pth, or for a transformer a folder for shards.")],
) -> None:
    """Write a transformer or a tokenizer as the published code reads it."""
    with clear_errors():
        from infinity.checkpoint import read_kind_and_config
        from infinity.convert import export_tokenizer, export_transformer

        kind, _ = read_kind_and_config(checkpoint)
        (export_tokenizer if kind == "tokenizer" else export_transformer)(checkpoint, target)
        out.print(target, soft_wrap=True)
