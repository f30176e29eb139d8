"""The first sample sheet of a training whose weights wait on the CPU while a card computes; a program of its own."""

from __future__ import annotations

from tests.phantom import card

card.insert()

import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from unittest.mock import patch  # noqa: E402

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

from infinity.data.dataset.manifest import Manifest  # noqa: E402
from infinity.jobs.training import transformer as train_transformer  # noqa: E402
from infinity.jobs.training import transformer_samples  # noqa: E402
from infinity.jobs.training.base import WorkersConfig  # noqa: E402
from infinity.text import build_text_encoder  # noqa: E402
from infinity.tokenizer.saved import load_tokenizer  # noqa: E402
from infinity.training.distributed.parallel import ProcessGroup  # noqa: E402
from infinity.training.distributed.sharding import is_sharded  # noqa: E402
from tests.fixtures.data.training_pictures import make_data  # noqa: E402
from tests.fixtures.jobs.training_sessions import LOOP, make_tokenizer, transformer_spec  # noqa: E402


def main(folder: Path) -> None:
    """Draw and export as ``workers.offload`` does: the tokenizer on the card, all that is trained on the CPU."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=0, world_size=1)
    manifest = make_data(folder)
    spec = transformer_spec(
        folder, manifest, make_tokenizer(folder, manifest, num_steps=1), loop=LOOP, workers=WorkersConfig(shard=True)
    )
    cpu, group = torch.device("cpu"), ProcessGroup.current()
    tokenizer, encoder = load_tokenizer(spec.tokenizer), build_text_encoder(spec.text)
    # On one worker the CPU's own mesh holds the weights that an offloading one would hold there.
    state, _ = train_transformer.make_state_and_task(
        spec, train_transformer._transformer(spec), tokenizer.config, group, cpu
    )
    assert is_sharded(state.module)
    # Fake tensors hold no numbers, so there is none to check.
    checks = [
        patch(f"infinity.generation.generate.{name}", lambda _: None) for name in ("_check_numbers", "_check_pixels")
    ]
    with card.running(), checks[0], checks[1]:
        on_card = tokenizer.to("cuda")
        draw = transformer_samples.sample_drawing(spec, Manifest.load(manifest), state, group, (on_card, encoder))
        sheet = draw()
    assert sheet.png.startswith(b"\x89PNG")
    assert sheet.rows == ("drawn with averaged weights", "drawn with the last weights")
    transformer_samples.model_exporting(spec, state, state.module, group)(str(folder / "model"))  # type: ignore[arg-type]
    assert (folder / "model" / "COMMITTED").exists()
    dist.destroy_process_group()
    print("drawn on a card")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else place))
