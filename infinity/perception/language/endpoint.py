"""Questions about pictures to an OpenAI-compatible endpoint: time-outs, retries, refusals, and no key in any text."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import httpx
from PIL import Image

from infinity.config import Config
from infinity.perception.language.vqa import Picture
from infinity.ranges import Count, NotBlank, Positive, Range

_MOST_BYTES = 4 * 2**20
_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_FILTERED = re.compile(
    rb"content[_ -]?(filter|policy|moderat)|policy[_ ]?violation|data[_ ]?inspection|responsible[_ ]?ai|unsafe content",
    re.IGNORECASE,
)
"""Words by which endpoints refuse one picture or question, rather than the key or the form of the request."""


class EndpointError(ValueError):
    """The endpoint can answer nothing: a wrong address, a refused key, a request that it does not understand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointConfig(Config):
    """Configuration of an endpoint with the path ``/chat/completions``.

    Attributes:
        url: Address that ends before ``/chat/completions``, for example "https://api.openai.com/v1".
        model: Name of the model at the endpoint, with its date where there is one.
        key_env: Name of the environment variable that holds the key; empty for an endpoint without a key.
        max_tokens: Largest number of tokens per answer.
        top_logprobs: Number of likeliest tokens for which probabilities are asked.
        timeout_s: Longest duration of one request in seconds.
        attempts: Number of requests per question before the question counts as a gap.
        concurrency: Number of requests at the same time.
        price_per_million: Price of a million tokens that are read, and of a million that are written; None for unknown.
        kind: Tag that tells this judge from others in JSON.
    """

    url: str
    model: Annotated[str, NotBlank("a name")]
    key_env: str = "OPENAI_API_KEY"
    max_tokens: Count = 16
    top_logprobs: Annotated[int, Range(1, 20)] = 20
    timeout_s: Positive = 60.0
    attempts: Count = 4
    concurrency: Count = 4
    price_per_million: tuple[float, float] | None = None
    kind: Literal["endpoint"] = "endpoint"

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"EndpointConfig.url: expected http://… or https://…, got {_without_user(self.url)!r}")
        if parts.username or parts.password or parts.query:
            raise ValueError(
                "EndpointConfig.url: expected an address without user, password or query, since it is stored; put the "
                "key into an environment variable and name that as key_env"
            )

    def answer_settings(self) -> dict[str, Any]:
        """Return all that an answer depends on; not the address, key, price, pace or patience."""
        return {"model": self.model, "max_tokens": self.max_tokens, "top_logprobs": self.top_logprobs}


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointReply:
    """What the endpoint said to one question, or why there is no answer.

    Attributes:
        text: The answer; None for a gap.
        tokens: Probabilities of the likeliest first tokens by their text; empty where the endpoint gives none.
        gap: Reason why there is no answer; None for an answer.
        passing: Whether the same question may get an answer later: a time-out or an overloaded endpoint.
        written: Tokens that the endpoint wrote.
        version: Name and fingerprint of the model that answered.
    """

    text: str | None = None
    tokens: Mapping[str, float] | None = None
    gap: str | None = None
    passing: bool = False
    read: int = 0
    written: int = 0
    version: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Instruction:
    """A text that is sent as a published script sends it: before the picture, for a long reply.

    Attributes:
        system: Message of the system before it; empty for none.
        temperature: Sampling temperature; None leaves it to the endpoint.
        max_tokens: Largest number of tokens of the reply.
    """

    text: str
    system: str = ""
    temperature: float | None = None
    max_tokens: int = 4096


class Endpoint:
    """An endpoint that answers questions about pictures at temperature 0; instructions say their own temperature.

    Raises:
        EndpointError: The environment variable of the key is not set.
    """

    def __init__(self, config: EndpointConfig, device: str = "cpu") -> None:
        self.config = config
        self._key = os.environ.get(config.key_env, "").strip() if config.key_env else ""
        if config.key_env and not self._key:
            raise EndpointError(
                f"{config.url}: expected its key in the environment variable {config.key_env}, which is not set; set "
                'it, or give "key_env": "" for an endpoint without a key'
            )

    def ask(self, questions: Sequence[tuple[Picture, str | Instruction]]) -> list[EndpointReply]:
        """Return a reply to every question, in order; questions without an answer have a gap.

        Raises:
            EndpointError: The endpoint refuses the key or the request, so that no question can be answered.
        """
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        with (
            httpx.Client(headers=headers, timeout=self.config.timeout_s) as client,
            ThreadPoolExecutor(self.config.concurrency) as pool,
        ):
            return list(pool.map(lambda asked: self._ask(client, *asked), questions))

    def _ask(self, client: httpx.Client, picture: Picture, question: str | Instruction) -> EndpointReply:
        body, reason = self._body(picture, question), ""
        for attempt in range(self.config.attempts):
            pause = min(_LONGEST_PAUSE_S, _PAUSE_S * 2.0**attempt)
            try:
                status, data, wait = self._post(client, body)
            except httpx.TimeoutException:
                reason = f"no answer within {self.config.timeout_s:g} s"
            except httpx.HTTPError as error:
                reason = self._clean(f"the connection broke ({type(error).__name__}: {error})")
            else:
                if status == 200:
                    reply = self._read(data)
                    if reply.gap is None or not reply.passing:
                        return reply
                    reason = reply.gap
                elif status in (408, 409, 425, 429) or status >= 500:
                    reason, pause = f"status {status}", min(_LONGEST_PAUSE_S, wait or pause)
                elif status in (400, 403, 422, 451) and _FILTERED.search(data):
                    return EndpointReply(gap=f"refused: {self._shown(data)}")
                else:
                    raise EndpointError(f"{self.config.url}: status {status}: {self._shown(data)}")
            if attempt + 1 < self.config.attempts:
                time.sleep(pause)
        return EndpointReply(gap=f"{reason}, {self.config.attempts} times", passing=True)

    def _post(self, client: httpx.Client, body: bytes) -> tuple[int, bytes, float]:
        """Return status, content and the pause that is asked for; a server that drips does not outlast the time-out."""
        end = time.monotonic() + self.config.timeout_s
        where = f"{self.config.url.rstrip('/')}/chat/completions"
        with client.stream("POST", where, content=body, headers={"Content-Type": "application/json"}) as response:
            data = b""
            for piece in response.iter_bytes():
                data += piece
                if time.monotonic() > end:
                    raise httpx.ReadTimeout("too slow")
                if len(data) > _MOST_BYTES:
                    raise httpx.DecodingError(f"an answer of more than {_MOST_BYTES} bytes")
            return response.status_code, data, _pause(response.headers.get("Retry-After"))

    def _body(self, picture: Picture, question: str | Instruction) -> bytes:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, format="PNG")
        data = base64.b64encode(file.getvalue()).decode()
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        if isinstance(question, Instruction):
            return self._instruction(image, question)
        content = [image, {"type": "text", "text": question}]
        about = {"temperature": 0, "max_tokens": self.config.max_tokens, "logprobs": True}
        return json.dumps({
            "model": self.config.model, "messages": [{"role": "user", "content": content}], **about,
            "top_logprobs": self.config.top_logprobs,
        }).encode()  # fmt: skip

    def _instruction(self, image: Mapping[str, Any], asked: Instruction) -> bytes:
        system = [{"role": "system", "content": asked.system}] if asked.system else []
        content = [{"type": "text", "text": asked.text}, image]
        about = {} if asked.temperature is None else {"temperature": asked.temperature}
        return json.dumps({
            "model": self.config.model, "messages": [*system, {"role": "user", "content": content}],
            "max_tokens": asked.max_tokens, **about,
        }).encode()  # fmt: skip

    def _read(self, data: bytes) -> EndpointReply:
        """Return the reply in a response; one that is no chat completion is a gap that may pass."""
        try:
            found = json.loads(data)
            choice, usage = found["choices"][0], found.get("usage") or {}
            message = choice["message"]
            named = [str(found[name]) for name in ("model", "system_fingerprint") if found.get(name)]
            about: dict[str, Any] = {
                "read": int(usage.get("prompt_tokens") or 0),
                "written": int(usage.get("completion_tokens") or 0),
                "version": self._clean(" ".join(named)),
            }
            refusal = message.get("refusal") or (choice.get("finish_reason") == "content_filter" and "content filter")
            if refusal:
                return EndpointReply(gap=f"refused: {self._clean(str(refusal))[:200]}", **about)
            text = _text(message.get("content"))
            if not isinstance(text, str) or not text.strip():
                return EndpointReply(gap="an empty answer", **about)
            tokens = {self._clean(token): p for token, p in _first_tokens(choice).items()}
            return EndpointReply(text=self._clean(text.strip()), tokens=tokens, **about)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError):
            return EndpointReply(gap=f"no chat completion: {self._shown(data)}", passing=True)

    def _clean(self, text: str) -> str:
        """Return a text without the key, which servers like to repeat."""
        return text.replace(self._key, "***") if self._key else text

    def _shown(self, data: bytes) -> str:
        """Return the begin of an answer; cleaned before it is cut, so that no part of the key stays at the cut."""
        return repr(self._clean(data.decode("utf-8", "replace"))[:200])


def _text(content: Any) -> Any:
    """Return the text of a message, which some endpoints send in parts."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type") in ("text", "output_text"))
    return content


def _first_tokens(choice: Mapping[str, Any]) -> dict[str, float]:
    """Return probabilities by text of the first token; empty where there are none."""
    content = (choice.get("logprobs") or {}).get("content") or []
    listed = content[0].get("top_logprobs") or [] if content else []
    found: dict[str, float] = {}
    for each in listed:
        number = float(each["logprob"])
        if not number <= 1e-6:  # NaN too
            raise ValueError(f"expected a logarithm of a probability, got {number}")
        found[str(each["token"])] = math.exp(min(0.0, number))
    return found


def _pause(header: str | None) -> float:
    """Return seconds of a Retry-After header; 0 where there is none that can be read."""
    try:
        seconds = float(header or 0)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _without_user(url: str) -> str:
    return url.rpartition("@")[2]
