"""A forked process draws the pictures of its parent: threads and locks that the parent alone has are not waited for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.data.small_world import write_model
from tests.fixtures.limits import AGES_S

ROOT = Path(__file__).parents[3]
SCRIPT = """
import os, sys, threading
import numpy as np, torch
from infinity import InfinityPipeline

torch.set_num_threads(2)
pipe = InfinityPipeline.from_pretrained(sys.argv[1], device="cpu")
image = pipe("a cat").images[0]
drawn = pipe("a cat", seed=1).pixels()
other = threading.Event(), threading.Event()

def wait(preview):
    other[0].set()
    other[1].wait()

threading.Thread(target=lambda: pipe("a dog", callback_on_scale=wait)).start()
other[0].wait()
child = os.fork()
if child == 0:
    same = np.array_equal(pipe("a cat", seed=1).pixels(), drawn)
    pipe.edit(image, np.ones((8, 8), bool), "a cat", callback_on_scale=lambda preview: preview.images())
    pipe.set_adapters([])
    os._exit(0 if same else 1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
other[1].set()
sys.exit(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_that_is_forked_while_another_thread_draws_draws_the_same(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, write_model(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=AGES_S, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    assert "computes on one thread" in found.stderr
