"""Writes what detectron2 itself finds on images with small random models, as reference of test_detectron2_parity.

Run where detectron2 (0.5 or 0.6) can be imported beside maskray: python tests/model/detectron2_reference.py PHOTOGRAPHS
Its compiled operators are not needed: RoIAlign and NMS are torchvision's there too. The weights are made of the names
and shapes of the tensors, so that no file of weights is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from test_detectron2_parity import GOLDEN, is_weight, random_state

SMALL = {
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 16,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 64,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 32,
    "MODEL.ROI_HEADS.NUM_CLASSES": 8,
}
RESNEXT = {"MODEL.RESNETS.NUM_GROUPS": 32, "MODEL.RESNETS.WIDTH_PER_GROUP": 1}
MODELS: dict[str, tuple[str, dict[str, int]]] = {
    "mask_r50_dc5": ("COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_1x.yaml", {}),
    "mask_x101_32x8d_fpn": ("COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x.yaml", RESNEXT),
    "boxes_r50_fpn": ("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", {}),
    "boxes_r101_c4": ("COCO-Detection/faster_rcnn_R_101_C4_3x.yaml", {}),
}
SIZES = {"000000000285.jpg": (349, 320), "000000000785.jpg": (320, 482)}  # height and width to which they are resized
NUM_MASKS = 25  # of each image, to keep the files small


def main() -> None:
    """Write a file for each model to tests/golden/detectron2."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, help="folder of COCO's val2017 images, or one above it")
    folder = parser.parse_args().images
    Image.LINEAR = Image.Resampling.BILINEAR  # type: ignore[attr-defined]  # detectron2 knows Pillow by its old names
    import detectron2

    detectron2._C = sys.modules["detectron2._C"] = types.ModuleType("detectron2._C")
    torch.set_num_threads(2)
    for name, (zoo, overrides) in MODELS.items():
        reference = compute(zoo, SMALL | overrides, folder)
        (GOLDEN / f"{name}.expected.json").write_text(json.dumps(reference, separators=(",", ":")) + "\n")
        found = [len(answer["detections"]) for answer in reference["photographs"].values()]
        print(f"{name}: {found} detections", flush=True)


def compute(zoo: str, overrides: dict[str, int], folder: Path) -> dict[str, Any]:
    """Features, first proposals and detections of a model of the zoo's configuration, with overrides."""
    from detectron2 import __version__, model_zoo
    from detectron2.modeling import build_model

    config = model_zoo.get_config(zoo)
    for key, value in overrides.items():
        config.merge_from_list([key, value])
    config.MODEL.DEVICE = "cpu"
    model = build_model(config).eval()
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items() if is_weight(name)}
    std = list(config.MODEL.PIXEL_STD)
    _, unexpected = model.load_state_dict(random_state(shapes, std), strict=False)
    assert not unexpected, unexpected
    return {
        "library": f"detectron2 {__version__} on CPU, torch {torch.__version__}",
        "config": zoo,
        "overrides": overrides,
        "input_format": config.INPUT.FORMAT,
        "pixel_mean": list(config.MODEL.PIXEL_MEAN),
        "pixel_std": std,
        "stride_in_1x1": config.MODEL.RESNETS.STRIDE_IN_1X1,
        "shapes": shapes,
        "photographs": {name: look(model, next(folder.rglob(name)), size) for name, size in SIZES.items()},
    }


@torch.no_grad()
def look(model: Any, path: Path, size: tuple[int, int]) -> dict[str, Any]:
    """What a model of detectron2 makes of an image, step by step."""
    image = Image.open(path).convert("RGB")
    resized = np.array(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))[:, :, ::-1].copy()
    inputs = [
        {"image": torch.from_numpy(resized).permute(2, 0, 1), "height": image.height, "width": image.width},
    ]
    images = model.preprocess_image(inputs)
    features = model.backbone(images.tensor)
    proposals = model.proposal_generator(images, features, None)[0][0]
    instances = model.roi_heads(images, features, [proposals], None)[0]
    found = model._postprocess(instances, inputs, images.image_sizes)[0]["instances"]
    return {
        "resized_height_width": size,
        "features": {
            name: {"shape": list(x.shape), "mean": float(x.double().mean()), "std": float(x.double().std())}
            for name, x in features.items()
        },
        "proposals": {
            "count": len(proposals),
            "first_ten_boxes_resized_pixels": rounded(proposals.proposal_boxes.tensor[:10], 4),
            "first_ten_logits": rounded(proposals.objectness_logits[:10], 6),
        },
        "detections": [detection(found[number], number) for number in range(len(found))],
    }


def detection(found: Any, number: int) -> dict[str, Any]:
    """One detection: class, score, box, and its mask if it is among the first."""
    values = {
        "class": int(found.pred_classes),
        "score": rounded(found.scores, 6)[0],
        "box": rounded(found.pred_boxes.tensor[0], 4),
    }
    if found.has("pred_masks") and number < NUM_MASKS:
        encoded = coco_mask.encode(np.asfortranarray(found.pred_masks[0].numpy().astype(np.uint8)))
        values["mask"] = {"size": encoded["size"], "counts": encoded["counts"].decode()}
    return values


def rounded(values: torch.Tensor, digits: int) -> list[Any]:
    """Numbers with as many digits after the point as the comparison needs, and more."""
    return np.round(values.double().numpy(), digits).tolist()


if __name__ == "__main__":
    main()
