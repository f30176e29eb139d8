"""``infinity pull``: published weights by one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infinity.cli.console import bar, clear_errors, err, out
from infinity.cli.model.published import import_model


def pull(
    name: Annotated[
        str, typer.Argument(help="125m, 2b, 8b, 8b-512, or a tokenizer: vae-d16, vae-d24, vae-d32, vae-d64.")
    ],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder to write; models/NAME if left out.")
    ] = None,
    downloads: Annotated[Path, typer.Option(help="Folder of the downloaded files.")] = Path("models/downloads"),
    repository: Annotated[
        str | None, typer.Option(help="Repository OWNER/NAME with the published files, where it is another one.")
    ] = None,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of the repository.")] = "main",
    text_model: Annotated[
        str | None, typer.Option(help="Flan-T5: a local folder or a hub name; that of the training if left out.")
    ] = None,
) -> None:
    """Download a published model, verify it and write it as a model folder. Run again to resume.

    HF_ENDPOINT and HF_TOKEN are followed.
    """
    with clear_errors():
        from infinity.convert import import_tokenizer
        from infinity.convert.catalogue import REPOSITORY, published_model
        from infinity.convert.hub_files import HubRepository

        model = published_model(name)
        target = output or f"models/{name.lower()}"
        hub = HubRepository.from_environment(repository or REPOSITORY, revision)
        files = hub.files(model.sources)
        size = sum(file.num_bytes for file in files)
        err.say(f"{hub.endpoint}/{hub.name}: {len(files)} files, {size / 1e9:.2f} GB, licence: {hub.licence()}")
        with bar(f"downloading {name}") as report:
            hub.download(files, downloads, lambda there, total: report(there / max(total, 1)))
        tokenizer = target if model.transformer is None else f"{target}-tokenizer"
        digest = import_tokenizer(str(downloads / model.tokenizer), tokenizer, fold=model.fold)
        if model.transformer is None:
            out.say(f"{target}  digest {digest}")
            return
        source = str(downloads / model.transformer)
        import_model(source, tokenizer, target, model.size, text_model or model.text_model, ema=False)
        out.say(f'infinity generate -c {target} -p "a lighthouse at dusk"')
