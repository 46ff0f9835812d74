"""Simple shapes, textures and colours for pictures (300, 440, 3) float32 RGB in 0–1."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Colour = tuple[float, float, float]  # red, green, blue in 0–1
WIDE, HIGH = 440, 300  # the drawn scene; the camera sees a part of it


# --- textures, (300, 440, 3)


def blotches(high: int, wide: int, size: int, rng: np.random.Generator) -> Picture:
    """Return (high, wide) noise of about unit range, smooth over `size` pixels."""
    small = rng.normal(0, 0.7, (high // size + 2, wide // size + 2)).astype(np.float32)
    return np.asarray(cv2.resize(small, (wide, high), interpolation=cv2.INTER_CUBIC), np.float32)


def clouds(colour: Colour, size: int, rng: np.random.Generator, depth: float = 0.35) -> Picture:
    light = 1 + depth * (0.6 * blotches(HIGH, WIDE, size, rng) + 0.4 * blotches(HIGH, WIDE, max(2, size // 3), rng))
    return np.asarray(light[..., None] * np.array(colour, np.float32), np.float32)


def grass(rng: np.random.Generator) -> Picture:
    blades = rng.normal(0, 0.16, (HIGH, WIDE)).astype(np.float32)
    light = 1 + cv2.blur(blades, (1, 5)) * 2 + 0.15 * blotches(HIGH, WIDE, 40, rng)
    return np.asarray(light[..., None] * np.array(hsv(0.27 + rng.normal(0, 0.015), 0.6, 0.5), np.float32), np.float32)


def planks(colour: Colour, rng: np.random.Generator) -> Picture:
    grain = cv2.resize(rng.normal(0, 0.1, (HIGH // 2, 6)).astype(np.float32), (WIDE, HIGH))
    planks = np.repeat(rng.uniform(0.85, 1.1, WIDE // 20 + 1), 20)[:WIDE].astype(np.float32)
    wood = (1 + grain[..., None]) * planks[None, :, None] * np.array(colour, np.float32)
    wood[:, ::20] *= 0.6
    return np.asarray(wood, np.float32)


def tiles(colour: Colour, size: int, rng: np.random.Generator) -> Picture:
    tones = rng.uniform(0.94, 1.04, (HIGH // size + 1, WIDE // size + 1))
    tiles = np.repeat(np.repeat(tones, size, 0), size, 1)[:HIGH, :WIDE, None] * np.array(colour)
    tiles[::size], tiles[:, ::size] = shade(colour, 0.75), shade(colour, 0.75)
    return np.asarray(tiles, np.float32)


def bricks(colour: Colour, rng: np.random.Generator) -> Picture:
    wall = tiles(colour, 12, rng) * rng.uniform(0.92, 1.06, (HIGH, 1, 1)).astype(np.float32)
    wall[12::24] = np.roll(wall[12::24], 6, axis=1)
    return np.asarray(wall, np.float32)


# --- drawing; corners are left, top, right, bottom


def paste(scene: Picture, corners: tuple[int, int, int, int], texture: Picture) -> None:
    left, top, right, bottom = max(corners[0], 0), max(corners[1], 0), min(corners[2], WIDE), min(corners[3], HIGH)
    if right > left and bottom > top:
        scene[top:bottom, left:right] = texture[: bottom - top, : right - left]


def box(scene: Picture, corners: tuple[int, int, int, int], colour: Colour) -> None:
    left, top, right, bottom = corners
    cv2.rectangle(scene, (left, top), (right, bottom), colour, -1)
    cv2.rectangle(scene, (left, bottom - 3), (right, bottom), shade(colour, 0.85), -1)


def soft_box(scene: Picture, corners: tuple[int, int, int, int], colour: Colour) -> None:
    """Draw a box with round corners and a lighter upper half."""
    left, top, right, bottom = corners
    radius = max(2, min(right - left, bottom - top) // 4)
    for inset, tone in ((0, 0.9), (4, 1.0)):
        inner = (left + inset, top + inset, right - inset, bottom - inset - 3)
        cv2.rectangle(scene, (inner[0] + radius, inner[1]), (inner[2] - radius, inner[3]), shade(colour, tone), -1)
        cv2.rectangle(scene, (inner[0], inner[1] + radius), (inner[2], inner[3] - radius), shade(colour, tone), -1)
        for x in (inner[0] + radius, inner[2] - radius):
            for y in (inner[1] + radius, inner[3] - radius):
                disc(scene, (x, y), radius, shade(colour, tone))


def polygon(scene: Picture, points: list[tuple[int, int]], colour: Colour) -> None:
    cv2.fillPoly(scene, [np.array(points, np.int32)], colour, cv2.LINE_AA)


def disc(scene: Picture, centre: tuple[int, int], radius: int, colour: Colour) -> None:
    cv2.circle(scene, centre, radius, colour, -1, cv2.LINE_AA)


def line(scene: Picture, start: tuple[int, int], end: tuple[int, int], colour: Colour, width: int) -> None:
    cv2.line(scene, start, end, colour, width, cv2.LINE_AA)


# --- colours


def hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = (
        value * (1 - saturation * min(max(0.0, min(k, 4 - k)), 1.0)) for k in ((n + hue * 6) % 6 for n in (5, 3, 1))
    )
    return red, green, blue


def any_hue(rng: np.random.Generator, saturation: float, value: float) -> Colour:
    return hsv(rng.random(), saturation * rng.uniform(0.6, 1.2), min(1.0, value * rng.uniform(0.85, 1.1)))


def any_grey(rng: np.random.Generator, low: float, high: float) -> Colour:
    level = rng.uniform(low, high)
    return level, level * 0.99, level * 0.97


def shade(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor
