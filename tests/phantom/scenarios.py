"""What runs on a GPU, run on the phantom card at the published layouts: prints one JSON object; a program of its own.

Depth is reduced; figures of memory are extended linearly to the full depth by the reader.
"""

from __future__ import annotations

from tests.phantom import card

card.insert()

import argparse  # noqa: E402
import contextlib  # noqa: E402
import json  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402
from unittest.mock import patch  # noqa: E402

import torch  # noqa: E402

from benchmarks.gpu.text import FLAN_T5_XL, text_encoder  # noqa: E402
from infinity.generation import SamplingConfig, graphs  # noqa: E402
from infinity.generation.passes import generate_in_passes  # noqa: E402
from infinity.generation.placement import offload_blocks  # noqa: E402
from infinity.jobs.estimate.rehearsal import Load, rehearse  # noqa: E402
from infinity.jobs.training.transformer import TrainTransformerSpec  # noqa: E402
from infinity.presets import tokenizer_preset, transformer_preset  # noqa: E402
from infinity.recipes.paper_transformer import TransformerInputs, paper_stages  # noqa: E402
from infinity.scales import Resolution  # noqa: E402
from infinity.text import BuiltinTextConfig, build_text_encoder  # noqa: E402
from infinity.tokenizer import Tokenizer  # noqa: E402
from infinity.training import host_copies  # noqa: E402
from infinity.training.transformer.adapters import AdapterConfig  # noqa: E402
from infinity.training.transformer.engine import EngineConfig  # noqa: E402
from infinity.transformer import Transformer  # noqa: E402
from infinity.transformer.cache import KeyValueCache  # noqa: E402
from infinity.transformer.number_formats.precision import store_products_as  # noqa: E402
from infinity.transformer.scale_attention import AttentionMask  # noqa: E402
from tests.phantom.fusion import block_inputs, call_block, draw_block, fused, fused_checkpointed, summed  # noqa: E402
from tests.phantom.meter import Meter, _share, metered  # noqa: E402
from tests.phantom.workers import STREAMS, Beside, streams, workers  # noqa: E402

LAYOUTS = {"2B": ("2B-released", "d32"), "8B": ("8B-released", "d56-folded")}
SCHEDULE = Resolution(size="1024").schedule(1.0)
TEXT = BuiltinTextConfig(channels=2048)
CUDA = torch.device("cuda")
PROMPTS = ("a cat on a mat", "a dog", "a red circle left of a blue square", "a")
TRAILING = (3.0,) * (SCHEDULE.num_scales - 2) + (1.0, 1.0)
ODD = (1.0, 3.0, 0.0, 1.0, 7.5, -1.0, *(1.0, 3.0) * SCHEDULE.num_scales)[: SCHEDULE.num_scales]
"""Guidance that is turned on and off between scales."""

NUM_WORKERS = 8
"""Cards of a training with sharded weights."""

LATE_SCALES = 4
"""Number of last scales whose work is told apart: 9 to 12 of thirteen."""

Figures = dict[str, Any]


def _figures(meter: Meter, resting: int) -> Figures:
    return {
        "peak": meter.peak,
        "resting": resting,
        "launches": meter.launches.total(),
        "casts": meter.launches["_to_copy"],
        "moved": meter.moved,
        "products": dict(meter.product_flops),
        "convolutions": dict(meter.convolution_flops),
        "attention": dict(meter.attention_flops),
    }


def _models(layout: str, depth: int, *, offloaded: bool = False) -> tuple[Transformer, Tokenizer, Any]:
    name, tokenizer = LAYOUTS[layout]
    transformer = Transformer(transformer_preset(name).replace(depth=depth)).eval()
    store_products_as(transformer, torch.bfloat16)
    if offloaded:
        with patch.object(torch.Tensor, "pin_memory", lambda weights: weights):  # fake tensors cannot be pinned
            offload_blocks(transformer, "cuda")
    return (
        transformer if offloaded else transformer.to(CUDA),
        Tokenizer(tokenizer_preset(tokenizer)).eval().to(CUDA),
        build_text_encoder(TEXT),
    )


def draw(
    layout: str, depth: int, number: int, guidance: Any = 3.0, *, held: int = 0, offloaded: bool = False, **less: Any
) -> Figures:
    """Draw as a pipeline does; the waits are those inside the loop over scales.

    Args:
        layout: Key of ``LAYOUTS``.
        depth: Number of blocks.
        number: Pictures.
        guidance: Classifier-free guidance.
        held: Bytes on the card that something else holds, such as a training whose sample sheet this is.
        offloaded: Whether the blocks' weights wait in the memory of the CPU.
        less: Other settings of sampling, with which less is computed.
    """
    with card.running(), metered() as meter:
        models, _training = (
            _models(layout, depth, offloaded=offloaded),
            torch.empty(held, dtype=torch.uint8, device=CUDA),
        )
        meter.restart()
        resting, waits = meter.live, []
        marks: list[Figures] = []

        def passed(_: float) -> None:
            waits.append(meter.waits.total())
            marks.append(_figures(meter, resting))

        prompts = [PROMPTS[i % len(PROMPTS)] for i in range(number)]
        with torch.autocast("cuda", torch.bfloat16):
            generate_in_passes(
                models,
                prompts,
                schedule=SCHEDULE,
                sampling=SamplingConfig(guidance=guidance, **less),
                seeds=[0] * number,
                progress=passed,
            )
        first_pass = waits[: SCHEDULE.num_scales]
        return _figures(meter, resting) | {
            "waits_in_loop": first_pass[-1] - first_pass[0],
            "scales": len(waits),
            "coarse": marks[SCHEDULE.num_scales - LATE_SCALES - 1],
            "loop": marks[SCHEDULE.num_scales - 1],
        }


def draw_captured(layout: str, depth: int) -> Figures:
    """Draw three batches with captured graphs, of which a phantom card has stand-ins: the figures are the third's.

    The first runs without graphs, the second is captured, the third, with longer captions, runs the graphs alone.
    """
    captured: list[object] = []

    class Graph:
        def replay(self) -> None:
            captured.append(self)

    with card.running(), metered() as meter, contextlib.ExitStack() as stack:
        for name, stand_in in (
            ("CUDAGraph", Graph),
            ("graph_pool_handle", lambda: None),
            ("graph", lambda graph, **_: contextlib.nullcontext()),
        ):
            stack.enter_context(patch.object(torch.cuda, name, stand_in))
        stack.enter_context(patch.object(graphs, "_place", lambda weights: weights.untyped_storage()._cdata))
        models = _models(layout, depth)
        graphs.capture_scales(models[0])
        marks: list[tuple[int, int]] = []
        for prompt in ("a cat", "a dog", "a red circle left of a blue square"):
            captured.clear()
            marks.clear()
            meter.restart()
            with torch.autocast("cuda", torch.bfloat16):
                generate_in_passes(
                    models,
                    [prompt],
                    schedule=SCHEDULE,
                    sampling=SamplingConfig(),
                    seeds=[0],
                    progress=lambda _: marks.append((meter.waits.total(), meter.launches.total())),
                )
        (waits, launches), (last_waits, last_launches) = marks[0], marks[-1]
        return {
            "replays": len(captured),
            "waits_in_loop": last_waits - waits,
            "launches_in_loop": last_launches - launches,
        }


def tokenize(layout: str, number: int) -> Figures:
    """Encode as ``usage`` and the store of latents do, then reconstruct as an evaluation does."""
    with card.running(), metered() as meter:
        tokenizer = Tokenizer(tokenizer_preset(LAYOUTS[layout][1])).eval().to(CUDA)
        each = tokenizer.pass_bytes((1024, 1024))
        images = torch.empty(number, 3, 1024, 1024, device=CUDA)
        meter.restart()
        resting = meter.live
        with torch.no_grad():
            tokenizer.encode(images)
        encoded = _figures(meter, resting)
        meter.restart()
        tokenizer.reconstruct(images, SCHEDULE)
        return {"encode": encoded, "reconstruct": _figures(meter, resting), "bytes_each": each}


def encode(layout: str, number: int) -> Figures:
    """Encode pictures in float32, as trainings do."""
    with card.running(), metered() as meter, torch.no_grad():
        tokenizer = Tokenizer(tokenizer_preset(LAYOUTS[layout][1])).eval().to(CUDA)
        images = torch.empty(number, 3, 1024, 1024, device=CUDA)
        meter.restart()
        resting = meter.live
        tokenizer.encode(images)
        return _figures(meter, resting)


def text(number: int) -> Figures:
    """Encode prompts of 128 tokens by Flan-T5-XL, at its full depth."""
    with card.running(), metered() as meter, torch.no_grad():
        encoder = text_encoder(FLAN_T5_XL, CUDA)
        tokens = torch.zeros(number, 128, dtype=torch.long, device=CUDA)
        mask = torch.ones_like(tokens)
        meter.restart()
        resting = meter.live
        encoder(input_ids=tokens, attention_mask=mask)
        return _figures(meter, resting)


def decode(layout: str, number: int, *, bfloat16: bool = True) -> Figures:
    """Decode the sum of codes of some pictures."""
    with card.running(), metered() as meter, torch.no_grad():
        tokenizer = Tokenizer(tokenizer_preset(LAYOUTS[layout][1])).eval().to(CUDA)
        grid = (SCHEDULE.unfolded() if tokenizer.config.fold else SCHEDULE).last_grid
        features = torch.empty(number, tokenizer.config.num_bits, *grid, device=CUDA)
        meter.restart()
        resting = meter.live
        with torch.autocast("cuda", torch.bfloat16, enabled=bfloat16):
            tokenizer.decode(features)
        return _figures(meter, resting)


def save(layout: str, depth: int) -> Figures:
    """Count the bytes on the card that a save in the background copies to the host while the training waits.

    The training is that of ``benchmarks.gpu``: the 256 class, float32 weights and moments, no averages.
    """
    spec = _spec(layout, depth, engine=EngineConfig())
    spec = spec.replace(loop=spec.loop.replace(ema_decay=None))
    with card.running(), metered():
        load = Load(Resolution(size="256").schedule(1.0), 1, 1, 128)
        rehearsal = rehearse(
            spec, load, tokenizer=tokenizer_preset(LAYOUTS[layout][1]), real=False, device=CUDA, bfloat16=True
        )
        rehearsal.step()
        held = [tensor for _, tensor in rehearsal.state.held() if tensor.device.type == "cuda"]
        return {"copied": sum(tensor.nbytes for tensor in held), "tensors": len(held)}


def save_meanwhile(layout: str, depth: int) -> Figures:
    """Begin a save in the background after a step, and take another step: who waits for the copies, and when."""
    spec = _spec(layout, depth, engine=EngineConfig())
    waits: list[str] = []
    with card.running(), metered() as meter, contextlib.ExitStack() as stack:
        stand_ins = STREAMS | {
            "Stream": lambda device: Beside("copies", waits),
            "Event": lambda: Beside("copies are made", waits),
            "current_stream": lambda device=None: Beside("training", waits),
        }
        for name, stand_in in stand_ins.items():
            stack.enter_context(patch.object(torch.cuda, name, stand_in))
        stack.enter_context(patch.object(host_copies, "_page_locked", lambda like: torch.empty(like.shape)))
        load = Load(Resolution(size="256").schedule(1.0), 1, 1, 128)
        rehearsal = rehearse(
            spec, load, tokenizer=tokenizer_preset(LAYOUTS[layout][1]), real=False, device=CUDA, bfloat16=True
        )
        rehearsal.step()
        held = {name: tensor for name, tensor in rehearsal.state.held()}
        meter.restart()
        rehearsal.state.copies = copies = host_copies.host_copies(held)
        taken, begun = meter.peak - meter.live, list(waits)
        waits.clear()
        rehearsal.step()
        stepped = list(waits)
        waits.clear()
        copies.wait()
        return {
            "to_begin": begun,
            "in_a_step": stepped,
            "to_write": waits,
            "taken": taken,
            "on_host": all(tensor.device.type == "cpu" for tensor in copies.tensors.values()),
            "copied": sum(tensor.nbytes for tensor in copies.tensors.values()),
        }


def _spec(
    layout: str,
    depth: int,
    *,
    shard: bool = False,
    offload: bool = False,
    sharing: dict[str, Any] | None = None,
    **changes: Any,
) -> TrainTransformerSpec:
    inputs = TransformerInputs(
        manifests=("none",), tokenizer="none", output="none", model=LAYOUTS[layout][0], num_workers=1
    )
    spec = paper_stages(inputs)[-1]
    return spec.replace(
        model=spec.model.replace(depth=depth),
        text=TEXT,
        workers=spec.workers.replace(
            shard=shard, offload=offload, num_workers=NUM_WORKERS if shard else 1, **(sharing or {})
        ),
        **{"engine": spec.engine.replace(attention="flex")} | changes,
    )


def train(
    layout: str,
    depth: int,
    *,
    parts: int = 1,
    loop: dict[str, Any] | None = None,
    states_on_cpu: bool = False,
    **changes: Any,
) -> Figures:
    """Take two steps of the paper's last stage with 4 pictures per card; the figures are those of the second.

    Args:
        layout: Key of ``LAYOUTS``.
        depth: Number of blocks.
        parts: Micro-batches of 4 pictures per card.
        loop: Switches of the loop.
        states_on_cpu: Switch of the optimizer.
        changes: Switches of the spec. ``shard`` shares the weights among eight cards, of which one is counted.
    """
    spec = _spec(layout, depth, **{"recompute": True} | changes)
    optimizer = spec.optimizer.replace(states_on_cpu=states_on_cpu)
    spec = spec.replace(loop=spec.loop.replace(**(loop or {})), optimizer=optimizer)
    with card.running(), metered() as meter, contextlib.ExitStack() as stack:
        tokenizer, load = tokenizer_preset(LAYOUTS[layout][1]), Load(SCHEDULE, 4, parts, 128)
        stack.enter_context(streams())
        group = stack.enter_context(workers(NUM_WORKERS)) if spec.workers.shard else None
        rehearsal = rehearse(spec, load, tokenizer=tokenizer, real=False, device=CUDA, bfloat16=True, group=group)
        rehearsal.step()
        meter.restart()
        resting = meter.live
        rehearsal.step()
        places = {str(weight.device.type) for weight in rehearsal.update.weights}
        return _figures(meter, resting) | {"weights_on": sorted(places)}


def compiled_draw(layout: str, depth: int) -> Figures:
    """Count one block at the last scale, guided, beside its caches: eager and as the compiler fuses it.

    Args:
        layout: Key of ``LAYOUTS``.
        depth: Not used; one block is counted.
    """
    with card.running():
        config = transformer_preset(LAYOUTS[layout][0]).replace(depth=1)
        model = Transformer(config).eval()
        store_products_as(model, torch.bfloat16)
        block, span = model.to(CUDA).block_modules()[0], SCHEDULE.spans[-1]
        block.self_attention.join()
        inputs = block_inputs(config, batch=2, tokens=span.stop - span.start)
        branch = torch.empty(inputs[0].shape, device=CUDA, dtype=torch.bfloat16)
        heads = (2, SCHEDULE.num_tokens, config.num_heads, config.width // config.num_heads)
        memory = [torch.empty(heads, device=CUDA, dtype=torch.bfloat16).transpose(1, 2) for _ in range(2)]

        def run(keys: torch.Tensor, values: torch.Tensor, branch: torch.Tensor, *rest: torch.Tensor) -> Any:
            cache = KeyValueCache(span.stop, by_token=True)
            cache.length, cache._stored = span.start, (keys, values)
            x, pending = draw_block(block, rest, cache, branch)
            return x, pending.branch

        arguments = [*memory, branch, *inputs]
        with metered() as meter, torch.no_grad():
            run(*arguments)
            eager = {"launches": meter.launches.total(), "moved": meter.moved}
        return {"eager": eager, "compiled": summed(fused(run, arguments))}


def compiled_decode(layout: str, depth: int) -> Figures:
    """Count the decoding of one picture: eager and as the compiler fuses it.

    Args:
        layout: Key of ``LAYOUTS``.
        depth: Not used; the whole decoder is counted.
    """
    with card.running(), torch.no_grad():
        tokenizer = Tokenizer(tokenizer_preset(LAYOUTS[layout][1])).eval().to(CUDA)
        grid = (SCHEDULE.unfolded() if tokenizer.config.fold else SCHEDULE).last_grid
        features = torch.empty(1, tokenizer.config.num_bits, *grid, device=CUDA)
        names, weights = zip(*tokenizer.decoder.named_parameters(), strict=True)

        def run(features: torch.Tensor, *weights: torch.Tensor) -> Any:
            with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
                return torch.func.functional_call(
                    tokenizer.decoder, dict(zip(names, weights, strict=True)), (features,)
                )

        arguments = [features, *(weight.detach() for weight in weights)]
        with metered() as meter:
            run(*arguments)
            eager = {"launches": meter.launches.total(), "moved": meter.moved}
        return {"eager": eager, "compiled": summed(fused(run, arguments))}


def compiled_train(layout: str, depth: int) -> Figures:
    """Count one block in a step of the 1024 class with activation checkpointing: eager and as the compiler fuses it.

    Its forward pass, then in one graph the same again and the backward pass; compiled, some results are kept.

    Args:
        layout: Key of ``LAYOUTS``.
        depth: Not used; one block is counted.
    """
    with card.running():
        config = transformer_preset(LAYOUTS[layout][0]).replace(depth=1)
        with CUDA:
            block = Transformer(config).block_modules()[0]
        names = [name for name, _ in block.named_parameters()]
        inputs = block_inputs(config, batch=4, tokens=SCHEDULE.num_tokens)
        weights = [torch.empty_like(weight, requires_grad=True) for weight in block.parameters()]
        grad, mask = torch.empty_like(inputs[0]), AttentionMask(blocks=_share(SCHEDULE))  # type: ignore[arg-type]

        def forward(*tensors: torch.Tensor) -> torch.Tensor:
            given, own = tensors[: len(inputs)], tensors[len(inputs) :]
            return call_block(block, given, mask, dict(zip(names, own, strict=True)))

        def backward(grad: torch.Tensor, *tensors: torch.Tensor) -> list[torch.Tensor]:
            learned = [tensor for tensor in tensors if tensor.requires_grad]
            found = torch.autograd.grad(forward(*tensors), learned, grad, allow_unused=True)
            return [each for each in found if each is not None]

        arguments = [*inputs, *weights]
        with metered() as meter:
            with torch.no_grad():
                forward(*arguments)
            backward(grad, *arguments)
            eager = {"launches": meter.launches.total(), "moved": meter.moved}
        found = fused_checkpointed(forward, arguments)
        return {"eager": eager, "compiled": summed(found.forward + found.backward), "kept": found.kept}


def _training(**changes: Any) -> Callable[[str, int], Figures]:
    return lambda layout, depth: train(layout, depth, **changes)


SCENARIOS: dict[str, Callable[[str, int], Figures]] = {
    "draw": lambda layout, depth: draw(layout, depth, 1),
    "compiled-draw": compiled_draw,
    "compiled-decode": compiled_decode,
    "compiled-train": compiled_train,
    "draw-captured": draw_captured,
    "draw-odd": lambda layout, depth: draw(layout, depth, 3, ODD),
    "draw-trailing": lambda layout, depth: draw(layout, depth, 1, TRAILING),
    "draw-less": lambda layout, depth: draw(layout, depth, 2, TRAILING, pruned=(0.25, 0.5), cache_share=0.5),
    "draw-offloaded": lambda layout, depth: draw(layout, depth, 1, offloaded=True),
    "draw-32": lambda layout, depth: draw(layout, depth, 32),
    "sheet": lambda layout, depth: draw(layout, depth, 8, held=55 * 10**9),
    "tokenize": lambda layout, depth: tokenize(layout, 7),
    "text-1": lambda layout, depth: text(1),
    "text-8": lambda layout, depth: text(8),
    "encode-1": lambda layout, depth: encode(layout, 1),
    "encode-4": lambda layout, depth: encode(layout, 4),
    "decode-1": lambda layout, depth: decode(layout, 1),
    "decode-1-f32": lambda layout, depth: decode(layout, 1, bfloat16=False),
    "decode-4": lambda layout, depth: decode(layout, 4),
    "save": save,
    "save-meanwhile": save_meanwhile,
    "train": train,
    "train-lora": _training(adapters=AdapterConfig(), start_from="start"),
    "train-qlora": _training(adapters=AdapterConfig(base="int8", dropout=0.1), start_from="start"),
    "train-shard": _training(shard=True),
    "train-offload": _training(shard=True, offload=True),
    "train-copies": _training(shard=True, sharing={"shard_among": 4}),
    "train-kept": _training(shard=True, sharing={"keep_gathered": True}),
    "train-once": _training(shard=True, parts=2, loop={"sum_once": True}),
    "train-resting": _training(states_on_cpu=True, loop={"ema_on_cpu": True}),
    "train-each": _training(shard=True, parts=2),
    "train-windows": _training(engine=EngineConfig(attention="windows")),
    "train-dense": _training(engine=EngineConfig(attention="dense")),
    "train-all-kept": _training(recompute=False),
    "train-first-scales": _training(num_scales=10),
    "train-plain-loss": _training(z_loss=1e-4, weighting="by_token", self_correction=0.0),
}
"""Programs by name; each takes a layout and a depth."""


def main() -> None:
    """Run some scenarios and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wanted", nargs="+", help="scenario:layout:depth")
    found = {}
    for wanted in parser.parse_args().wanted:
        name, layout, depth = wanted.split(":")
        found[wanted] = SCENARIOS[name](layout, int(depth))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
