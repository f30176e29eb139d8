"""Captions that are clearly in another language are dropped where that is asked, and little is claimed of few words."""

import builtins
from typing import Any

import pytest

from infinity.data.curation import languages
from infinity.data.curation.decisions import decide
from infinity.data.curation.filters import CaptionFilters, FilterConfig
from infinity.data.curation.languages import LanguageError, check_languages, language_shares
from infinity.jobs.dataset.build import BuildDatasetSpec, run
from tests.fixtures.data.facts_builder import facts_of

ENGLISH = ("a red cat on a mat", "house by the sea", "a cat", "IMG 123", "1girl, solo, red hair", "👩‍👩‍👧‍👦")
OTHERS = (
    "eine rote Katze auf der Matte",
    "un chat rouge sur le tapis",
    "красная кошка",
    "一只红色的猫",
    "ภาพแมว",
    "قطة حمراء",
)


def test_captions_in_other_languages_are_dropped_with_a_reason_and_counted() -> None:
    pytest.importorskip("py3langid", reason="the extra languages is not installed")
    filters = FilterConfig(captions=CaptionFilters(languages=("en",)))
    found = decide(facts_of([{"caption": text} for text in (*ENGLISH, *OTHERS)]), filters)
    assert found.kept["caption"].to_pylist() == list(ENGLISH)
    assert found.tally.dropped == {"caption_other_language": len(OTHERS)}
    assert {rule.reason: rule.dropped for rule in found.rules}["caption_other_language"] == len(OTHERS)
    assert sum(next(each.counts for each in found.histograms if each.score == "language_share")) == 12


def test_several_languages_may_be_asked_for_and_a_limit_of_one_keeps_only_the_sure() -> None:
    pytest.importorskip("py3langid", reason="the extra languages is not installed")
    both = FilterConfig(captions=CaptionFilters(languages=("en", "de", "zh")))
    kept = decide(facts_of([{"caption": text} for text in OTHERS]), both).kept["caption"].to_pylist()
    assert kept == [OTHERS[0], OTHERS[3]]
    shares = language_shares(OTHERS, ("de",))
    assert shares[0] > 0.9
    assert (shares[1:] < 0.05).all()


def test_filters_that_ask_for_no_language_keep_their_json_and_list_no_rule() -> None:
    assert not {"languages", "min_language"} & FilterConfig().to_json()["captions"].keys()
    found = decide(facts_of([{"caption": "a cat"}]), FilterConfig())
    assert "caption_other_language" not in {rule.reason for rule in found.rules}
    asked = FilterConfig(captions=CaptionFilters(languages=("en", "de"), min_language=0.1))
    assert FilterConfig.from_json(asked.to_json()) == asked


@pytest.mark.parametrize("code", ["English", "e", "EN", "en-US", ""])
def test_what_is_no_code_is_refused_where_it_is_written(code: str) -> None:
    with pytest.raises(ValueError, match="expected codes of two or three small letters"):
        CaptionFilters(languages=(code,))


def test_a_language_that_the_model_does_not_know_is_named() -> None:
    pytest.importorskip("py3langid", reason="the extra languages is not installed")
    with pytest.raises(LanguageError, match="does not know xx; expected some of"):
        check_languages(("en", "xx"))


def test_without_the_extra_a_build_says_at_once_what_to_install(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("py3langid"):
            raise ImportError(f"No module named {name!r}")
        return found(name, *args, **kwargs)

    languages._identifier.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    filters = FilterConfig(captions=CaptionFilters(languages=("en",)))
    spec = BuildDatasetSpec(source=str(tmp_path / "nothing"), output=str(tmp_path / "out"), filters=filters)
    with pytest.raises(LanguageError, match=r"pip install 'infinity-t2i\[languages\]'"):
        run(spec)
    check_languages(())
