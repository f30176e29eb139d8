"""What a flow loads before it begins: every start of a flow, a job or a worker pays for it."""

import subprocess
import sys

SLOW = (
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "scipy.stats",
    "scipy.ndimage",
    "scipy.optimize",
    "ray.train",
)


def test_a_flow_starts_without_what_only_some_stages_need() -> None:
    look = f"import flows.end_to_end, sys; print([name for name in {SLOW} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
