"""Draw and edit through a running ComfyUI, by its own HTTP interface, and compare every pixel with Python's.

    ln -s $PWD/integrations/comfyui <ComfyUI>/custom_nodes/infinity
    <ComfyUI's python> <ComfyUI>/main.py --cpu --port 8188 &
    python -m benchmarks.drawn.comfyui_server http://127.0.0.1:8188 runs/demo --pictures 100

ComfyUI saves channel values truncated, as they are here. It exits with 1 if a picture differs.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from benchmarks.measuring.scenes import SceneVerdicts
from infinity import InfinityPipeline

Workflow = dict[str, dict[str, Any]]
_WAIT_S = 600.0


def settings(draw: random.Random) -> dict[str, Any]:
    """Return random settings under the names of the nodes' inputs."""
    return {
        "seed": draw.randrange(2**40),
        "guidance": round(draw.uniform(1, 5), 1),
        "temperature": round(draw.uniform(0.5, 1.5), 2),
        "top_p": round(draw.uniform(0.8, 1), 2),
    }


def workflow(model: str, prompt: str, count: int, about: dict[str, Any], edit: str | None, side: int) -> Workflow:
    """Return a workflow that saves pictures (node "saved"), and an edit of the left half of the first ("edited").

    Args:
        model: Model folder or run.
        count: Number of pictures.
        about: Settings, as ``settings`` returns them.
        edit: Prompt of the edit; None for none.
        side: Height and width of a picture in pixels.
    """

    def node(kind: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": kind, "inputs": inputs}

    found = {
        "model": node("InfinityLoadModel", model=model, device="cpu", dtype="float32", quantize="none"),
        "drawn": node("InfinityDraw", model=["model", 0], prompt=prompt, width=1024, height=1024, count=count, **about),
        "saved": node("SaveImage", images=["drawn", 0], filename_prefix="infinity"),
    }
    if edit is None:
        return found
    return found | {
        "outside": node("SolidMask", value=0.0, width=side, height=side),
        "inside": node("SolidMask", value=1.0, width=side // 2, height=side),
        "mask": node("MaskComposite", destination=["outside", 0], source=["inside", 0], x=0, y=0, operation="add"),
        "first": node("ImageFromBatch", image=["drawn", 0], batch_index=0, length=1),
        "redrawn": node(
            "InfinityEdit", model=["model", 0], mask=["mask", 0], image=["first", 0], prompt=edit, count=1, **about
        ),
        "edited": node("SaveImage", images=["redrawn", 0], filename_prefix="infinity-edit"),
    }


class ComfyUI:
    """A running ComfyUI."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=_WAIT_S)

    def run(self, flow: Workflow) -> dict[str, Any]:
        """Run a workflow and return its outputs by node.

        Raises:
            ValueError: ComfyUI refuses the workflow, or a node failed.
        """
        answer = self._client.post("/prompt", json={"prompt": flow}).json()
        if "prompt_id" not in answer:
            raise ValueError(f"ComfyUI refuses the workflow: {answer}")
        until = time.monotonic() + _WAIT_S
        while not (history := self._client.get(f"/history/{answer['prompt_id']}").json()):
            if time.monotonic() > until:
                raise ValueError(f"ComfyUI did not end within {_WAIT_S:g} s")
            time.sleep(0.1)
        (entry,) = history.values()
        if entry["status"]["status_str"] != "success":
            raise ValueError(f"ComfyUI: {entry['status']['messages'][-1]}")
        outputs: dict[str, Any] = entry["outputs"]
        return outputs

    def pixels(self, output: dict[str, Any]) -> np.ndarray:
        """Return the saved pictures of a node."""
        files = [self._client.get("/view", params=each).content for each in output["images"]]
        return np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])


def by_python(
    pipe: InfinityPipeline, prompt: str, count: int, about: dict[str, Any], edit: str | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the pictures of the same workflow from Python: the drawn ones, and the edited one."""
    names = {"guidance": "guidance_scale"}
    given = {names.get(name, name): value for name, value in about.items()}
    drawn = pipe(prompt, num_images_per_prompt=count, output_type="np", **given).pixels()
    if edit is None:
        return drawn, None
    height, width = drawn.shape[1], drawn.shape[2]
    mask = np.zeros((height, width), dtype=bool)
    mask[:, : width // 2] = True
    return drawn, pipe.edit(Image.fromarray(drawn[0]), mask, edit, output_type="np", **given).pixels()


def main() -> None:
    """Read the arguments, compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--pictures", type=int, default=100)
    given = parser.parse_args()
    comfyui, pipe = ComfyUI(given.url), InfinityPipeline.from_pretrained(given.model, device="cpu")
    side = pipe("a", output_type="np").pixels().shape[1]
    draw, captions = random.Random(0), SceneVerdicts(4).captions
    done = edits = different = 0
    while done < given.pictures:
        prompt, count, about = draw.choice(captions), draw.choice([1, 2, 3]), settings(draw)
        edit = draw.choice([None, draw.choice(captions)])
        outputs = comfyui.run(workflow(str(Path(given.model).resolve()), prompt, count, about, edit, side))
        drawn, edited = by_python(pipe, prompt, count, about, edit)
        different += int((comfyui.pixels(outputs["saved"]) != drawn).any(axis=(1, 2, 3)).sum())
        if edited is not None:
            different += int((comfyui.pixels(outputs["edited"]) != edited).any(axis=(1, 2, 3)).sum())
            edits += 1
        done += count
    print(f"{done} pictures and {edits} edits through ComfyUI: {different} differ from Python's")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
