"""Scenes: small generated pictures whose every part can be left out again.

A scene is a record: a background, a body, a mark on the body, and distractors. Body and mark decide the class
*together*: five bodies times two marks make ten classes, so neither is enough alone. Because the record can be
rendered without one part, a scene has what a photograph lacks: a part map and the true effect of each part.

The background theme is drawn at random; in the shortcut variant it gives the class away (``agrees``) or names
another class (``lies``).
"""

import colorsys
import hashlib
import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SIZE = 96
BODIES = ("disc", "square", "triangle", "star", "crescent")
MARKS = ("ring", "cross")
CLASSES = tuple(f"{body}-{mark}" for body in BODIES for mark in MARKS)
SPLITS = ("train", "validation", "test")
THEMES = 10  # of the background
VERSION = 1  # part of every data hash: raise it when a pixel changes

Shortcut = Literal["none", "agrees", "lies"]
Colour = tuple[float, float, float]
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Shape:
    """One drawn thing. Position and radius in pixels, angle in radians, colours in [0, 1]."""

    kind: str
    x: float
    y: float
    radius: float
    angle: float
    colour: Colour
    second: Colour  # the texture's other colour; the same colour means plain
    texture: str = "plain"
    period: float = 8.0


@dataclass(frozen=True, slots=True)
class Scene:
    """The record that ``render`` draws. ``theme`` is the background's, 0 to 9."""

    label: int
    theme: int
    noise: int  # seed of the background's noise
    body: Shape
    mark: Shape
    distractors: tuple[Shape, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts in drawing order; number i + 1 in the part map. The first two decide the class."""
        return ("body", "mark", *(f"distractor-{i + 1}" for i in range(len(self.distractors))))


def scene(index: int, split: str = "test", seed: int = 0, shortcut: Shortcut = "none") -> Scene:
    """The scene number ``index`` of a split: a pure function of its arguments.

    The shortcut variants share body, mark and distractors with the plain scene of the same number.
    """
    rng = np.random.default_rng(_hash(f"scenes/{VERSION}/{seed}/{split}/{index}"))
    label = index % len(CLASSES)
    theme, shift = int(rng.integers(THEMES)), int(rng.integers(1, THEMES))
    if shortcut != "none":
        theme = label if shortcut == "agrees" else (label + shift) % THEMES
    bright = 1 if rng.random() < 0.5 else -1
    value = 0.52 + bright * rng.uniform(0.13, 0.24)
    hue = rng.random()
    body = Shape(
        kind=BODIES[label // len(MARKS)],
        x=rng.uniform(36, 60),
        y=rng.uniform(36, 60),
        radius=rng.uniform(24, 31),
        angle=rng.uniform(-math.pi, math.pi),
        colour=_hsv(hue, rng.uniform(0.1, 0.6), value),
        second=_hsv(hue + rng.uniform(-0.1, 0.1), rng.uniform(0.1, 0.6), value - bright * rng.uniform(0.03, 0.09)),
        texture=str(rng.choice(["stripes", "checks", "dots"])),
        period=rng.uniform(6, 10),
    )
    mark_colour = _hsv(rng.random(), rng.uniform(0.2, 0.7), value - bright * rng.uniform(0.26, 0.38))
    mark = Shape(
        kind=MARKS[label % len(MARKS)],
        x=body.x + rng.uniform(-2, 2),
        y=body.y + rng.uniform(-2, 2),
        radius=rng.uniform(8, 10.5),
        angle=rng.uniform(-math.pi, math.pi),
        colour=mark_colour,
        second=mark_colour,
    )
    distractors = tuple(_distractor(rng, body) for _ in range(int(rng.integers(1, 4))))
    return Scene(label, theme, int(rng.integers(2**31)), body, mark, distractors)


def render(scene: Scene, without: str | None = None) -> NDArray[np.uint8]:
    """The picture, (96, 96, 3) uint8; ``without`` names a part to leave out, or ``"background"``.

    Leaving the background out draws a plain grey one. All else stays as it was, noise included.
    """
    if without not in (None, "background", *scene.parts):
        raise ValueError(f"unknown part {without!r}; this scene has background, {', '.join(scene.parts)}")
    canvas = np.full((SIZE, SIZE, 3), 0.52, np.float32) if without == "background" else _background(scene)
    for name, shape in _layers(scene):
        if name != without:
            alpha = _coverage(shape)[..., None]
            canvas += alpha * (_paint(shape) - canvas)
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)


def other_themes(scene: Scene) -> list[Scene]:
    """The same scene before each of the nine other backgrounds, noise included: all but the shortcut stays."""
    return [replace(scene, theme=theme) for theme in range(THEMES) if theme != scene.theme]


def part_map(scene: Scene) -> NDArray[np.uint8]:
    """Which part shows at each pixel, (96, 96): 0 background, i + 1 for ``scene.parts[i]``."""
    parts = np.zeros((SIZE, SIZE), np.uint8)
    for name, shape in _layers(scene):
        parts[_coverage(shape) > 0.5] = scene.parts.index(name) + 1
    return parts


def _layers(scene: Scene) -> list[tuple[str, Shape]]:
    """Parts from back to front: distractors lie behind the object, so nothing hides what decides."""
    names = scene.parts
    return [*zip(names[2:], scene.distractors, strict=True), ("body", scene.body), ("mark", scene.mark)]


def _distractor(rng: np.random.Generator, body: Shape) -> Shape:
    for _ in range(40):
        x, y, radius = rng.uniform(6, 90), rng.uniform(6, 90), rng.uniform(4, 8)
        if math.hypot(x - body.x, y - body.y) > body.radius + 0.7 * radius:
            break
    colour = _hsv(rng.random(), rng.uniform(0.1, 0.7), rng.uniform(0.2, 0.85))
    return Shape(str(rng.choice(["disc", "square"])), x, y, radius, rng.uniform(-math.pi, math.pi), colour, colour)


def _background(scene: Scene) -> Array:
    """Themed low-contrast value noise: two octaves of smooth blobs and a fine grain."""
    rng = np.random.default_rng(scene.noise)
    base = np.array(_hsv(scene.theme / THEMES, 0.28, 0.56), np.float32)
    canvas = np.broadcast_to(base, (SIZE, SIZE, 3)).copy()
    for cells, strength in ((4, 0.08), (12, 0.06)):
        grid = rng.uniform(-strength, strength, (cells + 1, cells + 1, 3)).astype(np.float32)
        canvas += _upsample(grid)
    canvas += rng.uniform(-0.02, 0.02, (SIZE, SIZE, 1)).astype(np.float32)
    return canvas


def _upsample(grid: Array) -> Array:
    """Bilinear enlargement of (n + 1, n + 1, 3) to the picture's size."""
    n = grid.shape[0] - 1
    at = (np.arange(SIZE, dtype=np.float32) + 0.5) * n / SIZE
    low = at.astype(np.int64)
    part = at - low
    rows = grid[low] * (1 - part)[:, None, None] + grid[low + 1] * part[:, None, None]
    columns: Array = rows[:, low] * (1 - part)[None, :, None] + rows[:, low + 1] * part[None, :, None]
    return columns


@cache
def _pixels() -> tuple[Array, Array]:
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5
    return x, y


def _local(shape: Shape) -> tuple[Array, Array]:
    """Pixel coordinates in the shape's own frame, in pixels."""
    x, y = _pixels()
    x, y = x - np.float32(shape.x), y - np.float32(shape.y)
    cos, sin = np.float32(math.cos(shape.angle)), np.float32(math.sin(shape.angle))
    return cos * x + sin * y, cos * y - sin * x


def _coverage(shape: Shape) -> Array:
    """Share of each pixel that the shape covers, (H, W), from its signed distance."""
    x, y = _local(shape)
    share: Array = np.clip(0.5 - _DISTANCES[shape.kind](x, y, np.float32(shape.radius)), 0, 1)
    return share


def _paint(shape: Shape) -> Array:
    if shape.texture == "plain":
        return np.array(shape.colour, np.float32)
    x, y = (v * np.float32(2 / shape.period) for v in _local(shape))
    if shape.texture == "stripes":
        mix = np.floor(x) % 2
    elif shape.texture == "checks":
        mix = (np.floor(x) + np.floor(y)) % 2
    else:
        mix = np.clip(1.5 * (0.9 - np.hypot(x % 2 - 1, y % 2 - 1)), 0, 1)
    first, second = np.array(shape.colour, np.float32), np.array(shape.second, np.float32)
    paint: Array = (first + mix[..., None] * (second - first)).astype(np.float32)
    return paint


def _polygon(x: Array, y: Array, corners: list[tuple[float, float]]) -> Array:
    """Signed distance to a convex polygon's edges, corners counter-clockwise in the image's frame."""
    distance = np.full_like(x, -1e9)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        length = math.hypot(bx - ax, by - ay)
        nx, ny = np.float32((by - ay) / length), np.float32((ax - bx) / length)
        distance = np.maximum(distance, nx * (x - np.float32(ax)) + ny * (y - np.float32(ay)))
    return distance


def _regular(n: int, radius: float, turn: float = 0.0) -> list[tuple[float, float]]:
    angles = [turn + 2 * math.pi * i / n for i in range(n)]
    return [(radius * math.cos(a), radius * math.sin(a)) for a in angles]


def _star(x: Array, y: Array, r: np.float32) -> Array:
    """Five-pointed: the union of five kites."""
    distance = np.full_like(x, 1e9)
    inner, step = 0.45 * float(r), math.pi / 5
    for i in range(5):
        a = 2 * step * i
        tip = (1.12 * float(r) * math.cos(a), 1.12 * float(r) * math.sin(a))
        left = (inner * math.cos(a + step), inner * math.sin(a + step))
        right = (inner * math.cos(a - step), inner * math.sin(a - step))
        distance = np.minimum(distance, _polygon(x, y, [right, tip, left, (0.0, 0.0)]))
    return distance


def _crescent(x: Array, y: Array, r: np.float32) -> Array:
    """A disc with a bite beside the mark."""
    distance: Array = np.maximum(np.hypot(x, y) - r, r * np.float32(0.62) - np.hypot(x - r * np.float32(0.95), y))
    return distance


def _cross(x: Array, y: Array, r: np.float32) -> Array:
    x, y = np.abs(x), np.abs(y)
    thick = r * np.float32(0.26)
    distance: Array = np.minimum(np.maximum(x - r, y - thick), np.maximum(y - r, x - thick))
    return distance


_DISTANCES = {
    "disc": lambda x, y, r: np.hypot(x, y) - r * np.float32(0.92),
    "square": lambda x, y, r: np.maximum(np.abs(x), np.abs(y)) - r * np.float32(0.8),
    "triangle": lambda x, y, r: _polygon(x, y, _regular(3, 1.25 * float(r))),
    "star": _star,
    "crescent": _crescent,
    "ring": lambda x, y, r: np.abs(np.hypot(x, y) - r * np.float32(0.76)) - r * np.float32(0.24),
    "cross": _cross,
}


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    return colorsys.hsv_to_rgb(hue % 1, saturation, min(max(value, 0.0), 1.0))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
