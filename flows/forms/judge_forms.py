"""Boxes of the benchmarks that read or question pictures: a judge's questions, and words in pictures."""

from flows.forms.benchmark_forms import RewritingForm
from flows.forms.form import Count, box
from infinity.evaluation.judge.answers import JudgeConfig, LocalJudge
from infinity.evaluation.judge.benchmark import JudgeBenchmark
from infinity.evaluation.judge.published import Checkout
from infinity.evaluation.judge.questions import QuestionFile
from infinity.evaluation.judge.suites import SuiteName
from infinity.evaluation.text_rendering.benchmark import TextRenderingBenchmark
from infinity.perception.language.endpoint import EndpointConfig
from infinity.perception.language.vqa import VqaConfig
from infinity.storage.pinned import PinnedFile


class JudgeForm(RewritingForm):
    """Questions about pictures that a vision-language model answers."""

    suite: SuiteName | None = box("Benchmark that the questions belong to.")
    questions_uri: str | None = box("File of questions (path, s3:// or http URI).")
    questions_sha256: str | None = box("First digits of the checksum of the questions.")
    prompts_uri: str | None = box("File of the prompts, where it is another one (TIIF).")
    checkout: str | None = box(
        "Checkout of the benchmark's repository (tiif, unigenbench), to ask in its published wording."
    )
    licence: str | None = box("Licence of the questions, as their publisher states it.")
    vqa_model: str | None = box("Model that answers here (folder or hub name).")
    endpoint_url: str | None = box("Instead: an OpenAI-compatible endpoint, its address up to /chat/completions.")
    endpoint_model: str | None = box("Name of the model at the endpoint.")
    key_env: str | None = box(
        "Environment variable of the workers that holds the endpoint's key; a blank for none. The key "
        "itself has no place on this form."
    )
    num_prompts: Count | None = box("Number of prompts, spread over all.")
    pictures_per_prompt: Count | None = box("Pictures of every prompt.")

    def change(self, before: JudgeBenchmark | None) -> JudgeBenchmark:
        """Return the benchmark with what was filled in.

        Raises:
            ValueError: Boxes are empty that have no earlier value, or a model and an endpoint are given.
        """
        if before is None:
            missing = [name for name in ("suite", "questions_uri") if getattr(self, name) is None]
            if missing:
                raise ValueError(f"judge: expected {' and '.join(missing)}, found an empty box; fill it in")
        suite = self.suite or (before.suite if before is not None else None)
        assert suite is not None
        answerer, questions = self._answerer(before), self._questions(before)
        benchmark = before or JudgeBenchmark(suite=suite, questions=questions, answerer=answerer)
        checkout = benchmark.checkout if self.checkout is None else Checkout(uri=self.checkout)
        return benchmark.replace(
            suite=suite,
            checkout=checkout,
            questions=questions,
            answerer=answerer,
            rewriter=self.rewriter(benchmark.rewriter),
            **self.given("num_prompts", "pictures_per_prompt"),
        )

    def _questions(self, before: JudgeBenchmark | None) -> tuple[QuestionFile, ...]:
        if self.questions_uri is None:
            if before is None or self.given("questions_sha256", "prompts_uri", "licence"):
                raise ValueError(
                    "judge: questions_sha256, prompts_uri and licence belong to a file; expected questions_uri too"
                )
            return before.questions
        return (
            QuestionFile(
                file=PinnedFile(uri=self.questions_uri, sha256=self.questions_sha256),
                prompts=None if self.prompts_uri is None else PinnedFile(uri=self.prompts_uri),
                **self.given("licence"),
            ),
        )

    def _answerer(self, before: JudgeBenchmark | None) -> JudgeConfig:
        endpoint = {"endpoint_url": "url", "endpoint_model": "model", "key_env": "key_env"}
        given = {endpoint[name]: value.strip() for name, value in self.given(*endpoint).items()}
        if self.vqa_model is not None and given:
            raise ValueError("judge: expected vqa_model or an endpoint, got both; leave one of them empty")
        if self.vqa_model is not None:
            return LocalJudge(vqa=VqaConfig(model=self.vqa_model))
        if given and before is not None and isinstance(before.answerer, EndpointConfig):
            return before.answerer.replace(**given)
        if given:
            if missing := [name for name, field in endpoint.items() if name != "key_env" and field not in given]:
                raise ValueError(f"judge: an endpoint needs {' and '.join(missing)} too, found an empty box")
            return EndpointConfig(**given)
        if before is None:
            raise ValueError("judge: expected vqa_model, or endpoint_url and endpoint_model, found empty boxes")
        return before.answerer


class TextRenderingForm(RewritingForm):
    """Words that prompts ask for, read in the pictures by an OCR."""

    prompts_uri: str | None = box(
        "Prompts: .txt with one per line, .jsonl, or a .json list (path, s3:// or http URI). Wanted is "
        "what stands in quotation marks, or in the field text."
    )
    prompts_sha256: str | None = box("First digits of the checksum of the prompts.")
    num_prompts: Count | None = box("Number of prompts, spread over all.")
    pictures_per_prompt: Count | None = box("Pictures of every prompt.")

    def change(self, before: TextRenderingBenchmark | None) -> TextRenderingBenchmark:
        """Return the benchmark with what was filled in.

        Raises:
            ValueError: There are no prompts, or a checksum without a file.
        """
        if self.prompts_uri is not None:
            prompts = PinnedFile(uri=self.prompts_uri, sha256=self.prompts_sha256)
        elif before is None or self.prompts_sha256 is not None:
            raise ValueError("text_rendering: expected prompts_uri, found an empty box; name the file of the prompts")
        else:
            prompts = before.prompts
        benchmark = before or TextRenderingBenchmark(prompts=prompts)
        return benchmark.replace(
            prompts=prompts,
            rewriter=self.rewriter(benchmark.rewriter),
            **self.given("num_prompts", "pictures_per_prompt"),
        )
