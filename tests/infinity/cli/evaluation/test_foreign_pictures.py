"""Pictures of another model, scored by a command without a model of ours, in every layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from infinity.cli import app
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.evaluation.results import below, load
from tests.fixtures.data.small_world import write_model
from tests.fixtures.models.tiny_networks import write_clip
from tests.infinity.jobs.evaluation.test_contents import draw, write_dpg, write_prompts


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")


def run(*args: object) -> tuple[int, str]:
    with in_process():
        result = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    return result.exit_code, " ".join(result.output.split())


def geneval(folder: Path) -> str:
    prompts = write_prompts(folder / "prompts.jsonl")
    return "geneval=" + json.dumps({"prompts": {"uri": prompts.uri}, "detector": {"kind": "scenes"}})


def test_one_folder_with_geneval_dpg_and_flat_pictures(tmp_path: Path) -> None:
    for number, shape in enumerate(("star", "heart")):
        for sample in range(4):
            draw(tmp_path / f"flux/geneval/{number:05d}/samples/{sample:05d}.WEBP", shape)
    dpg = write_dpg(tmp_path)
    (tmp_path / "grids").rename(tmp_path / "flux/dpg")
    settings = {"prompts": dpg.prompts, "questions": {"uri": dpg.questions.uri}, "vqa": {"model": dpg.vqa.model}}  # type: ignore[union-attr]
    (tmp_path / "clip").mkdir()
    (tmp_path / "list.txt").write_text("a red cup\na dog\n")
    Image.new("RGB", (16, 16)).save(tmp_path / "flux/00000.JPG")
    Image.new("RGB", (16, 16)).save(tmp_path / "flux/00001_0.gif")
    clip = {
        "clip": {"model": write_clip(tmp_path / "clip")}, "pictures_per_prompt": 1,
        "prompts": [{"file": {"uri": str(tmp_path / "list.txt")}}],
    }  # fmt: skip
    code, output = run(
        "evaluate", "--pictures", tmp_path / "flux", "--name", "FLUX.9", "-b", geneval(tmp_path),
        "-b", f"dpg={json.dumps(settings)}", "-b", f"clip_score={json.dumps(clip)}", "-o", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, output
    assert "pictures of FLUX.9" in output
    (folder,) = below(str(tmp_path / "out"))
    found = load(folder)
    scores = {score.metric: score for score in found.report.scores}
    assert {
        scores[f"{name}.overall"].value is not None for name in ("geneval", "dpg", "dpg_corrected", "clip_score")
    } == {True}
    assert scores["geneval.overall"].value == 1.0
    assert scores["clip_score.overall"].n == 2
    assert all(score.note.startswith("pictures of FLUX.9, drawn elsewhere: ") for score in scores.values())
    code, output = run("leaderboard", folder, "--metric", "geneval.overall")
    assert "pictures of FLUX.9, drawn elsewhere: geneval (digest" in output
    assert "(ours)" not in output


def test_a_page_shows_them_beside_a_row_of_their_own_protocol_and_no_other(tmp_path: Path) -> None:
    for number, shape in enumerate(("star", "heart")):
        for sample in range(4):
            draw(tmp_path / f"flux/{number:05d}/samples/{sample:05d}.png", shape)
    command = ("evaluate", "--pictures", tmp_path / "flux", "--name", "FLUX.9", "-b", geneval(tmp_path))
    assert run(*command, "-o", tmp_path / "out")[0] == 0
    (folder,) = below(str(tmp_path / "out"))
    protocol = load(folder).report.scores[0].protocol
    table = tmp_path / "published.csv"
    rows = (("Rival", protocol), ("Stranger", "geneval/1: another detector"))
    table.write_text(
        "metric,model,value,unit,protocol,source\n"
        + "".join(f'geneval.overall,{name},0.25,share,"{how}",a report\n' for name, how in rows)
    )
    page = tmp_path / "page.html"
    code, output = run("standing", folder, "-o", page, "--published", table)
    assert code == 0, output
    assert "geneval: Beside 1 published score" in output
    html = page.read_text()
    assert "Rival" in html
    assert "Stranger" not in html
    assert "SDXL" not in html
    assert html.count("data:image/png;base64") >= 1
    code, output = run("standing", folder, "-o", page)
    assert "No published score stands beside: other prompts than the official file" in output
    code, output = run("leaderboard", folder, "--published", table, "--metric", "geneval.overall")
    own = output.split("geneval.overall (")[1]
    assert "Rival" in own
    assert "Stranger" not in own
    for wrong, words in (
        (("-o", tmp_path / "page.pdf"), "ending in .html"),
        (("--published", table, "--published", table), "is there twice"),
    ):
        code, output = run("standing", folder, *wrong)
        assert code == 1
        assert words in output


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_loose_pictures_with_a_table_are_scored_over_the_prompts_of_the_table(tmp_path: Path, form: str) -> None:
    (tmp_path / "clip").mkdir()
    rows = [("a red cup", "x/1.jpeg"), ("a dog", "2.bmp"), ("a red cup", "3.png"), ("a cat", "gone.png")]
    for number, (_, name) in enumerate(rows[:3]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (90 * number, 30, 30)).save(tmp_path / name)
    table = tmp_path / f"table.{form}"
    if form == "csv":
        table.write_text("prompt,file\n" + "".join(f"{prompt},{name}\n" for prompt, name in rows))
    else:
        table.write_text("".join(json.dumps({"text": prompt, "path": name}) + "\n" for prompt, name in rows))
    clip = json.dumps({"clip": {"model": write_clip(tmp_path / "clip")}, "pictures_per_prompt": 1})
    arguments = ("evaluate", "--pictures", table, "--name", "sdxl", "-b", f"clip_score={clip}", "-o", tmp_path / "out")
    code, output = run(*arguments)
    assert code == 0, output
    (folder,) = below(str(tmp_path / "out"))
    (score,) = load(folder).report.scores
    assert run("standing", folder, "-o", tmp_path / "page.html")[0] == 0
    assert (tmp_path / "page.html").read_text().count("data:image/") == 2
    assert score.n == 2
    assert "INCOMPLETE: 1 of 3 prompts" in score.note
    assert "gone.png" in score.note
    Image.new("RGB", (16, 16), (9, 9, 250)).save(tmp_path / "2.bmp")
    assert run(*arguments)[0] == 0
    values = [load(folder).report.scores[0].value for folder in below(str(tmp_path / "out"))]
    assert len(set(values)) == 2


@pytest.mark.parametrize("what", ["nothing fits", "only text files"])
def test_nothing_measured_is_exit_code_1_and_stays_so_when_it_is_read_back(tmp_path: Path, what: str) -> None:
    if what == "nothing fits":
        draw(tmp_path / "flux/cat/1.png", "star")
    else:
        (tmp_path / "flux").mkdir()
        (tmp_path / "flux/notes.txt").write_text("x")
    for _ in range(2):
        code, output = run("evaluate", "--pictures", tmp_path / "flux", "-b", geneval(tmp_path), "-o", tmp_path / "out")
        assert code == 1, output
        assert "nothing was measured" in output
        assert "INCOMPLETE: 8 of 8 pictures" in output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-b", "scenes", "--pictures", "flux"), "scenes need a model that draws"),
        (("-b", "geneval"), "expected model folders, or --pictures"),
        (("--pictures", "flux"), "--benchmark: expected at least one of"),
        (("model", "-b", "geneval", "--pictures", "flux"), "got both"),
        (("-b", "geneval", "--pictures", "nowhere"), "expected"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "flux/00000/samples/0.png", "star")
    given = [geneval(tmp_path) if option == "geneval" else option for option in options]
    code, output = run("evaluate", *given, "-o", tmp_path / "out")
    assert code == 1, output
    assert words in output
    assert "Traceback" not in output


def test_a_card_leaves_pictures_of_others_out_and_keeps_its_own(tmp_path: Path) -> None:
    job = tmp_path / "run/transformer-1"
    job.mkdir(parents=True)
    model = write_model(job)
    for number, shape in enumerate(("star", "heart")):
        draw(tmp_path / f"sd3/{number:05d}/samples/0.png", shape)
    with_pictures = json.loads(geneval(tmp_path).partition("=")[2]) | {"pictures": {"uri": str(tmp_path / "sd3")}}
    scenes = 'scenes={"pictures_per_prompt": 1, "prompts_per_task": 1, "num_shown": 1}'
    code, output = run(
        "evaluate", model, "-b", f"geneval={json.dumps(with_pictures)}", "-b", scenes, "-o", tmp_path / "run"
    )
    assert code == 0, output
    assert run("card", model, "-o", tmp_path / "card")[0] == 0
    card = (tmp_path / "card/README.md").read_text()
    assert "scene\\_geneval.overall" in card or "scene_geneval.overall" in card
    assert "| geneval" not in card
    assert "geneval.single_object" not in card.replace("scene_geneval.single_object", "")
    (folder,) = below(str(tmp_path / "run"))
    assert set(load(folder).measured.items) == {m for m in load(folder).measured.items if m.startswith("scene_geneval")}
