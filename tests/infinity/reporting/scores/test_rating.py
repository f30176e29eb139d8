"""The page of a preference study holds its pairs as data that no text in them can leave."""

import json
import re

from infinity.reporting.scores.rating import rating_html

PAIRS = [
    {"id": "0", "prompt": "a </script><script>alert(1)</script> cube", "left": "p/1.png", "right": "p/2.png"},
    {"id": "1", "prompt": 'ein "Würfel" & <b>Kugel</b>', "left": "p/3.png", "right": "p/4.png"},
]


def data(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="study">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    loaded: dict[str, object] = json.loads(found[1])
    return loaded


def test_pairs_come_back_from_the_page_as_they_were() -> None:
    assert data(rating_html("cubes", PAIRS)) == {"id": "cubes", "pairs": PAIRS}


def test_a_prompt_can_neither_end_its_script_nor_begin_another() -> None:
    page = rating_html("cubes", PAIRS)
    assert "alert(1)</script>" not in page
    assert page.count("<script") == rating_html("cubes", []).count("<script")


def test_a_name_of_a_study_is_data_too() -> None:
    assert data(rating_html("</script>", []))["id"] == "</script>"
