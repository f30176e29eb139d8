"""``infinity published``: exchange weights with the published code's file formats."""

from __future__ import annotations

from typing import Annotated

import typer

from infinity.cli.console import clear_errors, err, out

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

        out.say(f"{output}  digest {convert(source, output, fold=fold)}")


@app.command("import-transformer")
def import_transformer(
    source: Annotated[str, typer.Argument(help="Published .pth file, or folder of shards.")],
    tokenizer: Annotated[str, typer.Argument(help="Tokenizer checkpoint folder, from import-tokenizer.")],
    output: Annotated[str, typer.Argument(help="Model folder to write.")],
    size: Annotated[
        str | None,
        typer.Option(help="Pixel class: 256, 512, 768 or 1024. Left out: that of the file, or 1024 if it says none."),
    ] = None,
    text_model: Annotated[str, typer.Option(help="Flan-T5: a local folder or a hub name.")] = "google/flan-t5-xl",
    ema: Annotated[
        bool, typer.Option("--ema", help="Take the averaged weights (EMA) of a training checkpoint.")
    ] = False,
) -> None:
    """Read a published transformer and write it as a model folder, from which pictures can be drawn."""
    with clear_errors():
        import_model(source, tokenizer, output, size, text_model, ema=ema)


def import_model(source: str, tokenizer: str, output: str, size: str | None, text_model: str, *, ema: bool) -> None:
    """Write a published transformer as a model folder, and print its digest.

    Raises:
        CheckpointError: The file is damaged, or the parts do not belong together.
        ValueError: The text model is not what the transformer reads.
    """
    from infinity.convert import import_transformer as convert
    from infinity.generation.pipeline import save_model
    from infinity.scales import Resolution
    from infinity.text import T5TextConfig, with_found_folder

    given = None if size is None else Resolution.from_json({"size": size}, where="--size")
    text = with_found_folder(T5TextConfig(model=text_model))
    imported = convert(source, ema=ema)
    imported.check_tokenizer(tokenizer)
    config = imported.config
    text = with_found_folder(text.replace(max_tokens=config.max_text_tokens), channels=config.text_channels)
    digest = save_model(
        output,
        imported.build(is_shared=True),
        text=text,
        resolution=imported.resolution(given),
        tokenizer_uri=tokenizer,
        extra=imported.extra,
    )
    out.say(f"{output}  digest {digest}")
    if text.fingerprint is None:
        note = "was not looked at, since it is not on this machine; its first use will tell whether it fits"
        err.say(f"note: the text model {text.model} {note}")


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
        out.say(target)
