"""Features without a pretrained network: a fallback, and far behind one (0.71 where a network gives 0.98)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.features.arrays import Array, Inputs, const, floored, matmul, namespace, unit_rows

SIDE = 128  # pixels of the picture that is described
_CELLS = 4  # a side, of gradients; more of them fit the training pictures only
_REGIONS = (1, 2)  # a side, of colours and patterns
_DIRECTIONS = 8
_TINY = 4  # pixels a side
_LEVELS = 6  # of two colour axes, saturation and value
_NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def _uniform_patterns() -> np.ndarray:
    """(256, 59): local binary patterns with at most two changes around the circle one by one, all others together.

    T. Ojala and others, Multiresolution gray-scale and rotation invariant texture classification, 2002.
    """
    table = np.zeros((256, 59), np.float32)
    place = 0
    for code in range(256):
        turned = ((code << 1) | (code >> 7)) & 255
        if bin(code ^ turned).count("1") <= 2:
            table[code, place] = 1
            place += 1
        else:
            table[code, 58] = 1
    return table


_UNIFORM = _uniform_patterns()


@dataclass(frozen=True)
class Handmade:
    """Gradients by direction in cells (HOG), colour by region, local binary patterns, and the picture made tiny."""

    def __call__(self, inputs: Inputs) -> Array:
        """{image: (128, 128, 3)} uint8 RGB -> (D,) float32, each part of unit length."""
        image = inputs["image"]
        xp = namespace(image)
        whole = xp.astype(image, xp.int32)
        grey = (77 * whole[:, :, 0] + 150 * whole[:, :, 1] + 29 * whole[:, :, 2]) // 256  # exact, so patterns agree
        colour = xp.astype(image, xp.float32) / const(255.0, xp.astype(image, xp.float32))
        parts = [_gradients(grey), _colours(colour), _patterns(grey), _tiny(colour)]
        return xp.concat([unit_rows(xp.reshape(part, (1, -1)))[0, :] for part in parts], axis=0)


def _gradients(grey: Array) -> Array:
    """(128, 128) int32 -> (4, 4, 8): root energy of the gradients along 8 directions in cells, each cell normalised."""
    xp = namespace(grey)
    level = xp.astype(grey, xp.float32)
    level = level / const(255.0, level)
    down, right = level[2:, 1:-1] - level[:-2, 1:-1], level[1:-1, 2:] - level[1:-1, :-2]
    strength = xp.sqrt(down * down + right * right + const(1e-6, level))
    maps = []
    for angle in np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS:
        along = down * const(np.sin(angle), level) + right * const(np.cos(angle), level)
        maps.append(xp.expand_dims(along * along / strength, axis=2))
    cells = _cells(xp.concat(maps, axis=2), _CELLS)
    return xp.sqrt(unit_rows(cells + const(1e-4, level)))


def _colours(colour: Array) -> Array:
    """(128, 128, 3) -> soft histograms of two colour axes, saturation and value in regions."""
    xp = namespace(colour)
    red, green, blue = colour[:, :, 0], colour[:, :, 1], colour[:, :, 2]
    value = xp.maximum(xp.maximum(red, green), blue)
    lowest = xp.minimum(xp.minimum(red, green), blue)
    half = const(0.5, colour)
    axes = (half + (red - green) * half, half + (red + green - 2.0 * blue) * const(0.25, colour), value - lowest, value)
    one, steep = const(1.0, colour), const(_LEVELS - 1, colour)
    maps = [
        xp.expand_dims(floored(one - xp.abs(axis - const(level, colour)) * steep, 0.0), axis=2)
        for axis in axes
        for level in np.linspace(0, 1, _LEVELS)
    ]
    levels = xp.concat(maps, axis=2)
    parts = [xp.reshape(_cells(levels, n), (-1,)) for n in _REGIONS]
    return xp.sqrt(xp.concat(parts, axis=0))


def _patterns(grey: Array) -> Array:
    """(128, 128) int32 -> root frequencies of local binary patterns in regions."""
    xp = namespace(grey)
    middle = grey[1:-1, 1:-1]
    code = xp.zeros_like(middle)
    for bit, (y, x) in enumerate(_NEIGHBOURS):
        neighbour = grey[1 + y : SIDE - 1 + y, 1 + x : SIDE - 1 + x]
        code = code + xp.astype(neighbour >= middle, xp.int32) * (1 << bit)
    flat = xp.reshape(code, (SIDE - 2, SIDE - 2, 1))
    codes = xp.astype(flat == const(np.arange(256), flat, np.int32), xp.float32)
    parts = [matmul(xp.reshape(_cells(codes, n), (-1, 256)), const(_UNIFORM, codes)) for n in _REGIONS]
    return xp.sqrt(xp.concat(parts, axis=0))


def _tiny(colour: Array) -> Array:
    """(128, 128, 3) -> 4 x 4 colours less their mean."""
    xp = namespace(colour)
    small = _cells(colour, _TINY)
    return small - xp.mean(small)


def _cells(maps: Array, count: int) -> Array:
    """(h, w, n) -> means (count, count, n) over equal cells; rows and columns left over at the end are dropped."""
    xp = namespace(maps)
    height, width = (side // count for side in (maps.shape[0], maps.shape[1]))
    cut = maps[: height * count, : width * count, :]
    return xp.mean(xp.reshape(cut, (count, height, count, width, -1)), axis=(1, 3))
