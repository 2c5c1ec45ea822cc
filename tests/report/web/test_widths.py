"""No page is cut at 1400 pixels or on a phone, and no label lies on another."""

import json

import pytest

pytestmark = pytest.mark.browser

TOO_WIDE = """return [...document.querySelectorAll('.fit, .versions, .gallery, .controls, .lede')]
    .filter((box) => box.scrollWidth > box.clientWidth + 1).map((box) => box.className)"""

CUT = """const right = document.documentElement.clientWidth;
    return [...document.querySelectorAll('td, th, dd, dt, h2, audio, select, .spectrogram img')]
    .filter((one) => one.getBoundingClientRect().right > right + 1).map((one) => one.outerHTML)"""

OVERLAPPING = """
    const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1
        && b.top < a.bottom - 1;
    return [...document.querySelectorAll('.chart svg')].flatMap((plot) => {
        const labels = [...plot.querySelectorAll('text')];
        const boxes = labels.map((label) => label.getBoundingClientRect());
        return labels.flatMap((label, index) => labels.slice(index + 1)
            .filter((_, other) => meet(boxes[index], boxes[index + 1 + other]))
            .map((other) => `${label.textContent} on ${other.textContent}`));
    })"""

UNFOLD = "document.querySelectorAll('details').forEach((one) => { one.open = true })"


@pytest.fixture(params=["run", "codec", "arms", "codecs"])
def runs(request, make_run, make_codec_run):
    """Runs whose page is looked at, and the baseline."""
    if request.param == "run":
        return [make_run()], None
    if request.param == "codec":
        return [make_codec_run()], None
    make = make_run if request.param == "arms" else make_codec_run
    names = ("an_arm_with_a_long_name", "baseline")
    return [make(name, seed, 1 + 0.01 * seed) for name in names for seed in range(3)], names[1]


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_is_cut_and_no_labels_overlap(opened, wide, runs, width):
    folders, baseline = runs
    browser = opened(*folders, baseline=baseline)
    browser.execute_script(UNFOLD)
    wide(width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(TOO_WIDE) == []
    assert browser.execute_script(CUT) == []
    assert browser.execute_script(OVERLAPPING) == []


@pytest.mark.parametrize("floor", [0.40, 0.44, 0.48, 0.55])
def test_the_name_of_a_floor_keeps_clear_of_the_steps(opened, wide, make_run, floor):
    folder = make_run()
    rows = json.loads((folder / "summary.json").read_text())
    rows = [row | {"frechet_features_floor": floor} for row in rows]
    (folder / "summary.json").write_text(json.dumps(rows))
    browser = opened(folder)
    for width in (1400, 390):
        wide(width)
        assert browser.execute_script(OVERLAPPING) == []


def test_a_table_without_room_becomes_cards(opened, page, wide, make_run):
    opened(*(make_run(f"arm{index}") for index in range(3)))
    wide(1400)
    assert page.every("table.cards") == []
    wide(390)
    assert "cards" in page.find("#methods").get_attribute("class")
    assert page.every("#headline.cards") == []
    cell = page.find("#methods tbody td:nth-child(3)")
    assert cell.get_attribute("data-label") == "Fr\u00e9chet features %, 2 steps"
