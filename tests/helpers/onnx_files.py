"""A linear classifier as an ONNX file, written byte by byte: the package onnx is not installed."""

import struct
from pathlib import Path

from torch import Tensor


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def _field(number: int, value: int | bytes | str) -> bytes:
    """A field of a protobuf message: a number, or bytes with their length before them."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _tensor(name: str, value: Tensor) -> bytes:
    sides = b"".join(_field(1, side) for side in value.shape)
    raw = struct.pack(f"<{value.numel()}f", *value.flatten().tolist())
    return sides + _field(2, 1) + _field(8, name) + _field(9, raw)  # 1: float


def _value(name: str, sides: list[int | str]) -> bytes:
    """A float input or output; a side that is a text may have any length."""
    shape = b"".join(_field(1, _field(1 if isinstance(s, int) else 2, s)) for s in sides)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, shape)))


def _node(kind: str, inputs: list[str], output: str) -> bytes:
    return b"".join(_field(1, each) for each in inputs) + _field(2, output) + _field(4, kind)


def write_linear(path: Path, weight: Tensor, bias: Tensor, image: tuple[int, int, int]) -> Path:
    """Write images (b, c, h, w) -> flatten -> x @ weight.T + bias, (b, k)."""
    graph = b"".join(
        [
            _field(1, _node("Flatten", ["images"], "flat")),
            _field(1, _node("MatMul", ["flat", "weight"], "product")),
            _field(1, _node("Add", ["product", "bias"], "logits")),
            _field(2, "linear"),
            _field(5, _tensor("weight", weight.T.contiguous())),
            _field(5, _tensor("bias", bias)),
            _field(11, _value("images", ["batch", *image])),
            _field(12, _value("logits", ["batch", len(bias)])),
        ]
    )
    opset = _field(8, _field(2, 13))
    path.write_bytes(_field(1, 8) + opset + _field(7, graph))
    return path
