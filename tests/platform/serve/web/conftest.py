"""A model with masks and poses behind a server, and a browser that looks at its page."""

import asyncio
import shutil
import threading
import time

import pytest
import torch
import uvicorn

from maskray.model.build_model import build_model
from maskray.model.config import Category, LabelMap
from maskray.platform.files.model_folder import write_model_folder
from maskray.platform.inference.predictor import Predictor
from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.http.api_keys import add_key
from maskray.platform.serve.http.app import build_app
from maskray.platform.serve.http.auth import Places
from maskray.platform.serve.http.metrics import ServerMetrics
from maskray.platform.serve.http.responses import ModelName
from maskray.platform.serve.model.loaded_model import Task, load_model

CHROMIUM = shutil.which("chromium")
POSE = {"keypoints": ("nose", "left_hand", "right_hand"), "skeleton": ((1, 2), (1, 3))}
SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"

CHECKSUM = """(name) => {
  const canvas = document.querySelector(name);
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const pixels = new Uint32Array(copy.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return pixels.reduce((sum, pixel) => (Math.imul(sum, 31) + pixel) | 0, 7);
}"""


@pytest.fixture(scope="session")
def posed_folder(tmp_path_factory, spec, pixels):
    """A model that was never trained, its last layers moved so that scores, masks and poses differ from one another."""
    heads = spec.model.keypoint_head.model_copy(update={"num_keypoints": 3, "channels": 16, "num_convs": 1})
    labels = LabelMap(categories=tuple(Category(id=i, name=n, **POSE) for i, n in ((1, "cat"), (7, "dog"), (9, "owl"))))
    model_config = spec.model.model_copy(update={"keypoints": True, "keypoint_head": heads})
    spec = spec.model_copy(update={"model": model_config, "labels": labels})
    torch.manual_seed(0)
    model = build_model(spec.model, spec.input, spec.labels.num_classes).eval()
    classifier, masks = model.roi_heads.box_head.classifier, model.roi_heads.mask_head.predictor
    seen = {}
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, output: seen.update({layer: output}))
        for layer in (classifier, masks)
    ]
    Predictor(model, spec).predict([pixels], [0])
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        masks.bias -= seen[masks].mean(dim=(0, 2, 3))
        spread = 2.0 / seen[classifier].std(dim=0)
        classifier.bias.copy_((classifier.bias - seen[classifier].mean(dim=0)) * spread)
        classifier.weight *= spread[:, None]
        model.roi_heads.keypoint_head.deconv.weight *= 30
    return str(write_model_folder(tmp_path_factory.mktemp("web") / "animals", model, spec))


class InProcess:
    """A loaded model behind the routes without Ray, which the page does not see."""

    def __init__(self, folder):
        self._loaded = load_model(folder, ModelName("animals", "3"), "cpu")

    async def predict(self, data, size, options, seconds_left):
        (outcome,) = await asyncio.to_thread(self._loaded.find, [Task(data, size, options)], 50_000_000)
        return getattr(outcome, "answer", outcome)

    async def describe(self):
        labels = self._loaded.spec.labels.model_dump(mode="json")["categories"]
        return {"name": "animals", "version": "3", "labels": labels, "masks": True, "keypoints": True}

    async def list_models(self):
        return {"models": [], "follows": None}


@pytest.fixture(scope="session")
def site(tmp_path_factory, posed_folder):
    """Address and key of a server with a real model on a free port, for all files that look at the page."""
    keys = tmp_path_factory.mktemp("site") / "keys.jsonl"
    key = add_key(keys, "reader")
    config, server_metrics = ServeConfig(api_keys_file=str(keys), max_request_bytes=1_000_000), ServerMetrics()
    app = build_app(config, InProcess(posed_folder), server_metrics, Places(config.most_waiting, server_metrics))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", key
    server.should_exit = True
    thread.join(300)


@pytest.fixture(scope="module")
def chromium(site):
    """One browser for a file: while it is open, asyncio belongs to it."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, site):
    """Opens the page, with the key unless with_key=False, as a context of given options; whatever is done with it,
    it asks nobody but its server, and nothing in it fails unseen."""
    url, key = site
    contexts, asked, problems = [], [], []

    def open_page(with_key=True, **options):
        headers = {"Authorization": f"Bearer {key}"} if with_key else None
        context = chromium.new_context(
            extra_http_headers=headers, **{"viewport": {"width": 1200, "height": 640}} | options
        )
        contexts.append(context)
        context.set_default_timeout(240_000)
        page = context.new_page()
        page.asked, page.problems = [], problems
        page.on("request", lambda request: (page.asked.append(request.url), asked.append(request.url)))
        # What the page's own rules stop does not leave the browser.
        page.on("requestfailed", lambda request: request.failure == "csp" and asked.remove(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: message.type in ("error", "warning") and problems.append(message.text))
        page.goto(url)
        if with_key:
            page.wait_for_selector("#sample-list li:last-child img[src]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [address for address in asked if not address.startswith((f"{url}/", f"blob:{url}/"))] == []
    # The browser itself reports every answer above 399, which tests ask for.
    assert [text for text in problems if not text.startswith("Failed to load resource")] == []


@pytest.fixture(scope="session")
def upload():
    """Chooses a file on a page, waits until its objects are shown, and gives the server's answer."""

    def choose(page, data, name="photo.jpg"):
        with page.expect_response("**/v1/predict") as response:
            page.set_input_files("#file", {"name": name, "mimeType": "image/jpeg", "buffer": data})
        answer = response.value.json()
        # Nothing that waits may be given as text: the page allows no script but its files.
        page.wait_for_selector(f"#source:has-text('{name}')")
        page.wait_for_selector("#busy", state="hidden")
        return answer

    return choose


@pytest.fixture(scope="session")
def pixels_of():
    """A number made of the pixels of a canvas as they are after the next two frames, to compare."""

    def read(page, canvas="#picture"):
        page.evaluate(SETTLED)
        return page.evaluate(CHECKSUM, canvas)

    return read
