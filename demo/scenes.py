"""Pictures of the places in a home and around it, drawn from simple shapes, textures and light.

A place has its own furniture and a home its own colours, so the same kitchen appears in each session under different
light, from a different position, with different clutter.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from demo import drawing as draw
from demo.drawing import HIGH, WIDE, Colour, Picture
from demo.people import Person, SessionConditions

WIDTH, HEIGHT = 320, 240


def photograph(place: str, person: Person, session: SessionConditions, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return (240, 320, 3) uint8 BGR: `place` in the person's home under the session's light."""
    home = np.random.default_rng([person.home, sum(place.encode())])
    scene = _PLACES[place](home, rng)
    for _ in range(int(rng.integers(0, 3))):
        _clutter(scene, rng)
    if rng.random() < 0.35:
        _person(scene, rng)
    picture = _camera(scene, rng)
    return _light(picture, session, rng, outside=place in ("garden", "street"))


# --- places: the home's own generator, the picture's generator -> (300, 440, 3) RGB 0–1


def _kitchen(home: np.random.Generator, rng: np.random.Generator) -> Picture:
    wall, cupboard, top = draw.any_hue(home, 0.12, 0.9), draw.any_hue(home, 0.35, 0.75), draw.any_grey(home, 0.25, 0.6)
    scene = _inside(wall, draw.tiles(draw.any_grey(home, 0.5, 0.8), 26, home), horizon=225)
    draw.paste(scene, (0, 95, WIDE, 160), draw.tiles(draw.any_hue(home, 0.08, 0.92), 15, home))
    shift = int(rng.integers(-25, 25))
    for number in range(6):  # wall cupboards and base units
        x = -30 + shift + number * 84
        if number != 2:
            _cupboard(scene, (x, 18, x + 80, 88), cupboard)
        _cupboard(scene, (x, 172, x + 80, 262), draw.shade(cupboard, 0.92))
    draw.box(scene, (0, 160, WIDE, 173), top)
    hood = -30 + shift + 2 * 84
    draw.polygon(
        scene,
        [(hood + 22, 20), (hood + 58, 20), (hood + 58, 60), (hood + 80, 92), (hood, 92), (hood + 22, 60)],
        (0.62, 0.63, 0.65),
    )
    draw.box(scene, (hood + 2, 172, hood + 78, 262), (0.82, 0.82, 0.84))
    draw.box(scene, (hood + 10, 192, hood + 70, 242), (0.12, 0.12, 0.14))
    for knob in range(5):
        draw.disc(scene, (hood + 14 + knob * 13, 181), 3, (0.2, 0.2, 0.2))
    fridge = hood + 84 * int(home.integers(2, 4)) - 20
    draw.box(scene, (fridge, 40, fridge + 74, 265), (0.88, 0.89, 0.9))
    draw.line(scene, (fridge, 118), (fridge + 74, 118), (0.6, 0.6, 0.62), 2)
    draw.line(scene, (fridge + 8, 80), (fridge + 8, 108), (0.5, 0.5, 0.52), 3)
    for _ in range(int(rng.integers(2, 6))):  # pots, jars, fruit on the worktop
        x = int(rng.integers(10, WIDE - 30))
        if rng.random() < 0.5:
            draw.box(scene, (x, 138, x + 24, 160), draw.any_hue(rng, 0.3, 0.6))
            draw.line(scene, (x - 4, 142), (x + 28, 142), (0.2, 0.2, 0.2), 2)
        else:
            for fruit in range(3):
                draw.disc(scene, (x + fruit * 10, 154), 6, draw.hsv(rng.uniform(0.0, 0.3), 0.8, 0.85))
    return scene


def _bedroom(home: np.random.Generator, rng: np.random.Generator) -> Picture:
    scene = _inside(draw.any_hue(home, 0.18, 0.85), draw.planks(draw.hsv(0.08, 0.5, 0.55), home), horizon=195)
    cover, wood = draw.any_hue(home, 0.45, 0.7), draw.hsv(home.uniform(0.06, 0.1), 0.6, home.uniform(0.3, 0.6))
    x = int(home.integers(90, 150)) + int(rng.integers(-40, 40))
    draw.box(scene, (x - 8, 118, x + 208, 200), wood)
    draw.polygon(scene, [(x, 170), (x + 200, 170), (x + 255, 290), (x - 55, 290)], cover)
    folds = [(x + int(rng.integers(0, 200)), 180) for _ in range(5)]
    for fold in folds:
        draw.line(scene, fold, (fold[0] + int(rng.integers(-40, 40)), 288), draw.shade(cover, 0.85), 2)
    draw.polygon(scene, [(x, 165), (x + 200, 165), (x + 214, 196), (x - 14, 196)], (0.95, 0.95, 0.93))
    for pillow in (x + 8, x + 108):
        draw.soft_box(scene, (pillow, 140, pillow + 84, 178), (0.97, 0.96, 0.94))
    for stand in (x - 62, x + 216):
        draw.box(scene, (stand, 176, stand + 46, 226), draw.shade(wood, 0.9))
        draw.line(scene, (stand + 23, 150), (stand + 23, 176), (0.4, 0.35, 0.3), 3)
        draw.polygon(
            scene, [(stand + 12, 122), (stand + 34, 122), (stand + 42, 150), (stand + 4, 150)], (1.0, 0.93, 0.72)
        )
    if home.random() < 0.6:
        _window(scene, (x + 30, 20, x + 130, 100), home)
    else:
        _frame(scene, (x + 50, 30, x + 130, 92), home)
    draw.box(scene, (x - 190, 30, x - 85, 235), draw.shade(wood, 1.1))
    draw.line(scene, (x - 137, 32), (x - 137, 233), draw.shade(wood, 0.6), 2)
    return scene


def _bathroom(home: np.random.Generator, rng: np.random.Generator) -> Picture:
    tile = draw.any_hue(home, 0.2, 0.9)
    scene = _inside((0.9, 0.92, 0.93), draw.tiles(draw.any_grey(home, 0.35, 0.7), 22, home), horizon=215)
    draw.paste(scene, (0, 60, WIDE, 215), draw.tiles(tile, 18, home))
    x = int(home.integers(10, 60)) + int(rng.integers(-35, 35))
    white, chrome = (0.96, 0.97, 0.97), (0.7, 0.73, 0.76)
    draw.soft_box(scene, (x + 230, 185, x + 420, 270), white)  # tub
    draw.box(scene, (x + 228, 185, x + 424, 196), draw.shade(white, 0.93))
    draw.line(scene, (x + 400, 70), (x + 400, 150), chrome, 3)
    draw.polygon(scene, [(x + 385, 70), (x + 402, 62), (x + 402, 74)], chrome)
    draw.soft_box(scene, (x + 20, 150, x + 110, 186), white)  # basin
    draw.polygon(scene, [(x + 52, 184), (x + 78, 184), (x + 84, 258), (x + 46, 258)], draw.shade(white, 0.93))
    draw.line(scene, (x + 64, 134), (x + 64, 154), chrome, 5)
    draw.box(scene, (x + 22, 42, x + 108, 122), (0.72, 0.8, 0.84))  # mirror
    draw.line(scene, (x + 40, 108), (x + 84, 52), (0.9, 0.95, 0.97), 4)
    draw.soft_box(scene, (x + 142, 200, x + 204, 246), white)  # toilet
    draw.box(scene, (x + 146, 150, x + 200, 204), draw.shade(white, 0.95))
    draw.polygon(scene, [(x + 156, 240), (x + 190, 240), (x + 186, 270), (x + 160, 270)], draw.shade(white, 0.9))
    for towel in range(2):
        left = x + 225 + towel * 48
        draw.box(scene, (left, 88, left + 38, 160), draw.any_hue(rng if towel else home, 0.4, 0.75))
    return scene


def _living_room(home: np.random.Generator, rng: np.random.Generator) -> Picture:
    scene = _inside(draw.any_hue(home, 0.15, 0.85), draw.planks(draw.hsv(0.09, 0.55, 0.5), home), horizon=205)
    sofa, x = draw.any_hue(home, 0.5, 0.55), int(home.integers(30, 70)) + int(rng.integers(-40, 40))
    draw.polygon(
        scene, [(x - 40, 262), (x + 330, 262), (x + 380, 298), (x - 90, 298)], draw.any_hue(home, 0.5, 0.6)
    )  # rug
    draw.soft_box(scene, (x, 130, x + 220, 235), sofa)
    for seat in range(3):
        draw.soft_box(scene, (x + 22 + seat * 60, 182, x + 80 + seat * 60, 226), draw.shade(sofa, 1.15))
    for arm in (x - 12, x + 200):
        draw.soft_box(scene, (arm, 160, arm + 34, 240), draw.shade(sofa, 0.88))
    for cushion in range(int(rng.integers(1, 4))):
        draw.soft_box(scene, (x + 28 + cushion * 58, 155, x + 68 + cushion * 58, 190), draw.any_hue(rng, 0.6, 0.8))
    draw.box(scene, (x + 258, 190, x + 400, 240), draw.hsv(0.08, 0.5, 0.4))  # television on its board
    draw.box(scene, (x + 266, 96, x + 394, 182), (0.06, 0.06, 0.08))
    if rng.random() < 0.5:
        draw.paste(scene, (x + 270, 100, x + 390, 178), draw.clouds(draw.any_hue(rng, 0.6, 0.6), 12, rng))
    for book in range(9):
        draw.box(scene, (x + 262 + book * 8, 62, x + 269 + book * 8, 90), draw.any_hue(home, 0.6, 0.6))
    _frame(scene, (x + 60, 32, x + 150, 100), home)
    draw.line(scene, (x + 238, 70), (x + 238, 238), (0.25, 0.22, 0.2), 3)
    draw.polygon(scene, [(x + 224, 40), (x + 252, 40), (x + 264, 78), (x + 212, 78)], (1.0, 0.92, 0.7))
    return scene


def _garden(home: np.random.Generator, rng: np.random.Generator) -> Picture:
    scene = _sky(rng)
    horizon = int(rng.integers(120, 150))
    draw.paste(scene, (0, horizon - 40, WIDE, horizon + 30), draw.clouds((0.16, 0.36, 0.14), 5, rng, depth=0.6))
    draw.paste(scene, (0, horizon, WIDE, HIGH), draw.grass(rng))
    for post in range(0, WIDE, 18):
        draw.box(
            scene,
            (post, horizon - 34, post + 15, horizon + 12),
            draw.shade(draw.hsv(0.08, 0.4, 0.6), rng.uniform(0.85, 1.1)),
        )
    for _ in range(int(home.integers(2, 4))):
        x = int(rng.integers(20, WIDE - 20))
        draw.box(scene, (x - 7, horizon - 50, x + 7, horizon + 36), (0.33, 0.24, 0.17))
        _foliage(scene, (x, horizon - 70), int(rng.integers(38, 62)), rng)
    for _ in range(int(rng.integers(4, 9))):
        x, y = int(rng.integers(0, WIDE)), int(rng.integers(horizon + 20, HIGH - 10))
        _foliage(scene, (x, y), int(rng.integers(12, 24)), rng)
        for _ in range(7):
            at = (x + int(rng.normal(0, 9)), y - int(abs(rng.normal(0, 8))))
            draw.disc(scene, at, 3, draw.hsv(home.uniform(0.8, 1.15) % 1, 0.7, 0.95))
    if rng.random() < 0.6:
        x = int(rng.integers(60, 300))
        draw.polygon(scene, [(x, 210), (x + 90, 210), (x + 100, 226), (x - 10, 226)], draw.hsv(0.08, 0.55, 0.5))
        for leg in (x + 2, x + 82):
            draw.box(scene, (leg, 226, leg + 7, 262), draw.hsv(0.08, 0.55, 0.4))
    return scene


def _street(home: np.random.Generator, rng: np.random.Generator) -> Picture:
    scene = _sky(rng)
    x = int(rng.integers(-70, -10))
    while x < WIDE:
        wide, high = int(home.integers(70, 120)), int(home.integers(20, 90))
        wall = draw.bricks(draw.hsv(home.uniform(0.02, 0.12), home.uniform(0.2, 0.6), home.uniform(0.45, 0.75)), home)
        draw.paste(scene, (x, high, x + wide, 205), wall)
        for row in range(high + 12, 165, 36):
            for column in range(x + 10, x + wide - 18, 28):
                draw.box(
                    scene,
                    (column, row, column + 16, row + 22),
                    (0.35, 0.45, 0.55) if rng.random() < 0.7 else (0.9, 0.85, 0.6),
                )
        draw.box(scene, (x + wide // 2 - 9, 170, x + wide // 2 + 9, 205), draw.any_hue(home, 0.5, 0.4))
        x += wide
    draw.paste(scene, (0, 205, WIDE, 222), draw.clouds((0.62, 0.61, 0.6), 4, rng, depth=0.15))
    draw.paste(scene, (0, 222, WIDE, HIGH), draw.clouds((0.3, 0.3, 0.31), 3, rng, depth=0.2))
    for dash in range(int(rng.integers(-40, 0)), WIDE, 62):
        draw.polygon(scene, [(dash, 262), (dash + 34, 262), (dash + 30, 268), (dash - 6, 268)], (0.9, 0.9, 0.88))
    for _ in range(int(rng.integers(1, 4))):
        _car(scene, int(rng.integers(-30, WIDE - 60)), int(rng.integers(205, 235)), rng)
    return scene


_PLACES: dict[str, Callable[[np.random.Generator, np.random.Generator], Picture]] = {
    "bathroom": _bathroom,
    "bedroom": _bedroom,
    "garden": _garden,
    "kitchen": _kitchen,
    "living_room": _living_room,
    "street": _street,
}


# --- things


def _inside(wall: Colour, floor: Picture, horizon: int) -> Picture:
    scene = np.empty((HIGH, WIDE, 3), np.float32)
    scene[:] = wall
    scene[:horizon] *= np.linspace(1.04, 0.9, horizon, dtype=np.float32)[:, None, None]
    corners = np.array([[0, 0], [WIDE, 0], [WIDE, HIGH], [0, HIGH]], np.float32)
    seen = np.array([[0, horizon], [WIDE, horizon], [WIDE * 1.5, HIGH], [-WIDE * 0.5, HIGH]], np.float32)
    warped = cv2.warpPerspective(floor, cv2.getPerspectiveTransform(corners, seen), (WIDE, HIGH))
    scene[horizon:] = warped[horizon:]
    draw.box(scene, (0, horizon - 7, WIDE, horizon), draw.shade(wall, 1.1))
    return scene


def _sky(rng: np.random.Generator) -> Picture:
    scene = np.empty((HIGH, WIDE, 3), np.float32)
    height = np.linspace(0, 1, HIGH, dtype=np.float32)[:, None, None]
    scene[:] = np.array([0.42, 0.62, 0.9], np.float32) * (1 - height) + np.array([0.85, 0.9, 0.95], np.float32) * height
    cloud = np.clip(draw.blotches(HIGH, WIDE, 60, rng) * rng.uniform(0.2, 0.9), 0, 1)[..., None]
    return np.asarray(scene * (1 - cloud) + 0.94 * cloud, np.float32)


def _cupboard(scene: Picture, box: tuple[int, int, int, int], colour: Colour) -> None:
    draw.box(scene, box, colour)
    left, top, right, bottom = box
    cv2.rectangle(scene, (left + 6, top + 6), (right - 6, bottom - 6), draw.shade(colour, 0.82), 1, cv2.LINE_AA)
    draw.line(scene, (right - 12, top + 14), (right - 12, top + 28), (0.3, 0.3, 0.3), 2)
    cv2.rectangle(scene, (left, top), (right, bottom), draw.shade(colour, 0.6), 1)


def _window(scene: Picture, box: tuple[int, int, int, int], rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    draw.box(scene, (left - 5, top - 5, right + 5, bottom + 5), (0.95, 0.95, 0.95))
    draw.paste(scene, box, draw.clouds((0.7, 0.82, 0.95), 20, rng, depth=0.2))
    draw.line(scene, ((left + right) // 2, top), ((left + right) // 2, bottom), (0.95, 0.95, 0.95), 4)
    for side in (left - 16, right + 2):
        draw.box(scene, (side, top - 10, side + 14, bottom + 20), draw.any_hue(rng, 0.4, 0.75))


def _frame(scene: Picture, box: tuple[int, int, int, int], rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    draw.box(scene, (left - 4, top - 4, right + 4, bottom + 4), (0.2, 0.15, 0.1))
    draw.paste(scene, box, draw.clouds(draw.any_hue(rng, 0.5, 0.7), 14, rng, depth=0.5))


def _foliage(scene: Picture, centre: tuple[int, int], size: int, rng: np.random.Generator) -> None:
    for _ in range(26):
        at = (int(centre[0] + rng.normal(0, size * 0.45)), int(centre[1] + rng.normal(0, size * 0.35)))
        draw.disc(
            scene,
            at,
            max(2, int(size * rng.uniform(0.12, 0.3))),
            draw.hsv(rng.uniform(0.24, 0.36), 0.65, rng.uniform(0.2, 0.55)),
        )


def _car(scene: Picture, x: int, y: int, rng: np.random.Generator) -> None:
    body = draw.any_hue(rng, 0.7, 0.6)
    draw.polygon(scene, [(x + 18, y), (x + 30, y - 20), (x + 74, y - 20), (x + 90, y)], draw.shade(body, 0.9))
    draw.polygon(scene, [(x + 24, y - 1), (x + 33, y - 16), (x + 71, y - 16), (x + 82, y - 1)], (0.5, 0.6, 0.68))
    draw.soft_box(scene, (x, y - 2, x + 112, y + 26), body)
    for wheel in (x + 24, x + 88):
        draw.disc(scene, (wheel, y + 25), 11, (0.08, 0.08, 0.08))
        draw.disc(scene, (wheel, y + 25), 5, (0.6, 0.6, 0.6))


def _clutter(scene: Picture, rng: np.random.Generator) -> None:
    """Draw an object that may be anywhere: a box, a ball or a chair."""
    x, y = int(rng.integers(0, WIDE - 60)), int(rng.integers(190, HIGH - 40))
    colour = draw.any_hue(rng, 0.5, 0.6)
    kind = rng.random()
    if kind < 0.35:
        draw.box(scene, (x, y, x + int(rng.integers(25, 60)), y + int(rng.integers(20, 60))), colour)
    elif kind < 0.6:
        draw.disc(scene, (x, y), int(rng.integers(10, 22)), colour)
    else:
        wood = draw.hsv(0.08, 0.5, rng.uniform(0.3, 0.7))
        for leg in (x, x + 40):
            draw.line(scene, (leg, y - 50), (leg, y + 34), wood, 4)
        draw.box(scene, (x - 2, y - 50, x + 42, y - 28), draw.shade(wood, 1.1))
        draw.box(scene, (x - 4, y - 4, x + 46, y + 6), wood)


def _person(scene: Picture, rng: np.random.Generator) -> None:
    """Draw a person in front of the scene."""
    x, top = int(rng.integers(40, WIDE - 40)), int(rng.integers(60, 120))
    skin, cloth = draw.hsv(0.07, rng.uniform(0.3, 0.6), rng.uniform(0.35, 0.9)), draw.any_hue(rng, 0.5, 0.5)
    draw.soft_box(scene, (x - 34, top + 44, x + 34, HIGH + 40), cloth)
    draw.disc(scene, (x, top + 22), 23, skin)
    cv2.ellipse(
        scene, (x, top + 14), (24, 20), 0, 180, 360, draw.hsv(0.07, 0.5, rng.uniform(0.1, 0.4)), -1, cv2.LINE_AA
    )


# --- camera and light


def _camera(scene: Picture, rng: np.random.Generator) -> Picture:
    """Return (240, 320, 3): the part of the scene that the camera sees, from a varying position."""
    zoom = rng.uniform(0.6, 0.95) if rng.random() < 0.65 else rng.uniform(0.24, 0.4)  # some are close-ups
    wide, high = WIDE * zoom, HIGH * zoom
    left, top = rng.uniform(0, WIDE - wide), rng.uniform(0, HIGH - high)
    seen = np.array([[left, top], [left + wide, top], [left + wide, top + high], [left, top + high]], np.float32)
    seen += rng.normal(0, 9, (4, 2)).astype(np.float32)
    frame = np.array([[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]], np.float32)
    turn = cv2.getPerspectiveTransform(seen, frame)
    flags = cv2.INTER_LINEAR
    return np.asarray(
        cv2.warpPerspective(scene, turn, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REFLECT), np.float32
    )


def _light(picture: Picture, session: SessionConditions, rng: np.random.Generator, outside: bool) -> NDArray[np.uint8]:
    """Return (240, 320, 3) uint8 BGR under the session's light: exposure, colour, shadow, blur and sensor noise."""
    exposure = session.exposure * float(np.exp(rng.normal(0, 0.12))) * (1.1 if outside else 1.0)
    warmth = (1 + (session.warmth - 1) * (0.3 if outside else 1.0)) * float(np.exp(rng.normal(0, 0.04)))
    balance = np.array([warmth**0.5, 1.0, warmth**-0.5], np.float32)
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.35)
    x, y = np.meshgrid(np.linspace(-1, 1, WIDTH, dtype=np.float32), np.linspace(-1, 1, HEIGHT, dtype=np.float32))
    slope = 1 + reach * (x * np.cos(angle) + y * np.sin(angle)) - 0.12 * (x**2 + y**2)
    lit = picture * balance * np.float32(exposure) * slope.astype(np.float32)[..., None]
    lit *= 1 + 0.06 * draw.blotches(HEIGHT, WIDTH, 6, rng)[..., None]
    blur = session.blur * rng.uniform(0.5, 1.6)
    if blur > 0.3:
        lit = np.asarray(cv2.GaussianBlur(lit, (0, 0), blur), np.float32)
    lit += rng.normal(0, 0.012 / session.exposure, lit.shape).astype(np.float32)
    return np.asarray(np.clip(lit[..., ::-1], 0, 1) ** 0.9 * 255, np.uint8)
