"""A model with masks and poses behind two servers, and a browser that looks at their page."""

import asyncio
import json
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import replace

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
from maskray.platform.serve.web.page import WEB

CHROMIUM = shutil.which("chromium")
NODE = shutil.which("node")
MODULES = (
    "masks",
    "colors",
    "skeletons",
    "coco",
    "names",
    "view",
    "matching",
    "snippets",
    "queue",
)  # without a document
POSE = {"keypoints": ("nose", "left_hand", "right_hand"), "skeleton": ((1, 2), (1, 3))}
SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"

CHECKSUM = """(name) => {
  const canvas = document.querySelector(name);
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const pixels = new Uint32Array(copy.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return pixels.reduce((sum, pixel) => (Math.imul(sum, 31) + pixel) | 0, 7);
}"""
COLOR = """([x, y]) => {
  const canvas = document.querySelector("#picture");
  const box = canvas.getBoundingClientRect();
  const scale = canvas.width / box.width;
  const copy = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, ...[(x - box.left) * scale, (y - box.top) * scale].map(Math.floor), 1, 1, 0, 0, 1, 1);
  return [...copy.getImageData(0, 0, 1, 1).data.slice(0, 3)];
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
    """A loaded model behind the routes without Ray, which the page does not see; the first objects can be left out."""

    def __init__(self, loaded, version, left_out=0):
        self._loaded, self._version, self._left_out = loaded, version, left_out

    async def predict(self, data, size, options, seconds_left):
        (outcome,) = await asyncio.to_thread(self._loaded.find, [Task(data, size, options)], 50_000_000)
        if not hasattr(outcome, "answer"):
            return outcome
        name = ModelName("animals", self._version)
        drawn = self._loaded.draw(outcome) if options.format == "png" else None
        return replace(outcome.answer, model=name, detections=outcome.answer.detections[self._left_out :], drawn=drawn)

    async def describe(self):
        labels = self._loaded.spec.labels.model_dump(mode="json")["categories"]
        return {"name": "animals", "version": self._version, "labels": labels, "masks": True, "keypoints": True}

    async def list_models(self):
        return {"models": [], "follows": None}


@pytest.fixture(scope="session")
def sites(tmp_path_factory, posed_folder):
    """Addresses of two servers with a real model, for all files that look at the page, and the key of the first.

    The first compares with the second and takes addresses of images; the second is as it is without settings, and
    leaves the two best objects out."""
    keys = tmp_path_factory.mktemp("site") / "keys.jsonl"
    key = add_key(keys, "reader")
    loaded = load_model(posed_folder, ModelName("animals", "3"), "cpu")
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    urls = [f"http://127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    small = {"max_request_bytes": 1_000_000}
    configs = (
        ServeConfig(api_keys_file=str(keys), compare_with=urls[1], page_image_addresses=True, **small),
        ServeConfig(cors_origins=(urls[0],), **small),
    )
    servers = []
    for config, one, version, left_out in zip(configs, sockets, "34", (0, 2), strict=True):
        metrics = ServerMetrics()
        app = build_app(config, InProcess(loaded, version, left_out), metrics, Places(config.most_waiting, metrics))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [one]})
        thread.start()
        servers.append((server, thread))
    for server, thread in servers:
        while not server.started and thread.is_alive():
            time.sleep(0.02)
    yield *urls, key
    for server, thread in servers:
        server.should_exit = True
        thread.join(300)


@pytest.fixture(scope="session")
def site(sites):
    """Address and key of the first server."""
    return sites[0], sites[2]


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
def visit(chromium, sites):
    """Opens the page of the first server, with the key unless with_key=False, or of the second, as a context of given
    options; whatever is done with it, it asks nobody but its servers, and nothing in it fails unseen."""
    *urls, key = sites
    contexts, asked, problems = [], [], []

    def open_page(with_key=True, second=False, **options):
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
        page.goto(urls[second])
        if with_key:
            page.wait_for_selector("#sample-list li:last-child img[src]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    own = tuple(f"{kind}{url}/" for url in urls for kind in ("", "blob:"))
    assert [address for address in asked if not address.startswith(own)] == []
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
        page.locator("#source", has_text=name).wait_for()
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


@pytest.fixture(scope="session")
def place_of():
    """The point of the page at which a point of the image is, as it is drawn after the next two frames."""

    def find(page, x, y):
        page.evaluate(SETTLED)
        scale, left, top = map(float, page.get_attribute("#picture", "data-view").split())
        box = page.locator("#picture").bounding_box()
        return box["x"] + left + x * scale, box["y"] + top + y * scale

    return find


@pytest.fixture(scope="session")
def color_at():
    """The colour that is drawn at a point of the page, as [r, g, b]."""
    return lambda page, x, y: page.evaluate(COLOR, [x, y])


@pytest.fixture(scope="session")
def run_script():
    """Runs a module with the page's functions imported; `input` is the data, what it returns comes back."""
    if NODE is None:
        pytest.skip("node is not installed")
    imports = "".join(f"import * as {name} from {json.dumps((WEB / f'{name}.js').as_uri())};" for name in MODULES)

    def run(script, data):
        program = (
            f"{imports} import {{ readFileSync }} from 'node:fs';"
            "const input = JSON.parse(readFileSync(0, 'utf8'));"
            f"const output = await (async () => {{ {script} }})();"
            "process.stdout.write(JSON.stringify(output));"
        )
        command = [NODE, "--input-type=module", "-e", program]
        done = subprocess.run(command, input=json.dumps(data), capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
