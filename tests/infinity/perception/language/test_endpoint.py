"""An OpenAI-compatible endpoint: what it says, what it refuses, how it fails, and no key anywhere."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest

from infinity.perception.language import endpoint as module
from infinity.perception.language.endpoint import Endpoint, EndpointConfig, EndpointError
from tests.fixtures.limits import AGES_S
from tests.fixtures.servers.endpoint_stub import StubHandler, endpoint

PICTURE = np.full((4, 6, 3), 200, np.uint8)
KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.01)
    monkeypatch.setenv("JUDGE_KEY", KEY)


def config(url: str, **changes: object) -> EndpointConfig:
    return EndpointConfig(url=url, model="stub", key_env="JUDGE_KEY").replace(**changes)


def test_a_reply_holds_text_probabilities_tokens_and_version() -> None:
    with endpoint() as (url, asked):
        (reply,) = Endpoint(config(url)).ask([(PICTURE, "Is there a cup?")])
    assert (reply.text, reply.read, reply.written, reply.version) == ("Yes", 7, 1, "stub-2026-01-01")
    assert reply.tokens == pytest.approx({"Yes": (200 + 2) / 265, "No": 63 / 265})
    assert asked[0]["headers"]["Authorization"] == f"Bearer {KEY}"
    assert asked[0]["body"]["temperature"] == 0


def test_many_questions_keep_their_order() -> None:
    def number(handler: StubHandler, question: str, picture: np.ndarray) -> None:
        time.sleep(0.02 * (int(question) % 3))
        handler.reply(f"{question} {picture.mean():.0f}")

    with endpoint(number) as (url, _):
        asked = [(np.full((2, 2, 3), value, np.uint8), str(value)) for value in range(30)]
        found = Endpoint(config(url, concurrency=8)).ask(asked)
    assert [reply.text for reply in found] == [f"{value} {value}" for value in range(30)]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_an_overloaded_endpoint_is_asked_again(status: int) -> None:
    tries: list[int] = []

    def busy(handler: StubHandler, question: str, picture: np.ndarray) -> None:
        tries.append(1)
        if len(tries) < 3:
            handler.send(b"busy", status, Retry_After="0")
        else:
            handler.reply("yes")

    with endpoint(busy) as (url, _):
        (reply,) = Endpoint(config(url)).ask([(PICTURE, "x?")])
    assert (reply.text, len(tries)) == ("yes", 3)


@pytest.mark.parametrize("how", ["never answers", "drips", "closes", "sends no JSON", "sends no choice", "sends NaN"])
def test_what_fails_every_time_is_a_gap_that_may_pass(how: str) -> None:
    never = how in ("never answers", "drips")  # a time-out may pass before a busy machine has heard the request
    over = threading.Event()

    def bad(handler: StubHandler, question: str, picture: np.ndarray) -> None:
        if how == "never answers":
            over.wait(AGES_S)
        elif how == "drips":
            handler.drip(2)
        elif how == "closes":
            handler.close_connection = True
        elif how == "sends NaN":
            listed = {"token": "yes", "logprob": float("nan")}
            choice = {"message": {"content": "yes"}, "logprobs": {"content": [{"top_logprobs": [listed]}]}}
            handler.send(json.dumps({"choices": [choice]}).encode())
        else:
            handler.send(b"<html>" if how == "sends no JSON" else b'{"choices": []}')

    with endpoint(bad) as (url, asked):
        (reply,) = Endpoint(config(url, timeout_s=0.25 if never else AGES_S, attempts=2)).ask([(PICTURE, "x?")])
        over.set()
    assert reply.text is None
    assert reply.passing
    assert reply.gap is not None
    assert reply.gap.endswith(", 2 times")
    assert len(asked) <= 2 if never else len(asked) == 2


@pytest.mark.parametrize(
    ("message", "words"), [({"refusal": "I cannot judge people"}, "refused: I cannot"), ({"content": "  "}, "an empty")]
)
def test_a_refusal_is_a_gap_and_is_not_asked_again(message: dict[str, str], words: str) -> None:
    with endpoint(lambda handler, question, picture: handler.reply("", **message)) as (url, asked):
        (reply,) = Endpoint(config(url)).ask([(PICTURE, "x?")])
    assert reply.gap is not None
    assert reply.gap.startswith(words)
    assert not reply.passing
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, {"error": {"code": "content_filter", "message": "The prompt triggered the filter."}}),
        (400, {"error": {"type": "image_generation_user_error", "code": "content_policy_violation"}}),
        (400, {"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content."}),
        (403, {"error": {"innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
        (422, {"detail": "Content moderation: unsafe content"}),
    ],
)
def test_one_picture_that_a_filter_refuses_by_a_status_is_a_gap_and_the_others_are_answered(
    status: int, said: dict[str, object]
) -> None:
    def behave(handler: StubHandler, question: str, picture: np.ndarray) -> None:
        if question == "1":
            handler.send(json.dumps(said).encode(), status)
        else:
            handler.reply("Yes")

    with endpoint(behave) as (url, asked):
        found = Endpoint(config(url)).ask([(PICTURE, str(number)) for number in range(3)])
    assert [reply.text for reply in found] == ["Yes", None, "Yes"]
    assert str(found[1].gap).startswith("refused: ")
    assert not found[1].passing
    assert len(asked) == 3


def test_a_reply_in_parts_is_read() -> None:
    parts = [{"type": "thinking", "thinking": "No?"}, {"type": "text", "text": "Y"}, {"type": "text", "text": "es"}]
    with endpoint(lambda handler, question, picture: handler.reply("", content=parts)) as (url, _):
        (reply,) = Endpoint(config(url)).ask([(PICTURE, "x?")])
    assert reply.text == "Yes"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refused_key_or_request_ends_with_one_sentence_that_holds_no_key(status: int) -> None:
    with (
        endpoint(lambda handler, question, picture: handler.send(f"bad key {KEY}".encode(), status)) as (url, asked),
        pytest.raises(EndpointError) as error,
    ):
        Endpoint(config(url)).ask([(PICTURE, "x?")])
    assert f"status {status}" in str(error.value)
    assert "bad key ***" in str(error.value)
    assert KEY not in str(error.value)
    assert len(asked) == 1


def test_a_server_that_repeats_the_key_does_not_spread_it() -> None:
    with endpoint(lambda handler, question, picture: handler.reply(f"your key is {KEY}")) as (url, _):
        (reply,) = Endpoint(config(url)).ask([(PICTURE, "x?")])
    assert reply.text == "your key is ***"


@pytest.mark.parametrize("before", [178, 190, 198])
@pytest.mark.parametrize("way", ["refused request", "refusal", "no completion", "first token"])
def test_no_part_of_the_key_stays_where_a_long_answer_is_cut(way: str, before: int) -> None:
    said = "x" * before + KEY

    def behave(handler: StubHandler, _question: str, _picture: np.ndarray) -> None:
        match way:
            case "refused request":
                handler.send(said.encode(), 401)
            case "refusal":
                handler.reply("", refusal=said)
            case "no completion":
                handler.send(said.encode())
            case _:
                handler.reply("Yes", {said: 0.5})

    with endpoint(behave) as (url, _):
        try:
            told = repr(Endpoint(config(url, attempts=1)).ask([(PICTURE, "x?")]))
        except EndpointError as error:
            told = str(error)
    assert "xxx" in told
    assert KEY[:6] not in told


def test_the_key_is_in_no_stored_setting() -> None:
    assert KEY not in config("http://127.0.0.1:1/v1").dump()


@pytest.mark.parametrize(
    "url", ["http://me:secret@host/v1", "https://host/v1?key=secret", "ftp://host", "host/v1", "http://"]
)
def test_addresses_that_cannot_be_stored_or_used_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"EndpointConfig\.url: expected") as error:
        config(url)
    assert "secret" not in str(error.value)


def test_a_key_that_is_not_set_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(EndpointError, match="environment variable JUDGE_KEY, which is not set"):
        Endpoint(config("http://127.0.0.1:1/v1"))
    with endpoint() as (url, asked):
        Endpoint(config(url, key_env="")).ask([(PICTURE, "x?")])
    assert "Authorization" not in asked[0]["headers"]


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices": ' + b"[" * 10**5 + b"]" * 10**5 + b"}",
        b'{"choices": [{"message": {"content": "yes"}}], "usage": {"prompt_tokens": 1e999}}',
        b'{"choices": [{"message": {"content": "yes"}, "logprobs": {"content": [{"top_logprobs": [{"token": "yes", '
        b'"logprob": -1' + b"0" * 400 + b"}]}]}}]}",
    ],
    ids=["nested", "infinite count", "endless logarithm"],
)
def test_numbers_and_depths_beyond_all_measure_are_gaps(data: bytes) -> None:
    with endpoint(lambda handler, question, picture: handler.send(data)) as (url, _):
        (reply,) = Endpoint(config(url, attempts=1)).ask([(PICTURE, "x?")])
    assert (reply.text, reply.passing) == (None, True)
    assert reply.gap is not None
    assert reply.gap.startswith("no chat completion")
