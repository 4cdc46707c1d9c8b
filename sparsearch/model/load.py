"""Loading models and tokenizers through transformers, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from sparsearch.errors import ConfigError, ResourceError, did_you_mean
from sparsearch.model.blocks import find_blocks
from sparsearch.model.prunable import PrunableModel
from sparsearch.reference import reference_path

REFERENCE = "reference"
DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}


def load_model(
    name: str | None,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    device_map: Any = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> PrunableModel:
    """A checkpoint as `AutoModelForCausalLM` loads it, or `AutoModel` where it has no causal head (encoders).

    Args:
        name: a folder with a transformers checkpoint, a hub name, or `reference` (also None) for the embedded
            model.
        dtype: what to compute in. `auto`: the checkpoint's own dtype, but float32 on a CPU, where half
            precision is slow.
        device: where to put it. `auto`: CUDA if there is any, else the CPU.
        device_map: handed to transformers as it is; then `device` stays `auto`.
        revision: branch, tag or commit on the hub.
        trust_remote_code: whether the checkpoint's own Python code may run.

    Raises:
        ConfigError: the name is no model, or an option is unknown or does not fit the model.
        ResourceError: files, device, memory or network are missing, or the weights are damaged.
    """
    source = _source(name)
    wanted = _dtype(dtype)
    target = _device(device, device_map)
    hub: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    with _readable(source, "the configuration"):
        config = AutoConfig.from_pretrained(source, **hub)
    _refuse_quantised(config, source)
    declared = config.dtype
    auto_class = AutoModelForCausalLM if _has_causal_head(config) else AutoModel

    def load(load_dtype: torch.dtype | str) -> tuple[nn.Module, dict[str, Any]]:
        # What a checkpoint lacks (a pooler that nothing uses) starts at random: always with the same numbers,
        # or the model would have another fingerprint, and so another supernet, each time.
        with _readable(source, "the weights"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            loaded: Any = auto_class.from_pretrained(
                source,
                config=config,
                dtype=load_dtype,
                device_map=device_map,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **hub,
            )
            return loaded

    on_cpu = target.type == "cpu" and device_map is None
    computed = wanted or (torch.float32 if on_cpu else declared)
    module, info = load(computed or "auto")
    stored: Any = declared or module.dtype
    if computed and not declared:
        # Only loading as it is shows the dtype of a checkpoint whose config does not tell.
        stored = load("auto")[0].dtype
    if device_map is None:
        module.to(target)
    model = wrap_model(module, name or REFERENCE, stored)
    _check_complete(model, info, auto_class is AutoModelForCausalLM)
    return model


def wrap_model(module: nn.Module, name: str = "", storage_dtype: torch.dtype | None = None) -> PrunableModel:
    """Your own transformer as a `PrunableModel`; switches it to evaluation mode and its gradients off.

    Args:
        module: a model whose blocks lie in one `nn.ModuleList`.
        name: what messages and files call it.
        storage_dtype: the dtype to export in, by default that of its first floating-point parameter.

    Raises:
        ConfigError: it has no transformer blocks.
    """
    paths, blocks = find_blocks(module)
    module.eval().requires_grad_(False)
    stored = storage_dtype or next(p.dtype for p in module.parameters() if p.is_floating_point())
    return PrunableModel(module, name or type(module).__name__, blocks, paths, stored)


def load_tokenizer(
    name: str | None, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer of the checkpoint that `load_model` loads under the same name.

    Raises:
        ConfigError: the name is no model.
        ResourceError: the tokenizer's files are missing or damaged.
    """
    source = _source(name)
    with _readable(source, "the tokenizer"):
        return AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=trust_remote_code)


def _source(name: str | None) -> str:
    """The folder or hub name to hand to transformers; a clearly local path has to be a model folder."""
    if name is None or name == REFERENCE:
        return str(reference_path())
    if not name.strip():
        raise ConfigError(f"model.name: is empty; give a checkpoint folder, a hub name or {REFERENCE}")
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ConfigError(
                f"model.name: the folder {name} holds no config.json; give one that save_pretrained wrote"
            )
        return str(path)
    if path.is_file():
        raise ConfigError(f"model.name: {name} is a file; give the folder that holds config.json and the weights")
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ConfigError(
            f"model.name: there is no folder {name!r}; give an existing checkpoint folder, a hub name such "
            f"as Qwen/Qwen3-0.6B, or {REFERENCE} for the embedded model"
        )
    return name


def _dtype(dtype: str | torch.dtype) -> torch.dtype | None:
    if isinstance(dtype, torch.dtype) or dtype == "auto":
        return None if isinstance(dtype, str) else dtype
    if dtype not in DTYPES:
        raise ConfigError(f"model.dtype: {dtype!r} is unknown; {did_you_mean(dtype, ['auto', *DTYPES])}")
    return DTYPES[dtype]


def _device(device: str | torch.device, device_map: Any) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device_map is not None:
        raise ConfigError(f"model.device: {device} and model.device_map exclude each other; leave one of them out")
    try:
        # A tensor of nothing: the cheapest thing that fails where the device does not exist.
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ResourceError(
            f"model.device: {device} cannot be used here ({_first_line(error)}); use auto or cpu"
        ) from error


@contextmanager
def _readable(source: str, what: str) -> Iterator[None]:
    """Turns what transformers raises while it reads a checkpoint into one line."""
    local = Path(source).is_dir()
    advice = (
        "check that the folder is a complete transformers checkpoint"
        if local
        else "check the spelling and the network, or download the checkpoint and give its folder"
    )
    try:
        yield
    except (HFValidationError, ValueError) as error:
        if "trust_remote_code" in str(error):
            advice = "set model.trust_remote_code to true if you trust the Python code in it"
        raise ConfigError(
            f"model.name: transformers does not accept {what} of {source} ({_first_line(error)}); {advice}"
        ) from error
    except ImportError as error:
        raise ResourceError(f"model.name: {what} of {source} needs a package: {_first_line(error)}") from error
    except (OSError, SafetensorError, RuntimeError, MemoryError) as error:
        raise ResourceError(f"model.name: cannot load {what} of {source} ({_first_line(error)}); {advice}") from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(error).__name__


def _refuse_quantised(config: PreTrainedConfig, source: str) -> None:
    quantisation = getattr(config, "quantization_config", None)
    if quantisation:
        method = quantisation.get("quant_method") if isinstance(quantisation, dict) else quantisation.quant_method
        raise ConfigError(
            f"model.name: the weights of {source} are quantised ({method}); give the checkpoint with its "
            "original float16, bfloat16 or float32 weights"
        )


def _has_causal_head(config: PreTrainedConfig) -> bool:
    """Whether the checkpoint is a causal LM.

    Encoders such as BERT have a causal class in transformers as well, so where the checkpoint names the
    class that wrote it and transformers knows that class, it decides.
    """
    if "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        return True
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return False
    classes = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    causal = {c.__name__ for c in (classes if isinstance(classes, tuple) else (classes,)) if c}
    written_by = [name for name in config.architectures or () if hasattr(transformers, name)]
    return not written_by or not causal.isdisjoint(written_by)


def _check_complete(model: PrunableModel, info: Mapping[str, Any], has_head: bool) -> None:
    """Refuses weights that transformers has drawn at random; only an encoder's pooler may be absent."""
    for name, found, expected in sorted(info["mismatched_keys"]):
        raise ResourceError(
            f"model.name: {name} of {model.name} is {list(found)} but config.json asks for {list(expected)}; "
            "the folder mixes two models, download or export it again"
        )
    in_blocks = tuple(f"{path}." for path in model.block_paths)
    lost = sorted(name for name in info["missing_keys"] if has_head or name.startswith(in_blocks))
    if lost:
        raise ResourceError(
            f"model.name: the checkpoint {model.name} lacks {len(lost)} weights, among them {lost[0]}; "
            "download or export it again"
        )
