"""Makes docs/page.png: the page of a running server with a sample, in light colours.

maskray serve MODEL --port 8000
python tests/platform/serve/web/take_screenshot.py http://127.0.0.1:8000 docs/page.png [SAMPLE]
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright


def take_screenshot(url: str, out: Path, sample: int) -> None:
    """Write the page as PNG after the sample of a number from 1 was chosen."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 860}, color_scheme="light")
        page.goto(url)
        page.wait_for_selector("#sample-list li:last-child img[src]")
        page.click(f"#sample-list li:nth-child({sample}) button")
        page.wait_for_selector("#results:not([hidden])")
        page.wait_for_selector("#busy", state="hidden")
        page.wait_for_timeout(1000)
        image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    image.save(out, optimize=True)  # smaller than the browser makes it
    print(f"{out}: {image.width} x {image.height}, {out.stat().st_size} bytes")


if __name__ == "__main__":
    take_screenshot(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)
