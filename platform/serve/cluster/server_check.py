"""The check after training: deploy the model, send it one image over HTTP, compare, and take the server away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from maskray.platform.data.decode import image_size
from maskray.platform.data.manifest import Manifest
from maskray.platform.data.row_reader import RowReader
from maskray.platform.files.storage import write_whole
from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.cluster.deploy import Server, deploy

# Evaluation computes in other batches and perhaps with other threads, so the last digits may differ, and with them
# what lies at the edge of the score threshold.
LEAST_SCORE = 0.1
SCORE_TOLERANCE = 0.01
PIXEL_TOLERANCE = 1.0
SECONDS = 120.0

Result = Mapping[str, Any]


def check_server(
    model_folder: str, config: ServeConfig, manifest: Manifest, results: Sequence[Result], out: str | Path
) -> Path:
    """Serve a model on a free port, ask it for one image of a data set, and write the drawn image to `out`.

    results are the COCO results of evaluation; of the images the one with most of them is sent. Raises ValueError
    where the server answers with an error or finds something else than evaluation did.
    """
    row = _choose_row(manifest, results, config)
    expected = [result for result in results if result["image_id"] == row["image_id"]]
    # For this one question it is nobody else's server: no keys, and no line in the log of the real one.
    alone = {"port": 0, "num_replicas": 1, "max_replicas": None, "api_keys_file": None, "log_file": None}
    alone |= {"precision": None, "ranges": None}  # as evaluation computed: of a new model nobody has measured ranges
    server = deploy(model_folder, config.model_copy(update=alone))
    try:
        detections = _ask(server, row["image"]).json()["detections"]
        image = _ask(server, row["image"], format="png").content
    finally:
        server.stop()
    compare_detections(detections, expected, f"image {row['image_id']}")
    write_whole(out, image)
    return Path(out)


def compare_detections(served: Sequence[Result], expected: Sequence[Result], image: str) -> None:
    """Raise ValueError where an expected result with a score of 0.1 or more has no like among those served."""
    for result in expected:
        if result["score"] >= LEAST_SCORE and not any(_alike(result, other) for other in served):
            x, y, width, height = result["bbox"]
            raise ValueError(
                f"{image}: evaluation found category {result['category_id']} with score {result['score']:.3f} at "
                f"{x:.0f},{y:.0f} {width:.0f}x{height:.0f}, the server did not"
            )


def _alike(one: Result, other: Result) -> bool:
    return (
        one["category_id"] == other["category_id"]
        and abs(one["score"] - other["score"]) <= SCORE_TOLERANCE
        and all(abs(a - b) <= PIXEL_TOLERANCE for a, b in zip(one["bbox"], other["bbox"], strict=True))
    )


def _choose_row(manifest: Manifest, results: Sequence[Result], config: ServeConfig) -> Mapping[str, Any]:
    """The image with most detections that the server accepts and shows in the frame of its annotations."""
    counts = Counter(result["image_id"] for result in results)
    order = sorted(range(manifest.num_images), key=lambda index: (-counts[int(manifest.image_ids[index])], index))
    reader = RowReader(manifest)
    for index in order:
        row = reader.read(index)
        size = (row["width"], row["height"])
        fits = len(row["image"]) <= config.max_request_bytes and size[0] * size[1] <= config.max_image_pixels
        if fits and image_size(row["image"]) == size:
            return row
    raise ValueError("serving check: no image of data.val is within serve.max_request_bytes and max_image_pixels")


def _ask(server: Server, data: bytes, **query: str) -> httpx.Response:
    headers = {"Content-Type": "application/octet-stream"}
    try:
        # trust_env would hand it to a proxy that the environment names, and the server is ours.
        with httpx.Client(base_url=server.url, timeout=SECONDS, trust_env=False) as client:
            answer = client.post("/v1/predict", content=data, params=query, headers=headers)
    except httpx.HTTPError as error:
        raise ValueError(f"serving check: {server.url} does not answer: {error}") from error
    if answer.status_code != 200:
        raise ValueError(f"serving check: the server answers {answer.status_code}: {answer.text[:300]}")
    return answer
