"""What every figure of a report means, in words for who reads it the first time."""

from __future__ import annotations

from maskray.platform.evaluation.chosen_images import REASONS
from maskray.platform.evaluation.slices import ATTRIBUTES

MEANING = {  # IoU, size of the objects, most detections per image
    "AP": "IoU 0.50:0.95",
    "AP50": "IoU 0.50",
    "AP75": "IoU 0.75",
    "APs": "small objects, below 32² pixels",
    "APm": "medium objects",
    "APl": "large objects, above 96² pixels",
    "AR1": "recall, 1 detection per image",
    "AR10": "recall, 10 detections",
    "AR100": "recall, 100 detections",
    "AR": "recall, 20 detections",
    "AR50": "recall at IoU 0.50, 20 detections",
    "AR75": "recall at IoU 0.75, 20 detections",
    "ARs": "recall, small objects",
    "ARm": "recall, medium objects",
    "ARl": "recall, large objects",
}
_PRECISION = "Average precision: the area under precision over recall, mean of the categories; here "
_RECALL = "Average recall: the share of objects that is found, mean of the categories and of IoU 0.50:0.95; here "
ERRORS = {
    "class": "The place is right (IoU 0.5 or more), the class is not.",
    "localisation": "The class is right, the place only nearly: IoU 0.1 to 0.5.",
    "both": "Class and place are wrong: IoU 0.1 to 0.5 with an object of another class.",
    "duplicate": "The object was found before, by a detection with a higher score.",
    "background": "There is no object: IoU below 0.1 with every one.",
    "missed": "No detection finds the object, nor would one once its class or place were put right.",
}
_OTHERS = {
    "interval": (
        "95 % interval",
        "Where the figure lies in the middle 95 % of data sets that are drawn from these images with replacement "
        "(bootstrap): how far chance in the choice of images moves it.",
    ),
    "error": (
        "Error",
        "Every wrong detection has one kind of error, as TIDE tells them (Bolya et al. 2020), at IoU 0.5.",
    ),
    "cost": ("AP50 lost", "How much AP50 would rise if every error of this kind, and no other, were put right."),
    "slices": (
        "Objects",
        "AP of these objects alone: others neither count nor harm, nor do unmatched detections that are not like them.",
    ),
    "confusion": (
        "Confusion",
        "Objects are paired with the detections that overlap them most, whatever the class, from IoU 0.5 and a score "
        "of 0.5 on. Background stands for no object, or no detection. Rows of the matrix are objects.",
    ),
    "f1": (
        "Precision, recall and F1",
        "Precision is the share of the shown detections that is right, recall the share of the objects that is found; "
        "F1 is 2 · precision · recall / (precision + recall).",
    ),
    "best": ("Best score", "The least score to show detections from, so that F1 at IoU 0.5 is largest."),
    "ECE": (
        "Calibration error (ECE)",
        "Mean gap between the score of detections and the share of them that is right at IoU 0.5, in ten bins of "
        "scores, weighted by detections. 0: a score of 0.7 is right 7 times of 10.",
    ),
    "reasons": ("Why a picture is here", "; ".join(f"{name}: {text}" for name, text in REASONS.items()) + "."),
}


def all_definitions() -> dict[str, tuple[str, str]]:
    """Name and text of every definition by its key in the page."""
    figures = {
        name: (name, (_PRECISION if name.startswith("AP") else _RECALL) + meaning.removeprefix("recall, ") + ".")
        for name, meaning in MEANING.items()
    }
    errors = {name: (f"Error: {name}", text) for name, text in ERRORS.items()}
    sizes = {"size": ("By size", "Area of the object in square pixels, as COCO has it.")}
    slices = {one.name.replace(" ", "-"): (f"By {one.name}", one.meaning.capitalize() + ".") for one in ATTRIBUTES}
    return figures | errors | sizes | slices | _OTHERS
