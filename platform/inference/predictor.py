"""From decoded images to COCO results: the one path of evaluation, of the predict command and of the server."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskray.model.config import ModelSpec
from maskray.model.detections import ImageDetections, to_original
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch, Detections
from maskray.model.views import Views, detect_in_views
from maskray.platform.data.batch import collate_images, single_image
from maskray.platform.data.keypoints import HALF_PIXEL, mirrored_order
from maskray.platform.data.transforms import resize_image
from maskray.platform.job.tta_config import TTAConfig
from maskray.platform.machine.precision import Precision, measured_precision


class Predictor:
    """A model with what is needed to feed it and to read its answers.

    The model is in eval mode on `device` and stays as it is; a predictor may be made anew for every use. Its precision
    is that of the model's inference; where that is auto, the one that is given, or that pays on this machine. With
    tta every image is looked at in all its views. Raises ValueError where keypoints cannot be mirrored for them.
    """

    def __init__(
        self,
        model: MaskRCNN,
        spec: ModelSpec,
        device: str | torch.device = "cpu",
        precision: Precision | None = None,
        tta: TTAConfig | None = None,
    ) -> None:
        self.model = model
        self.spec = spec
        self.device = torch.device(device)
        self.precision = decide_precision(spec, self.device.type, precision)
        self._tta = tta
        self._keypoint_orders = _keypoint_orders(spec) if tta is not None and tta.flip else None

    def predict(
        self,
        images: Sequence[NDArray[np.uint8]],
        image_ids: Sequence[int],
        score_threshold: float | None = None,
    ) -> list[list[dict[str, Any]]]:
        """Detections of each image as COCO results, best first.

        images are (H, W, 3) uint8 RGB, upright, of any size. A result has image_id, category_id, bbox [x, y, width,
        height] and score, with a mask branch a segmentation {size: [height, width], counts: text}, and with a keypoint
        branch keypoints [x, y, score, ...], in pixels of the original image, keypoints as COCO annotates them. Results
        below score_threshold are left out; None keeps all that the model gives. No image changes what is found in
        another: only those that are padded to the same network size share a batch, and on a CPU, where a batch takes
        longer than its images one by one, none do. Raises ValueError for an array that is not an image.
        """
        if len(images) != len(image_ids):
            raise ValueError(f"{len(images)} images, but {len(image_ids)} image ids")
        for image, image_id in zip(images, image_ids):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
                raise ValueError(f"image {image_id}: {image.dtype} {image.shape}, not uint8 (height, width, 3)")
        if self._tta is not None:
            pairs = zip(images, image_ids)
            return [self._predict_views(image, number, self._tta, score_threshold) for image, number in pairs]
        groups: dict[tuple[int, ...], list[tuple[int, Batch]]] = defaultdict(list)
        for index, (image, image_id) in enumerate(zip(images, image_ids)):
            batch = single_image(image, image_id, self.spec.input, self.spec.model.backbone.size_divisor)
            shares = tuple(batch.images.shape) if self.device.type != "cpu" else (index,)
            groups[shares].append((index, batch))
        results: list[list[dict[str, Any]]] = [[] for _ in images]
        for members in groups.values():
            indices = [index for index, _ in members]
            for index, found in zip(indices, self._predict_batch([batch for _, batch in members], score_threshold)):
                results[index] = found
        return results

    @torch.inference_mode()
    def _predict_views(
        self, image: NDArray[np.uint8], image_id: int, config: TTAConfig, score_threshold: float | None
    ) -> list[dict[str, Any]]:
        """The results of one image from all its views; on a CPU, where a batch takes longer, they come one by one."""
        size = (image.shape[0], image.shape[1])
        groups = []
        for scale in config.scales:
            seen = resize_image(image, scale, config.longer_edge_max, self.spec.input.resize)
            views = [(seen, False), *([(seen[:, ::-1], True)] if config.flip else [])]
            for members in [views] if self.device.type != "cpu" else [[view] for view in views]:
                pixels, flipped = zip(*members, strict=True)
                count = len(members)
                batch = collate_images(
                    list(pixels), [image_id] * count, [size] * count, self.spec.model.backbone.size_divisor
                ).to(self.device)
                groups.append(Views(replace(batch, flipped=torch.tensor(flipped))))
        found = detect_in_views(self.model, groups, self.precision, self._keypoint_orders)
        whole = torch.tensor([size])
        batch = Batch(torch.empty(1, 3, 0, 0), whole, torch.tensor([image_id]), whole)
        return self.read_image(found, batch, 0, score_threshold)

    @torch.inference_mode()
    def _predict_batch(self, batches: list[Batch], score_threshold: float | None) -> list[list[dict[str, Any]]]:
        """The results of single-image batches of one shape, computed together."""
        batch = Batch(
            images=torch.cat([b.images for b in batches]),
            image_sizes=torch.cat([b.image_sizes for b in batches]),
            image_ids=torch.cat([b.image_ids for b in batches]),
            original_sizes=torch.cat([b.original_sizes for b in batches]),
        ).to(self.device)
        detections = self.model.detect(batch, self.precision)
        return [self.read_image(detections, batch, index, score_threshold) for index in range(len(batches))]

    def read_image(
        self, detections: Detections, batch: Batch, index: int, score_threshold: float | None
    ) -> list[dict[str, Any]]:
        """COCO results of one image of a batch."""
        if score_threshold is not None:
            detections = _select(detections, detections.scores >= score_threshold)
        config = self.spec.model.inference
        found = to_original(detections, batch, index, config.mask_threshold, config.mask_paste)
        return self._to_coco(found, int(batch.image_ids[index]))

    def _to_coco(self, found: ImageDetections, image_id: int) -> list[dict[str, Any]]:
        category_ids = self.spec.labels.category_ids
        results: list[dict[str, Any]] = [
            {
                "image_id": image_id,
                "category_id": category_ids[class_index],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "score": score,
            }
            for (x0, y0, x1, y1), class_index, score in zip(
                found.boxes.tolist(), found.classes.tolist(), found.scores.tolist()
            )
        ]
        if found.masks is not None:
            for result, rle in zip(results, found.masks):
                result["segmentation"] = rle | {"counts": rle["counts"].decode("ascii")}
        if found.keypoints is not None:
            keypoints = found.keypoints.clone()
            keypoints[..., :2] -= HALF_PIXEL if self.spec.model.keypoint_head.half_pixel else 0.0
            for result, values in zip(results, keypoints.flatten(1).tolist()):
                result["keypoints"] = values
        return results


def _keypoint_orders(spec: ModelSpec) -> Tensor | None:
    """By class which keypoint takes the place of each in a mirror image, (C, K); None without a keypoint branch."""
    if not spec.model.keypoints:
        return None
    count = spec.model.keypoint_head.num_keypoints
    orders = [mirrored_order(category.keypoints or [""] * count) for category in spec.labels.categories]
    return torch.from_numpy(np.stack(orders))


def decide_precision(spec: ModelSpec, device: str, precision: Precision | None = None) -> Precision:
    """The precision that a model is computed in on a device of this machine: its own, or for auto the one given.

    Where none is given, for a process that decides for itself, what pays here is measured if it never was.
    """
    asked = spec.model.inference.precision
    if asked != "auto":
        return asked
    return precision or measured_precision(device).precision


def _select(detections: Detections, chosen: Tensor) -> Detections:
    return Detections(
        boxes=detections.boxes[chosen],
        scores=detections.scores[chosen],
        classes=detections.classes[chosen],
        image_index=detections.image_index[chosen],
        masks=None if detections.masks is None else detections.masks[chosen],
        keypoints=None if detections.keypoints is None else detections.keypoints[chosen],
    )
