"""Evaluation in training takes the categories of the model, of which the shards may lack some."""

from __future__ import annotations

from pathlib import Path

from maskray.model.config import Category, InputConfig, LabelMap, ModelConfig, ModelSpec
from maskray.platform.data.manifest import Manifest, write_manifest
from maskray.platform.runs.validation import ShardValidation


def test_a_category_that_val_lacks_is_undefined_and_not_an_error(tmp_path: Path) -> None:
    both = LabelMap(categories=(Category(id=1, name="a"), Category(id=2, name="b")))
    one = LabelMap(categories=both.categories[:1])
    write_manifest(
        tmp_path,
        Manifest(
            labels=one,
            digest="d",
            num_images=0,
            num_annotations=0,
            shards=(),
            image_ids=(),
            widths=(),
            heights=(),
            num_objects=(),
        ),
    )
    spec = ModelSpec(model=ModelConfig(), input=InputConfig(), labels=both)
    validation = ShardValidation(str(tmp_path), spec, ("bbox",))
    assert validation._manifest().labels == both
    assert set(validation.merge([]).values()) == {-1.0}
