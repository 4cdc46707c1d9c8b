"""The store of all variants: one safetensors shard a site, and a manifest. Read-only once built."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sparsearch.errors import ConflictError, ResourceError
from sparsearch.files import digest, file_digest, inside, read_json, write_atomic, write_json
from sparsearch.space.space import FloatArray, SearchSpace, pad_rows
from sparsearch.supernet.encodings import decode_variant

FORMAT = "sparsearch-supernet/1"
MANIFEST = "manifest.json"
REBUILD = "delete this file and run sparsearch build, which makes it again and keeps the others"


@dataclass(frozen=True)
class Shard:
    """The manifest's entry of one site.

    Attributes:
        site: its name.
        file: path below the supernet's folder.
        bytes: size of the file.
        digest: BLAKE2b of the file.
        errors: per level index, 0 first: relative output error `tr(D H D^T) / tr(W H W^T)` on the calibration
            inputs, D the change of the weight; None where no inputs were needed.
    """

    site: str
    file: str
    bytes: int
    digest: str
    errors: tuple[float | None, ...]


def shard_file(index: int) -> str:
    """Name of the shard of the site at `index`; site names themselves never become file names."""
    return f"sites/{index:05d}.safetensors"


def write_shard(
    folder: Path, index: int, site: str, tensors: dict[str, Tensor], errors: tuple[float | None, ...]
) -> Shard:
    """Writes a shard, then the note that it is complete (which a later run trusts)."""
    name = shard_file(index)
    path = folder / name
    write_atomic(path, lambda temporary: save_file(tensors, temporary))
    shard = Shard(site, name, path.stat().st_size, file_digest(path), errors)
    write_json(path.with_suffix(".json"), asdict(shard))
    return shard


def finished_shard(folder: Path, index: int, site: str) -> Shard | None:
    """The shard of `site` if an earlier run completed it and it is still whole."""
    note = (folder / shard_file(index)).with_suffix(".json")
    if not note.exists():
        return None
    shard = _shard(note, read_json(note))
    path = folder / shard_file(index)
    whole = (
        shard.site == site
        and path.exists()
        and path.stat().st_size == shard.bytes
        and file_digest(path) == shard.digest
    )
    return shard if whole else None


def write_manifest(folder: Path, identity: dict[str, Any], shards: list[Shard], figures: dict[str, Any]) -> None:
    """Declares the supernet complete."""
    content = {
        "format": FORMAT, "fingerprint": digest(identity), "identity": identity, "figures": figures,
        "shards": [asdict(shard) for shard in shards],
    }  # fmt: skip
    write_json(folder / MANIFEST, content)


class Supernet:
    """An opened supernet: memory-mapped shards, each checked against its checksum when it is first read.

    Args:
        folder: where it lies.
        space: the search space that it was built for.
        cache_bytes: bound on decoded variants kept in memory.

    Raises:
        ResourceError: it is not complete, or a shard is missing or truncated.
        ConflictError: it was built for other sites or levels.
    """

    def __init__(self, folder: Path, space: SearchSpace, cache_bytes: int = 2**30) -> None:
        self.folder = folder
        self.space = space
        manifest = read_manifest(folder)
        self.fingerprint: str = manifest["fingerprint"]
        self.figures: dict[str, Any] = manifest["figures"]
        if manifest["identity"].get("space") != space.describe():
            raise ConflictError(
                f"{folder} was built for other sites or levels; choose another supernet folder or delete it"
            )
        self.dtype = _storage_dtype(folder, manifest["identity"])
        self.shards = [_shard(folder / MANIFEST, entry) for entry in manifest["shards"]]
        for shard in self.shards:
            _check_size(folder, shard)
        self._files: dict[int, dict[str, Tensor]] = {}
        self._cache: OrderedDict[tuple[int, int], Tensor] = OrderedDict()
        self.cached_bytes = 0
        self.cache_bytes = cache_bytes

    @property
    def errors(self) -> FloatArray | None:
        """Relative output errors `[sites, max levels]`, `nan` where invalid; None where the pruner needed no inputs."""
        if any(error is None for shard in self.shards for error in shard.errors):
            return None
        return pad_rows([[error or 0.0 for error in shard.errors] for shard in self.shards], float("nan"))

    @property
    def bytes(self) -> int:
        """Size of all shards on disk."""
        return sum(shard.bytes for shard in self.shards)

    def variant(self, site: int, level: int, dense: Tensor) -> Tensor:
        """The weight `[out, in]` of `site` at `level` ≥ 1, in storage dtype on the CPU. Do not write into it.

        Args:
            dense: the dense weight, in any dtype and on any device; only level maps take values from it.

        Raises:
            ResourceError: the shard's checksum is wrong.
        """
        key = (site, level)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        weight = decode_variant(self._tensors(site), level, dense, self.dtype)
        self._cache[key] = weight
        self.cached_bytes += weight.nbytes
        while self.cached_bytes > self.cache_bytes and len(self._cache) > 1:
            self.cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return weight

    def verify(self) -> None:
        """Checks every shard's checksum.

        Raises:
            ResourceError: names the first damaged shard.
        """
        for shard in self.shards:
            _check_digest(self.folder, shard)

    def _tensors(self, site: int) -> dict[str, Tensor]:
        if site not in self._files:
            shard = self.shards[site]
            path = _check_digest(self.folder, shard)
            with safe_open(path, framework="pt") as file:
                self._files[site] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return self._files[site]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a complete supernet.

    Raises:
        ResourceError: there is none, or it is damaged.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise ResourceError(f"{folder} holds no complete supernet; run sparsearch build")
    content = read_json(path)
    keys = {"format": str, "fingerprint": str, "identity": dict, "figures": dict, "shards": list}
    for key, kind in keys.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise ResourceError(f"{path}: {key} is missing or damaged; delete the folder and build again")
    if content["format"] != FORMAT:
        raise ResourceError(f"{path}: format {content['format']!r} is not {FORMAT!r}; build again with this version")
    if digest(content["identity"]) != content["fingerprint"]:
        raise ResourceError(
            f"{path}: the fingerprint does not match the identity beside it; delete the folder and build again"
        )
    return content


def _storage_dtype(folder: Path, identity: dict[str, Any]) -> torch.dtype:
    name = str(identity.get("storage_dtype"))
    dtype = getattr(torch, name.removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype):
        raise ResourceError(f"{folder / MANIFEST}: storage_dtype is {name!r}, no dtype of torch; build again")
    return dtype


def is_whole(folder: Path) -> bool:
    """Whether the supernet in `folder` is complete and every shard has its size; checksums are left to first reads."""
    if not (folder / MANIFEST).exists():
        return False
    shards = [_shard(folder / MANIFEST, entry) for entry in read_manifest(folder)["shards"]]
    paths = [inside(folder, shard.file) for shard in shards]
    return all(path.exists() and path.stat().st_size == shard.bytes for path, shard in zip(paths, shards, strict=True))


def _shard(path: Path, entry: Any) -> Shard:
    try:
        return Shard(**(entry | {"errors": tuple(entry["errors"])}))
    except (TypeError, KeyError):
        raise ResourceError(f"{path}: an entry of shards is damaged; delete the folder and build again") from None


def _check_size(folder: Path, shard: Shard) -> Path:
    path = inside(folder, shard.file)
    size = path.stat().st_size if path.exists() else None
    if size != shard.bytes:
        found = "is missing" if size is None else f"has {size} bytes instead of {shard.bytes}"
        raise ResourceError(f"{path} (site {shard.site}) {found}; {REBUILD}")
    return path


def _check_digest(folder: Path, shard: Shard) -> Path:
    path = _check_size(folder, shard)
    try:
        damaged = file_digest(path) != shard.digest
        with safe_open(path, framework="pt"):
            pass
    except SafetensorError:
        damaged = True
    if damaged:
        raise ResourceError(f"{path} (site {shard.site}) is damaged: its checksum is not the manifest's; {REBUILD}")
    return path
