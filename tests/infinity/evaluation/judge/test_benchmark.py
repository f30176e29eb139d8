"""A judge's benchmark: recorded answers give the public scripts' figures, gaps are counted, drift is seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import gmean

from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.judge import answers, probes
from infinity.evaluation.judge.answers import JudgeAnswer, LocalJudge, hard_answer
from infinity.evaluation.judge.benchmark import JudgeBenchmark, PictureJudge
from infinity.evaluation.judge.probes import ProbeSet
from infinity.evaluation.judge.questions import JudgeQuestion, questions_of
from infinity.evaluation.judge.suites import SUITES, Suite, SuiteName
from infinity.evaluation.networks import Networks
from infinity.evaluation.prompts.benchmark import JudgedPrompts, PictureFolder
from infinity.evaluation.score import Score
from infinity.perception.language.vqa import Vqa, VqaConfig
from infinity.storage.pinned import PinnedFile
from tests.fixtures.data.question_files import WRITERS
from tests.fixtures.models.tiny_networks import write_llava

Say = Callable[[JudgeQuestion], JudgeAnswer]


class Recorded:
    """A judge that answers from a record."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.asked = 0

    def answer(self, suite: Suite, asked: Sequence[tuple[np.ndarray, JudgeQuestion]]) -> list[JudgeAnswer]:
        self.asked += len(asked)
        return [self.say(question) for _, question in asked]


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> LocalJudge:
    model = write_llava(tmp_path_factory.mktemp("vlm"))
    return LocalJudge(vqa=VqaConfig(model=model, batch_size=3, max_new_tokens=3))


def benchmark_of(folder: Path, suite: SuiteName, vlm: LocalJudge, number: int = 1, **changes: object) -> JudgeBenchmark:
    plain = JudgeBenchmark(suite=suite, questions=(WRITERS[suite](folder),), answerer=vlm, pictures_per_prompt=number)
    random = np.random.default_rng(0)
    for item in plain.items():
        for sample in range(number):
            path = folder / f"pictures/{item.id}_{sample}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 255, (12, 12, 4), np.uint8), "RGBA").save(path)
    return plain.replace(pictures=PictureFolder(uri=str(folder / "pictures")), **changes)


def judged(benchmark: JudgeBenchmark, say: Say | None = None) -> BenchmarkResult:
    assert benchmark.pictures is not None
    samples = benchmark.find(benchmark.pictures, benchmark.items())
    judge = benchmark.judge(Networks("cpu")) if say is None else PictureJudge(Recorded(say), benchmark.rules)
    records = judge(samples, [one.pictures() for one in samples])
    return benchmark.summarize(JudgedPrompts(samples=tuple(samples), records=tuple(records)))


def by_name(result: BenchmarkResult) -> dict[str, Score]:
    return {score.metric: score for score in result.scores}


def soft(table: Mapping[str, float]) -> Say:
    return lambda question: JudgeAnswer(
        reply="Yes" if table[question.text] > 0.5 else "No", probability=table[question.text]
    )


def hard(table: Mapping[str, str]) -> Say:
    return lambda question: hard_answer(question, table[question.text])


def test_recorded_answers_give_geneval2s_figures(tmp_path: Path, vlm: LocalJudge) -> None:
    benchmark = benchmark_of(tmp_path, "geneval2", vlm)
    texts = [question.text for item in benchmark.items() for question in questions_of(item)]
    first, second = [0.9, 0.03], [0.7, 0.41, 0.999]
    result = judged(benchmark, soft(dict(zip(texts, first + second, strict=True))))
    found = {name: score.value for name, score in by_name(result).items()}
    assert found["judge_geneval2.overall"] == 100 * sum([gmean(first), gmean(second)]) / 2
    assert found["judge_geneval2.arithmetic"] == pytest.approx(100 * (sum(first) / 2 + sum(second) / 3) / 2, rel=1e-15)
    assert found["judge_geneval2.group.object"] == pytest.approx(100 * (0.9 + 0.41 + 0.999) / 3, rel=1e-15)
    assert found["judge_geneval2.prompts.atoms_4"] == pytest.approx(100 * gmean(second), rel=1e-15)
    # "How many" is judged by the likeliest word: "Yes" is not "two".
    assert found["judge_geneval2.likeliest"] == pytest.approx(100 * (1 / 2 + 1 / 3) / 2)
    assert found["judge_geneval2.gaps"] == 0
    assert result.items["judge_geneval2.overall"] == pytest.approx(
        {"00000": 100 * gmean(first), "00001": 100 * gmean(second)}
    )


def test_recorded_answers_give_dsgs_figures(tmp_path: Path, vlm: LocalJudge) -> None:
    table = {"Is there a cup?": "no", "Is the cup red?": "Yes.", "Are there dogs?": "yes", "Are there two dogs?": "no"}
    found = {
        name: score.value for name, score in by_name(judged(benchmark_of(tmp_path, "dsg", vlm), hard(table))).items()
    }
    assert found["judge_dsg.overall"] == 100 * (0 + 0.5) / 2
    assert found["judge_dsg.without_dependencies"] == 100 * (0.5 + 0.5) / 2
    assert found["judge_dsg.group.attribute_color"] == 0
    assert found["judge_dsg.dimension.entity"] == 50


def test_recorded_answers_give_the_figures_of_tifa_tiif_and_unigenbench(tmp_path: Path, vlm: LocalJudge) -> None:
    for name in ("tifa", "tiif", "uni"):
        (tmp_path / name).mkdir()
    tifa = by_name(
        judged(
            benchmark_of(tmp_path / "tifa", "tifa", vlm),
            hard({"what colour is the cup?": "Red.", "how many dogs?": "1"}),
        )
    )
    assert (tifa["judge_tifa.overall"].value, tifa["judge_tifa.group.color"].value) == (50, 100)
    say = hard({"Is there a cup?": "yes", "Is the cup blue?": "yes", "Are there two dogs?": "no"})
    tiif = by_name(judged(benchmark_of(tmp_path / "tiif", "tiif", vlm), say))
    assert tiif["judge_tiif.overall"].value == 100 * (0.5 + 0) / 2
    assert tiif["judge_tiif.dimension.basic_attribute"].value == 50

    def points(question: JudgeQuestion) -> JudgeAnswer:
        return hard_answer(question, "no" if "Quantity" in question.text else "yes")

    uni = by_name(judged(benchmark_of(tmp_path / "uni", "unigenbench", vlm, number=2), points))
    assert uni["judge_unigenbench.overall"].value == 100 * (0.5 + 1.0) / 2
    assert uni["judge_unigenbench.dimension.attribute"].n == 4


@pytest.mark.parametrize("suite", WRITERS)
def test_a_real_model_with_random_weights_judges_every_benchmark(
    tmp_path: Path, vlm: LocalJudge, suite: SuiteName
) -> None:
    result = judged(benchmark_of(tmp_path, suite, vlm, number=2))
    scores = by_name(result)
    gaps = scores[f"judge_{suite}.gaps"]
    assert gaps.value is not None
    overall = scores[f"judge_{suite}.overall"]
    if SUITES[suite].soft:
        assert gaps.value == 0
        assert overall.value is not None
        assert 0 < overall.value < 100
    else:  # random words are no answers: every one is a counted gap, and no mean is made of the rest in silence
        assert (overall.value is None) or gaps.value < gaps.n
        assert overall.value is not None or "INCOMPLETE" in overall.note
    assert "digest " in overall.protocol
    assert "sha256 " in overall.protocol


def test_probabilities_are_those_of_the_model_alone(vlm: LocalJudge) -> None:
    """The same by hand: softmax of the last logits of one question, not in a batch."""
    vqa = Vqa(vlm.vqa.replace(instruction="{question}"))
    random = np.random.default_rng(3)
    asked = [
        (random.integers(0, 255, (9, 9, 3), np.uint8), text) for text in ("is there a cup ?", "what is it ?", "dog ?")
    ]
    together = vqa.first_tokens(asked, [("yes", "Yes", " yes")] * 3)
    number = vqa._processor.tokenizer.convert_tokens_to_ids("yes")
    for (picture, question), token in zip(asked, together, strict=True):
        logits = vqa._model(**vqa._prompted([picture], [vqa._prompt(question)])).logits[0, -1].double()
        assert token.probability == pytest.approx(float(logits.softmax(0)[number]), rel=1e-5)
        assert token.text == vqa._processor.tokenizer.decode([int(logits.argmax())])
    with pytest.raises(ValueError, match="knows one of"):
        vqa.first_tokens(asked[:1], [("zebra", "Zebra")])


def test_gaps_and_missing_pictures_are_counted_and_their_prompts_are_in_no_mean(
    tmp_path: Path, vlm: LocalJudge
) -> None:
    benchmark = benchmark_of(tmp_path, "dsg", vlm)
    table = {
        "Is there a cup?": "yes",
        "Is the cup red?": "I am sorry, I cannot.",
        "Are there dogs?": "yes",
        "Are there two dogs?": "yes",
    }
    found = by_name(judged(benchmark, hard(table)))
    overall, gaps = found["judge_dsg.overall"], found["judge_dsg.gaps"]
    assert (overall.value, overall.n) == (100, 1)
    assert overall.note.startswith(
        "INCOMPLETE: 1 of 2 prompts could not be scored and are in no mean (first: x_1: no answer"
    )
    assert (gaps.value, gaps.n) == (1, 4)
    assert "1 times: no answer to the question: 'I am sorry, I cannot.'" in gaps.note
    (tmp_path / "pictures/x_2_0.png").unlink()
    found = by_name(judged(benchmark, hard(table)))
    assert found["judge_dsg.overall"].value is None
    assert "INCOMPLETE: 2 of 2 prompts" in found["judge_dsg.overall"].note
    assert found["judge_dsg.gaps"].value == 3


def test_two_versions_of_a_judge_and_a_drift_are_told_in_every_score(tmp_path: Path, vlm: LocalJudge) -> None:
    versions = iter(["v1", "v1", "v2", "v2"] * 2)
    benchmark = benchmark_of(tmp_path, "dsg", vlm)
    found = by_name(judged(benchmark, lambda question: hard_answer(question, "yes", version=next(versions))))
    assert "JUDGE CHANGED: 2 versions answered (v1, v2)" in found["judge_dsg.overall"].note
    assert "v1, v2" in found["judge_dsg.overall"].protocol


def test_probes_of_the_same_judge_do_not_alarm_and_of_another_do(tmp_path: Path, vlm: LocalJudge) -> None:
    benchmark = benchmark_of(tmp_path, "vqascore", vlm)
    file = tmp_path / "pictures/probes.jsonl"
    wanted = [("00000_0.png", JudgeQuestion(text="is there a cup ?")), ("00001_0.png", JudgeQuestion(text="two dogs"))]
    probes.record(str(file), "vqascore", answers.load_judge(Networks("cpu"), vlm), wanted)
    with_probes = benchmark.replace(probes=ProbeSet(file=PinnedFile(uri=str(file))))
    assert "JUDGE" not in by_name(judged(with_probes))["judge_vqascore.overall"].note
    text = file.read_text()
    p = text.partition('"p": ')[2].partition("}")[0]
    file.write_text(text.replace(p, str(float(p) + 0.5), 1))
    notes = [score.note for score in judged(with_probes).scores if score.metric.endswith("overall")]
    assert all(
        "JUDGE DRIFT: 1 of 2 probes are answered otherwise than recorded, by up to 0.5" in note for note in notes
    )
    before = with_probes.probes.content()  # type: ignore[union-attr]
    Image.new("RGB", (9, 9)).save(tmp_path / "pictures/00001_0.png")
    assert with_probes.probes.content() != before, "a replaced picture makes another probe"  # type: ignore[union-attr]


def test_an_answer_with_a_passing_gap_is_marked_so(tmp_path: Path, vlm: LocalJudge) -> None:
    benchmark = benchmark_of(tmp_path, "dsg", vlm)
    samples = benchmark.find(benchmark.pictures, benchmark.items())  # type: ignore[arg-type]
    judge = PictureJudge(
        Recorded(lambda question: JudgeAnswer(gap="no answer within 60 s", passing=True)), benchmark.rules
    )
    assert all(record["passing"] for record in judge(samples, [one.pictures() for one in samples]))
