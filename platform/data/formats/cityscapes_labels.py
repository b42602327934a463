"""The labels of Cityscapes: numbers and names, which are objects, and which of them nobody is asked to find.

Source: cityscapesscripts 2.3.0, helpers/labels.py. A pixel of instanceIds is the number of a label, or 1000 times the
number of a label that has objects, and the number of the object.
"""

from __future__ import annotations

LABELS = {
    "unlabeled": 0,
    "ego vehicle": 1,
    "rectification border": 2,
    "out of roi": 3,
    "static": 4,
    "dynamic": 5,
    "ground": 6,
    "road": 7,
    "sidewalk": 8,
    "parking": 9,
    "rail track": 10,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "guard rail": 14,
    "bridge": 15,
    "tunnel": 16,
    "pole": 17,
    "polegroup": 18,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "caravan": 29,
    "trailer": 30,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
    "license plate": -1,  # drawn nowhere
}
# The classes that are learned and evaluated, in the order of their numbers.
THINGS = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
THING_IDS = {name: LABELS[name] for name in THINGS}
# With objects, but not evaluated: their groups are void, single ones are background.
OTHER_OBJECTS = ("caravan", "trailer")
# Labels whose pixels count neither for nor against what is found there.
VOID = (
    *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "parking"),
    *("rail track", "guard rail", "bridge", "tunnel", "polegroup", "caravan", "trailer"),
)
VOID_IDS = tuple(LABELS[name] for name in VOID)
OBJECTS_PER_LABEL = 1000  # instanceIds = label * 1000 + object


def is_instance_id(number: int) -> bool:
    """Whether a pixel of instanceIds can have this number."""
    if number < OBJECTS_PER_LABEL:
        return 0 <= number <= max(LABELS.values())
    return number // OBJECTS_PER_LABEL in (*THING_IDS.values(), *(LABELS[name] for name in OTHER_OBJECTS))
