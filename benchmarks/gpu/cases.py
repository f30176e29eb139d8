"""What is measured on a GPU, in the order of worth: a run that is cut short has the figures that matter most."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.presets import transformer_preset
from infinity.recipes.paper_transformer import PAPER_STAGES, TransformerInputs, paper_stages
from infinity.scales import Resolution, Size
from infinity.text import BuiltinTextConfig
from infinity.training.transformer.adapters import AdapterConfig
from infinity.transformer.attention_backend import BACKENDS, Backend
from infinity.transformer.number_formats.quantized import WeightForm

TEXT_TOKENS = 128
TOKENIZERS = {"2B-released": "d32", "8B-released": "d56-folded"}
"""Tokenizers of the published transformers; every other layout takes "tiny"."""
GROUPS = ("picture", "text", "train", "encode", "decode", "save")


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One thing to measure.

    Attributes:
        group: One of ``GROUPS``.
        name: Name within the group.
        model: Named transformer.
        size: Class of the pictures.
        pictures: Pictures per pass or step.
        compiled: Whether blocks are compiled.
        graphs: Whether scales are captured as CUDA graphs.
        quantized: Form of the blocks' weights; None for floating point.
        bfloat16: Whether products are bfloat16.
        guidance_off: Number of last scales without guidance.
        attention: Fused attention kernel.
        spec: Training of the groups "train" and "save"; None for the others.
    """

    group: str
    name: str
    model: str
    size: Size
    pictures: int
    compiled: bool = False
    graphs: bool = False
    quantized: WeightForm | None = None
    bfloat16: bool = True
    guidance_off: int = 0
    attention: Backend = "auto"
    spec: TrainTransformerSpec | None = field(default=None, repr=False)

    @property
    def key(self) -> str:
        """Name of the case in the file of results."""
        return f"{self.group}/{self.name}"

    @property
    def tokenizer(self) -> str:
        """Named tokenizer that belongs to the transformer."""
        return TOKENIZERS.get(self.model, "tiny")


def cases(model: str = "2B-released", size: Size = "1024", larger: str | None = "8B-released") -> list[Case]:
    """Return every case, most worth first.

    Args:
        model: Named transformer of all groups.
        size: Class of the pictures, and largest class that is trained on.
        larger: Named transformer that only draws; None for none.
    """
    drawing = [_picture(model, size, 1), _picture(model, size, 1, compiled=True), _picture(model, size, 8)]
    more = [_picture(model, size, 1, guidance_off=2), _picture(model, size, 4)]
    compiled = drawing[1]
    more += [
        replace(drawing[0], name=f"{drawing[0].name}-graphs", graphs=True),
        replace(compiled, name=f"{compiled.name}-graphs", graphs=True),
        replace(compiled, name=f"{compiled.name}-float8", quantized="float8"),
        *(replace(drawing[0], name=f"{drawing[0].name}-{name}", attention=name) for name in BACKENDS[1:]),
    ]
    if larger is not None:
        more.append(_picture(larger, size, 1))
    train = _training(model, size)
    text = [Case(group="text", name=f"{n}-prompts", model=model, size=size, pictures=n) for n in (1, 8)]
    encode = [Case(group="encode", name=f"{n}-pictures", model=model, size=size, pictures=n) for n in (1, 4)]
    decode = [
        Case(group="decode", name=f"{n}-pictures-{'bf16' if half else 'f32'}", model=model, size=size, pictures=n,
             bfloat16=half)
        for n, half in ((1, True), (1, False), (4, True))
    ]  # fmt: skip
    save = [Case(group="save", name="state", model=model, size="256", pictures=1, spec=training_spec(model, "256"))]
    return [*drawing[:1], *train[:1], *drawing[1:], *text, *train[1:3], *decode, *encode, *more, *train[3:], *save]


def _picture(model: str, size: Size, number: int, *, compiled: bool = False, guidance_off: int = 0) -> Case:
    form = "compiled" if compiled else "eager"
    off = f"-last-{guidance_off}-unguided" if guidance_off else ""
    return Case(
        group="picture",
        name=f"{model}-{number}-{form}{off}",
        model=model,
        size=size,
        pictures=number,
        compiled=compiled,
        guidance_off=guidance_off,
    )


def _training(model: str, largest: Size) -> list[Case]:
    """Return the largest class first, then compiled, the other classes, attention kernels, and kinds of finetuning."""
    plain, parts = training_spec(model, largest), {stage.size: stage.part_size for stage in PAPER_STAGES}

    def case(name: str, spec: TrainTransformerSpec) -> Case:
        size = spec.resolution.size
        assert size is not None, "cases have classes"
        pictures = parts[size] if model in TOKENIZERS else 1
        return Case(group="train", name=name, model=model, size=size, pictures=pictures, spec=spec)

    engine = plain.engine
    found = [case(largest, plain), case(f"{largest}-compiled", plain.replace(engine=engine.replace(compile=True)))]
    found += [
        case(stage.size, training_spec(model, stage.size)) for stage in PAPER_STAGES if int(stage.size) < int(largest)
    ]
    for kernel in ("flex", "dense", "windows"):
        found.append(case(f"{largest}-{kernel}", plain.replace(engine=engine.replace(attention=kernel))))
    windows = plain.replace(engine=engine.replace(attention="windows"))
    found += [replace(case(f"{largest}-windows-{name}", windows), attention=name) for name in BACKENDS[1:]]
    lora = plain.replace(adapters=AdapterConfig(rank=16), start_from="start")
    eight_bit = plain.replace(optimizer=plain.optimizer.replace(states="8bit"))
    whole = plain.replace(recompute=False, loop=plain.loop.replace(ema_decay=None))
    others = (("lora", lora), ("8bit", eight_bit), ("without-checkpointing", whole))
    return found + [case(f"{largest}-{name}", spec) for name, spec in others]


def training_spec(model: str, size: Size) -> TrainTransformerSpec:
    """Return a stage of the paper on one GPU, without averaged weights."""
    inputs = TransformerInputs(manifests=("none",), tokenizer="none", output="none", model=model, num_workers=1)
    spec = paper_stages(inputs)[0]
    config = transformer_preset(model)
    text = BuiltinTextConfig(channels=config.text_channels, max_tokens=min(TEXT_TOKENS, config.max_text_tokens))
    return spec.replace(
        resolution=Resolution(size=size),
        text=text,
        loop=spec.loop.replace(ema_decay=None),
        workers=spec.workers.replace(num_workers=1, shard=False, use_gpu=True),
    )
