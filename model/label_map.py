"""The categories of a model, in the order of its classes."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Self

from pydantic import FailFast, Field, model_validator

from maskray.model.config_base import Config, Name

MOST_CATEGORIES = 100_000


class Category(Config):
    """What an object can be, and the keypoints that it then has."""

    id: int = Field(description="Id in the annotation file; COCO's have gaps.")
    name: Name = Field(description="Name of the category.")
    keypoints: tuple[Name, ...] = Field(
        (), max_length=1000, description="Names of its keypoints; those of a mirrored pair begin with left and right."
    )
    skeleton: tuple[tuple[int, int], ...] = Field(
        (), max_length=10_000, description="Pairs of keypoints, from 1, that lines join."
    )

    @model_validator(mode="after")
    def _joined(self) -> Self:
        if len(set(self.keypoints)) != len(self.keypoints):
            raise ValueError(f"category {self.id}: a keypoint stands twice in {', '.join(self.keypoints)}")
        if not all(1 <= end <= len(self.keypoints) for pair in self.skeleton for end in pair):
            raise ValueError(f"category {self.id}: its skeleton joins keypoints other than 1..{len(self.keypoints)}")
        return self


class LabelMap(Config):
    """The categories in class order: class index k of the model is `categories[k]`; there is no background entry."""

    categories: Annotated[tuple[Category, ...], FailFast()] = Field(
        min_length=1, max_length=MOST_CATEGORIES, description="The categories in the order of the model's classes."
    )

    @model_validator(mode="after")
    def _unique(self) -> Self:
        counts = Counter(category.id for category in self.categories)
        twice = sorted(category_id for category_id, count in counts.items() if count > 1)
        if twice:
            raise ValueError(f"category ids are not unique: {twice[:10]}")
        return self

    @property
    def num_classes(self) -> int:
        """Number of classes without background."""
        return len(self.categories)

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Annotation-file id of every class index."""
        return tuple(category.id for category in self.categories)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of every class index."""
        return tuple(category.name for category in self.categories)

    @property
    def class_indices(self) -> dict[int, int]:
        """Class index of every annotation-file id."""
        return {category.id: index for index, category in enumerate(self.categories)}
