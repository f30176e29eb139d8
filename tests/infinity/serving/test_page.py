"""The page of the server in a real browser: by keyboard alone, as wide as a phone, with markup for a prompt."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from infinity.generation.drawing.own_pictures import source_of
from infinity.generation.files.picture_files import drawing_in
from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.serving.app import PictureServer
from infinity.serving.settings import ServingConfig
from tests.browser.screenshots import Browser, open_browser, why_no_browser
from tests.fixtures.data.small_world import write_model
from tests.fixtures.limits import AGES_S
from tests.fixtures.servers.served_app import served

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(why_no_browser() is not None, reason=str(why_no_browser())),
]
MARKUP = "<img src=x onerror=alert(1)> & <b>cube</b>"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small model, or that of INFINITY_PAGE_MODEL, for pictures worth looking at."""
    return os.environ.get("INFINITY_PAGE_MODEL") or write_model(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def address(model: str) -> Iterator[str]:
    server = PictureServer(ServingConfig(model=model, device="cpu"))
    with served(server.app) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser("--no-proxy-server") as browser:
        yield browser


def wait(browser: Browser, script: str, what: str) -> Any:
    driver = browser._driver
    return WebDriverWait(driver, AGES_S).until(lambda _: driver.execute_script(f"return {script}"), what)


def wait_for_pictures(browser: Browser, count: int) -> None:
    """Wait for finished pictures, or for an error, which is one."""
    told = "document.getElementById('message').textContent"
    wait(browser, f"{told} || document.querySelectorAll('#gallery a').length == {count}", f"{count} pictures")
    assert browser.run(f"return {told}") == ""


def keys(browser: Browser, *each: str) -> None:
    ActionChains(browser._driver).send_keys(*each).perform()


def tab_to(browser: Browser, name: str) -> None:
    """Press the tabulator until an element has the focus, as a person without a mouse does."""
    for _ in range(60):
        if browser.run("return document.activeElement.id || document.activeElement.textContent") == name:
            return
        keys(browser, Keys.TAB)
    raise AssertionError(f"{name} cannot be reached with the tabulator")


def pictures(browser: Browser) -> list[bytes]:
    """Finished pictures of the gallery, newest first."""
    links = browser.run("return [...document.querySelectorAll('#gallery a')].map(a => a.href)")
    return [base64.b64decode(link.split(",")[1]) for link in links]


def shoot(browser: Browser, name: str) -> None:
    if folder := os.environ.get("INFINITY_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser._driver.save_screenshot(str(Path(folder) / f"{name}.png"))


def test_a_picture_and_its_edit_by_keyboard_alone(browser: Browser, address: str, model: str) -> None:
    driver = browser._driver
    driver.set_window_size(1200, 1000)
    driver.get(address)
    wait(browser, "document.getElementById('about').textContent.startsWith('model')", "the page knows its model")
    # What the pictures showed on their way.
    browser.run(
        "window.states = []; new MutationObserver(() => document.querySelectorAll('#gallery p').forEach("
        "p => window.states.push(p.textContent))).observe(document.getElementById('gallery'), {childList: true, "
        "subtree: true, characterData: true})"
    )
    tab_to(browser, "prompt")
    keys(browser, "a photo of a red circle")
    tab_to(browser, "n")
    keys(browser, Keys.BACKSPACE, Keys.DELETE, "2")
    tab_to(browser, "draw")
    keys(browser, Keys.ENTER)
    wait_for_pictures(browser, 2)
    assert {"scale 1 of 4", "scale 1 of 5", "scale 1 of 6", "scale 1 of 7"} & set(browser.run("return window.states"))
    drawn = pictures(browser)
    pipe = InfinityPipeline.from_pretrained(model, device="cpu")
    alone = pipe("a photo of a red circle", num_images_per_prompt=2).pixels()
    for data, expected in zip(drawn, reversed(alone), strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), expected)
    shoot(browser, "pictures")
    tab_to(browser, "Edit")
    keys(browser, Keys.ENTER)
    wait(browser, "document.activeElement.id == 'canvas'", "the editor is open and has the focus")
    keys(browser, " ", *[Keys.ARROW_RIGHT] * 6, " ", *[Keys.ARROW_UP] * 6, " ")
    shoot(browser, "editor")
    tab_to(browser, "edit")
    keys(browser, Keys.ENTER)
    wait_for_pictures(browser, 3)
    edited = pictures(browser)[0]
    settings = drawing_in(edited, where="edited")
    assert settings.edit is not None
    before, after = (source_of(pipe, data, where="x").labels for data in (drawn[0], edited))
    same = (before.bits_BLC == after.bits_BLC).all(dim=-1)[0]
    assert int(same.sum()) > 0
    assert torch.equal(same, same | _kept(pipe, edited))
    assert browser.run("return document.getElementById('message').textContent") == ""
    assert not browser.errors()


def _kept(pipe: InfinityPipeline, data: bytes) -> torch.Tensor:
    from infinity.generation.editing.edits import recorded

    settings = drawing_in(data, where="edited")
    assert settings.edit is not None
    return recorded(pipe.pipeline, settings.edit, settings.aspect_ratio).kept_L


def test_a_prompt_with_markup_is_text_and_errors_are_told(browser: Browser, address: str) -> None:
    driver = browser._driver
    driver.get(address)
    driver.find_element(By.ID, "prompt").send_keys(MARKUP)
    driver.find_element(By.ID, "draw").click()
    wait_for_pictures(browser, 1)
    assert MARKUP in browser.text()
    assert browser.run("return document.querySelectorAll('#gallery b').length") == 0
    assert browser.run("return document.querySelectorAll('#gallery img').length") == 1
    assert not browser.errors()
    browser.run("document.getElementById('n').removeAttribute('max'); document.getElementById('n').value = 99")
    driver.find_element(By.ID, "draw").click()
    wait(browser, "document.getElementById('message').textContent.includes('n: expected')", "the error is told")
    assert browser.run("return document.querySelectorAll('#gallery li').length") == 1
    assert browser.asked_hosts() <= {"127.0.0.1"}
    assert all("400 (Bad Request)" in error for error in browser.errors())  # the refused n, and nothing else


def click(browser: Browser, text: str) -> None:
    """Click the first button of the gallery with these words, which belongs to the newest picture."""
    browser._driver.find_element(By.XPATH, f"//*[@id='gallery']//*[text()='{text}']").click()


def value(browser: Browser, script: str) -> Any:
    return browser.run(f"return {script}")


def test_another_seed_of_an_edit_edits_the_same_part_again(browser: Browser, address: str) -> None:
    driver = browser._driver
    driver.get(address)
    driver.find_element(By.ID, "prompt").send_keys("a red circle")
    driver.find_element(By.ID, "draw").click()
    wait_for_pictures(browser, 1)
    assert value(browser, "document.getElementById('state').textContent") == "1 picture drawn"
    click(browser, "Edit")
    wait(browser, "document.activeElement.id == 'canvas'", "the editor is open")
    keys(browser, *[Keys.ARROW_RIGHT] * 6, " ")
    driver.find_element(By.ID, "edit").click()
    wait_for_pictures(browser, 2)
    click(browser, "Again with another seed")
    wait_for_pictures(browser, 3)
    newest, edited, plain = (drawing_in(data, where="") for data in pictures(browser))
    assert plain.edit is None
    assert newest.edit == edited.edit is not None
    assert newest == edited.replace(seed=edited.seed + 1)
    # A second finger paints nothing.
    browser.run(
        "document.getElementById('clear').click(); const c = document.getElementById('canvas'), b = "
        "c.getBoundingClientRect(); c.dispatchEvent(new PointerEvent('pointerdown', {isPrimary: false, buttons: 1, "
        "pointerId: 7, clientX: b.left + 9, clientY: b.top + 9}))"
    )
    assert value(browser, "editing.mask.some(Boolean)") is False
    assert not browser.errors()


def test_what_is_missing_runs_or_cannot_be_reached_is_said(browser: Browser, address: str) -> None:
    driver = browser._driver
    driver.get(address)
    driver.find_element(By.ID, "prompt").send_keys("a red circle")
    for name in ("guidance", "temperature", "seed", "n"):
        before = value(browser, f"document.getElementById('{name}').value")
        browser.run(f"document.getElementById('{name}').value = ''")
        driver.find_element(By.ID, "draw").click()
        assert value(browser, "running") is None, f"an empty {name} was drawn with"
        assert value(browser, f"document.getElementById('{name}').validity.valueMissing")
        browser.run(f"document.getElementById('{name}').value = '{before}'")
    browser.run("document.getElementById('guidance').value = '2.55'")
    driver.find_element(By.ID, "draw").click()
    wait_for_pictures(browser, 1)
    message = "document.getElementById('message').textContent"
    browser.run("window.real = window.fetch; window.fetch = () => new Promise(() => {})")
    driver.find_element(By.ID, "draw").click()
    assert value(browser, "document.getElementById('state').textContent") == "drawing"
    click(browser, "Again with another seed")
    assert value(browser, message) == "a drawing is running; wait for it, or stop it"
    assert value(browser, "document.querySelectorAll('#gallery li').length") == 2
    driver.get(address)  # as a person reloads, or comes back
    driver.find_element(By.ID, "prompt").send_keys("a red circle")
    browser.run("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
    driver.find_element(By.ID, "draw").click()
    wait(browser, f"{message} == 'the server cannot be reached'", "it is said that there is no server")
    assert value(browser, "document.querySelectorAll('#gallery li').length") == 0
    assert not value(browser, "document.getElementById('draw').disabled")


def test_the_page_fits_a_phone(browser: Browser, address: str) -> None:
    driver = browser._driver
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        driver.get(address)
        driver.find_element(By.ID, "prompt").send_keys("a very long word " + "x" * 200)
        driver.find_element(By.ID, "draw").click()
        wait_for_pictures(browser, 1)
        driver.find_element(By.XPATH, "//*[text()='Edit']").click()
        wait(browser, "!document.getElementById('editor').hidden", "the editor is open")
        width, inner = json.loads(
            browser.run("return JSON.stringify([document.documentElement.scrollWidth, innerWidth])")
        )
        assert width <= inner == 390
        small = browser.run(
            "return [...document.querySelectorAll('button, input:not([type=radio]), textarea, select')].filter(e => "
            "e.offsetParent && e.getBoundingClientRect().height < 36).map(e => e.id)"
        )
        assert small == []
        canvas = driver.find_element(By.ID, "canvas")
        ActionChains(driver).move_to_element(canvas).click_and_hold().move_by_offset(20, 10).release().perform()
        driver.find_element(By.ID, "edit").click()
        wait_for_pictures(browser, 2)
        browser.run("scrollTo(0, 0)")
        shoot(browser, "phone")
        browser.run("document.getElementById('editor').scrollIntoView()")
        shoot(browser, "phone-editor")
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
