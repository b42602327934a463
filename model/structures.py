"""What goes into the model and what comes out, as flat and padded tensors: no lists of images.

Letters: N images, H W padded height and width of the batch, M most ground-truth objects of one image in the batch,
G ground-truth objects of the whole batch, D detections of the whole batch, K keypoints.
Boxes are x0 y0 x1 y1 in pixels of the network input, continuous, pixel centres at +0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maskray.model.outlines import Outlines


@dataclass
class Targets:
    """Ground truth of a batch, padded to M objects per image.

    boxes (N, M, 4) float32, zeros where padded; classes (N, M) int64 in 0..num_classes-1, -1 where padded, the real
    objects first; masks of the G real objects of image 0, then of image 1, ..., or None without masks; keypoints
    (N, M, K, 3) float32, x y in pixels and visibility 0 not labelled, 1 hidden, 2 visible, or None; has_mask (G,) bool,
    which objects have a mask to learn (an empty outline stands for the others), or None where all have. Masks and
    has_mask stay on the CPU, where targets are cut from them. Crowd regions are not in it. An image without objects
    has a row of padding; M may be 0.
    """

    boxes: Tensor
    classes: Tensor
    masks: Outlines | None = None
    keypoints: Tensor | None = None
    has_mask: Tensor | None = None

    @property
    def valid(self) -> Tensor:
        """Which entries are real objects, (N, M) bool."""
        return self.classes >= 0

    def to(self, device: torch.device | str) -> Targets:
        """Boxes, classes and keypoints on another device."""
        return Targets(
            self.boxes.to(device, non_blocking=True),
            self.classes.to(device, non_blocking=True),
            self.masks,
            None if self.keypoints is None else self.keypoints.to(device, non_blocking=True),
            self.has_mask,
        )


@dataclass
class Batch:
    """Images of one step, padded at right and bottom to a common size.

    images (N, 3, H, W) uint8 RGB or float32 in 0..255 (the model normalises), padding 0; image_sizes (N, 2) int64
    height and width without padding; image_ids (N,) int64; original_sizes (N, 2) int64 height and width of the
    image before resizing (after EXIF orientation); targets are None at inference. For training on stored
    proposals: flipped (N,) bool, which images are mirrored, and proposals (N, P, 4) float32 in pixels of the network
    input, zeros where padded.
    """

    images: Tensor
    image_sizes: Tensor
    image_ids: Tensor
    original_sizes: Tensor
    targets: Targets | None = None
    flipped: Tensor | None = None
    proposals: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        return Batch(
            images=self.images.to(device, non_blocking=True),
            image_sizes=self.image_sizes.to(device, non_blocking=True),
            image_ids=self.image_ids,
            original_sizes=self.original_sizes,
            targets=None if self.targets is None else self.targets.to(device),
            flipped=self.flipped,
            proposals=None if self.proposals is None else self.proposals.to(device, non_blocking=True),
        )


@dataclass
class Detections:
    """Detections of a batch, flat, ordered by image, then score descending, then index.

    boxes (D, 4) float32; scores (D,) float32; classes (D,) int64; image_index (D,) int64 position in the batch;
    masks (D, m, m) float32 probabilities of the predicted class inside the box, or None without a mask branch;
    keypoints (D, K, 3) float32, x y in pixels and score, or None without a keypoint branch.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    image_index: Tensor
    masks: Tensor | None = None
    keypoints: Tensor | None = None
