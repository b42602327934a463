"""Networks of timm (Wightman 2019) below a pyramid: ConvNeXt, MobileNetV3 and all whose maps have strides 4 to 32.

Letters: N images, C channels, H W height and width of the network input.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from maskray.model.backbone.bottom_up import BottomUp
from maskray.model.backbone_config import BackboneConfig

STRIDES = (4, 8, 16, 32)
PREFIX = "backbone.timm.network."


class TimmNetwork(BottomUp):
    """A network as timm builds it, with random weights, of which `freeze_stages` stages are constant.

    A stage ends with the map of its stride: 2 is the stem, 4 the second stage, ..., 32 the fifth. Where there is no map
    of stride 2, the stem is what comes before the stage of stride 4. Batch norm of a frozen stage is frozen too.
    Raises ValueError naming the key of the configuration that timm or the network has not.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.network = _create(config)
        info = self.network.feature_info
        strides = list(info.reduction())
        if not set(STRIDES) <= set(strides):
            raise ValueError(f"model.backbone.name {config.name}: its maps have strides {strides}, not 4, 8, 16, 32")
        # Of two maps of one stride the later one has seen more.
        self._chosen = [len(strides) - 1 - strides[::-1].index(stride) for stride in STRIDES]
        self.strides = STRIDES
        self.out_channels = [info.channels()[index] for index in self._chosen]
        _set_norm(self.network, config)
        if config.freeze_stages > 0:
            stages = self._stages()
            if stages is None:
                raise ValueError(f"model.backbone.freeze_stages must be 0: timm tells no stages of {config.name}")
            _freeze(self.network, [name for name, stage in stages.items() if stage <= config.freeze_stages])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images (N, 3, H, W), H and W multiples of 32, to maps (N, C, H / s, W / s), s = 4, 8, 16, 32."""
        maps = self.network(x)
        return [maps[index] for index in self._chosen]

    def parameter_stages(self) -> dict[str, int]:
        """Stage of each parameter by name: 1 the stem, 2 what ends with the map of stride 4, ..."""
        stages = self._stages()
        if stages is None:
            raise ValueError("timm tells no stages of this network, which a learning rate by stage needs")
        names = (name for name, _ in self.network.named_parameters())
        return {f"network.{name}": stages.get(name.rpartition(".")[0], 1) for name in names}

    def _stages(self) -> dict[str, int] | None:
        info = self.network.feature_info
        strides = list(info.reduction())
        stem = info.module_name(strides.index(2)) if 2 in strides else None
        return stages_of_modules(self.network, stem, [info.module_name(index) for index in self._chosen])


def stages_of_modules(network: nn.Module, stem: str | None, ends: list[str]) -> dict[str, int] | None:
    """Stage, 1 being the stem, of each module by name, given what puts out the maps of stride 2 (or None) and 4 to 32.

    None where those are no modules of the network.
    """
    names = [name for name, _ in network.named_modules() if name]
    places = {
        part: [i for i, name in enumerate(names) if f"{_flat(name)}_".startswith(f"{_flat(part)}_")]
        for part in (ends if stem is None else [stem, *ends])
    }
    if not all(places.values()):
        return None
    last = [places[ends[0]][0] - 1 if stem is None else places[stem][-1], *(places[part][-1] for part in ends)]
    return {name: min(1 + sum(i > end for end in last), len(last)) for i, name in enumerate(names)}


def rename_timm(own: Iterable[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of a network of timm under the names `own` of a model whose backbone it is; the others stay.

    timm names a layer stages_0 in a network that puts out maps, and stages.0 in the same that classifies.
    """
    names = {_flat(name.removeprefix(PREFIX)): name for name in own if name.startswith(PREFIX)}
    return {names.get(_flat(name), name): tensor for name, tensor in state.items()}


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _create(config: BackboneConfig) -> Any:
    """The network with random weights: nothing is downloaded."""
    key = f"model.backbone.name {config.name}"
    if importlib.util.find_spec("timm") is None:
        raise ValueError(f"{key} needs timm: pip install 'maskray[timm]'")
    import timm

    name = config.architecture
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=1)
        raise ValueError(f"{key}: timm {timm.__version__} has no such network" + "".join(f"; {c}?" for c in close))
    if getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False):
        raise ValueError(f"{key}: takes images of one size alone")
    try:
        network = timm.create_model(name, pretrained=False, features_only=True)
    except (AttributeError, RuntimeError) as error:  # timm has no error class of its own
        raise ValueError(f"{key}: timm offers no maps of it ({str(error).splitlines()[0]})") from None
    layout = str(getattr(getattr(network, "output_fmt", None), "value", "NCHW"))
    if layout != "NCHW":
        raise ValueError(f"{key}: its maps are {layout}, those of a backbone are NCHW")
    return network


def _set_norm(network: nn.Module, config: BackboneConfig) -> None:
    """Turn the batch norm of a network into that of the configuration, in place."""
    from timm.layers import convert_sync_batchnorm, freeze_batch_norm_2d

    if config.norm == "own":
        return
    if not any(_is_batch_norm(module) for module in network.modules()):
        raise ValueError(f"model.backbone.norm is {config.norm}, but {config.name} has no batch norm: leave it at own")
    if config.norm == "frozen_batch_norm":
        freeze_batch_norm_2d(network)
    elif config.norm == "sync_batch_norm":
        convert_sync_batchnorm(network)


def _freeze(network: nn.Module, names: list[str]) -> None:
    """Make constants of the modules of those names."""
    from timm.layers import freeze_batch_norm_2d

    for name in names:
        module = network.get_submodule(name)
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
        if _is_batch_norm(module):
            network.set_submodule(name, freeze_batch_norm_2d(module))


def _is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)
