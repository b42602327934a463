"""A real server: Ray Serve on a free port with a small model; one start for the whole file."""

import concurrent.futures
import contextlib
import io
import socket
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from maskray.platform.data.decode import decode_image
from maskray.platform.files.model_folder import read_model_folder
from maskray.platform.inference.drawing import draw_detections
from maskray.platform.inference.predictor import Predictor
from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.cluster.deploy import deploy

DOCUMENT = Path(__file__).parents[4] / "docs/serving.md"
CONFIG = ServeConfig(port=0, max_request_bytes=2_000_000, max_image_pixels=4_000_000)
JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def predictor(model_folder):
    return Predictor(*read_model_folder(model_folder))


def predict(client, data, headers=JPEG, **query):
    return client.post("/v1/predict", content=data, headers=headers, params=query)


def assert_same(served, wanted):
    """Equal up to the rounding of batches of other sizes; boxes are of images below 1000 pixels."""
    assert [found["category_id"] for found in served] == [result["category_id"] for result in wanted]
    # Batches of another size are convolved by other kernels.
    np.testing.assert_allclose([f["score"] for f in served], [r["score"] for r in wanted], atol=1e-4)
    np.testing.assert_allclose([f["bbox"] for f in served], [r["bbox"] for r in wanted], atol=1e-3)
    assert [found["segmentation"]["size"] for found in served] == [result["segmentation"]["size"] for result in wanted]


@pytest.mark.usefixtures("ray_cluster")
def test_bad_deployments_are_refused_before_anything_starts(model_folder, tmp_path):
    with pytest.raises(ValueError, match="no such model folder"):
        deploy(str(tmp_path / "absent"), CONFIG)
    with pytest.raises(ValueError, match=r"9 replicas want 9 CPUs.*serve\.num_replicas"):
        deploy(model_folder, CONFIG.model_copy(update={"num_replicas": 9}))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        taken = other.getsockname()[1]
        with pytest.raises(ValueError, match=rf"cannot bind 127\.0\.0\.1:{taken}: Address already in use"):
            deploy(model_folder, CONFIG.model_copy(update={"port": taken}))
    with pytest.raises(ValueError, match="want 1 GPUs, the cluster has 0 free"):
        deploy(model_folder, CONFIG.model_copy(update={"gpus_per_replica": 1.0}))


def test_health_and_model_are_told(client, spec):
    assert client.get("/healthz").json() == {"status": "ok"}
    model = client.get("/v1/model").json()
    assert (model["name"], model["version"]) == ("shapes", "3")
    assert model["labels"] == [{"id": 1, "name": "circle"}, {"id": 7, "name": "square"}]
    assert model["limits"] == {
        "max_request_bytes": 2_000_000,
        "max_image_pixels": 4_000_000,
        "max_images_per_request": 16,
        "deadline_seconds": 60.0,
    }
    serving = {"name": "shapes", "version": "3", "state": "serving", "error": None}
    assert client.get("/v1/models").json() == {"models": [serving], "follows": None}
    assert model["spec"] == spec.model_dump(mode="json")


@pytest.mark.parametrize("headers", [JPEG, {"Content-Type": "application/octet-stream"}])
def test_detections_are_those_of_the_predictor(client, predictor, jpeg, headers):
    answer = predict(client, jpeg, headers)
    assert answer.status_code == 200
    body = answer.json()
    assert body["model"] == {"name": "shapes", "version": "3"}
    assert body["image"] == {"width": 160, "height": 120}
    wanted = predictor.predict([decode_image(jpeg)], [0])[0]
    assert len(wanted) == 20
    assert_same(body["detections"], wanted)
    names = {1: "circle", 7: "square"}
    assert all(found["category"] == names[found["category_id"]] for found in body["detections"])
    assert set(body["seconds"]) == {"receive", "wait", "decode", "predict", "total"}
    assert 0 < body["seconds"]["predict"] < body["seconds"]["total"]


def test_form_gives_the_same_answer_as_the_bare_body(client, jpeg):
    form = client.post("/v1/predict", files={"image": ("photo.jpg", jpeg, "image/jpeg")})
    assert form.status_code == 200
    assert form.json()["detections"] == predict(client, jpeg).json()["detections"]


def test_image_on_its_side_is_turned_upright(client, pixels):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(file, format="JPEG", exif=exif)
    body = predict(client, file.getvalue()).json()
    assert body["image"] == {"width": 120, "height": 160}
    assert {tuple(found["segmentation"]["size"]) for found in body["detections"]} == {(160, 120)}


def test_score_threshold_leaves_out_what_is_below(client, jpeg):
    scores = [found["score"] for found in predict(client, jpeg).json()["detections"]]
    middle = scores[len(scores) // 2]
    above = predict(client, jpeg, score_threshold=middle).json()["detections"]
    assert [found["score"] for found in above] == [score for score in scores if score >= middle]
    assert predict(client, jpeg, score_threshold=1).json()["detections"] == []


def test_drawn_image_is_that_of_drawing(client, spec, pixels, png):
    answer = predict(client, png, format="png", score_threshold=0)
    assert answer.headers["content-type"] == "image/png"
    results = predict(client, png).json()["detections"]
    with Image.open(io.BytesIO(answer.content)) as image:
        drawn = np.asarray(image)
    np.testing.assert_array_equal(drawn, draw_detections(pixels, results, spec.labels, 0.0))
    assert (drawn != pixels).any()


def test_requests_at_the_same_time_get_their_own_answers(client, predictor, pixels):
    """Sizes differ, so a batch is split; each answer must still be that of its image."""
    images = [np.ascontiguousarray(np.roll(pixels, 17 * k, axis=1)[: 120 - 10 * (k % 3)]) for k in range(12)]

    def ask(image):
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="PNG")
        return predict(client, file.getvalue())

    with concurrent.futures.ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(ask, images))
    for image, answer in zip(images, answers, strict=True):
        assert answer.status_code == 200
        assert_same(answer.json()["detections"], predictor.predict([image], [0])[0])


def huge_png(width, height):
    """A correct PNG of a few kilobytes that unpacks to width x height pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + width // 8)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(2001, 2000), (20_000, 10_000)])
def test_image_with_too_many_pixels_is_refused_before_it_is_decoded(client, size):
    data = huge_png(*size)
    assert len(data) < 50_000
    answer = predict(client, data, {"Content-Type": "image/png"})
    assert answer.status_code == 413
    assert "pixels" in answer.json()["error"]


@pytest.mark.parametrize("num_bytes", [2_000_001, 30_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_too_many_bytes_are_refused_with_a_readable_answer(client, num_bytes, chunked):
    content = bytes(num_bytes)
    parts = (content[start : start + 500_000] for start in range(0, num_bytes, 500_000))
    answer = predict(client, parts if chunked else content)
    assert answer.status_code == 413
    assert answer.json() == {"error": "the image is larger than the 2000000 bytes allowed"}


@pytest.mark.parametrize(
    ("status", "message", "request_of"),
    [
        (415, "not an image of a format known here", lambda c, jpeg: predict(c, b"just some text")),
        (415, "content type text/plain", lambda c, jpeg: predict(c, jpeg, {"Content-Type": "text/plain"})),
        (422, "truncated", lambda c, jpeg: predict(c, jpeg[: len(jpeg) // 2])),
        (422, "holds no image", lambda c, jpeg: predict(c, b"")),
        (422, "no file in a field named image", lambda c, jpeg: c.post("/v1/predict", files={"photo": jpeg})),
        (422, "parameter score_threshold", lambda c, jpeg: predict(c, jpeg, score_threshold=1.5)),
        (422, "parameter score_threshold", lambda c, jpeg: predict(c, jpeg, score_threshold="nan")),
        (422, "parameter format", lambda c, jpeg: predict(c, jpeg, format="gif")),
        (422, "unknown parameter 'threshold'", lambda c, jpeg: predict(c, jpeg, threshold=0.5)),
        (405, "GET /v1/predict", lambda c, jpeg: c.get("/v1/predict")),
        (404, "GET /v2/predict", lambda c, jpeg: c.get("/v2/predict")),
    ],
)
def test_bad_request_is_answered_in_one_line_of_json(client, jpeg, status, message, request_of):
    answer = request_of(client, jpeg)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert message in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert "0x" not in answer.json()["error"]


def test_neighbours_are_answered_while_costly_images_are_decoded(client, jpeg):
    """One with 6,000 scans, which is refused now, held the replica for 38 s."""
    file = io.BytesIO()
    Image.new("L", (2000, 2000)).save(file, "JPEG", progressive=True)
    data, last = file.getvalue(), file.getvalue().rindex(b"\xff\xda")
    costly = data[:last] + data[last:-2] * 90 + data[-2:]  # not many more scans are decoded at all
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        slow = [threads.submit(predict, client, costly) for _ in range(8)]
        until = time.monotonic() + 300
        while "maskray_waiting_pictures 8.0" not in client.get("/metrics").text:
            assert time.monotonic() < until
            assert not slow[-1].done()
        assert predict(client, jpeg).status_code == 200
        assert not all(answer.done() for answer in slow), "the neighbour did not wait for all of them"
        assert [answer.result().status_code for answer in slow] == [200] * 8


def test_broken_image_in_a_batch_leaves_the_others_alone(client, jpeg):
    broken = jpeg[: len(jpeg) // 2]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda data: predict(client, data).status_code, [jpeg, broken] * 8))
    assert answers == [200, 422] * 8


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/app.js", "javascript"), ("/masks.js", "javascript"), ("/style.css", "text/css")],
)
def test_page_is_served_and_may_load_nothing_from_elsewhere(client, path, kind):
    answer = client.get(path)
    assert answer.status_code == 200
    assert kind in answer.headers["content-type"]
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")


def test_server_listens_on_this_machine_only(server):
    port = int(server.url.rpartition(":")[2])
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", port))  # would be taken, had the server bound every address
        assert probe.getsockname() == ("127.0.0.2", port)


@pytest.mark.usefixtures("server")
def test_second_server_on_the_cluster_is_refused(model_folder, client):
    with pytest.raises(ValueError, match="Ray Serve runs on this cluster already"):
        deploy(model_folder, CONFIG)
    assert client.get("/healthz").status_code == 200


def test_documented_commands_run(server, jpeg, tmp_path):
    """Those of docs/serving.md under "Asking", as they stand there, and the lines of Python that read the tensors."""
    text = DOCUMENT.read_text(encoding="utf-8").partition("## Asking")[2].partition("\n## ")[0]
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    commands = [line.partition(" # ")[0] for line in lines if line.startswith("curl ")]
    assert len(commands) >= 7
    for name in ("photo.jpg", "a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(jpeg)
    for command in commands:
        script = f"url={server.url}/v1/predict; {command} --fail-with-body --silent --show-error"
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    program = "\n".join(line for line in lines if not line.startswith(("curl ", "url=")))
    compact = {"format": "binary", "score_threshold": 1}
    nothing = httpx.post(f"{server.url}/v1/predict", content=jpeg, headers=JPEG, params=compact, timeout=300).content
    for data in ((tmp_path / "found.safetensors").read_bytes(), nothing):
        (tmp_path / "found.safetensors").write_bytes(data)
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr


def test_clients_that_go_away_leave_their_places_free(server, client, jpeg):
    for _ in range(CONFIG.most_waiting + 2):
        with contextlib.suppress(httpx.TimeoutException):
            httpx.post(f"{server.url}/v1/predict", content=jpeg, headers=JPEG, timeout=httpx.Timeout(20, read=0.01))
    assert predict(client, jpeg).status_code == 200
    until = time.monotonic() + 300
    while "maskray_waiting_pictures 0.0" not in client.get("/metrics").text:
        assert time.monotonic() < until
        time.sleep(0.1)
