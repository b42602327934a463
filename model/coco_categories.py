"""COCO's categories (Lin et al. 2014; the 80 of its challenges) as label maps of models trained on it."""

from __future__ import annotations

from maskray.model.config import Category, LabelMap

NAMES = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe",
    27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard",
    42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife",
    50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot",
    58: "hot dog", 59: "pizza", 60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard",
    77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book",
    85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip
PERSON_KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
PERSON_SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10), (9, 11),
    (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip
NUM_IDS = 90  # of which ten were never used


def is_unused(category: Category) -> bool:
    """Whether it is one of the ten ids without a category, of which a model of 90 classes has outputs all the same."""
    return category.name == f"N/A {category.id}"


def labels_of_imported(num_classes: int, num_keypoints: int = 0) -> LabelMap:
    """The label map of a model whose file has none.

    80 classes are COCO's by increasing id; 90 are its ids 1 to 90 as they are, the ten unused among them called "N/A"
    and their id; one class with 17 keypoints is its person. Others are class_1, class_2, ..., keypoints keypoint_1, ...
    """
    if num_classes == 1 and num_keypoints == len(PERSON_KEYPOINTS):
        person = Category(id=1, name=NAMES[1], keypoints=PERSON_KEYPOINTS, skeleton=PERSON_SKELETON)
        return LabelMap(categories=(person,))
    if num_keypoints == 0 and num_classes == len(NAMES):
        return LabelMap(categories=tuple(Category(id=id, name=name) for id, name in NAMES.items()))
    if num_keypoints == 0 and num_classes == NUM_IDS:
        ids = range(1, NUM_IDS + 1)
        return LabelMap(categories=tuple(Category(id=id, name=NAMES.get(id, f"N/A {id}")) for id in ids))
    keypoints = tuple(f"keypoint_{number}" for number in range(1, num_keypoints + 1))
    ids = range(1, num_classes + 1)
    return LabelMap(categories=tuple(Category(id=id, name=f"class_{id}", keypoints=keypoints) for id in ids))
