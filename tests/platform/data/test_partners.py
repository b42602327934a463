"""Who gives objects to whom depends on seed, epoch and image id alone."""

from __future__ import annotations

from maskray.platform.data.partners import Partners


def test_partners_are_drawn_by_position() -> None:
    partners = Partners(seed=3, num_rows=10, probability=0.5)
    drawn = [partners.row(epoch, image_id) for epoch in range(20) for image_id in range(-25, 25)]
    assert drawn == [Partners(3, 10, 0.5).row(epoch, image_id) for epoch in range(20) for image_id in range(-25, 25)]
    assert 400 < sum(row is None for row in drawn) < 600
    assert all(20 < sum(row == wanted for row in drawn) < 90 for wanted in range(10))
    assert drawn != [Partners(4, 10, 0.5).row(epoch, image_id) for epoch in range(20) for image_id in range(-25, 25)]
    assert Partners(3, 10, 0.0).row(0, 0) is None
    assert None not in [Partners(3, 10, 1.0).row(0, image_id) for image_id in range(50)]
