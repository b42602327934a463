"""A model in Python: loaded once, and asked for the objects in images of any kind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskray.platform.api.objects import Objects

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from maskray.platform.inference.predictor import Predictor
    from maskray.platform.job.serve_config import Runtime, Whole

    Pixels = NDArray[np.uint8]
    AnImage = Path | Pixels | Image.Image | Objects
    ImageLike = str | os.PathLike[str] | AnImage


class Model:
    """A model that finds objects in images; load_model makes it."""

    def __init__(self, predictor: Predictor, name: str) -> None:
        """Of a predictor; `name` is what the model was loaded by."""
        self.name = name
        self._predictor = predictor

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that it knows."""
        return self._predictor.spec.labels.names

    @property
    def device(self) -> str:
        """Where it computes: cpu, cuda or cuda:NUMBER."""
        return str(self._predictor.device)

    def predict(self, images: ImageLike | Iterable[ImageLike], score_threshold: float | None = None) -> list[Objects]:
        """What is in each image, in the order given; a list also for a single image.

        An image is a path, an array (h, w, 3) uint8 RGB, a PIL image, or an image of read_data; a folder stands for the
        images in it. Objects below score_threshold (0 to 1) are left out; None keeps what the model gives
        (model.inference of its job). The detections are those of `maskray predict`. ValueError for a file that is no
        readable image and an array that is none, before anything is returned.
        """
        from maskray.platform.inference.image_files import image_ids, predict_images

        if score_threshold is not None and not 0 <= score_threshold <= 1:
            raise ValueError(f"score_threshold {score_threshold}: from 0 to 1")
        inputs = _list(images)
        ids = list(range(1, len(inputs) + 1))
        if all(isinstance(one, Path) for one in inputs):
            ids = image_ids([one for one in inputs if isinstance(one, Path)])
        elif all(isinstance(one, Objects) for one in inputs):
            ids = [one.image_id for one in inputs if isinstance(one, Objects)]
        readers = [_reader(one) for one in inputs]
        found = []
        for one, number, read, (pixels, results) in zip(
            inputs, ids, readers, predict_images(self._predictor, readers, ids, score_threshold), strict=True
        ):
            if isinstance(pixels, str):
                raise ValueError(pixels)
            found.append(self._objects(results, number, (pixels.shape[0], pixels.shape[1]), read, _path(one)))
        return found

    def _objects(
        self,
        results: list[dict[str, Any]],
        image_id: int,
        size: tuple[int, int],
        read: Callable[[], Pixels],
        path: Path | None,
    ) -> Objects:
        model, labels = self._predictor.spec.model, self._predictor.spec.labels
        num_keypoints = model.keypoint_head.num_keypoints if model.keypoints else 0
        return Objects(results, labels, image_id, size, read, path, model.masks, num_keypoints)

    def __repr__(self) -> str:
        return f"<model {self.name}: {len(self.classes)} classes, on {self.device}>"


def load_model(
    model: str | os.PathLike[str],
    *,
    device: str = "cpu",
    runtime: Runtime = "torch",
    precision: Whole | None = None,
    ranges: str | os.PathLike[str] | None = None,
    tta: Sequence[int] | None = None,
    tracking_uri: str | None = None,
    output: str | os.PathLike[str] = "outputs",
) -> Model:
    """Load a model: a model folder or file, a checkpoint, or a registered one as models:/NAME@alias or models:/NAME/3.

    device is cpu, cuda or cuda:NUMBER. runtime openvino computes on a CPU by that package, where precision int8 is one
    of 8 bits, for which ranges is a folder of ranges (None: that of the model). tta are shorter edges in pixels: each
    image is looked at in these sizes and mirrored. A registered model is looked for at tracking_uri (MLflow server or
    sqlite:///FILE; None: MLFLOW_TRACKING_URI, else the file in the folder of runs, output). The options are those of
    `maskray predict`. ValueError of one line where the model is not there or damaged, or an option does not fit.
    """
    from maskray.platform.inference.engine import make_engine, open_predictor
    from maskray.platform.job.tta_config import read_scales
    from maskray.platform.registry.models import model_folder

    views = None if tta is None else read_scales(tta, "tta")
    engine = make_engine(runtime, precision, None if ranges is None else os.fspath(ranges))
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None
    folder = model_folder(os.fspath(model), uri, os.fspath(output))
    return Model(open_predictor(folder, device, engine, tta=views), os.fspath(model))


def _list(images: ImageLike | Iterable[ImageLike]) -> list[AnImage]:
    """The images given, one or many; folders replaced by what they hold."""
    import numpy as np
    from PIL import Image

    from maskray.platform.inference.image_files import list_images

    if isinstance(images, str | os.PathLike | np.ndarray | Image.Image | Objects):
        images = [images]
    found: list[AnImage] = []
    for one in images:
        if isinstance(one, str | os.PathLike):
            found += list_images([Path(one)])
        else:
            found.append(one)
    return found


def _reader(image: AnImage) -> Callable[[], Pixels]:
    """What gives the pixels of an image, (h, w, 3) uint8 RGB."""
    import numpy as np
    from PIL import Image

    from maskray.platform.data.decode import upright_pixels
    from maskray.platform.inference.image_files import read_image

    if isinstance(image, Objects):
        return lambda: image.image
    if isinstance(image, Path):
        return partial(read_image, image)
    if isinstance(image, Image.Image):
        pixels = upright_pixels(image)
    elif isinstance(image, np.ndarray):
        pixels = np.ascontiguousarray(image)  # OpenCV's, turned round, is a view that torch does not take
    else:
        raise ValueError(f"{type(image).__name__} is no image: give a path, an array (h, w, 3) uint8 or a PIL image")
    return lambda: pixels


def _path(image: object) -> Path | None:
    if isinstance(image, Objects):
        return image.path
    return image if isinstance(image, Path) else None
