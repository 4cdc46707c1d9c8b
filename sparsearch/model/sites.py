"""Which linear weights of a model get a level, how to reach them, and what identifies their values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from sparsearch.errors import ConfigError, ResourceError, did_you_mean
from sparsearch.model.blocks import LINEAR_TYPES
from sparsearch.model.prunable import PrunableModel
from sparsearch.model.site import Site

HASHED_AT_ONCE = 1 << 24


def find_sites(model: PrunableModel, targets: Sequence[str] = ("*",), ignore: Sequence[str] = ()) -> tuple[Site, ...]:
    """The linear weights that may be pruned, in module order.

    Args:
        model: where to look.
        targets: globs over a site's name (`model.layers.0.mlp.up_proj`) or its kind (`mlp.up_proj`). They see
            the linear layers inside the blocks; one outside them, such as the LM head, has to be named
            exactly. Embeddings and norms are never sites.
        ignore: globs of the same form, for what to leave out again.

    Returns:
        One site a weight: modules that share a weight count once, under the first name.

    Raises:
        ConfigError: a pattern matches nothing, nothing is left, or a named head is tied to the embeddings.
    """
    inside, outside = _linear_sites(model)
    embeddings = {_storage(part.weight) for part in model.module.modules() if isinstance(part, nn.Embedding)}
    chosen: set[str] = set()
    for pattern in targets:
        matched = [site.name for site in inside if _matches(site, pattern)]
        if not matched and pattern in outside:
            if _storage(model.module.get_parameter(f"{pattern}.weight")) in embeddings:
                raise ConfigError(f"targets: {pattern} is tied to the embeddings, which are never pruned; leave it out")
            matched = [pattern]
        chosen.update(matched or _no_match("targets", pattern, inside, outside))
    for pattern in ignore:
        known = [site.name for site in (*inside, *outside.values()) if _matches(site, pattern)]
        chosen.difference_update(known or _no_match("ignore", pattern, inside, outside))
    sites = tuple(site for site in (*inside, *outside.values()) if site.name in chosen)
    if not sites:
        raise ConfigError(f"ignore: {list(ignore)} leaves no site of the targets {list(targets)}; loosen one of them")
    return sites


def site_weight(module: nn.Module, site: Site) -> Tensor:
    """The weight of a linear site as an `[out, in]` view of the parameter: writing into it changes the model.

    Args:
        module: the whole model.
        site: a site that `find_sites` returned for it.
    """
    linear = module.get_submodule(site.module)
    weight = linear.get_parameter("weight").detach()
    return weight.T if isinstance(linear, Conv1D) else weight


def sharing_modules(module: nn.Module, site: Site) -> list[nn.Module]:
    """Every linear module that uses the weight of `site`, the site's own first."""
    own = module.get_submodule(site.module)
    storage = _storage(own.get_parameter("weight"))
    others = (part for part in module.modules() if part is not own and _is_plain_linear(part))
    return [own, *(part for part in others if _storage(part.get_parameter("weight")) == storage)]


def weight_users(module: nn.Module, sites: Sequence[Site]) -> list[list[nn.Module]]:
    """`sharing_modules` of every site from one pass over the model, each in module order."""
    users: dict[tuple[object, ...], list[nn.Module]] = {}
    for part in filter(_is_plain_linear, module.modules()):
        users.setdefault(_storage(part.get_parameter("weight")), []).append(part)
    return [users[_storage(site_weight(module, site))] for site in sites]


def uncovered_fraction(model: PrunableModel, sites: Sequence[Site]) -> float:
    """Share of the blocks' matrix weights that no site covers, in [0, 1].

    Experts fused into one 3-D parameter are no linear layers, so in such models it is large.
    """
    covered = {_storage(site_weight(model.module, site)) for site in sites}
    matrices = {_storage(p): p.numel() for block in model.blocks for p in block.parameters() if p.dim() > 1}
    missed = sum(size for storage, size in matrices.items() if storage not in covered)
    return missed / max(1, sum(matrices.values()))


def model_fingerprint(model: PrunableModel) -> str:
    """BLAKE2b over names, shapes, dtypes and bytes of all parameters, as hex.

    Floating-point values are taken in the storage dtype, so a checkpoint has one fingerprint whatever dtype
    and device it computes on. Reads every byte once; needs memory for a part of one parameter only.
    """
    state = hashlib.blake2b(digest_size=16)
    for name, parameter in model.module.named_parameters():
        dtype = model.storage_dtype if parameter.is_floating_point() else parameter.dtype
        state.update(f"{name} {tuple(parameter.shape)} {dtype}\n".encode())
        for part in parameter.detach().reshape(-1).split(HASHED_AT_ONCE):
            state.update(part.to(dtype).cpu().contiguous().view(torch.uint8).numpy().data)
    return state.hexdigest()


def check_finite(model: PrunableModel) -> None:
    """Looks for NaN and Inf in the parameters.

    Raises:
        ResourceError: naming the first damaged parameter.
    """
    for name, parameter in model.module.named_parameters():
        bad = parameter.numel() - int(torch.isfinite(parameter.detach()).sum())
        if bad:
            raise ResourceError(
                f"model.name: {name} of {model.name} holds {bad} NaN or Inf values of {parameter.numel()}; "
                "download or export the checkpoint again"
            )


def _linear_sites(model: PrunableModel) -> tuple[list[Site], dict[str, Site]]:
    """Sites inside the blocks, and those outside by name; shared weights only under their first name."""
    inside: list[Site] = []
    outside: dict[str, Site] = {}
    seen: set[tuple[object, ...]] = set()
    for block, kind, name, linear in _linears(model):
        weight = linear.get_parameter("weight")
        storage = _storage(weight)
        if storage in seen:
            continue
        seen.add(storage)
        rows, columns = weight.shape
        shape = (columns, rows) if isinstance(linear, Conv1D) else (rows, columns)
        site = Site(name=name, module=name, kind=kind, block=block, shape=shape)
        if block < len(model.blocks):
            inside.append(site)
        else:
            outside[name] = site
    return inside, outside


def _linears(model: PrunableModel) -> Iterator[tuple[int, str, str, nn.Module]]:
    """(block, kind, name, module) of every linear layer: the blocks' in order, then all others."""
    for index, (path, block) in enumerate(zip(model.block_paths, model.blocks, strict=True)):
        for kind, part in block.named_modules():
            if _is_plain_linear(part):
                yield index, kind, f"{path}.{kind}", part
    in_blocks = {id(part) for block in model.blocks for part in block.modules()}
    for name, part in model.module.named_modules():
        if id(part) not in in_blocks and _is_plain_linear(part):
            yield len(model.blocks), name, name, part


def _is_plain_linear(module: nn.Module) -> bool:
    """Whether the weight is a floating-point matrix (quantised layers subclass nn.Linear, too)."""
    if not isinstance(module, LINEAR_TYPES):
        return False
    weight = module.weight
    return isinstance(weight, nn.Parameter) and weight.dim() == 2 and weight.is_floating_point()


def _matches(site: Site, pattern: str) -> bool:
    return fnmatchcase(site.name, pattern) or fnmatchcase(site.kind, pattern)


def _no_match(field: str, pattern: str, inside: list[Site], outside: dict[str, Site]) -> list[str]:
    in_block = {site.name for site in inside if pattern.startswith(site.name.removesuffix(site.kind))}
    allowed = in_block or {site.kind for site in inside} | set(outside)
    raise ConfigError(
        f"{field}: {pattern!r} matches no linear layer of the blocks; {did_you_mean(pattern, allowed)}, "
        "or a glob of these"
    )


def _storage(weight: Tensor) -> tuple[object, ...]:
    """Equal for two parameters (or their transposes) exactly if they are the same memory."""
    if weight.is_meta:
        return "meta", id(weight)
    return weight.device, weight.data_ptr(), weight.numel()
