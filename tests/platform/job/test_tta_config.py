"""Views of test-time augmentation, counted: how many, and of how many pixels."""

from __future__ import annotations

import pytest

from maskray.platform.job.tta_config import TTAConfig


def test_views_and_their_pixels_of_hand() -> None:
    config = TTAConfig(scales=(100, 200), longer_edge_max=300, flip=True)
    assert config.num_views == 4
    # 100 x 150 of the first; 200 x 300 of the second, which longer_edge_max allows to the last pixel
    assert config.count_pixels(150, 100) == 2 * (100 * 150 + 200 * 300)
    assert config.count_pixels(100, 150) == config.count_pixels(150, 100)
    # 300 x 50: the longer edge keeps to 300 in both
    assert config.count_pixels(600, 100) == 2 * 2 * 300 * 50


@pytest.mark.parametrize("flip", [True, False])
def test_the_papers_views(flip: bool) -> None:
    config = TTAConfig(flip=flip)
    assert config.num_views == 9 * (1 + flip)
    assert config.count_pixels(640, 480) == pytest.approx(
        (1 + flip) * sum((scale / 480) ** 2 * 640 * 480 for scale in range(400, 1300, 100)), abs=1
    )
