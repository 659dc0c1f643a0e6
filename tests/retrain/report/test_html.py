"""The page of a run, as a person sees it: rendered by a real browser, headless Chromium."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from retrain.report.charts import axis
from retrain.report.data import RunReport, from_json, to_json
from retrain.report.html import render
from tests.retrain.support.reports import HOSTILE, rejected, report

WIDTHS = (400, 1280)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium-headless-shell)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page that was opened, and what it did meanwhile."""

    def __init__(self, browser: Browser, path: Path, width: int, scheme: str) -> None:
        self.page: Page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light"
        )
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def overflow(self) -> int:
        """Return the pixels by which the page is wider than the window."""
        pixels: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return pixels


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("told", [report(), rejected()], ids=["live", "rejected"])
def test_page_is_quiet_alone_and_fits(
    chromium: Browser, tmp_path: Path, told: RunReport, width: int, scheme: str
) -> None:
    """No message in the console, no request besides the file itself, no sideways scrolling, no script that ran."""
    path = tmp_path / "report.html"
    path.write_text(render(told), encoding="utf-8")
    visit = Visit(chromium, path, width, scheme)
    assert visit.complaints == []
    assert visit.requests == [path.as_uri()]
    assert visit.overflow() == 0
    assert visit.page.title() == f"Model of 2026-11-18: {told.outcome}"
    background = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", background)[0]) < 60) == (scheme == "dark")


@pytest.mark.parametrize("width", WIDTHS)
def test_key_figures_are_seen(chromium: Browser, tmp_path: Path, width: int) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(report()), encoding="utf-8")
    page = Visit(chromium, path, width, "light").page
    for text in ("Live", "0.0912", "2.11 times", "4,163", "93,890", "Over nights", "Over epochs", "Sample users"):
        assert page.get_by_text(text, exact=False).first.is_visible(), text
    for chart in ("NDCG@20 of each night", "NDCG@20 by epoch", "Interactions of each day"):
        box = page.get_by_role("img", name=chart).bounding_box()
        assert box
        assert box["width"] > 0.6 * min(width, 600) - 60
        assert box["height"] > 200


def test_reasons_of_a_rejection_come_first(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(rejected()), encoding="utf-8")
    page = Visit(chromium, path, 1280, "light").page
    assert page.locator("h1").inner_text() == "✕ Rejected"
    assert "100% of the last day's interactions are with one video" in page.locator("header").inner_text()


def test_texts_of_users_and_videos_are_only_texts(chromium: Browser, tmp_path: Path) -> None:
    """What uploaders and users chose as identifiers, authors and tags is shown as it is and changes nothing."""
    path = tmp_path / "report.html"
    path.write_text(render(report(reasons=HOSTILE, parent=HOSTILE[0])), encoding="utf-8")
    page = Visit(chromium, path, 1280, "light").page
    assert page.title() == "Model of 2026-11-18: live"
    assert page.locator("script, img").count() == 0
    assert page.evaluate("[...document.querySelectorAll('*')].some(one => one.onerror || one.onload)") is False
    shown = page.locator("main").inner_text()
    for text in HOSTILE:
        assert text in shown


def test_report_comes_back_from_its_json() -> None:
    for one in (report(), rejected()):
        assert from_json(to_json(one)) == one
    with pytest.raises(ValueError, match="not a report"):
        from_json(b'{"name": 1}')


@pytest.mark.parametrize(
    ("highest", "decimals", "labels"),
    [
        (0.0912, 3, ["0", ".025", ".050", ".075", ".100"]),
        (139_000, 0, ["0", "50 k", "100 k", "150 k"]),
        (3, 0, ["0", "1", "2", "3"]),
        (0.0, 3, ["0", ".250", ".500", ".750", "1"]),
    ],
)
def test_axes_have_round_ticks_from_zero(highest: float, decimals: int, labels: list[str]) -> None:
    top, ticks = axis(highest, decimals)
    assert [tick.label for tick in ticks][: len(labels)] == labels
    assert top >= highest
    assert (ticks[0].at, ticks[-1].at) == (100.0, 0.0)
