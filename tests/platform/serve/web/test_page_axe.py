"""The rules of WCAG 2.2 AA that axe-core can check, and that nothing is cut off, at four widths in both schemes."""

from pathlib import Path

import pytest

WIDTHS = (390, 768, 1440, 2560)
TOUCH = {"has_touch": True, "is_mobile": True}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
CHECK = """async (values) => {
  const options = { runOnly: { type: "tag", values }, resultTypes: ["violations"] };
  const { passes, violations } = await axe.run(document, options);
  if (passes.length < 20) throw new Error(`only ${passes.length} rules looked at something`);
  return violations.flatMap(({ id, nodes }) => nodes.map((one) => [id, one.html.slice(0, 200), one.failureSummary]));
}"""
# Elements wider than what is around them, or beside the window; rows of tiles and the stage's own parts may be.
# A little is what rings of the focus have for room.
CUT_OFF = """() => [...document.querySelectorAll("body *")].filter((one) => {
  if (!one.checkVisibility() || one.closest(".unseen, .tiles, #frame, svg, option")) return false;
  const { left, right } = one.getBoundingClientRect();
  const wider = one.scrollWidth > one.clientWidth + 8 && !["INPUT", "DL"].includes(one.tagName) && one.clientWidth > 0;
  return left < -1 || right > innerWidth + 1 || wider;
}).map((one) => one.outerHTML.slice(0, 160))"""


@pytest.fixture(scope="module")
def axe():
    """The program of axe-core, which runs in the page as its developer tools would."""
    package = pytest.importorskip("axe_playwright_python")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("scheme", "widths", "options"), [("light", WIDTHS, {}), ("dark", WIDTHS, {}), ("light", (390,), TOUCH)]
)
def test_page_keeps_the_rules_at_every_width(visit, upload, jpeg, axe, scheme, widths, options):
    page = visit(color_scheme=scheme, reduced_motion="reduce", **options)
    page.evaluate(axe)

    def check():
        for width in widths:
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(100)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(CUT_OFF) == [], width
            assert page.evaluate(CHECK, RULES) == [], width

    check()
    upload(page, jpeg, "a-very-long-name-that-has-no-space-in-it-at-all-and-goes-on.jpg")
    page.set_input_files("#file", {"name": "broken.jpg", "mimeType": "image/jpeg", "buffer": jpeg[:900]})
    page.wait_for_selector("#alert:visible")
    page.check("#each")
    page.check("#compare-on")
    page.wait_for_selector("#compare-told:visible")
    page.click("#timing-summary")
    page.click("#objects [role=option] >> nth=0")
    check()
