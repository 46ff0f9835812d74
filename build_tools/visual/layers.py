"""The layers that an EfficientNet-Lite is made of, in float32 or in integers of eight bits.

Quantising needs to know how large activations become. Running photographs through the network would tell, but not to
the last bit on every processor, and the file's hash is its identity. So it is read off the weights: batch normalisation
gives every channel a mean and a deviation, which it had in training (M. Nagel and others, 2019, "Data-free quantization
through weight equalization and bias correction").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from build_tools.onnx_builder import Network

State = dict[str, NDArray[Any]]
Floats = NDArray[np.float64]
DEVIATIONS = 4.0  # from the mean that an activation may lie, of the channel where it may become largest
WEIGHT_STEPS = 64  # to either side: seven bits, since processors without VNNI saturate on eight
_EPSILON = 1e-3
_LEVELS = 255  # of an activation
_BIAS_STEPS = 2**30


@dataclass(frozen=True)
class Convolution:
    """A convolution with the batch normalisation that follows it."""

    kernel: Floats  # (out, in a group, rows, columns), normalisation folded in
    bias: Floats  # (out,)
    mean: Floats  # (out,) of what comes out, in training
    variance: Floats  # (out,)
    relu6: bool
    attributes: dict[str, Any]

    @staticmethod
    def folded(state: State, weight: str, norm: str, stride: int, size: int, relu6: bool) -> Convolution:
        """Fold the normalisation `norm` into the convolution `weight`; `size` is the input's side. SAME padding."""
        kernel = state[f"{weight}.weight"].astype(np.float64)
        scale = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"].astype(np.float64) + _EPSILON)
        bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
        reach = kernel.shape[2]
        total = max(reach - (stride if size % stride == 0 else size % stride), 0)
        pads = [total // 2, total // 2, total - total // 2, total - total // 2]
        groups = kernel.shape[0] if kernel.shape[1] == 1 else 1
        attributes = {"strides": [stride] * 2, "pads": pads, "group": groups}
        mean, deviation = (state[f"{norm}.{part}"].astype(np.float64) for part in ("bias", "weight"))
        return Convolution(kernel * scale[:, None, None, None], bias, mean, deviation**2, relu6, attributes)


class Layers(Protocol):
    """What adds layers to a network; what flows between them is for each kind of them to say."""

    def entrance(self, x: str, low: float, high: float) -> Any:
        """Take in a float32 tensor within `low` and `high`."""
        ...

    def conv(self, x: Any, made: Convolution) -> Any: ...

    def sum(self, x: Any, y: Any) -> Any: ...

    def exit(self, x: Any) -> str:
        """Return the float32 tensor."""
        ...


def layers_of(net: Network, int8: bool) -> Layers:
    """Return what adds layers to `net`, in integers or in float32."""
    return Int8Layers(net) if int8 else FloatLayers(net)


class FloatLayers:
    """Layers in float32; a value is a tensor's name."""

    def __init__(self, net: Network) -> None:
        self._net, self._low, self._high = net, net.const(0.0), net.const(6.0)

    def entrance(self, x: str, low: float, high: float) -> str:
        return x

    def conv(self, x: str, made: Convolution) -> str:
        y = self._net.add("Conv", x, self._net.const(made.kernel), self._net.const(made.bias), **made.attributes)
        return self._net.add("Clip", y, self._low, self._high) if made.relu6 else y

    def sum(self, x: str, y: str) -> str:
        return self._net.add("Add", x, y)

    def exit(self, x: str) -> str:
        return x


@dataclass(frozen=True)
class Levels:
    """A uint8 tensor of which a step is `step` and `zero` stands for 0; mean and variance (channels,) in training."""

    name: str
    step: np.float32
    zero: int
    mean: Floats
    variance: Floats


class Int8Layers:
    """Layers in integers: activations in eight bits a tensor, weights in seven bits a channel, sums in 32."""

    def __init__(self, net: Network) -> None:
        self._net = net

    def entrance(self, x: str, low: float, high: float) -> Levels:
        step, zero = _steps(low, high)
        return Levels(self._quantised(x, step, zero), step, zero, np.zeros(0), np.zeros(0))

    def conv(self, x: Levels, made: Convolution) -> Levels:
        low, high = _reach(made.mean, made.variance)
        step, zero = _steps(0.0, min(high, 6.0)) if made.relu6 else _steps(low, high)
        most = np.abs(made.kernel).reshape(len(made.kernel), -1).max(axis=1)
        unit = np.maximum(most / WEIGHT_STEPS, np.abs(made.bias) / (float(x.step) * _BIAS_STEPS))
        unit = np.maximum(unit, 1e-12).astype(np.float32)  # of a channel without weights: so that its bias fits
        weights = np.round(made.kernel / unit.astype(np.float64)[:, None, None, None])
        bias = np.round(made.bias / (float(x.step) * unit.astype(np.float64)))
        net = self._net
        name = net.add(
            "QLinearConv",
            *(x.name, net.const(x.step), net.const(x.zero, np.uint8)),
            *(net.const(weights, np.int8), net.const(unit), net.const(np.zeros(len(unit)), np.int8)),
            *(net.const(step), net.const(zero, np.uint8), net.const(bias, np.int32)),
            **made.attributes,
        )
        return Levels(name, step, zero, made.mean, made.variance)

    def sum(self, x: Levels, y: Levels) -> Levels:
        mean, variance = x.mean + y.mean, x.variance + y.variance
        step, zero = _steps(*_reach(mean, variance))
        name = self._quantised(self._net.add("Add", self.exit(x), self.exit(y)), step, zero)
        return Levels(name, step, zero, mean, variance)

    def exit(self, x: Levels) -> str:
        return self._net.add("DequantizeLinear", x.name, self._net.const(x.step), self._net.const(x.zero, np.uint8))

    def _quantised(self, x: str, step: np.float32, zero: int) -> str:
        return self._net.add("QuantizeLinear", x, self._net.const(step), self._net.const(zero, np.uint8))


def _reach(mean: Floats, variance: Floats) -> tuple[float, float]:
    """Return between what the activations of all channels lie."""
    far = DEVIATIONS * np.sqrt(variance)
    return float((mean - far).min()), float((mean + far).max())


def _steps(low: float, high: float) -> tuple[np.float32, int]:
    """Return the size of a step and the level of 0, of activations between `low` and `high`, 0 among them."""
    low, high = min(low, 0.0), max(high, 1e-6)
    step = np.float32((high - low) / _LEVELS)
    return step, round(-low / float(step))
