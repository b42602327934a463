"""The public Python API, imported as maskray.api: models, data, evaluation and jobs, for notebooks and programs.

    from maskray import api

    model = api.load_model("models:/demo@champion")
    found = model.predict("photo.jpg")[0]

These names stay; everything else of the package may change. Importing them takes neither torch, Ray nor MLflow, until
a model is loaded or a job is run.
"""

from __future__ import annotations

from maskray.platform.api.data import Data, read_data, synthesize
from maskray.platform.api.figures import Figures, compare, evaluate
from maskray.platform.api.jobs import check_job, run_job
from maskray.platform.api.model import Model, load_model
from maskray.platform.api.objects import Objects

__all__ = [
    "Data",
    "Figures",
    "Model",
    "Objects",
    "check_job",
    "compare",
    "evaluate",
    "load_model",
    "read_data",
    "run_job",
    "synthesize",
]
