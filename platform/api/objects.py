"""One image with its objects: what a model has found in it, or what a data set says is in it."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskray.platform.inference.image_files import LEAST_DRAWN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from maskray.model.config import LabelMap


class Objects:
    """An image and the N objects in it, those of a model best first.

    `path` is the file of the image, None where it came as an array; `size` its (height, width) in pixels; `image_id`
    its id in COCO files. Shown at the end of a notebook's cell it is drawn.
    """

    def __init__(
        self,
        entries: Sequence[dict[str, Any]],
        labels: LabelMap,
        image_id: int,
        size: tuple[int, int],
        read: Callable[[], NDArray[np.uint8]],
        path: Path | None = None,
        has_masks: bool = False,
        num_keypoints: int = 0,
    ) -> None:
        """Of COCO results or annotations of the image; api.load_model and api.read_data make them."""
        self.image_id = image_id
        self.size = size
        self.path = path
        self._entries = list(entries)
        self.labels = labels
        self._read = read
        self.has_masks = has_masks
        self.num_keypoints = num_keypoints

    def __len__(self) -> int:
        return len(self._entries)

    def __bool__(self) -> bool:
        return True  # an image, also where nothing is in it

    @property
    def image(self) -> NDArray[np.uint8]:
        """The pixels, (h, w, 3) uint8 RGB, upright; a file is read each time, ValueError where it cannot be."""
        return self._read()

    @property
    def boxes(self) -> NDArray[np.float64]:
        """Boxes (N, 4): x0 y0 x1 y1 in pixels of the image."""
        import numpy as np

        boxes = np.array([entry["bbox"] for entry in self._entries], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return boxes

    @property
    def scores(self) -> NDArray[np.float64]:
        """Scores (N,) from 0 to 1; those of a data set are 1."""
        import numpy as np

        return np.array([entry.get("score", 1.0) for entry in self._entries], dtype=np.float64)

    @property
    def classes(self) -> list[str]:
        """The name of the class of each object."""
        indices, names = self.labels.class_indices, self.labels.names
        return [names[indices[entry["category_id"]]] for entry in self._entries]

    @property
    def class_ids(self) -> NDArray[np.int64]:
        """Ids of the classes (N,), as in COCO files: they may have gaps."""
        import numpy as np

        return np.array([entry["category_id"] for entry in self._entries], dtype=np.int64)

    @property
    def masks(self) -> NDArray[np.bool_] | None:
        """Masks (N, h, w), made anew each time from run lengths; None where the model or the data have none.

        An object of a data set that has a box alone has an empty mask.
        """
        if not self.has_masks:
            return None
        import numpy as np
        from pycocotools import mask as rle_masks

        from maskray.platform.data.formats.segmentation import segmentation_rle

        masks = np.zeros((len(self), *self.size), dtype=np.bool_)
        for mask, entry in zip(masks, self._entries):
            if entry.get("segmentation"):
                mask[:] = rle_masks.decode(segmentation_rle(entry["segmentation"], *self.size))
        return masks

    @property
    def keypoints(self) -> NDArray[np.float64] | None:
        """Keypoints (N, K, 3): x y in pixels as COCO has them, and a score; None where the model or the data have none.

        Of a data set the last number is COCO's visibility, and an object without keypoints has zeros.
        """
        if not self.num_keypoints:
            return None
        import numpy as np

        points = np.zeros((len(self), self.num_keypoints, 3))
        for row, entry in zip(points, self._entries):
            found = np.reshape(entry.get("keypoints") or (), (-1, 3))
            row[: len(found)] = found
        return points

    def to_coco(self) -> list[dict[str, Any]]:
        """The objects as COCO results, those of a data set as COCO annotations; boxes are x y width height there."""
        return [{**entry, "bbox": list(entry["bbox"])} for entry in self._entries]

    def draw(self, score_threshold: float = LEAST_DRAWN, scale: int = 1) -> NDArray[np.uint8]:
        """The image with masks, boxes, keypoints and names of the objects, (h * scale, w * scale, 3) uint8 RGB.

        Objects below score_threshold are left out; a whole scale above 1 enlarges a small image, to read the names.
        """
        from maskray.platform.inference.drawing import draw_detections

        return draw_detections(self.image, self._entries, self.labels, score_threshold, scale)

    def show(self, score_threshold: float = LEAST_DRAWN, scale: int = 1) -> None:
        """Show the drawn image: in the notebook, or elsewhere by the image viewer of the system."""
        from PIL import Image

        picture = Image.fromarray(self.draw(score_threshold, scale))
        if "ipykernel" in sys.modules:
            from IPython.display import display

            display(picture)
        else:
            picture.show()

    def save(self, path: str | Path, score_threshold: float = LEAST_DRAWN, scale: int = 1) -> Path:
        """Write the drawn image to a PNG file, as `maskray predict --out` does, and return its path.

        ValueError for another suffix, and where the path is that of a file that maskray did not draw.
        """
        from maskray.platform.inference.image_files import may_draw, write_drawing

        path = Path(path)
        if path.suffix.lower() != ".png":
            raise ValueError(f"{path}: drawings are written as .png")
        if not may_draw(path):
            raise ValueError(f"{path}: exists and was not drawn by maskray")
        write_drawing(path, self.draw(score_threshold, scale))
        return path

    def _repr_png_(self) -> bytes:
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(self.draw()).save(file, "PNG")
        return file.getvalue()

    def __repr__(self) -> str:
        found = ", ".join(f"{count} {name}" for name, count in Counter(self.classes).most_common())
        name = f"image {self.image_id}" if self.path is None else self.path.name
        return f"<{name}, {self.size[1]} x {self.size[0]} pixels: {found or 'no objects'}>"
