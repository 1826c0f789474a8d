"""The page in a browser: Debian's Chromium, without a screen."""

import os
import shutil
from pathlib import Path

import pytest

from tests.trtcal.optimizing import digits_job
from tests.trtcal.report.records import HOSTILE, record_of
from trtcal.report.differences import differences, write_differences
from trtcal.report.page import SECTIONS, write_page

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra [dev])")
pytest.importorskip("vl_convert", reason="vl-convert-python is not installed (extra [report])")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian's package chromium)")
    with playwright.sync_playwright() as library:
        found = library.chromium.launch(executable_path=CHROMIUM, args=[*OPTIONS])
        yield found
        found.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages by name: of a real optimization, of a made record, of a very large one, of two runs."""
    import trtcal

    folder = tmp_path_factory.mktemp("pages")
    job = digits_job(folder / "job")
    done = trtcal.optimize(
        job["model"], job["images"], folder / "out", test_images=job["test_images"], preprocess="unit", max_drop=5.0
    )
    record = record_of(40, 60)
    write_page(record, folder / "made.html")
    write_page(record_of(5000, 1000), folder / "large.html")
    other = record_of(40, 60)
    other["layers"]["nodes"][3]["precision"] = "fp16"
    write_differences(differences(record, other), folder / "two.html", names=("one", "other"))
    return {"real": done.folder / "report.html", **{name: folder / f"{name}.html" for name in ("made", "large", "two")}}


class Opened:
    """A page, and what it said and asked for."""

    def __init__(self, browser, path, *, width=1440, scheme="light"):
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.path = Path(path)
        self.page.goto(self.path.as_uri())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.page.close()

    def look_at_all(self):
        """Bring each section into view, and wait until its charts are drawn."""
        for section in self.page.query_selector_all("main > section"):
            section.scroll_into_view_if_needed()
            for chart in section.query_selector_all(".chart"):
                chart.scroll_into_view_if_needed()
                chart.wait_for_selector("svg, canvas", timeout=20_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["real", "made", "two"])
def test_no_error_and_no_request_leaves_the_file(browser, pages, name, scheme):
    with Opened(browser, pages[name], scheme=scheme) as opened:
        opened.look_at_all()
        assert opened.said == []
        own = [url for url in opened.asked if not url.startswith("data:")]
        assert own == [opened.path.as_uri()]


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", ["real", "made", "two"])
def test_nothing_is_wider_than_the_window(browser, pages, name, width):
    with Opened(browser, pages[name], width=width) as opened:
        opened.look_at_all()
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["real", "made", "two"])
def test_anyone_can_read_it(browser, pages, name, scheme):
    """Contrast, landmarks, names of controls: axe-core's rules."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with Opened(browser, pages[name], scheme=scheme) as opened:
        opened.look_at_all()
        found = axe.run(opened.page)
        told = [
            (each["id"], [node["html"][:120] for node in each["nodes"][:3]]) for each in found.response["violations"]
        ]
        assert told == []


def test_tables_are_sorted_and_filtered(browser, pages):
    with Opened(browser, pages["made"]) as opened:
        page, table = opened.page, opened.page.locator("#layers-table")
        assert table.locator("tbody tr").count() == 40
        table.locator("input").fill("layer/1")
        assert table.locator("tbody tr").count() == 11  # 1, and 10 to 19
        assert table.locator(".count").inner_text() == "11 of 40"
        page.select_option("#layers-precision", "int8")
        assert set(table.locator("tbody td:nth-child(3)").all_inner_texts()) == {"int8"}
        table.locator("input").fill("")
        heading = table.get_by_role("button", name="SQNR, dB")
        heading.click()
        rising = [float(text) for text in table.locator("tbody td:nth-child(4)").all_inner_texts()]
        assert rising == sorted(rising) and len(set(rising)) > 3
        heading.press("Enter")
        assert [float(text) for text in table.locator("tbody td:nth-child(4)").all_inner_texts()] == rising[::-1]
        candidates = page.locator("#verdict table")
        candidates.get_by_role("button", name="engine").click()
        assert candidates.locator("tbody td:first-child").all_inner_texts() == ["fp16", "int8 (chosen)"]


def test_ranges_are_searched_ordered_and_drawn_as_they_are_looked_at(browser, pages):
    with Opened(browser, pages["made"]) as opened:
        page, tiles = opened.page, opened.page.locator("#ranges-multiples .tile")
        assert tiles.count() == 24 and page.locator("#ranges-multiples svg").count() < 24
        page.locator("#ranges-more").click()
        assert tiles.count() == 48
        page.fill("#ranges-search", "tensor/5")
        assert tiles.count() == 11 and page.locator("#ranges-more").is_hidden()
        page.fill("#ranges-search", "")
        page.select_option("#ranges-order", "levels")
        first = tiles.first.locator("h3").inner_text()
        assert first == "tensor/59"  # which uses the fewest levels


def test_layers_switch_between_precision_and_error(browser, pages):
    with Opened(browser, pages["made"]) as opened:
        graph, page = opened.page.locator("#layers-graph"), opened.page
        graph.scroll_into_view_if_needed()
        graph.locator("canvas").wait_for()
        before = graph.locator("canvas").screenshot()
        page.get_by_role("button", name="by error").click()
        assert page.get_by_role("button", name="by error").get_attribute("aria-pressed") == "true"
        page.wait_for_timeout(200)
        assert graph.locator("canvas").screenshot() != before


def test_the_scheme_is_switched(browser, pages):
    with Opened(browser, pages["made"]) as opened:
        ground = "getComputedStyle(document.body).backgroundColor"
        light = opened.page.evaluate(ground)
        opened.page.click("#scheme")
        assert opened.page.evaluate(ground) != light
        opened.page.click("#scheme")
        assert opened.page.evaluate(ground) == light


def test_texts_of_a_model_are_texts(browser, pages):
    with Opened(browser, pages["made"]) as opened:
        opened.look_at_all()
        assert opened.page.locator("h1").inner_text() == f"model {HOSTILE}"
        assert opened.page.locator("main img").count() == 0 and opened.said == []


def test_it_is_used_by_keyboard(browser, pages):
    with Opened(browser, pages["made"]) as opened:
        opened.page.keyboard.press("Tab")
        assert opened.page.evaluate("document.activeElement.className") == "skip"
        opened.page.keyboard.press("Enter")
        assert opened.page.url.endswith("#content")


def test_a_very_large_model_opens_at_once_and_stays_usable(browser, pages):
    with Opened(browser, pages["large"]) as opened:
        opened.page.wait_for_selector("#layers-table tbody tr:nth-child(200)", state="attached")
        opened.page.wait_for_selector("#ranges-multiples .tile")

        table = opened.page.locator("#layers-table")
        assert table.locator("tbody tr").count() == 200 and table.locator(".count").inner_text() == "5000 of 5000"
        table.locator("input").fill("layer/4999")
        assert table.locator("tbody tr").count() == 1
        graph = opened.page.locator("#layers-graph")
        graph.scroll_into_view_if_needed()
        graph.locator("canvas").wait_for(timeout=60_000)
        assert opened.said == []


def test_it_prints_all_of_it(browser, pages, tmp_path):
    with Opened(browser, pages["made"]) as opened:
        opened.page.emulate_media(media="print")
        opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        opened.page.wait_for_function("document.querySelectorAll('#ranges-multiples svg').length === 60")
        opened.page.pdf(path=tmp_path / "page.pdf")
        assert (tmp_path / "page.pdf").stat().st_size > 50_000


def test_a_picture_of_each_section(browser, pages, tmp_path):
    """Kept where TRTCAL_SCREENSHOTS says, to be looked at."""
    folder = Path(os.environ.get("TRTCAL_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        with Opened(browser, pages["real"], scheme=scheme) as opened:
            opened.look_at_all()
            for name, _ in SECTIONS:
                opened.page.locator(f"#{name}").screenshot(path=folder / f"{name}-{scheme}.png")
                assert (folder / f"{name}-{scheme}.png").stat().st_size > 2_000
