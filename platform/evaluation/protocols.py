"""The protocols by which files are evaluated: what is compared, what counts, and the metrics. A new one goes here.

A protocol is a line of PROTOCOLS: its rules for each IoU type, and how masks are compared. What it wants of the data
beyond objects and detections (LVIS: what is known of an image) is read where `federated` is looked at
(federation.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from maskray.ops.match_images import Kind
from maskray.platform.evaluation.rules import CITYSCAPES_RULES, LVIS_RULES, REGION_RULES, RULES, IouType, Rules


@dataclass(frozen=True)
class Protocol:
    """A way to evaluate; overlaps names those of IoU types that are not compared as they are called.

    Of a federated data set only the categories count that are known to be in an image or not.
    """

    name: str
    rules: dict[IouType, Rules]
    overlaps: dict[IouType, Kind] = field(default_factory=dict)
    federated: bool = False

    def kind(self, iou_type: IouType) -> Kind:
        """How detections and objects are compared."""
        return self.overlaps.get(iou_type, iou_type)


COCO = Protocol("coco", RULES)
# Boundary AP (Cheng et al. 2021, "Boundary IoU", section 5): the overlap of masks is the smaller of their IoU and that
# of their boundaries, each the pixels within 2 % of the image's diagonal of the outline.
BOUNDARY = Protocol("boundary", {"segm": REGION_RULES}, {"segm": "boundary"})
# Gupta et al. 2019, "LVIS: A dataset for large vocabulary instance segmentation", and its package lvis 0.5.3.
LVIS = Protocol("lvis", {"bbox": LVIS_RULES, "segm": LVIS_RULES}, federated=True)
LVIS_BOUNDARY = Protocol("lvis-boundary", {"segm": LVIS_RULES}, {"segm": "boundary"}, federated=True)
# Cordts et al. 2016, "The Cityscapes dataset", section 4.2, and its scripts: rules of its own match and accumulate
# (cityscapes_matching.py, cityscapes_ap.py).
CITYSCAPES = Protocol("cityscapes", {"segm": CITYSCAPES_RULES})
PROTOCOLS = {protocol.name: protocol for protocol in (COCO, BOUNDARY, LVIS, LVIS_BOUNDARY, CITYSCAPES)}


def find_protocol(name: str, iou_type: IouType) -> Protocol:
    """The protocol of this name; ValueError where there is none, or it does not compare such regions."""
    protocol = PROTOCOLS.get(name)
    if protocol is None:
        raise ValueError(f"protocol {name!r}: there are {', '.join(PROTOCOLS)}")
    if iou_type not in protocol.rules:
        raise ValueError(f"protocol {name}: evaluates {', '.join(protocol.rules)}, not {iou_type}")
    return protocol
