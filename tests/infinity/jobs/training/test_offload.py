"""A training whose weights wait on the CPU computes on its card all the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.training import redraw
from tests.fixtures.data.training_pictures import make_data
from tests.fixtures.jobs.training_sessions import make_tokenizer, session, transformer_spec
from tests.fixtures.limits import AGES_S
from tests.phantom import card


def test_the_first_sheet_of_an_offloaded_training_is_drawn_on_the_card(tmp_path: Path) -> None:
    """Tensors of the card and of the CPU in one operation raise there."""
    if torch.version.cuda is not None:
        pytest.skip("the phantom card needs a CPU build of torch")
    if card.compiler() is None:
        pytest.skip("the phantom card needs a C++ compiler, found none")
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.phantom.offload", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=AGES_S,
        env=os.environ | {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    assert found.stdout.endswith("drawn on a card\n")


def test_an_offloaded_training_is_made_ready_by_one_process_to_draw_again(tmp_path: Path) -> None:
    manifest = make_data(tmp_path)
    tokenizer = make_tokenizer(tmp_path, manifest, num_steps=1)
    offloaded = transformer_spec(
        tmp_path, manifest, tokenizer, workers=WorkersConfig(shard=True, offload=True, threads=1)
    )
    again = redraw._session(offloaded, (), torch.device("cpu"))
    assert not again.joint
    assert again.draw() == session(offloaded.replace(workers=WorkersConfig(threads=1))).draw()
