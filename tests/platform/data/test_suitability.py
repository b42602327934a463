"""What a job wants of its data: masks where masks are wanted, categories of train and val that agree."""

from __future__ import annotations

import pytest

from maskray.model.config import Category, LabelMap
from maskray.platform.data.formats.records import Annotation, CocoDataset, ImageRecord
from maskray.platform.data.suitability import ReadingRules, find_mask_gaps, fit_masks, missing_categories

BOX = (1.0, 1.0, 4.0, 4.0)
POLYGON = [[1.0, 1.0, 5.0, 1.0, 5.0, 5.0]]


def labels_of(*names: str, first: int = 1) -> LabelMap:
    return LabelMap(categories=tuple(Category(id=first + index, name=name) for index, name in enumerate(names)))


def dataset() -> CocoDataset:
    """Two images: an object with a mask and one without, and a crowd without."""
    first = ImageRecord(1, "a.png", 9, 9, [Annotation(10, 1, BOX, 16.0, 0, POLYGON), Annotation(11, 1, BOX, 16.0)])
    second = ImageRecord(2, "b.png", 9, 9, [Annotation(12, 1, BOX, 16.0, 1)])
    return CocoDataset(labels_of("a"), [first, second], "digest")


def test_gaps_are_counted_apart_for_objects_and_crowds() -> None:
    gaps = find_mask_gaps(dataset().images)
    assert (gaps.objects, gaps.crowds) == (1, 1)
    assert (gaps.first_object, gaps.first_crowd) == ("image 1, annotation 11", "image 2, annotation 12")


def test_objects_without_masks_end_where_masks_are_wanted() -> None:
    whole = dataset()
    assert fit_masks(whole, "f.json", ReadingRules(masks="none")) is whole
    with pytest.raises(ValueError, match=r"^f\.json: image 1, annotation 11: no segmentation, .*\(1 of 3 annotations"):
        fit_masks(whole, "f.json", ReadingRules(masks="objects"))
    with pytest.raises(ValueError, match=r"annotation 11: no segmentation, .*\(2 of 3 .*data\.objects_without_masks"):
        fit_masks(whole, "f.json", ReadingRules(masks="all"))


def test_objects_without_masks_are_left_out_where_rules_say_so() -> None:
    whole = dataset()
    kept = {}
    for masks in ("objects", "all"):
        fitted = fit_masks(whole, "f.json", ReadingRules(masks=masks, without_masks="drop"))  # type: ignore[arg-type]
        kept[masks] = [found.id for image in fitted.images for found in image.annotations]
        assert {problem.code for problem in fitted.problems} == {"no_mask"}
        assert len(fitted.images) == 2
        assert fitted.digest != whole.digest  # shards of the one are not taken for the other
    assert kept == {"objects": [10, 12], "all": [10]}
    assert whole.num_annotations == 3
    keeping = ReadingRules(masks="all", without_masks="boxes_only")
    assert fit_masks(whole, "f.json", keeping) is whole
    sound = CocoDataset(whole.labels, [ImageRecord(1, "a.png", 9, 9, [Annotation(10, 1, BOX, 16.0, 0, POLYGON)])], "d")
    assert fit_masks(sound, "f.json", ReadingRules(masks="all", without_masks="drop")).digest == "d"


def test_categories_that_val_lacks_are_named_and_others_refused() -> None:
    train = labels_of("a", "b", "c")
    assert missing_categories(train, train, "val", "train") == ()
    assert missing_categories(train, labels_of("b", first=2), "val", "train") == ("a", "c")
    for labels, message in (
        (labels_of("a", "x"), "id 2 is 'x', there 'b'"),
        (labels_of("d", first=4), r"'d' \(id 4\) is not there"),
        (labels_of("a", first=7), "'a' has id 7, there 1"),
    ):
        with pytest.raises(ValueError, match=f"^val: its categories are not those of train: {message}$"):
            missing_categories(train, labels, "val", "train")


def test_names_of_keypoints_may_be_missing_on_either_side_and_not_differ() -> None:
    with_names = LabelMap(categories=(Category(id=1, name="a", keypoints=("nose", "chin")),))
    others = LabelMap(categories=(Category(id=1, name="a", keypoints=("nose", "ear")),))
    assert missing_categories(with_names, labels_of("a"), "val", "train") == ()
    assert missing_categories(labels_of("a"), with_names, "val", "train") == ()
    with pytest.raises(ValueError, match="'a' has other keypoints there"):
        missing_categories(with_names, others, "val", "train")
