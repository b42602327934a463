"""Which class is taken for which: pairs of objects and detections whatever their classes, and what has no partner.

Equal to hotcoco's confusion_matrix where there are no crowds; what lies in a crowd of its class is left out here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskray.ops.diagnose_images import IN_CROWD
from maskray.platform.evaluation.diagnosis import Diagnosis


def confusion_matrix(diagnosis: Diagnosis, least_score: float = 0.0) -> NDArray[np.int64]:
    """Counts (K + 1, K + 1) of objects by row and detections by column, the last of each being background.

    Detections of at least this score are paired, best first, with the free object that they overlap most, from IoU 0.5
    on.
    """
    background = diagnosis.num_classes
    shown = diagnosis.scores >= least_score
    paired = shown & (diagnosis.pairs >= 0)
    alone = shown & (diagnosis.pairs < 0) & (diagnosis.flags & IN_CROWD == 0)
    matrix = np.zeros((background + 1, background + 1), dtype=np.int64)
    np.add.at(matrix, (diagnosis.pairs[paired], diagnosis.classes[paired]), 1)
    np.add.at(matrix, (background, diagnosis.classes[alone]), 1)
    objects = np.bincount(diagnosis.gt_classes, minlength=background)
    matrix[:background, background] = objects - matrix[:background].sum(axis=1)
    return matrix
