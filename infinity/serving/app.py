"""The ASGI application: OpenAI's images API, health, metrics, and the page."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from infinity.serving.admission import check_request, protected
from infinity.serving.batcher import Batcher, QueuedPicture
from infinity.serving.bodies import read_fields
from infinity.serving.drawing import DrawingRoom, DrawnFile, OnePicture, batch_key
from infinity.serving.inputs import PictureRequest, check_scales, picture_request
from infinity.serving.metrics import CONTENT_TYPE, ServerMetrics
from infinity.serving.refusal import HANDLERS, RefusedError, answer, error_body
from infinity.serving.settings import ServingConfig

_PAGE = Path(__file__).parent / "page"
_PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_CLIENT_GONE = 499
"""Status under which a cancelled request is counted; nobody receives it (nginx counts so too)."""
_MOST_TOLD = 64
"""Previews that wait for a slow reader; older ones are dropped."""


class PictureServer:
    """A loaded model behind an ASGI application.

    Attributes:
        app: The application.
        config: Settings.
        since: Time at which the model was loaded, in seconds since 1970.
    """

    def __init__(self, config: ServingConfig, room: DrawingRoom | None = None) -> None:
        """Load the model.

        Raises:
            ValueError: The model or an adapter cannot be loaded.
        """
        self.config, self.room, self.since = config, room or DrawingRoom(config), int(time.time())
        self.metrics = ServerMetrics(lambda: len(self.batcher.waiting), lambda: self.batcher.running)
        self.batcher = Batcher(self.room.compute, config.limits, self.metrics.drawn)
        generations, edits = (self._counted(path, edits=path.endswith("edits")) for path in _DRAWING_PATHS)
        self.app = Starlette(
            routes=[
                Route(_DRAWING_PATHS[0], generations, methods=["POST"]),
                Route(_DRAWING_PATHS[1], edits, methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/v1/models/{model}", self._model),
                Route("/health", self._health),
                Route("/metrics", self._metrics),
                *(Route(path, _page(*file)) for path, file in _PAGE_FILES.items()),
            ],
            exception_handlers=HANDLERS,
        )
        self.app.router.redirect_slashes = False

    def _counted(self, path: str, *, edits: bool) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            started, status = time.monotonic(), 500
            try:
                response = await self._draw(request, edits=edits)
                status = response.status_code
                return response
            except asyncio.CancelledError:  # Ray cancels the request of a client that went away
                status = _CLIENT_GONE
                raise
            except Exception as error:  # answered here, since what passes on is logged with its text
                response = answer(error)
                status = response.status_code
                return response
            finally:
                self.metrics.requests.labels(path, str(status)).inc()
                self.metrics.seconds.labels(path).observe(time.monotonic() - started)

        return serve

    async def _draw(self, request: Request, *, edits: bool) -> Response:
        check_request(request, self.config)
        wanted = picture_request(await read_fields(request, self.config.limits), self.config, edits=edits)
        check_scales(wanted, self.room.schedule(wanted))
        told: asyncio.Queue[tuple[int, int, int, Image.Image]] = asyncio.Queue(_MOST_TOLD)
        loop = asyncio.get_running_loop()
        key = batch_key(wanted)
        pictures = [
            QueuedPicture(
                key, OnePicture(wanted.prompt, seed, wanted), _teller(loop, told, index) if wanted.stream else None
            )
            for index, seed in enumerate(wanted.seeds)
        ]
        self.batcher.add(pictures)
        if wanted.stream:
            return StreamingResponse(self._events(wanted, pictures, told), media_type="text/event-stream")
        try:
            return await self._whole(request, wanted, pictures)
        finally:
            self.batcher.cancel(pictures)

    async def _whole(self, request: Request, wanted: PictureRequest, pictures: Sequence[QueuedPicture]) -> Response:
        """Wait for all pictures, or until the client is gone."""
        work = asyncio.gather(*(picture.result for picture in pictures))
        gone = asyncio.ensure_future(_gone(request))
        both: set[asyncio.Future[Any]] = {work, gone}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if not work.done():
            work.cancel()
            raise RefusedError("the client went away", status=408)
        drawn: Sequence[DrawnFile] = work.result()
        about = {"background": "opaque", "output_format": "png", "size": _size(drawn[0].size)}
        data = [_entry(each.png, wanted) for each in drawn]
        return JSONResponse({"created": int(time.time()), "data": data} | about)

    async def _events(
        self,
        wanted: PictureRequest,
        pictures: Sequence[QueuedPicture],
        told: asyncio.Queue[tuple[int, int, int, Image.Image]],
    ) -> AsyncIterator[bytes]:
        kind = "image_edit" if wanted.image is not None else "image_generation"
        work = asyncio.gather(*(picture.result for picture in pictures))
        try:
            while not (work.done() and told.empty()):
                news = asyncio.ensure_future(told.get())
                both: set[asyncio.Future[Any]] = {work, news}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if not news.done():
                    news.cancel()
                    continue
                index, scale, scales, image = news.result()
                if scale in (shown := _shown(scales, wanted.partial_images)):
                    about: dict[str, Any] = {"index": index, "scale": scale, "num_scales": scales}
                    about["partial_image_index"] = shown.index(scale)
                    yield _picture_event(f"{kind}.partial_image", about, _preview(image), image.size)
            for index, drawn in enumerate(work.result()):
                about = {"index": index, "usage": drawn.usage}
                about |= _entry(drawn.png, wanted) if wanted.as_url else {}
                yield _picture_event(f"{kind}.completed", about, drawn.png, drawn.size)
        except Exception as error:  # the answer has begun, so that its status cannot tell
            yield _event("error", error_body(error))
        finally:
            work.cancel()
            self.batcher.cancel(pictures)

    async def _models(self, request: Request) -> Response:
        check_request(request, self.config)
        return JSONResponse({"object": "list", "data": [self._about()], "loras": sorted(self.config.adapters)})

    async def _model(self, request: Request) -> Response:
        check_request(request, self.config)
        about = self._about()
        if request.path_params["model"] != about["id"]:
            raise RefusedError("there is no such model; /v1/models names those that are served", "model", status=404)
        return JSONResponse(about)

    def _about(self) -> dict[str, Any]:
        """Return the served model as OpenAI's API describes one."""
        digest = self.room.pipe.pipeline.digest
        return {"id": digest, "object": "model", "created": self.since, "owned_by": "infinity"}

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "waiting": len(self.batcher.waiting), "running": self.batcher.running})

    async def _metrics(self, request: Request) -> Response:
        check_request(request, self.config)
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)


_DRAWING_PATHS = ("/v1/images/generations", "/v1/images/edits")


def _teller(
    loop: asyncio.AbstractEventLoop, told: asyncio.Queue[tuple[int, int, int, Image.Image]], index: int
) -> Callable[[int, int, Image.Image], None]:
    """Return a callback for the computing thread; a reader that is too slow misses the oldest previews."""

    def put(item: tuple[int, int, int, Image.Image]) -> None:
        if told.full():
            told.get_nowait()
        told.put_nowait(item)

    return lambda scale, scales, image: loop.call_soon_threadsafe(put, (index, scale, scales, image))  # type: ignore[return-value]


async def _gone(request: Request) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(0.1)


def _shown(scales: int, wanted: int | None) -> list[int]:
    """Return the scales whose previews are sent, in order: all but the last, or as many as wanted, evenly spread."""
    if wanted is None or wanted >= scales - 1:
        return list(range(scales - 1))
    return sorted({round((i + 1) * (scales - 1) / (wanted + 1)) for i in range(wanted)})


def _entry(png: bytes, wanted: PictureRequest) -> dict[str, Any]:
    text = _base64(png)
    return {"url": f"data:image/png;base64,{text}"} if wanted.as_url else {"b64_json": text}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _preview(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _picture_event(kind: str, about: dict[str, Any], png: bytes, size: tuple[int, int]) -> bytes:
    """Return an event with a picture and the fields that OpenAI's API describes one by."""
    fixed = {"created_at": int(time.time()), "background": "opaque", "output_format": "png", "quality": "auto"}
    return _event(kind, {"b64_json": _base64(png), "size": _size(size)} | fixed | about)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _event(kind: str, about: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | about)}\n\n".encode()


def _page(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    content = (_PAGE / name).read_bytes()

    async def serve(_: Request) -> Response:
        return protected(Response(content, media_type=kind))

    return serve
