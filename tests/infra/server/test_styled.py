"""The style of forms is in every page of Prefect, in nothing else, and names what the page has."""

from __future__ import annotations

import asyncio
import re
from importlib.resources import files

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from infra.server.styled import _LINK, CLASSES, STYLE, STYLE_PATH, Styled

PAGE = "<html><head><title>ä</title></head><body>" + "<p>text</p>" * 500 + "</body></html>"
LINK = _LINK.decode()


async def page(request: Request) -> Response:
    if "if-none-match" in request.headers or "range" in request.headers:
        return Response(status_code=304)
    return HTMLResponse(PAGE, headers={"ETag": '"1"', "X-Other": "kept"})


async def pieces(_: Request) -> Response:
    async def parts() -> object:
        for number in range(0, len(PAGE), 7):
            yield PAGE[number : number + 7]

    return StreamingResponse(parts(), media_type="text/html; charset=utf-8")  # type: ignore[arg-type]


async def data(_: Request) -> Response:
    return JSONResponse({"page": PAGE})


async def headless(_: Request) -> Response:
    return HTMLResponse("<p>no head</p>", status_code=404)


ROUTES = [
    Route("/", page), Route("/runs/flow-run/1", page), Route("/pieces", pieces), Route("/api/data", data),
    Route("/data", data), Route("/assets/page.html", page), Route("/missing", headless), Route("/api/page", page),
]  # fmt: skip


def ask(path: str, method: str = "GET", **headers: str) -> httpx.Response:
    inner = Starlette(routes=ROUTES)
    inner.add_middleware(GZipMiddleware)

    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app=Styled(inner))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(asked())


@pytest.mark.parametrize("path", ["/", "/runs/flow-run/1", "/pieces"])
@pytest.mark.parametrize("headers", [{}, {"if-none-match": '"1"'}, {"range": "bytes=0-9", "accept-encoding": "gzip"}])
def test_every_page_names_the_style_once_and_is_whole(path: str, headers: dict[str, str]) -> None:
    answer = ask(path, **headers)
    assert answer.text == PAGE.replace("</head>", f"{LINK}</head>")
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert "etag" not in answer.headers
    assert path == "/pieces" or answer.headers["x-other"] == "kept"


@pytest.mark.parametrize("path", ["/api/data", "/data", "/assets/page.html", "/api/page", "/missing"])
def test_what_is_no_page_is_passed_on_as_it_is(path: str) -> None:
    assert LINK not in ask(path).text


def test_heads_have_no_body_and_a_missing_page_keeps_its_status() -> None:
    assert ask("/", "HEAD").text == ""
    assert ask("/missing").status_code == 404
    assert ask("/missing").text == "<p>no head</p>"


def test_the_style_is_served() -> None:
    answer = ask(STYLE_PATH)
    assert answer.headers["content-type"].startswith("text/css")
    assert answer.text == STYLE
    assert STYLE.count("{") == STYLE.count("}")


def test_the_page_of_the_installed_prefect_has_what_the_style_names() -> None:
    ui = files("prefect") / "server" / "ui"
    assert "</head>" in (ui / "index.html").read_text(encoding="utf-8")
    scripts = [each.read_text(encoding="utf-8") for each in (ui / "assets").iterdir() if each.name.startswith("index-")]
    for name in CLASSES:
        assert any(re.search(rf"\b{name}\b", script) for script in scripts), name
    assert set(re.findall(r"\.([a-z][a-z-]+)(?=[ .){])", STYLE)) == set(CLASSES)
