"""A short hash of the weights that a call used."""

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cfxnb.core.modules import modules_of
from cfxnb.core.one_shard import once

#: Networks with more numbers than this are hashed on their device by a sum of products, because the
#: way to the CPU and SHA-256 would take up to a minute in each call of a method.
LARGE = 2**28
CHUNK = 2**16  # numbers that are hashed together on the CPU


def weights_hash(*parts: Any) -> str:
    """Return a short hash of the weights that ``parts`` use, or "" if there is no network.

    The function never fails: objects without numbers are hashed by their text. A network in a
    wrapper (compiled, data-parallel) or in another floating dtype has the same hash as the plain
    network, because names and dtypes do not count. Buffers of a single number are left out, because
    networks count their calls in such buffers.

    While a method works on a data set shard by shard, networks are hashed once."""
    modules = modules_of(*parts)
    inner = {id(m) for top in modules for m in list(top.modules())[1:]}
    tops = tuple(m for m in modules if id(m) not in inner)
    return once("weights", tops, lambda: _hash(tops)) if tops else ""


def _hash(tops: Iterable[nn.Module]) -> str:
    digest = hashlib.sha256()
    for module in tops:
        counters = {n for n, b in module.named_buffers() if not is_lazy(b) and b.numel() < 2}
        state = _state(module)
        large = sum(value.numel() for _, value in state if _is_plain(value)) > LARGE
        for name, value in state:
            if name not in counters:
                _feed(digest, _products(value) if large and _is_plain(value) else value)
    return digest.hexdigest()[:16]


def _state(module: nn.Module) -> list[tuple[str, Any]]:
    try:
        return sorted(module.state_dict().items(), key=lambda item: item[0])
    except Exception:  # a custom state_dict may fail in any way
        return [*module.named_parameters(), *module.named_buffers()]


def _is_plain(value: Any) -> bool:
    """Return whether a value is a tensor of floats that stores its numbers."""
    if not isinstance(value, Tensor) or is_lazy(value) or value.layout != torch.strided:
        return False
    return value.is_floating_point() and not value.is_quantized and not value.is_meta


def _products(value: Tensor) -> list[str]:
    """Return the shape of a tensor, and the sum of its numbers times different odd factors.

    A number counts as the integer that has the same bits in float32. The sum is exact modulo 2^64,
    so it depends neither on the device, nor on the order of summation, nor on the floating dtype.
    The factor of the number at place i is 2 i + 1.
    """
    flat = value.detach().reshape(-1)
    size = CHUNK if flat.device.type == "cpu" else 256 * CHUNK
    factors = 2 * torch.arange(min(size, len(flat)), device=flat.device) + 1
    total = torch.zeros((), dtype=torch.int64, device=flat.device)
    for i, part in enumerate(flat.split(size)):
        bits = part.float().view(torch.int32)
        total += (bits * (factors[: len(bits)] + 2 * i * size)).sum()
    return [str(tuple(value.shape)), str(int(total))]


def _feed(digest: Any, value: Any) -> None:
    """Add the bytes of a tensor, or of the parts of a container, to a hash."""
    if isinstance(value, dict):
        value = [part for key in sorted(value, key=str) for part in (str(key), value[key])]
    if isinstance(value, list | tuple):
        for part in value:
            _feed(digest, part)
        return
    if not isinstance(value, Tensor):
        text = value.hex() if isinstance(value, bytes) else repr(value)
        digest.update(type(value).__name__.encode() if " at 0x" in text else text.encode())
        return
    value = value.float() if value.is_floating_point() and not value.is_meta else value
    digest.update(f"{tuple(value.shape)} {value.dtype}".encode())
    if value.is_meta:
        return
    plain = value.detach()
    if plain.is_quantized:
        digest.update(repr(plain.qscheme()).encode())
        plain = plain.dequantize()
    plain = plain.to_dense() if plain.layout != torch.strided else plain
    plain = plain.resolve_conj().resolve_neg().cpu().contiguous().flatten()
    digest.update(plain.view(torch.uint8).numpy() if plain.numel() else b"")
