"""A person finetunes an imported model from the form in the browser; pictures of the form and of the run's page.

    python -m tests.browser.finetune_form --out shots                  # trains an adapter (LoRA)
    python -m tests.browser.finetune_form --out shots --weights all    # trains all weights

Starts a stack of its own (server, worker, file server) in a temporary folder, imports a small model from files in the
published format, opens the form of ``finetune`` with a run, pictures and the model filled in, presses Submit, and waits
for the run to end. Then it draws with the finetuned model by the command of the README. Ten minutes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch

from infinity.checkpoint import load_checkpoint
from infra.environment import apply_common_environment
from infra.settings import Settings
from infra.stack import Stack
from tests.browser.scheduled_evaluation import NotSeenError, Server, told
from tests.browser.screenshots import Browser, open_browser, why_no_browser
from tests.fixtures.models.published_files import write_pictures, write_published, write_t5

BOXES = {"num_steps": 2, "batch_size": 2, "num_parts": 1, "num_workers": 1, "threads": 1}
WEIGHTS: dict[str, dict[str, int]] = {"adapter": {"adapter_rank": 2}, "all": {}}


def command(*arguments: object) -> None:
    """Run a command of `infinity`, as a person does."""
    subprocess.run([sys.executable, "-m", "infinity.cli", *map(str, arguments)], check=True)


def imported(folder: Path) -> Path:
    """Import a small model by the two commands of the README; its folder."""
    write_published(folder)
    write_t5(folder / "t5")
    command("published", "import-tokenizer", folder / "vae.pth", folder / "tokenizer")
    command("published", "import-transformer", folder / "model.pth", folder / "tokenizer", folder / "model",
            "--size", "256", "--text-model", folder / "t5")  # fmt: skip
    return folder / "model"


def submit(browser: Browser, server: Server, parameters: dict[str, Any], out: Path) -> dict[str, Any]:
    """Fill the form in, look at it, and press its button; the run that comes of it."""
    ui, deployment = server.api.removesuffix("/api"), server.deployment("finetune")
    url = f"{ui}/deployments/deployment/{deployment}/run?parameters={quote(json.dumps(parameters))}"
    text = browser.open(url, until=("Submit",))
    print(browser.shoot(out / "finetune-form.png"), flush=True)
    fields = browser.run("return [...document.querySelectorAll('input, textarea')].map(e => e.value)")
    shown = " ".join([text, *fields])
    if missing := [
        value for value in (parameters["run"], parameters["model"], parameters["data"]) if value not in shown
    ]:
        raise NotSeenError(f"the form does not show {missing}; its fields hold {fields}")
    browser.click("Submit")
    (run,) = server.wait(lambda: server.runs("finetune"), "the run of the form")
    return server.ended(str(run["id"]))


def count_changed(before: Path, after: Path) -> None:
    """Print how many tensors of the imported model the training has changed; none is an error."""
    old, new = (load_checkpoint(str(folder)).tensors for folder in (before, after))
    changed = sum(not torch.equal(old[name].float(), new[name].float()) for name in old)
    print(f"{changed} of {len(old)} tensors differ from the imported model", flush=True)
    if changed == 0:
        raise NotSeenError("the finetuned model has the weights of the imported one")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the command line; 0 when the form's run ended well and its model draws."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.finetune_form")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--weights", choices=tuple(WEIGHTS), default="adapter", help="what is trained (adapter)")
    args = parser.parse_args(arguments)
    out, boxes = args.out, BOXES | WEIGHTS[args.weights]
    if (reason := why_no_browser()) is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 1
    apply_common_environment()
    folder = Path(tempfile.mkdtemp(prefix="inf-form-"))
    model = imported(folder)
    write_pictures(folder / "pictures")
    os.environ["INFINITY_RUNS"] = str(folder / "runs")
    os.environ.pop("PREFECT_API_URL", None)
    stack = Stack(Settings(state=folder / "state", runs=str(folder / "runs")))
    try:
        up = stack.server_up()
        stack.files_up()
        stack.worker_up(up)
        os.environ.update(stack.client_environment(up))  # for the questions of this process
        server = Server(up.api_url)
        parameters = {"run": "formed", "data": str(folder / "pictures"), "model": str(model), "transformer": boxes}
        with open_browser() as browser:
            browser.log_in(up.ui_url, os.environ["PREFECT_API_AUTH_STRING"])
            run = submit(browser, server, parameters, out)
            told("sent off by the form", run)
            browser.open(f"{up.ui_url}/runs/flow-run/{run['id']}")
            print(browser.shoot(out / "finetune-run.png"))
        if run["state"]["type"] != "COMPLETED":
            return 1
        (finetuned,) = (folder / "runs" / "formed").glob("transformer-*/model")
        count_changed(model, finetuned)
        command("generate", "-c", finetuned, "-p", "a red circle", "-o", out)
    finally:
        stack.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
