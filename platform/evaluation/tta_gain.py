"""What test-time augmentation gains and costs: the figures and seconds of an image beside those of one view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class TTAGain:
    """Metrics by name, fractions, and seconds that an image takes where it is predicted, of one view and of all."""

    one_view: Mapping[str, float]
    all_views: Mapping[str, float]
    seconds_one_view: float
    seconds_all_views: float

    def as_dict(self) -> dict[str, object]:
        """For tta.json."""
        return asdict(self)

    def lines(self) -> list[str]:
        """A line for each IoU type, and one for the cost."""
        told = []
        for name in self.all_views:
            if name.endswith("/AP"):
                before, after = 100 * self.one_view[name], 100 * self.all_views[name]
                told.append(
                    f"{name} {after:.1f} with test-time augmentation, {before:.1f} of one view ({after - before:+.1f})"
                )
        ratio = self.seconds_all_views / max(self.seconds_one_view, 1e-9)
        return [
            *told,
            f"{self.seconds_all_views:.2f} s an image, {self.seconds_one_view:.2f} s of one view ({ratio:.1f} times)",
        ]
