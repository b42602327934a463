"""What one request asks for besides its images: options of the query and of a JSON body, checked alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BeforeValidator, Field, ValidationError

from maskray.model.config import Config
from maskray.platform.job.config import first_mistake
from maskray.platform.serve.http.request_checks import RequestError, check_query

DRAWN_SCORE = 0.5  # least score of what is drawn into an image when the request names none
MOST_DETECTIONS = 10_000
DEADLINE_HEADER = "X-Request-Deadline"


def _whole(value: Any) -> Any:
    """10.0 is a whole number of JSON too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Options(Config):
    """Options of a prediction; only tta and the deadline change what the model computes."""

    format: Literal["json", "png", "binary"] = Field(
        "json", description="COCO JSON, the image with the objects drawn on it, or tensors in safetensors."
    )
    score_threshold: float | None = Field(
        None, ge=0, le=1, allow_inf_nan=False, description="Least score; none is 0, and 0.5 for png."
    )
    max_detections: Annotated[int, Field(ge=0, le=MOST_DETECTIONS), BeforeValidator(_whole)] | None = Field(
        None, description="Keep no more than the best so many of an image."
    )
    masks: bool = Field(True, description="Whether masks are in the answer.")
    keypoints: bool = Field(True, description="Whether keypoints are in the answer.")
    tta: bool = Field(
        False, description="Test-time augmentation: look at each image in all the views that the server offers."
    )
    deadline_seconds: float | None = Field(
        None, gt=0, allow_inf_nan=False, description=f"Give up after so long (504); also as header {DEADLINE_HEADER}."
    )

    @property
    def least_score(self) -> float:
        """The score below which nothing is answered."""
        if self.score_threshold is not None:
            return self.score_threshold
        return DRAWN_SCORE if self.format == "png" else 0.0


NAMES = tuple(sorted(Options.model_fields))


def read_options(request: Request, body: Mapping[str, Any]) -> Options:
    """The options of query, deadline header and JSON body together.

    Refused (422) are an unknown or unfit one, and one that stands twice: it would be ignored in silence.
    """
    check_query(request, NAMES)
    stated: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        _state(stated, name, value)
    if DEADLINE_HEADER in request.headers:
        _state(stated, "deadline_seconds", request.headers[DEADLINE_HEADER])
    options = _validate(stated)
    for name, value in body.items():
        _state(stated, name, value)
    return options.model_copy(update=_validate(body, strict=True).model_dump(include=set(body)))


def _state(stated: dict[str, Any], name: str, value: Any) -> None:
    if name in stated:
        raise RequestError(422, f"parameter {name} is given twice")
    stated[name] = value


def _validate(values: Mapping[str, Any], strict: bool = False) -> Options:
    try:
        return Options.model_validate(dict(values), strict=strict)
    except ValidationError as error:
        raise RequestError(422, f"parameter {first_mistake(error)}") from None
