"""The page in a real browser: what a reader clicks changes what a reader sees."""

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdlight.cli import main
from kdlight.report.page import write_report

pytestmark = pytest.mark.browser
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
support = pytest.importorskip("selenium.webdriver.support.ui", reason="selenium is not installed")

SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("Chromium or its driver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield session
    session.quit()


@pytest.fixture
def opened(browser, make_run, tmp_path: Path):
    """Opens a report; afterwards nothing may have been fetched or logged as an error."""

    def open_report(*runs: Path, **arguments):
        page = write_report(runs or [make_run()], tmp_path / "report.html", **arguments)
        browser.get(page.as_uri())
        return browser

    yield open_report
    entries = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    names = browser.execute_script(entries)
    assert [name for name in names if not name.startswith("data:")] == []
    assert browser.get_log("browser") == []


def find(browser, selector: str):
    return browser.find_element("css selector", selector)


def slide(browser, selector: str, value: int) -> None:
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
    browser.execute_script(script, find(browser, selector), value)


def choose(browser, label: str, value: str) -> None:
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))"
    browser.execute_script(script, find(browser, f"select[aria-label='{label}']"), value)


def column_of_runs(browser, index: int) -> list[str]:
    cells = browser.find_elements("css selector", f"#runs tbody td:nth-child({index})")
    return [cell.text.splitlines()[0].split("/")[0] for cell in cells]


def test_single_run_renders(opened):
    browser = opened()
    assert find(browser, "h1").text == "quickstart"
    assert "1 step" in find(browser, ".lede").text
    rows = browser.find_elements("css selector", "#headline tbody tr")
    assert len(rows) == 6
    assert "0.630\nfloor 0.210" in rows[-1].text
    assert len(browser.find_elements("css selector", "figure img")) == 4
    loaded = "return [...document.images].every((image) => image.naturalWidth > 0)"
    assert browser.execute_script(loaded)
    assert len(browser.find_elements("css selector", ".chart svg")) == 3
    pre = browser.find_element("css selector", "details pre")
    assert not pre.is_displayed()
    find(browser, "details summary").click()
    assert "truncated_snr" in pre.text


@pytest.mark.parametrize(
    ("slider", "caption"),
    [
        ("progress", "iteration 0"),
        ("final-teacher", "1 step, Fréchet 6.85 %"),
        ("final-student", "1 step, Fréchet 0.630 %"),
    ],
)
def test_slider_changes_the_picture(opened, slider, caption):
    browser = opened()
    picture = "return arguments[0].closest('figure').querySelector('img').src"
    slide(browser, f"#{slider}", 1)
    before = browser.execute_script(picture, find(browser, f"#{slider}"))
    slide(browser, f"#{slider}", 0)
    assert browser.execute_script(picture, find(browser, f"#{slider}")) != before
    assert find(browser, f"output[for='{slider}']").text == caption


def test_selector_and_scale_change_the_curve(opened):
    browser = opened()
    line = "return document.querySelector('#curves polyline').getAttribute('points')"
    loss = browser.execute_script(line)
    find(browser, ".segments button:nth-child(2)").click()
    loss_on_log = browser.execute_script(line)
    choose(browser, "Logged value", "val/frechet_features")
    distance = browser.execute_script(line)
    assert len({loss, loss_on_log, distance}) == 3
    assert find(browser, "#curves .chart").get_attribute("aria-label").startswith("val/frechet")


def test_curve_reads_out_under_pointer_and_keys(opened):
    browser = opened()
    plot = find(browser, "#curves .chart")
    webdriver.ActionChains(browser).move_to_element(plot).perform()
    readout = find(browser, "#curves .readout")
    first = readout.text
    assert first.startswith("iteration 2,8")
    plot.send_keys("\ue014")  # arrow right
    assert readout.text.startswith("iteration 2,8")
    assert readout.text != first


def test_quality_plot_follows_its_metric(opened):
    browser = opened()
    label = "return [...document.querySelectorAll('.pair .chart')].map((node) => node.ariaLabel)"
    choose(browser, "Metric", "frechet_pixels")
    assert browser.execute_script(label) == [
        "Fréchet pixels over network evaluations (NFE)",
        "Fréchet pixels over ms per image",
    ]


def test_runs_sort_and_choose_and_verdicts_show(opened, make_run):
    arms = {"ours": (1.0, 1.02, 0.98), "off": (1.5, 1.6, 1.55)}
    runs = [make_run(name, seed, q) for name, qs in arms.items() for seed, q in enumerate(qs)]
    browser = opened(*runs, baseline="off")
    assert "BEATS" in find(browser, "#verdicts tbody tr").text
    key = "#runs button[data-key='frechet_features']"
    find(browser, key).click()
    ascending = [float(text) for text in column_of_runs(browser, 3)]
    assert ascending == sorted(ascending)
    assert column_of_runs(browser, 1) == ["ours"] * 3 + ["off"] * 3
    find(browser, key).click()
    assert [float(text) for text in column_of_runs(browser, 3)] == ascending[::-1]
    assert find(browser, "#runs th[aria-sort]").get_attribute("aria-sort") == "descending"
    choose(browser, "Model and steps", "student|4")
    assert max(float(text) for text in column_of_runs(browser, 3)) == 0.816
    find(browser, "#runs tbody tr:first-child td:first-child button").click()
    assert find(browser, "#run-name").text == "off/version_1"


def few_step_arms(make_run, count: int = 8) -> list[Path]:
    """Arms of three seeds, each better than the one before it by a tenth."""
    return [
        make_run(f"arm{index}", seed, 0.9**index * (1 + 0.01 * seed))
        for index in range(count)
        for seed in range(3)
    ]


def test_arms_stand_side_by_side_at_both_steps(opened, make_run):
    browser = opened(*few_step_arms(make_run), baseline="arm0")
    rows = browser.find_elements("css selector", "#methods tbody tr")
    assert [row.text.split()[0] for row in rows] == [f"arm{n}" for n in range(8)] + [
        "Teacher",
        "Teacher",
        "Floor",
    ]
    cells = [cell.text.splitlines() for cell in rows[1].find_elements("css selector", "td")]
    assert cells[0] == ["arm1", "3 seeds"]
    assert cells[1] == ["0.573", "0.567\u20130.578", "beats"]
    assert cells[2] == ["0.509", "0.504\u20130.514", "beats"]
    assert cells[-2:] == [["3 min 22 s"], ["6,000"]]
    best = browser.find_elements("css selector", "#methods tr[data-arm=arm7] td.best")
    assert [cell.text.split()[0] for cell in best[:2]] == ["0.304", "0.271"]
    assert browser.find_elements("css selector", "#methods tr[data-arm=arm0] .verdict") == []
    assert rows[8].text.split()[1:5] == ["18", "steps,", "35", "NFE"]
    assert rows[8].find_element("css selector", "td:nth-child(2)").text == "0.450"


@pytest.mark.parametrize("width", [1400, 400])
def test_marks_of_eight_arms_do_not_cover_one_another(opened, make_run, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser = opened(*few_step_arms(make_run), baseline="arm0")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        marks = """return [...document.querySelectorAll('#arms-chart .mark:not(.hollow)')].map(
            (mark) => { const box = mark.getBBox(); return [box.x + box.width / 2, box.width] })"""
        # The chart follows its new width in the next frame.
        later = "const done = arguments[0]; requestAnimationFrame(() => setTimeout(done, 50))"
        browser.execute_async_script(later)
        found = sorted(browser.execute_script(marks))
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert len(found) == 8 * 3
    centres = [centre for centre, _ in found]
    gaps = [right - left for left, right in itertools.pairwise(centres)]
    assert min(gaps) >= 0.45 * max(wide for _, wide in found)
    assert 0 < centres[0] < centres[-1] < width


def test_chart_of_arms_reads_out_and_follows_metric_and_name(opened, make_run):
    browser = opened(*few_step_arms(make_run, 2), baseline="arm0")
    plot = find(browser, "#arms-chart .chart")
    assert plot.get_attribute("aria-label").startswith("Fréchet features over network")
    told = set()
    for _ in range(9):
        plot.send_keys("\ue014")  # arrow right
        told.add(find(browser, "#arms-chart .readout").text)
    assert "arm1, 1 step: 0.573 % (0.567 to 0.578 % over 3 seeds) at 1 NFE" in told
    assert "Teacher, 18 steps (heun): 0.450 % at 35 NFE" in told
    assert len(told) == 9, "three of the teacher, three of either arm"
    find(browser, "#arms-chart ~ .legend button").click()
    assert len(browser.find_elements("css selector", "#arms-chart g.faded")) == 1
    choose(browser, "Metric of all arms", "accuracy")
    assert plot.get_attribute("aria-label").startswith("Accuracy over network")


def test_verdicts_follow_their_steps(opened, make_run):
    runs = few_step_arms(make_run, 2)
    for folder in runs[3:]:
        rows = json.loads((folder / "summary.json").read_text())
        rows[-2]["frechet_features"] *= 4  # two steps of arm1
        (folder / "summary.json").write_text(json.dumps(rows))
    browser = opened(*runs, baseline="arm0")
    first = "#verdicts tbody tr:first-child .verdict"
    assert find(browser, first).text == "BEATS"
    find(browser, "[aria-label='Steps of the verdicts'] button:nth-child(2)").click()
    assert find(browser, first).text == "NO BEATS"
    assert "at 2 steps, against arm0" in find(browser, "main").text
    small = browser.find_elements("css selector", "#methods tr[data-arm=arm1] small.verdict")
    assert [item.text for item in small] == ["beats", "no beats"]


def test_arms_that_lack_a_teacher_a_step_or_a_summary(opened, make_run, tmp_path: Path):
    runs = few_step_arms(make_run, 2)
    for folder in runs[3:]:
        rows = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps(rows[-1:]))
    young = tmp_path / "runs" / "young" / "version_0"
    young.mkdir(parents=True)
    (young / "config.yaml").write_text("x: 1\n")
    browser = opened(*runs, young, baseline="arm0")
    assert len(browser.find_elements("css selector", "#methods tbody tr[data-arm]")) == 2
    lacking = find(browser, "#methods tr[data-arm=arm1] td:nth-child(3)")
    assert lacking.text == "\u2013"


def balanced(folder: Path, gan: list[float]) -> Path:
    """The run with two terms measured every 50 iterations, ``kl`` always 2."""
    lines = ["iteration,step,train/loss,balance/kl,balance/gan,balance/ratio,balance/threshold"]
    for index, norm in enumerate(gan, 1):
        ratio = max(2, norm) / min(2, norm) if norm else float("inf")
        lines.append(f"{50 * index},{50 * index},1.0,2.0,{norm},{ratio},100")
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder


def heading(browser, text: str):
    path = f"//section[.//h2[normalize-space()='{text}']]"
    return browser.find_elements("xpath", path)


def test_loss_balance_is_drawn_with_its_threshold_and_said(opened, make_run):
    browser = opened(balanced(make_run(), [2.0, 0.01, 0.0, 4.0]))
    (section,) = heading(browser, "Loss balance")
    assert "exceeded 100 times the smallest in 2 of 4 measurements" in section.text
    assert "gan had none at all at iteration 150" in section.text
    lines = section.find_elements("css selector", "#norms polyline")
    # A norm of zero has no place on a log axis.
    assert sorted(len(line.get_attribute("points").split()) for line in lines) == [3, 4]
    assert "threshold 100" in section.find_element("css selector", "#ratio svg").text
    plot = section.find_element("css selector", "#norms .chart")
    plot.send_keys("\ue014")  # arrow right
    assert "gan 2.00" in section.find_element("css selector", "#norms .readout").text


def test_no_loss_balance_where_none_was_logged(opened):
    assert heading(opened(), "Loss balance") == []


def test_how_soon_is_drawn_and_judged(opened, make_run):
    runs = [make_run(name, seed) for name in ("ours", "off") for seed in range(3)]
    for folder in runs[:3]:
        text = (folder / "metrics.csv").read_text().splitlines()
        shift = 1 + int(folder.name[-1])
        soon = [
            line.rpartition(",")[0] + f",{0.1 * shift}"
            if ",,,," in line or line.endswith(",")
            else line
            for line in text[1:]
        ]
        (folder / "metrics.csv").write_text("\n".join([text[0], *soon]) + "\n")
    browser = opened(*runs, baseline="off", reach="iterations")
    (section,) = heading(browser, "Iterations to the quality of off")
    rows = section.find_elements("css selector", "#reach tbody tr")
    assert [row.text.split()[0] for row in rows] == ["ours", "off"]
    assert "BEATS" in rows[0].text
    assert "3 of 3" in rows[0].text
    assert len(section.find_elements("css selector", "#reach-chart polyline")) == 6
    assert "final value of off" in section.find_element("css selector", "#reach-chart svg").text


def test_hostile_values_stay_text(opened, make_run):
    folder = make_run()
    (folder / "config.yaml").write_text("</script><img src=x onerror=document.title='owned'>")
    browser = opened(folder)
    find(browser, "details summary").click()
    assert "onerror" in find(browser, "details pre").text
    assert browser.title == "quickstart - kdlight"


def test_no_sideways_scrolling_on_a_phone(opened, make_run):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser = opened(make_run("ours"), make_run("off"))
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_run_that_just_began(opened, tmp_path: Path):
    folder = tmp_path / "young" / "version_0"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed_everything: 0\n")
    browser = opened(folder)
    assert find(browser, "h1").text == "young"
    assert "no summary yet" in find(browser, "main").text


def test_teacher_alone_with_one_grid(opened, make_run):
    folder = make_run()
    rows = [{"model": "teacher", "steps": 18, "frechet_features": 0.4, "kernel_features": -0.02}]
    (folder / "summary.json").write_text(json.dumps(rows))
    for path in (folder / "samples").glob("*"):
        if path.name != "final_teacher_18.png":
            path.unlink()
    browser = opened(folder)
    assert len(browser.find_elements("css selector", "#headline tbody tr")) == 1
    assert "-0.0200" in find(browser, "#headline").text
    assert len(browser.find_elements("css selector", "figure img")) == 1
    assert browser.find_elements("css selector", "input[type=range]") == []


def test_a_codec_is_heard_and_seen_at_every_level(opened, tmp_path: Path):
    tiny = Path(__file__).parents[1] / "commands" / "tiny_codec.yaml"
    assert main(["fit", "--config", str(tiny), "--runs_dir", str(tmp_path / "runs")]) == 0
    browser = opened(tmp_path / "runs" / "tiny_codec" / "version_0")
    versions = browser.find_elements("css selector", "table.versions tbody tr")
    labels = [version.find_element("css selector", "b").text for version in versions]
    assert labels == ["Original", "1 level", "2 levels", "3 levels"]
    ready = "return [...document.querySelectorAll('audio')].map((player) => player.duration)"
    wait = support.WebDriverWait(browser, 10)
    wait.until(lambda found: all(found.execute_script(ready)))
    assert browser.execute_script(ready) == pytest.approx([1.0] * 4, abs=0.05)
    wide = (
        "return [...document.querySelectorAll('.spectrogram img')].map((one) => one.naturalWidth)"
    )
    assert min(browser.execute_script(wide)) > 10
    assert len(browser.find_elements("css selector", "#codebooks tbody tr")) == 3
