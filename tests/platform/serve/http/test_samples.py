"""The images on offer: those that are drawn, those of a folder, and folders that cannot be offered."""

import asyncio
import io

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image

from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.http.error_handlers import handle_errors
from maskray.platform.serve.http.samples import add_samples, list_samples, locate_samples


def answers(config, *paths):
    app = FastAPI()
    handle_errors(app)
    add_samples(app, config)

    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://probe") as client:
            return [await client.get(path) for path in paths]

    return asyncio.run(ask())


def size_of(answer):
    assert answer.status_code == 200, answer.text
    with Image.open(io.BytesIO(answer.content)) as image:
        assert answer.headers["content-type"] == f"image/{image.format.lower()}"
        return image.size


def test_without_a_folder_scenes_are_drawn_the_same_each_time():
    (listed,) = answers(ServeConfig(), "/v1/samples")
    samples = listed.json()["samples"]
    assert len({sample["name"] for sample in samples}) == len(samples) >= 4
    shapes = {(sample["width"] > sample["height"]) - (sample["width"] < sample["height"]) for sample in samples}
    assert shapes == {1, -1}
    for sample in samples[:2]:
        path = f"/v1/samples/{sample['name']}"
        image, again, preview = answers(ServeConfig(), path, path, f"{path}/preview")
        assert size_of(image) == (sample["width"], sample["height"])
        assert image.content == again.content
        assert max(size_of(preview)) == 320
        assert len(preview.content) < len(image.content) / 2


def test_a_folder_is_offered_as_it_is(tmp_path, png, jpeg):
    (tmp_path / "b zwei & drei?.png").write_bytes(png)
    (tmp_path / "a.JPG").write_bytes(jpeg)
    (tmp_path / "LICENSE.txt").write_text("not an image")
    config = ServeConfig(samples=str(tmp_path))
    paths = ("/v1/samples", "/v1/samples/b%20zwei%20%26%20drei%3F.png", "/v1/samples/a.JPG/preview")
    listed, image, preview = answers(config, *paths)
    assert listed.json()["samples"] == [
        {"name": "a.JPG", "title": "a", "width": 160, "height": 120},
        {"name": "b zwei & drei?.png", "title": "b zwei & drei?", "width": 160, "height": 120},
    ]
    assert image.content == png
    assert image.headers["content-type"] == "image/png"
    assert size_of(preview) == (160, 120)


def test_sample_that_is_cut_short_costs_its_own_preview_alone(tmp_path, jpeg):
    (tmp_path / "a.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (tmp_path / "b.jpg").write_bytes(jpeg)
    config = ServeConfig(samples=str(tmp_path))
    listed, broken, whole = answers(config, "/v1/samples", "/v1/samples/a.jpg/preview", "/v1/samples/b.jpg/preview")
    assert [sample["name"] for sample in listed.json()["samples"]] == ["a.jpg", "b.jpg"]
    assert broken.status_code == 422
    assert broken.json()["error"].startswith("sample 'a.jpg': image cannot be decoded")
    assert size_of(whole) == (160, 120)


def test_nothing_but_samples_is_handed_out(tmp_path, jpeg):
    folder = tmp_path / "samples"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(jpeg)
    (tmp_path / "secret.jpg").write_bytes(jpeg)
    (folder / "b.txt").write_text("secret")
    names = ("..%2Fsecret.jpg", "%2E%2E/secret.jpg", "b.txt", "absent.jpg", "..%2Fsecret.jpg/preview")
    for answer in answers(ServeConfig(samples=str(folder)), *(f"/v1/samples/{name}" for name in names)):
        assert answer.status_code == 404
        assert list(answer.json()) == ["error"]


def test_folders_that_cannot_be_offered_are_refused(tmp_path, jpeg):
    with pytest.raises(ValueError, match=r"serve\.samples: .*absent is no folder"):
        list_samples(ServeConfig(samples=str(tmp_path / "absent")))
    with pytest.raises(ValueError, match=r"serve\.samples: no image in .*\.jpg"):
        list_samples(ServeConfig(samples=str(tmp_path)))
    image = tmp_path / "a.jpg"
    image.write_bytes(jpeg)
    with pytest.raises(ValueError, match=r"a\.jpg has 160 x 120 pixels, more than serve\.max_image_pixels"):
        list_samples(ServeConfig(samples=str(tmp_path), max_image_pixels=10_000))
    with pytest.raises(ValueError, match=r"a\.jpg has \d+ bytes, more than serve\.max_request_bytes"):
        list_samples(ServeConfig(samples=str(tmp_path), max_request_bytes=100))
    image.write_text("no image")
    with pytest.raises(ValueError, match=r"a\.jpg: image cannot be decoded"):
        list_samples(ServeConfig(samples=str(tmp_path)))


def test_folder_is_found_from_elsewhere_too(tmp_path, monkeypatch, jpeg):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.jpg").write_bytes(jpeg)
    monkeypatch.chdir(tmp_path)
    located = locate_samples(ServeConfig(samples="own"))
    monkeypatch.chdir("/")
    assert [sample.name for sample in list_samples(located)] == ["a.jpg"]
    assert locate_samples(ServeConfig()) == ServeConfig()
