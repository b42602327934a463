"""Images in files to detections in COCO results format, and images of them."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskray.platform.files.atomic import replaced_file

if TYPE_CHECKING:
    from numpy import ndarray

    from maskray.platform.inference.engine import Engine
    from maskray.platform.inference.predictor import Predictor
    from maskray.platform.job.tta_config import TTAConfig

logger = logging.getLogger(__name__)

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
IMAGES_AT_ONCE = 4
LEAST_DRAWN = 0.5  # score of what is drawn, where no other is asked for
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
    from maskray.platform.inference.drawing import draw_detections
    from maskray.platform.inference.engine import TORCH, open_predictor

    drawings = [None] * len(paths) if out is None else name_drawings(paths, out)
    predictor = open_predictor(folder, device, engine or TORCH, tta=tta)
    labels = predictor.spec.labels
    names = {category.id: category.name for category in labels.categories}
    readers = [partial(read_image, path) for path in paths]
    predictions = predict_images(predictor, readers, image_ids(paths), score_threshold)
    for path, drawing, (image, found) in zip(paths, drawings, predictions, strict=True):
        if isinstance(image, str):
            yield FilePrediction(path, [], names, image)
            continue
        if drawing is not None:
            threshold = LEAST_DRAWN if score_threshold is None else score_threshold
            write_drawing(drawing, draw_detections(image, found, labels, threshold))
        yield FilePrediction(path, found, names)


def predict_images(
    predictor: Predictor,
    readers: Sequence[Callable[[], ndarray]],
    ids: Sequence[int],
    score_threshold: float | None = None,
) -> Iterator[tuple[ndarray | str, list[dict[str, Any]]]]:
    """The pixels of each image and its COCO results, in the order given, a few at a time.

    A reader gives uint8 (H, W, 3) RGB; where it raises ValueError, its line stands in place of the pixels.
    """
    for start in range(0, len(readers), IMAGES_AT_ONCE):
        part = range(start, min(start + IMAGES_AT_ONCE, len(readers)))
        images = {index: _try_image(readers[index]) for index in part}
        sound = {index: image for index, image in images.items() if not isinstance(image, str)}
        results = predictor.predict(
            list(sound.values()), [ids[index] for index in sound], score_threshold=score_threshold
        )
        found = dict(zip(sound, results, strict=True))
        for index in part:
            yield images[index], found.get(index, [])


def read_image(path: Path) -> ndarray:
    """The pixels of a file, uint8 (H, W, 3) RGB, turned upright; ValueError naming the file."""
    from maskray.platform.data.decode import decode_image

    try:
        return decode_image(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def list_images(paths: list[Path]) -> list[Path]:
    """The images named, a folder replaced by what it holds, sorted by name; ValueError for what is neither."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            named = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGES and file.is_file())
            inside = [file for file in named if not file.name.startswith(".")]
            if len(inside) < len(named):
                logger.warning("%s: %d hidden files are passed over", path, len(named) - len(inside))
            if not inside:
                raise ValueError(f"{path}: no images in this folder ({', '.join(IMAGES)})")
            found.extend(inside)
        elif path.is_file():
            found.append(path)
        else:
            raise ValueError(f"{path}: no such file")
    return found


def _try_image(read: Callable[[], ndarray]) -> ndarray | str:
    """The pixels of an image, or what is wrong with it."""
    try:
        return read()
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
        if not may_draw(drawing):
            raise ValueError(f"{drawing}: exists and was not drawn by maskray; give another --out")
    return drawings


def may_draw(path: Path) -> bool:
    """Whether a drawing may be written to a path: nothing is there, or a drawing of maskray's."""
    from PIL import Image

    if not path.exists():
        return True
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


def write_drawing(path: Path, pixels: ndarray) -> None:
    """Write a drawn image, (H, W, 3) uint8 RGB, as a PNG that is known as one of maskray's drawings."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    path.parent.mkdir(parents=True, exist_ok=True)
    told = PngInfo()
    told.add_text(*_SOFTWARE)
    with replaced_file(path) as temporary:
        Image.fromarray(pixels).save(temporary, "PNG", pnginfo=told)
