"""JSON bodies: what is one is read as any parser reads it, and all else is refused early and within bounds."""

import base64
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskray.platform.serve.http.json_body import JsonImages
from maskray.platform.serve.http.parameters import NAMES
from maskray.platform.serve.http.request_checks import RequestError

MANY = 6_000_000
IMAGES = st.binary(min_size=1, max_size=50)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=20)
OPTIONS = st.dictionaries(st.sampled_from(NAMES), SCALARS)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("image", "images", "data", "masks")) | st.text(max_size=3), inner, max_size=3
        )
    ),
)


def read(text, max_bytes=1000, max_images=16):
    return JsonImages(text, max_bytes, max_images)


@given(st.lists(IMAGES, min_size=1, max_size=5), OPTIONS, st.booleans(), st.sampled_from((None, 1)), st.randoms())
def test_body_is_read_as_the_library_reads_it(images, options, in_objects, indent, random):
    texts = [base64.b64encode(image).decode() for image in images]
    entries = [{"data": text} if in_objects else text for text in texts]
    tree = options | ({"images": entries} if len(images) > 1 else {"image": entries[0]})
    keys = list(tree)
    random.shuffle(keys)
    text = json.dumps({key: tree[key] for key in keys}, indent=indent, ensure_ascii=random.random() < 0.5)
    text = text.replace("/", "\\/")  # as some write it
    found = read(text.encode())
    assert (found.images, found.options, found.is_list) == (images, options, len(images) > 1)


@given(JSON | st.dictionaries(st.sampled_from(("image", "images", "masks")), JSON, max_size=2))
def test_json_that_is_no_such_body_is_refused(tree):
    try:
        found = read(json.dumps(tree).encode())
    except RequestError:
        return
    assert isinstance(tree, dict)
    assert ("image" in tree) != ("images" in tree)
    assert found.images


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\ate1-image', max_size=40).map(str.encode))
def test_what_the_library_does_not_read_is_refused(text):
    try:
        json.loads(text)
    except ValueError:
        with pytest.raises(RequestError):
            read(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"images":[' + b"{}," * MANY + b"{}]}", "images.0: an image is text in base64"),
        (b'{"images":[' + b"[]," * MANY + b"[]]}", "images.0: an image is text in base64"),
        (b"[" * MANY, "not a JSON object"),
        (b'{"image":' + b"[" * MANY, "an image is text in base64"),
        (b'{"image":"AAAA","masks":' + b"[" * MANY, "expected at byte"),
        (b'{"images":[' + b'"AAAA",' * MANY + b'"AAAA"]}', "more images than the 16 of a request"),
        (b'{"image":"AAAA","masks":' + b"1" * MANY + b"}", "expected at byte"),
        (b'{"' + b"k" * MANY + b'":1}', "no text, or one too long"),
        (b'{"image":"AAAA",' + b'"masks":1,' * MANY + b'"masks":1}', "key 'masks' stands twice"),
        (b'{"image":"' + b"\\" * MANY, "no text"),
        (b"{" + b" " * MANY, "no text"),
    ],
)
def test_large_bodies_are_refused_at_their_first_mistake(text, message):
    """26 megabytes of empty objects took 700 of memory, and of empty lists more than four seconds."""
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match=message):
            read(text)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_bytes_of_all_images_are_counted():
    half = base64.b64encode(bytes(600)).decode()
    with pytest.raises(RequestError, match="larger than the 1000 bytes") as refused:
        read(json.dumps({"images": [half, half]}).encode())
    assert refused.value.status == 413
