"""``infinity finetune``: from captioned pictures and a model to a finetuned model and its adapter, by one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infinity.cli.console import Cluster, err, following, out
from infinity.cli.training.running import ended_clearly, log_to_terminal

if TYPE_CHECKING:
    from infinity.jobs.training.transformer import TrainTransformerSpec
    from infinity.recipes.finetuning import Finetuning


Base = Annotated[
    str, typer.Option("--base", "-b", help="Model folder, folder of a run, or 125m, 2b, 8b after `infinity pull`.")
]
Rate = Annotated[
    float | None, typer.Option(help="By default 1e-4 for adapters, 1e-3 on small models, and 2e-5 for all weights.")
]
Prior = Annotated[
    str | None, typer.Option(help="Captioned pictures of what must not be forgotten (prior preservation).")
]
Dropout = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, help="Share of captions left out; by default that of the base.")
]
Prompts = Annotated[
    list[str] | None, typer.Option("--prompt", "-p", help="Validation prompt to draw on the way; may be repeated.")
]
Sheets = Annotated[
    int | None, typer.Option(min=1, help="Steps between two sheets of drawings; by default five sheets in all.")
]
Rank = Annotated[int, typer.Option(min=0, max=4096, help="Rank of the adapters (LoRA); 0 trains all weights.")]
QuantizeBase = Annotated[
    str | None, typer.Option(help="Store the weights below adapters as int8 or int4 (QLoRA): less memory, slower.")
]
Fewest = Annotated[
    int | None, typer.Option(min=1, help="Fewest processes, where machines come and go; by default all of them.")
]


def finetune(
    pictures: Annotated[str, typer.Argument(help="Captioned pictures in any form of `infinity data build`.")],
    base: Base,
    output: Annotated[str, typer.Option("--output", "-o", help="Folder of all outputs.")] = "runs/finetuned",
    steps: Annotated[int, typer.Option(min=1, help="Number of updates.")] = 400,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per update.")] = 8,
    micro_batch: Annotated[int, typer.Option(min=1, help="Pictures computed at once; less needs less memory.")] = 4,
    rank: Rank = 16,
    quantize_base: QuantizeBase = None,
    learning_rate: Rate = None,
    trigger: Annotated[str, typer.Option(help="Words before each caption that call the new pictures up later.")] = "",
    prior: Prior = None,
    prior_weight: Annotated[float, typer.Option(help="Share of these among the pictures of the training.")] = 0.5,
    caption_dropout: Dropout = None,
    prompts: Prompts = None,
    sample_every: Sheets = None,
    text_model: Annotated[str | None, typer.Option(help="Place of the base's T5, if it has moved.")] = None,
    num_workers: Annotated[int, typer.Option(min=1, help="Number of processes; on GPUs one for each.")] = 1,
    min_workers: Fewest = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default a GPU if there is one.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the order of pictures and of all draws.")] = 0,
    plan: Annotated[bool, typer.Option("--plan", help="Only say how much memory and time it takes.")] = False,
    ray_address: Cluster = None,
) -> None:
    """Train a model further on your pictures, and write a model folder and an adapter file.

    What is done is found again: the same command goes on after a break.
    """
    log_to_terminal()
    with ended_clearly():
        from infinity import storage
        from infinity.recipes.finetuning import Finetuning
        from infinity.text.t5_folder import place_of
        from infinity.transformer.number_formats.quantized import check_quantization

        how = Finetuning(
            base=base_folder(base),
            output=storage.absolute(output),
            num_steps=steps,
            batch_size=batch_size,
            micro_batch=micro_batch,
            rank=rank or None,
            quantize_base=check_quantization(quantize_base),
            learning_rate=learning_rate,
            trigger=trigger,
            prior_weight=prior_weight,
            caption_dropout=caption_dropout,
            prompts=tuple(prompts or ()),
            sample_every=sample_every,
            text_model=None if text_model is None else place_of(text_model),
            num_workers=num_workers,
            min_workers=min_workers,
            use_gpu=on_gpu(device),
            seed=seed,
        )
        first = how.spec("to be built", None if prior is None else "to be built")
        err.say(_told(first))
        if not plan:
            _train(how, pictures, prior, ray_address)


def _train(how: Finetuning, pictures: str, prior: str | None, ray_address: str | None) -> None:
    """Build the data sets, train, and say how to draw with the result."""
    from infinity.jobs.cluster.connection import connect
    from infinity.jobs.registry import run_spec
    from infinity.jobs.training.base import TrainReport

    with connect(ray_address):
        spec = how.spec(_built(pictures, how), None if prior is None else _built(prior, how))
        with following("training") as show:
            report = run_spec(spec, progress=show)
    assert isinstance(report, TrainReport)
    _show(report.model, how)


def base_folder(base: str) -> str:
    """Return the URI of the model folder that the user names.

    Args:
        base: A model folder, the folder of a run, a hub's repository ``owner/model``, or a published model's name.

    Raises:
        ValueError: There is no such model, or a published one has not been pulled yet.
    """
    from infinity import storage
    from infinity.convert.catalogue import CATALOGUE
    from infinity.generation.files.hub import fetch_model, is_hub_name
    from infinity.generation.files.model_folder import model_folder

    if base.lower() in CATALOGUE and not Path(base).exists():
        pulled = f"models/{base.lower()}"
        if not Path(pulled).exists():
            raise ValueError(f"--base {base}: {pulled} is not here; run `infinity pull {base.lower()}` first")
        base = pulled
    place = fetch_model(base) if is_hub_name(base) else base
    return model_folder(storage.absolute(place))


def on_gpu(device: str | None) -> bool:
    """Return whether to train on GPUs; None takes one if there is one.

    Raises:
        ValueError: The device is neither "cpu" nor "cuda".
    """
    import torch

    if device is None:
        return torch.cuda.is_available()
    if device not in ("cpu", "cuda"):
        raise ValueError(f"--device: expected cpu or cuda, got {device!r:.80}")
    return device == "cuda"


def _built(pictures: str, how: Finetuning) -> str:
    """Return the URI of the manifest of a data set of these pictures."""
    from infinity import storage
    from infinity.jobs.dataset.build import BuildDatasetReport, BuildDatasetSpec, fingerprint
    from infinity.jobs.registry import run_spec

    uri = storage.absolute(pictures)
    spec = BuildDatasetSpec(output=how.output, source=uri, fingerprint=fingerprint(uri))
    with following("building the data set") as show:
        report = run_spec(spec, progress=show)
    assert isinstance(report, BuildDatasetReport)
    counts = report.summary.counts
    err.say(f"{counts['kept']:,} of {counts['read']:,} pictures kept: {report.manifest}")
    return report.manifest


def _told(spec: TrainTransformerSpec) -> str:
    """Return memory and time of the training in one sentence."""
    from infinity.checkpoint import read_kind_and_config
    from infinity.jobs.estimate.estimate import calibrate, estimate
    from infinity.tokenizer.tokenizer import TokenizerConfig

    config = read_kind_and_config(spec.tokenizer)[1]
    shape = TokenizerConfig.from_json(config, where=spec.tokenizer)
    timed = None if spec.workers.use_gpu else calibrate(spec, tokenizer=shape)
    found = estimate(spec, tokenizer=shape, calibration=timed)
    memory = f"about {(found.device_bytes if spec.workers.use_gpu else found.total_bytes) / 1e9:.1f} GB of memory"
    if found.seconds_per_step is None:
        return f"{memory} on each GPU; {found.num_steps:,} steps of {found.flops_per_step / 1e12:.3g}e12 operations"
    minutes = found.seconds_per_step * found.num_steps / 60
    return f"{memory}, about {minutes:.0f} min for {found.num_steps:,} steps on this machine as it is now"


def _show(model: str, how: Finetuning) -> None:
    from infinity import storage
    from infinity.jobs.training.transformer_samples import ADAPTER_FOLDER

    prompt = how.prompts[0] if how.prompts else f"{how.trigger}, …" if how.trigger else "…"
    out.say(f'infinity generate -c {model} -p "{prompt}"')
    if how.rank is not None:
        adapter = storage.join(storage.parent(model), ADAPTER_FOLDER)
        out.say(f'infinity generate -c {how.base} --lora {adapter} -p "{prompt}"')
