"""Every form of a request and of an answer, and images that are odd or hostile, on a real model behind the routes."""

import base64
import io
import itertools
import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load

from maskray.platform.serve.http.responses import FailedImage, ModelName
from maskray.platform.serve.model.loaded_model import Task, load_model

BINARY = {"Content-Type": "application/octet-stream"}
GET_ONE = "the form has no file in a field named image"


class RealModel:
    """The model in this process, without Ray before it."""

    def __init__(self, folder):
        self.loaded = load_model(folder, ModelName("shapes", "3"), "cpu")

    async def predict(self, data, size, options, seconds_left):
        (found,) = self.loaded.find([Task(data, size, options)], 4_000_000)
        if isinstance(found, FailedImage):
            return found
        return replace(found.answer, drawn=self.loaded.draw(found) if options.format == "png" else None)


@pytest.fixture(scope="module")
def model(model_folder, one_thread):
    return RealModel(model_folder)


@pytest.fixture
def send(ask, model):
    return lambda *requests: ask(model, *requests, max_request_bytes=1_000_000, max_image_pixels=4_000_000)


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def text_of(data):
    return base64.b64encode(data).decode()


def bare(data, **query):
    return {"content": data, "headers": BINARY, "params": query}


def test_all_forms_of_a_request_give_the_same_detections(send, jpeg):
    forms = [
        bare(jpeg),
        {"files": {"image": jpeg}},
        {"json": {"image": text_of(jpeg)}},
        {"json": {"image": {"data": text_of(jpeg)}}},
    ]
    answers = send(*forms)
    assert [answer.status_code for answer in answers] == [200] * 4
    trees = [answer.json() for answer in answers]
    assert len(trees[0]["detections"]) == 20
    assert all(tree["detections"] == trees[0]["detections"] for tree in trees)
    assert all(set(tree) == {"model", "image", "detections", "seconds"} for tree in trees)


def test_several_images_are_answered_in_order_and_a_broken_one_alone_is_an_error(send, jpeg, png):
    broken = jpeg[: len(jpeg) // 2]
    images = [jpeg, broken, png, b"text"]
    requests = [{"files": [("image", data) for data in images]}, {"json": {"images": [text_of(d) for d in images]}}]
    single = [answer.json()["detections"] for answer in send(bare(jpeg), bare(png))]
    for answer in send(*requests):
        assert answer.status_code == 200
        tree = answer.json()
        assert tree["errors"] == 2
        first, second, third, fourth = tree["results"]
        assert (first["detections"], third["detections"]) == tuple(single)
        assert (second["status"], fourth["status"]) == (422, 415)
        assert "truncated" in second["error"]
    (refused,) = send({"json": {"images": [text_of(broken), "AAAA"]}})
    assert refused.status_code == 422
    assert refused.json()["error"].startswith("image 0: image cannot be decoded")


def test_list_of_one_is_answered_as_a_list(send, jpeg):
    (answer,) = send({"json": {"images": [text_of(jpeg)]}})
    assert len(answer.json()["results"]) == 1


@pytest.mark.parametrize("in_json", [True, False])
def test_options_choose_what_is_answered(send, jpeg, in_json):
    def request(**options):
        return {"json": {"image": text_of(jpeg)} | options} if in_json else bare(jpeg, **options)

    everything = send(request())[0].json()["detections"]
    scores = [found["score"] for found in everything]
    few, sure, plain, none = send(
        request(max_detections=3), request(score_threshold=scores[5]), request(masks=False), request(max_detections=0)
    )
    assert few.json()["detections"] == everything[:3]
    assert sure.json()["detections"] == [found for found in everything if found["score"] >= scores[5]]
    bare_ones = [{key: value for key, value in found.items() if key != "segmentation"} for found in everything]
    assert plain.json()["detections"] == bare_ones
    assert none.json()["detections"] == []


def test_tensors_hold_what_json_holds(send, jpeg, png):
    tree, compact = send(
        {"json": {"images": [text_of(jpeg), "AAAA", text_of(png)]}},
        {"json": {"images": [text_of(jpeg), "AAAA", text_of(png)], "format": "binary"}},
    )
    assert compact.headers["content-type"] == "application/vnd.safetensors"
    assert len(compact.content) < len(tree.content)
    tensors = load(compact.content)
    results = tree.json()["results"]
    found = [(index, one) for index in (0, 2) for one in results[index]["detections"]]
    assert tensors["image_sizes"].tolist() == [[120, 160], [0, 0], [120, 160]]
    assert tensors["image_index"].tolist() == [index for index, _ in found]
    assert tensors["category_ids"].tolist() == [one["category_id"] for _, one in found]
    np.testing.assert_allclose(tensors["scores"], [one["score"] for _, one in found])
    boxes = np.array([one["bbox"] for _, one in found])
    np.testing.assert_allclose(tensors["boxes"][:, :2], boxes[:, :2], rtol=1e-6)  # float32 and back
    # Float32 sums.
    np.testing.assert_allclose(tensors["boxes"][:, 2:], boxes[:, :2] + boxes[:, 2:], rtol=1e-6)
    offsets, counts = tensors["mask_offsets"], tensors["mask_counts"].tobytes()
    masks = [counts[start:end].decode() for start, end in itertools.pairwise(offsets)]
    assert masks == [one["segmentation"]["counts"] for _, one in found]


def test_tensors_say_what_they_are_also_when_there_are_none(send, jpeg, tmp_path):
    full, empty = send(bare(jpeg, format="binary"), bare(jpeg, format="binary", score_threshold=1))
    for answer, number in ((full, 20), (empty, 0)):
        path = tmp_path / "answer.safetensors"
        path.write_bytes(answer.content)
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            assert file.get_tensor("boxes").shape == (number, 4)
        assert metadata["format"] == "maskray-detections-1"
        assert json.loads(metadata["model"]) == {"name": "shapes", "version": "3"}
        assert json.loads(metadata["errors"]) == {}
    assert json.loads(metadata["categories"]) == {}


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(*chunks):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(8 * 25)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + png_chunk(b"IEND", b"")


def odd_images(pixels):
    image = Image.fromarray(pixels)
    frames = [image.rotate(90 * k) for k in range(5)]
    gray = pixels[..., 0]
    return {
        "alpha": encode(image.convert("RGBA"), "PNG"),
        "CMYK": encode(image.convert("CMYK"), "JPEG"),
        "16 bits": encode(Image.fromarray(gray.astype(np.uint16) * 257), "PNG"),
        "1 bit": encode(image.convert("1"), "PNG"),
        "animated GIF": encode(image, "GIF", save_all=True, append_images=frames),
        "animated WEBP": encode(image, "WEBP", save_all=True, append_images=frames),
        "TIFF of many pages": encode(image, "TIFF", save_all=True, append_images=frames),
        "one pixel": encode(Image.fromarray(pixels[:1, :1]), "PNG"),
        "a line": encode(Image.new("RGB", (20_000, 1)), "PNG"),
    }


def hostile_images(pixels):
    packed = zlib.compress(bytes(100_000_000), 9)
    gif = bytearray(encode(Image.fromarray(pixels), "GIF"))
    gif[6:10] = struct.pack("<HH", 60_000, 60_000)
    return {
        "text that unpacks to 100 MB": (png_of(png_chunk(b"zTXt", b"a\0\0" + packed)), 422),
        "profile that unpacks to 100 MB": (png_of(png_chunk(b"iCCP", b"a\0\0" + packed)), 422),
        "GIF of 3600 megapixels": (bytes(gif), 413),
        "floating point": (encode(Image.fromarray(pixels[..., 0].astype(np.float32)), "TIFF"), 422),
        "another format": (b"P6 2 2 255 " + bytes(12), 415),
    }


def test_odd_images_are_seen_as_a_viewer_shows_them(send, pixels):
    images = odd_images(pixels)
    for name, answer in zip(images, send(*map(bare, images.values())), strict=True):
        assert answer.status_code == 200, (name, answer.text)
        with Image.open(io.BytesIO(images[name])) as image:
            assert answer.json()["image"] == {"width": image.width, "height": image.height}, name


def test_hostile_images_are_refused(send, pixels):
    images = hostile_images(pixels)
    answers = send(*(bare(data) for data, _ in images.values()))
    assert {name: answer.status_code for name, answer in zip(images, answers, strict=True)} == {
        name: status for name, (_, status) in images.items()
    }


@pytest.mark.parametrize(
    ("status", "message", "request_of"),
    [
        (422, "unknown key 'threshold'", lambda text: {"json": {"image": text, "threshold": 0.5}}),
        (422, "either image or images", lambda text: {"json": {"image": text, "images": [text]}}),
        (422, "either image or images", lambda text: {"json": {}}),
        (422, "not a JSON object", lambda text: {"json": [text]}),
        (422, "images is a list of at least one", lambda text: {"json": {"images": []}}),
        (422, "images.1: not base64", lambda text: {"json": {"images": [text, "%%%%"]}}),
        (422, "images.0: unknown key 'url'", lambda text: {"json": {"images": [{"url": "http://a.example"}]}}),
        (422, "image: an image is text in base64", lambda text: {"json": {"image": 5}}),
        (422, "parameter masks", lambda text: {"json": {"image": text, "masks": "yes"}}),
        (422, "parameter score_threshold", lambda text: {"json": {"image": text, "score_threshold": 2}}),
        (422, "score_threshold is given twice",
         lambda text: {"json": {"image": text, "score_threshold": 0.5}, "params": {"score_threshold": 0.5}}),
        (422, "score_threshold is given twice",
         lambda text: bare(base64.b64decode(text)) | {"url": "/v1/predict?score_threshold=0.1&score_threshold=0.2"}
         | {"params": None}),
        (422, "the body is not JSON", lambda text: {"content": b"{", "headers": {"Content-Type": "application/json"}}),
        (422, "key 'image' stands twice",
         lambda text: {"content": b'{"image": "AAAA", "image": ""}', "headers": {"Content-Type": "application/json"}}),
        (422, "format png is for one image", lambda text: {"json": {"images": [text], "format": "png"}}),
        (422, "options go into the query",
         lambda text: {"files": {"image": base64.b64decode(text)}, "data": {"masks": "false"}}),
        (422, "the field image of the form is text", lambda text: {"files": {"a": b""}, "data": {"image": "x"}}),
        (413, "more images than the 16 of a request", lambda text: {"json": {"images": [text] * 17}}),
        (413, "more images than the 16 of a request", lambda text: {"files": [("image", b"x")] * 30}),
        (413, "larger than the 1000000 bytes", lambda text: {"json": {"image": text_of(bytes(1_000_001))}}),
        (415, "content encoding gzip", lambda text: bare(b"") | {"headers": BINARY | {"Content-Encoding": "gzip"}}),
    ],
)  # fmt: skip
def test_unfit_request_is_refused_by_name(send, jpeg, status, message, request_of):
    (answer,) = send(request_of(text_of(jpeg)))
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert message in answer.json()["error"]
