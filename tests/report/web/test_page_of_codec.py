"""The page of a codec in a real browser: it is heard and seen at every level."""

import pytest

pytestmark = pytest.mark.browser


def test_a_codec_is_heard_and_seen_at_every_level(opened, page, make_codec_run):
    from selenium.webdriver.support.ui import WebDriverWait

    browser = opened(make_codec_run())
    labels = [label.text for label in page.every(".version b")]
    assert labels == ["Original", "1 level", "2 levels", "3 levels"]
    assert "STOI of 0.800 and Log-mel L1 of 0.667" in page.find(".lede").text
    ready = "return [...document.querySelectorAll('audio')].map((player) => player.duration)"
    WebDriverWait(browser, 10).until(lambda found: all(found.execute_script(ready)))
    assert browser.execute_script(ready) == pytest.approx([1.0] * 4, abs=0.05)
    sizes = (
        "return [...document.querySelectorAll('.spectrogram img')].map((one) => one.naturalWidth)"
    )
    assert browser.execute_script(sizes) == [100] * 4
    assert len(page.every("#codebooks tbody tr")) == 3
    rows = [row.text.splitlines()[0] for row in page.every("#headline tbody tr")]
    assert rows == ["Codec 1 level", "Codec 2 levels", "Codec 3 levels"]


def test_codecs_are_heard_side_by_side(opened, page, make_codec_run):
    opened(make_codec_run("ours"), make_codec_run("off", quality=1.5), baseline="off")
    labels = [label.text for label in page.every("#arms-speech b")]
    assert labels == ["Original", "ours", "off"]
    figures = [found.text.split() for found in page.every("#arms-speech dl div:first-child dd")]
    assert figures == [["0.667"], ["1.00"]]
    page.choose("Levels", "1")
    assert page.find("#arms-speech small").text == "1 level, seed 0"
    before = page.find("#arms-speech audio").get_attribute("src")
    utterances = page.find("select[aria-label='Utterance']")
    assert utterances.text.split() == ["reader/0", "reader/1"]
    page.choose("Utterance", "speech/reader/1")
    assert page.find("#arms-speech audio").get_attribute("src") != before
