"""Masks of a batch as outlines, polygons or run lengths: never a bitmap of a whole image for each object.

Letters: G objects of the batch, H W padded height and width of the batch, K boxes, m side of a mask target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maskray.ops.outlines import OutlineTensors, crop_outlines, draw_outlines, encode_masks


@dataclass(frozen=True)
class Outlines:
    """The masks of G objects, those of image 0 first; on the CPU.

    tensors as maskray.ops.outlines has them; size (H, W) of the batch, at least that of every image.
    """

    tensors: OutlineTensors
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.tensors.placements)

    @torch.no_grad()
    def crop(self, gt_index: Tensor, boxes: Tensor, mask_size: int, targets: str = "binary") -> Tensor:
        """What each box sees of the mask of its object, (K, m, m), on the CPU.

        gt_index (K,) int64 and boxes (K, 4) in pixels of the network input, both on the CPU. `binary` targets: aligned
        RoIAlign of the drawn mask, at least one half, bool. `soft`: RoIAlign without the half-pixel shift, float32.
        """
        binary = targets == "binary"
        wide = boxes if boxes.dtype == torch.float64 else boxes.float()
        crops = crop_outlines(self.tensors, gt_index, wide, self.size, mask_size, aligned=binary, binary=binary)
        return crops if binary else crops.float()

    def draw(self, index: Tensor | Sequence[int], windows: Tensor | Sequence[Sequence[int]]) -> list[Tensor]:
        """Masks of objects in windows (K, 4) top, left, height, width of their images, each (height, width) uint8."""
        of, where = torch.as_tensor(index, dtype=torch.int64), torch.as_tensor(windows, dtype=torch.int64)
        return draw_outlines(self.tensors, of, where.reshape(-1, 4))

    def bitmaps(self) -> Tensor:
        """All masks at the size of the batch, (G, H, W) uint8 0/1: for eyes and tests, not for training."""
        whole = [(0, 0, *self.size)] * len(self)
        return torch.stack([torch.zeros(self.size, dtype=torch.uint8), *self.draw(range(len(self)), whole)])[1:]

    def select(self, index: Sequence[int]) -> Outlines:
        """The objects of an index, in its order."""
        own = self.tensors
        first, last = own.object_offsets[:-1].tolist(), own.object_offsets[1:].tolist()
        polygons = [p for g in index for p in range(first[g], last[g])]
        lengths = own.polygon_offsets.diff()[polygons]
        begins = own.polygon_offsets.tolist()
        points = [own.coordinates[begins[p] : begins[p + 1]] for p in polygons]
        places = own.text_offsets.tolist()
        texts = [own.text[places[g] : places[g + 1]] for g in index]
        tensors = OutlineTensors(
            torch.cat([own.coordinates[:0], *points]),
            _offsets(lengths),
            _offsets(torch.tensor([last[g] - first[g] for g in index], dtype=torch.int64)),
            torch.cat([own.text[:0], *texts]),
            _offsets(own.text_offsets.diff()[list(index)]),
            own.placements[list(index)],
        )
        return Outlines(tensors, self.size)

    @classmethod
    def join(cls, parts: Sequence[Outlines], size: tuple[int, int]) -> Outlines:
        """The objects of all parts, one part after the other, in a batch of a size (H, W)."""
        own = [part.tensors for part in (*parts, cls.none(size))]
        tensors = OutlineTensors(
            torch.cat([part.coordinates for part in own]),
            _offsets(torch.cat([part.polygon_offsets.diff() for part in own])),
            _offsets(torch.cat([part.object_offsets.diff() for part in own])),
            torch.cat([part.text for part in own]),
            _offsets(torch.cat([part.text_offsets.diff() for part in own])),
            torch.cat([part.placements for part in own]),
        )
        return cls(tensors, size)

    @classmethod
    def none(cls, size: tuple[int, int]) -> Outlines:
        """No object."""
        return cls.from_polygons([], size)

    @classmethod
    def from_polygons(cls, objects: Sequence[Sequence[Tensor]], size: tuple[int, int]) -> Outlines:
        """Objects, each the union of polygons (n, 2) float64 x y in pixels of an image of a size (height, width)."""
        polygons = [polygon for polygons in objects for polygon in polygons]
        tensors = OutlineTensors(
            torch.cat([torch.zeros(0, 2, dtype=torch.float64), *polygons]),
            _offsets(torch.tensor([len(polygon) for polygon in polygons], dtype=torch.int64)),
            _offsets(torch.tensor([len(polygons) for polygons in objects], dtype=torch.int64)),
            torch.zeros(0, dtype=torch.uint8),
            torch.zeros(len(objects) + 1, dtype=torch.int64),
            torch.tensor([[*size, 0, 0, 0, *size]] * len(objects), dtype=torch.int64).reshape(-1, 7),
        )
        return cls(tensors, size)

    @classmethod
    def from_windows(
        cls, masks: Sequence[Tensor], corners: Sequence[tuple[int, int]], size: tuple[int, int]
    ) -> Outlines:
        """Objects from masks (h, w) uint8 0/1 or bool, each of a part of an image of a size (height, width).

        corners: row and column of the image where each mask begins.
        """
        text, offsets = encode_masks(masks)
        places = [[*mask.shape, 0, -top, -left, *size] for mask, (top, left) in zip(masks, corners, strict=True)]
        nothing = cls.from_polygons([()] * len(masks), size).tensors
        placements = torch.tensor(places, dtype=torch.int64).reshape(-1, 7)
        return cls(nothing._replace(text=text, text_offsets=offsets, placements=placements), size)

    @classmethod
    def from_bitmaps(cls, masks: Tensor) -> Outlines:
        """Objects from masks (G, H, W) uint8 0/1 or bool of whole images."""
        return cls.from_windows(list(masks), [(0, 0)] * len(masks), (masks.shape[1], masks.shape[2]))


def _offsets(lengths: Tensor) -> Tensor:
    """Where groups of these lengths begin, and the end."""
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
