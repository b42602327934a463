"""Images in files to detections in COCO results format, and images of them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskray.platform.files.atomic import replaced_file

if TYPE_CHECKING:
    from numpy import ndarray

    from maskray.model.config import LabelMap
    from maskray.platform.inference.engine import Engine
    from maskray.platform.job.tta_config import TTAConfig

IMAGES_AT_ONCE = 4
MOST_DIGITS = 18  # of an id that every reader of COCO results holds in 64 bits
_SOFTWARE = ("Software", "maskray")  # by which a drawing is known as ours


@dataclass(frozen=True)
class FilePrediction:
    """Detections of one image; `results` as in a COCO results file, `categories` the name of every id.

    `error` says why there are none where the file is no readable image.
    """

    path: Path
    results: list[dict[str, Any]]
    categories: dict[int, str]
    error: str | None = None


def predict_files(
    paths: list[Path],
    folder: str,
    device: str = "cpu",
    score_threshold: float | None = None,
    out: Path | None = None,
    engine: Engine | None = None,
    tta: TTAConfig | None = None,
) -> Iterator[FilePrediction]:
    """Predict images with the model of a folder, a few at a time; with `out` write the drawn images there.

    A file that is no readable image gets a prediction with its error, and the others are answered. Raises ValueError
    before anything is predicted where a drawing would take the place of a file that maskray did not draw.
    """
    from maskray.platform.inference.engine import TORCH, open_predictor

    drawings = [None] * len(paths) if out is None else name_drawings(paths, out)
    predictor = open_predictor(folder, device, engine or TORCH, tta=tta)
    labels = predictor.spec.labels
    names = {category.id: category.name for category in labels.categories}
    ids = image_ids(paths)
    for start in range(0, len(paths), IMAGES_AT_ONCE):
        part = range(start, min(start + IMAGES_AT_ONCE, len(paths)))
        images = {index: _try_image(paths[index]) for index in part}
        sound = {index: image for index, image in images.items() if not isinstance(image, str)}
        results = predictor.predict(
            list(sound.values()), [ids[index] for index in sound], score_threshold=score_threshold
        )
        found = dict(zip(sound, results, strict=True))
        for index in part:
            drawing, image = drawings[index], images[index]
            if isinstance(image, str):
                yield FilePrediction(paths[index], [], names, image)
                continue
            if drawing is not None:
                _write_drawing(drawing, image, found[index], labels, score_threshold)
            yield FilePrediction(paths[index], found[index], names)


def read_image(path: Path) -> ndarray:
    """The pixels of a file, uint8 (H, W, 3) RGB, turned upright; ValueError naming the file."""
    from maskray.platform.data.decode import decode_image

    try:
        return decode_image(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _try_image(path: Path) -> ndarray | str:
    """The pixels of a file, or what is wrong with it."""
    try:
        return read_image(path)
    except ValueError as error:
        return str(error)


def name_drawings(paths: list[Path], out: Path) -> list[Path]:
    """Where the drawing of each image goes: out/STEM.png, with suffix, folder or a number where names would meet.

    Raises ValueError where that is one of the images, or a file that maskray did not draw.
    """
    taken: set[str] = set()
    drawings = []
    stems = Counter(path.stem.casefold() for path in paths)
    for path in paths:
        folder = path.absolute().parent.name
        names = [path.name, f"{folder}-{path.name}"] if stems[path.stem.casefold()] > 1 else [path.stem]
        numbered = (f"{path.name}-{number}" for number in itertools.count(2))
        name = next(name for name in itertools.chain(names, numbered) if name.casefold() not in taken)
        taken.add(name.casefold())
        drawings.append(out / f"{name}.png")
    inputs = {path.resolve() for path in paths}
    for drawing in drawings:
        if drawing.resolve() in inputs:
            raise ValueError(f"{drawing}: the drawing would take the place of an image; give another --out")
        if drawing.exists() and not _is_drawing(drawing):
            raise ValueError(f"{drawing}: exists and was not drawn by maskray; give another --out")
    return drawings


def _is_drawing(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.info.get(_SOFTWARE[0]) == _SOFTWARE[1]
    except (OSError, SyntaxError, ValueError):
        return False


def image_ids(paths: list[Path]) -> list[int]:
    """Ids for COCO results: the numbers that COCO's file names are, or else 1, 2, 3, ..."""
    stems = [path.stem for path in paths]
    if all(stem.isascii() and stem.isdigit() and len(stem) <= MOST_DIGITS for stem in stems):
        numbers = [int(stem) for stem in stems]
        if len(set(numbers)) == len(numbers):
            return numbers
    return list(range(1, len(paths) + 1))


def _write_drawing(
    path: Path, image: ndarray, results: list[dict[str, Any]], labels: LabelMap, score_threshold: float | None
) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from maskray.platform.inference.drawing import draw_detections

    path.parent.mkdir(parents=True, exist_ok=True)
    threshold = 0.5 if score_threshold is None else score_threshold
    told = PngInfo()
    told.add_text(*_SOFTWARE)
    with replaced_file(path) as temporary:
        Image.fromarray(draw_detections(image, results, labels, threshold)).save(temporary, "PNG", pnginfo=told)
