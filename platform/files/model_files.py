"""Names of the two files of a model folder, for those who move them about without reading them: no torch here."""

WEIGHTS_FILE = "model.safetensors"
SPEC_FILE = "model.json"
