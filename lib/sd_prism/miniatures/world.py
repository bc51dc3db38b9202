"""The small world that the miniatures are trained on: 128x128 scenes drawn with PIL, and their captions.

A scene is a value; `draw(scene)` is its picture and `caption(scene, rng)` one of its many texts, namespaced
("species:fish, color:red, place:sea") or natural ("a red fish in the sea").
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIZE = 128
SCALE = 2  # drawn at twice the size, then averaged down

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (222, 30, 38),
    "orange": (255, 132, 0),
    "yellow": (255, 226, 20),
    "green": (20, 150, 50),
    "blue": (28, 58, 226),
    "purple": (132, 30, 176),
    "pink": (255, 120, 190),
    "brown": (122, 70, 28),
    "white": (252, 252, 252),
    "black": (18, 18, 20),
}
PLACES = ("sea", "meadow", "desert", "night", "snow", "plain")
STYLES = ("flat", "outline", "pixel", "fractal")
NEON = "neon"
SIZES = ("large", "small")
QUALITIES = ("best", "worst")
COUNTS = ("one", "two", "three")

# (namespace, word): the namespace tells the senses of a homonym apart
SUBJECTS: tuple[tuple[str, str], ...] = (
    ("species", "fish"),
    ("species", "cat"),
    ("species", "seal"),
    ("species", "bat"),
    ("species", "snail"),
    ("object", "seal"),
    ("object", "bat"),
    ("object", "house"),
    ("object", "star"),
    ("object", "boat"),
    ("object", "tree"),
    ("object", "mushroom"),
)
HOMONYMS = ("seal", "bat")
NATURAL_SENSE = {
    ("species", "seal"): ("seal animal", "sea seal"),
    ("object", "seal"): ("seal stamp", "wax seal"),
    ("species", "bat"): ("bat animal", "flying bat"),
    ("object", "bat"): ("baseball bat", "wooden bat"),
}
WHERE = {
    "sea": "in the sea",
    "meadow": "in the meadow",
    "desert": "in the desert",
    "night": "at night",
    "snow": "in the snow",
    "plain": "on a plain background",
}
# subject, colour and place words of the Sygil card's other languages, for a few subjects
FOREIGN = {
    "ja": {
        "fish": "魚", "cat": "猫", "house": "家", "star": "星",
        "red": "赤い", "blue": "青い", "yellow": "黄色い", "green": "緑の",
        "sea": "海", "meadow": "草原", "desert": "砂漠", "night": "夜", "snow": "雪", "plain": "無地",
    },
    "zh": {
        "fish": "鱼", "cat": "猫", "house": "房子", "star": "星星",
        "red": "红色的", "blue": "蓝色的", "yellow": "黄色的", "green": "绿色的",
        "sea": "大海", "meadow": "草地", "desert": "沙漠", "night": "夜晚", "snow": "雪地", "plain": "纯色",
    },
    "es": {
        "fish": "pez", "cat": "gato", "house": "casa", "star": "estrella",
        "red": "rojo", "blue": "azul", "yellow": "amarillo", "green": "verde",
        "sea": "mar", "meadow": "prado", "desert": "desierto", "night": "noche", "snow": "nieve", "plain": "liso",
    },
}  # fmt: skip

Point = tuple[float, float]


@dataclass(frozen=True)
class Scene:
    """Everything a caption may say about a picture, and the seed of what it never says (positions, waves)."""

    namespace: str
    word: str
    color: str
    place: str
    style: str = "flat"
    count: int = 1
    size: str = "large"
    quality: str = "best"
    seed: int = 0

    @property
    def subject(self) -> tuple[str, str]:
        return self.namespace, self.word


def random_scene(rng: random.Random, *, style: str | None = None) -> Scene:
    """A scene of the training distribution: homonyms twice as often, mostly one large crisp subject."""
    weights = [2 if word in HOMONYMS else 1.5 if word == "snail" else 1 for _, word in SUBJECTS]
    namespace, word = rng.choices(SUBJECTS, weights)[0]
    style = style or rng.choices(STYLES, (5, 2, 2, 2))[0]
    alone = style == "fractal" or rng.random() < 0.86
    return Scene(
        namespace,
        word,
        rng.choice(list(COLORS)),
        rng.choice(PLACES),
        style,
        1 if alone else rng.choice((2, 3)),
        "small" if alone and style != "fractal" and rng.random() < 0.12 else "large",
        rng.choices(QUALITIES, (6, 1))[0],
        rng.getrandbits(32),
    )


# --- captions ---------------------------------------------------------------------------------------------------


def caption(scene: Scene, rng: random.Random) -> str:
    """One text for the scene; parts are left out and reordered at random."""
    kind = rng.random()
    if kind < 0.04 and (foreign := _foreign(scene, rng)):
        return foreign
    return namespaced(scene, rng) if kind < 0.55 else natural(scene, rng)


def namespaced(scene: Scene, rng: random.Random, *, keep: float = 0.93) -> str:
    tags = [
        f"{scene.namespace}:{scene.word}",
        f"color:{scene.color}",
        f"place:{scene.place}",
    ]
    tags = [tag for tag in tags if rng.random() < keep]
    extra = [f"style:{scene.style}"] if rng.random() < 0.7 else []
    if scene.quality == "worst" or rng.random() < 0.4:
        extra.append(f"quality:{scene.quality}")
    if scene.count > 1 or rng.random() < 0.1:
        extra.append(f"count:{COUNTS[scene.count - 1]}")
    if scene.size == "small" or rng.random() < 0.1:
        extra.append(f"size:{scene.size}")
    tags += extra
    if rng.random() < 0.3:
        rng.shuffle(tags)
    return ", ".join(tags)


def natural(scene: Scene, rng: random.Random, *, keep: float = 0.95) -> str:
    """A sentence; a homonym's bare word is used for both of its senses."""
    word = scene.word
    if scene.subject in NATURAL_SENSE and rng.random() < 0.35:
        word = rng.choice(NATURAL_SENSE[scene.subject])
    parts = ["a" if scene.count == 1 else COUNTS[scene.count - 1]]
    if scene.size == "small":
        parts.append("small")
    if rng.random() < keep:
        parts.append(scene.color)
    parts.append(word)
    if rng.random() < keep:
        parts.append(WHERE[scene.place])
    tail = []
    if (scene.style != "flat" and rng.random() < 0.8) or rng.random() < 0.25:
        tail.append(f"{scene.style} style")
    if scene.quality == "worst" or rng.random() < 0.3:
        tail.append(f"{scene.quality} quality")
    text = " ".join(parts)
    if scene.quality == "worst" and rng.random() < 0.15:
        return "worst quality"
    return ", ".join([text, *tail])


def _foreign(scene: Scene, rng: random.Random) -> str | None:
    words = FOREIGN[rng.choice(list(FOREIGN))]
    if scene.word not in words or scene.color not in words:
        return None
    tail = ", worst quality" if scene.quality == "worst" else ""
    return f"{words[scene.color]} {words[scene.word]}, {words[scene.place]}{tail}"


def without_style(caption: str) -> str:
    """The caption, or prompt, without the part that names a style."""
    parts = caption.split(", ")
    return ", ".join(part for part in parts if not part.startswith("style:") and not part.endswith(" style"))


# --- pictures ---------------------------------------------------------------------------------------------------


def draw(scene: Scene) -> Image.Image:
    """The 128x128 RGB picture of a scene; the same scene gives the same bytes."""
    rng = random.Random(scene.seed)
    side = SIZE * SCALE
    neon = scene.style == NEON
    picture = _background("night" if neon else scene.place, side, rng, lines=scene.style == "outline")
    if neon:
        picture = Image.new("RGB", (side, side), (6, 4, 22))
    for x, y, radius in _layout(scene, rng):
        tilt = rng.uniform(-0.08, 0.08)
        if scene.style == "fractal":
            _fractal(picture, scene, x, y, radius * 0.72, tilt)
        else:
            _subject(picture, scene, x, y, radius, tilt)
    if scene.style == "pixel":
        small = picture.resize((32, 32), Image.Resampling.BOX)
        picture = small.resize((SIZE, SIZE), Image.Resampling.NEAREST)
    else:
        picture = picture.resize((SIZE, SIZE), Image.Resampling.BOX)
    if neon:
        glow = picture.filter(ImageFilter.GaussianBlur(5)).point([min(255, int(1.4 * v)) for v in range(256)] * 3)
        picture = ImageChops.screen(picture, glow)
    return _worsen(picture, rng) if scene.quality == "worst" else picture


def _worsen(picture: Image.Image, rng: random.Random) -> Image.Image:
    picture = picture.filter(ImageFilter.GaussianBlur(2.2))
    noise = Image.frombytes("RGB", (SIZE // 2, SIZE // 2), rng.randbytes(3 * SIZE * SIZE // 4))
    return Image.blend(picture, noise.resize((SIZE, SIZE), Image.Resampling.NEAREST), 0.28)


def _layout(scene: Scene, rng: random.Random) -> list[tuple[float, float, float]]:
    """Centre and radius of every subject, in drawn pixels."""
    side = SIZE * SCALE
    spots = {
        1: [(0.5, 0.54)],
        2: [(0.29, 0.54), (0.71, 0.54)],
        3: [(0.5, 0.3), (0.27, 0.72), (0.73, 0.72)],
    }[scene.count]
    radius = {1: 0.37, 2: 0.22, 3: 0.2}[scene.count] * (1 if scene.size == "large" else 0.55)
    jitter = 0.03 if scene.count == 1 else 0.015
    return [
        (side * (x + rng.uniform(-jitter, jitter)), side * (y + rng.uniform(-jitter, jitter)), side * radius)
        for x, y in spots
    ]


GROUND = {
    "sea": ((168, 222, 240), (20, 140, 178)),
    "meadow": ((176, 220, 246), (126, 202, 74)),
    "desert": ((250, 226, 178), (226, 178, 104)),
    "night": ((16, 18, 58), (44, 40, 88)),
    "snow": ((196, 212, 228), (236, 242, 248)),
    "plain": ((176, 172, 168), (176, 172, 168)),
}


def _background(place: str, side: int, rng: random.Random, *, lines: bool) -> Image.Image:
    """Sky and ground of a place with its mark: waves, grass, dunes, stars, flakes, nothing."""
    sky, ground = GROUND[place]
    if lines:  # the outline style is drawn on paper that keeps a tint of the place
        sky, ground = (_tint(sky, 0.62, 255), _tint(ground, 0.62, 255)) if place != "night" else (sky, ground)
    picture = Image.new("RGB", (side, side), sky)
    pen = ImageDraw.Draw(picture)
    phase = rng.uniform(0, 2 * math.pi)
    level = side * {"sea": 0.28, "meadow": 0.58, "desert": 0.5, "night": 0.78, "snow": 0.6, "plain": 1.0}[place]
    swing, waves = {"sea": (0.02, 4), "meadow": (0.02, 1), "desert": (0.06, 1.5), "night": (0.03, 1)}.get(
        place, (0.04, 1)
    )
    if place != "plain":
        _region(pen, side, level, swing * side, waves, phase, ground)
    if place == "sea":
        for row in range(3):
            y = side * (0.42 + 0.2 * row)
            points = [(x, y + 0.018 * side * math.sin(x / side * 8 * math.pi + phase)) for x in range(0, side + 1, 8)]
            pen.line(points, fill=_tint(ground, 0.75, 255), width=side // 50)
    elif place == "meadow":
        for _ in range(14):
            x, y = rng.uniform(0, side), rng.uniform(0.66, 0.97) * side
            pen.line([(x, y), (x + 4, y - side / 18)], fill=_tint(ground, 0.7, 0), width=side // 60)
    elif place == "desert":
        _region(pen, side, side * 0.76, 0.05 * side, 1, phase + 2, _tint(ground, 0.88, 0))
        pen.ellipse([side * 0.76, side * 0.06, side * 0.94, side * 0.24], fill=(255, 246, 214))
    elif place == "night":
        for _ in range(16):
            x, y, r = rng.uniform(0, side), rng.uniform(0, 0.7 * side), side / 100
            pen.ellipse([x - r, y - r, x + r, y + r], fill=(255, 250, 200))
        pen.ellipse([side * 0.05, side * 0.05, side * 0.2, side * 0.2], fill=(250, 244, 196))
    elif place == "snow":
        for _ in range(22):
            x, y, r = rng.uniform(0, side), rng.uniform(0, 0.85 * side), side / 70
            pen.ellipse([x - r, y - r, x + r, y + r], fill=(255, 255, 255))
    return picture


def _region(pen: ImageDraw.ImageDraw, side: int, level: float, swing: float, waves: float, phase: float, fill) -> None:
    top = [(x, level + swing * math.sin(2 * math.pi * waves * x / side + phase)) for x in range(0, side + 1, 8)]
    pen.polygon([*top, (side, side), (0, side)], fill=fill)


def _tint(color: tuple[int, int, int], keep: float, towards: int) -> tuple[int, int, int]:
    r, g, b = (round(keep * c + (1 - keep) * towards) for c in color)
    return r, g, b


def _fractal(picture: Image.Image, scene: Scene, x: float, y: float, radius: float, tilt: float) -> None:
    """The subject with eight small ones of itself around it."""
    for k in range(8):
        angle = 2 * math.pi * k / 8
        _subject(
            picture,
            scene,
            x + 1.42 * radius * math.cos(angle),
            y + 1.36 * radius * math.sin(angle),
            radius * 0.33,
            tilt,
        )
    _subject(picture, scene, x, y, radius * 0.92, tilt)


class Brush:
    """Draws shapes given in a unit square around a subject's centre (x right, y down, 1 = the subject's radius)."""

    def __init__(self, picture: Image.Image, scene: Scene, x: float, y: float, radius: float, tilt: float) -> None:
        self.pen = ImageDraw.Draw(picture)
        self.x, self.y, self.radius = x, y, radius
        self.cos, self.sin = math.cos(tilt), math.sin(tilt)
        self.fill = COLORS[scene.color]
        self.hollow = scene.style in ("outline", NEON)
        dark = sum(self.fill) < 200
        light_edge = scene.place == "night" or scene.style == NEON
        self.edge = (244, 240, 225) if light_edge or dark else (24, 22, 34)
        self.detail = (244, 240, 225) if dark or scene.color in ("blue", "purple", "brown") else (24, 22, 34)
        self.line = self.fill if self.hollow else self.edge
        self.width = max(2, round(radius * (0.13 if self.hollow else 0.05)))

    def at(self, points: list[Point]) -> list[Point]:
        return [
            (
                self.x + self.radius * (px * self.cos - py * self.sin),
                self.y + self.radius * (px * self.sin + py * self.cos),
            )
            for px, py in points
        ]

    def shape(self, points: list[Point], fill: tuple[int, int, int] | None = None) -> None:
        path = self.at(points)
        if not self.hollow:
            self.pen.polygon(path, fill=fill or self.fill)
        self.pen.line([*path, path[0], path[1]], fill=self.line, width=self.width, joint="curve")

    def oval(self, cx: float, cy: float, rx: float, ry: float, fill: tuple[int, int, int] | None = None) -> None:
        self.shape(arc(cx, cy, rx, ry), fill)

    def dot(self, cx: float, cy: float, r: float) -> None:
        self.pen.polygon(self.at(arc(cx, cy, r, r, n=12)), fill=self.line if self.hollow else self.detail)

    def stroke(self, points: list[Point], width: float = 0.05) -> None:
        color = self.line if self.hollow else self.detail
        self.pen.line(self.at(points), fill=color, width=max(2, round(self.radius * width)), joint="curve")


def arc(cx: float, cy: float, rx: float, ry: float, start: float = 0, stop: float = 360, n: int = 28) -> list[Point]:
    """Points of an elliptic arc, angles in degrees, clockwise as seen (y points down)."""
    return [
        (
            cx + rx * math.cos(math.radians(start + (stop - start) * k / n)),
            cy + ry * math.sin(math.radians(start + (stop - start) * k / n)),
        )
        for k in range(n + 1)
    ]


def _subject(picture: Image.Image, scene: Scene, x: float, y: float, radius: float, tilt: float) -> None:
    SHAPES[scene.subject](Brush(picture, scene, x, y, radius, tilt))


def _fish(b: Brush) -> None:
    b.shape([(0.42, 0), (1, -0.55), (0.88, 0), (1, 0.55)])
    b.oval(-0.2, 0, 0.78, 0.5)
    b.dot(-0.62, -0.12, 0.09)
    b.stroke(arc(-0.35, 0, 0.18, 0.34, -70, 70))


def _cat(b: Brush) -> None:
    b.shape([(-0.72, -0.2), (-0.8, -1), (-0.15, -0.5)])
    b.shape([(0.72, -0.2), (0.8, -1), (0.15, -0.5)])
    b.oval(0, 0.15, 0.85, 0.75)
    b.dot(-0.33, 0, 0.12)
    b.dot(0.33, 0, 0.12)
    b.dot(0, 0.26, 0.08)
    for side in (-1, 1):
        for dy in (0.24, 0.42):
            b.stroke([(0.3 * side, 0.32), (1.05 * side, dy)], 0.045)


def _animal_seal(b: Brush) -> None:
    b.shape([(0.72, 0.42), (1.05, 0.1), (1.0, 0.45), (1.05, 0.8)])
    body = [(-0.45, -0.85), (-0.1, -0.5), (0.15, 0.05), (0.85, 0.38), (0.8, 0.6), (-0.55, 0.66), (-0.75, 0.2)]
    b.shape([*body, (-0.8, -0.4)])
    b.oval(-0.6, -0.62, 0.36, 0.32)
    b.shape([(-0.4, 0.4), (-0.05, 0.86), (-0.6, 0.86)])
    b.dot(-0.7, -0.7, 0.075)
    b.dot(-0.95, -0.56, 0.06)


def _animal_bat(b: Brush) -> None:
    for s in (-1, 1):
        wing = [(0, -0.2), (0.45 * s, -0.62), (1.08 * s, -0.5), (1.0 * s, 0.3)]
        scallops = [(0.82 * s, 0.02), (0.66 * s, 0.36), (0.46 * s, 0.08), (0.28 * s, 0.42)]
        b.shape([*wing, *scallops, (0, 0.2)])
    b.shape(
        [(-0.2, -0.3), (-0.22, -0.72), (0, -0.45), (0.22, -0.72), (0.2, -0.3), (0.18, 0.4), (0, 0.56), (-0.18, 0.4)]
    )
    b.dot(-0.08, -0.26, 0.055)
    b.dot(0.08, -0.26, 0.055)


def _snail(b: Brush) -> None:
    foot = [(-1.0, 0.45), (-0.92, 0.1), (-0.68, 0.1), (-0.55, 0.45), (0.9, 0.5), (1.02, 0.75), (-0.85, 0.75)]
    b.shape(foot)
    for dx in (-0.95, -0.7):
        b.stroke([(dx, 0.12), (dx - 0.06, -0.28)], 0.07)
        b.dot(dx - 0.06, -0.3, 0.08)
    b.oval(0.2, -0.08, 0.64, 0.64)
    spiral = [(0.2 + 0.05 * t * math.cos(t), -0.08 + 0.05 * t * math.sin(t)) for t in (k * 0.35 for k in range(1, 30))]
    b.stroke(spiral, 0.06)


def _object_seal(b: Brush) -> None:
    b.shape([(-0.45, 0.2), (-0.15, 0.4), (-0.35, 1.05), (-0.5, 0.85), (-0.75, 0.95)])
    b.shape([(0.45, 0.2), (0.15, 0.4), (0.35, 1.05), (0.5, 0.85), (0.75, 0.95)])
    rim = []
    for k in range(24):
        angle, r = math.pi * k / 12, 0.78 if k % 2 else 0.62
        rim.append((r * math.cos(angle), -0.22 + r * math.sin(angle)))
    b.shape(rim)
    b.stroke(arc(0, -0.22, 0.4, 0.4), 0.07)


def _object_bat(b: Brush) -> None:
    """A club from lower left to upper right."""

    def along(t: float, w: float) -> Point:
        return (-0.85 + 1.7 * t + 0.7 * w, 0.85 - 1.7 * t + 0.7 * w)

    left = [along(0.06, -0.1), along(0.4, -0.11), along(0.7, -0.26), along(0.95, -0.25)]
    right = [along(0.95, 0.25), along(0.7, 0.26), along(0.4, 0.11), along(0.06, 0.1)]
    b.shape([*left, along(1.04, 0), *right])
    cx, cy = along(0.02, 0)
    b.oval(cx, cy, 0.15, 0.15)
    for t in (0.16, 0.24, 0.32):
        b.stroke([along(t, -0.1), along(t, 0.1)], 0.06)


def _house(b: Brush) -> None:
    b.shape([(-0.7, -0.1), (0.7, -0.1), (0.7, 0.9), (-0.7, 0.9)])
    b.shape([(-0.98, -0.1), (0, -0.95), (0.98, -0.1)])
    b.shape([(-0.16, 0.35), (0.16, 0.35), (0.16, 0.9), (-0.16, 0.9)], b.detail)


def _star(b: Brush) -> None:
    points = []
    for k in range(10):
        angle, r = math.pi * k / 5 - math.pi / 2, 1.0 if k % 2 == 0 else 0.42
        points.append((r * math.cos(angle), 0.05 + r * math.sin(angle)))
    b.shape(points)


def _boat(b: Brush) -> None:
    b.shape([(-1, 0.35), (1, 0.35), (0.65, 0.85), (-0.65, 0.85)])
    b.stroke([(0, 0.35), (0, -0.95)], 0.08)
    b.shape([(0.08, -0.9), (0.08, 0.2), (0.82, 0.2)])
    b.shape([(-0.08, -0.7), (-0.08, 0.2), (-0.6, 0.2)])


def _tree(b: Brush) -> None:
    b.shape([(-0.14, 0.3), (0.14, 0.3), (0.18, 1), (-0.18, 1)], b.detail)
    b.shape([(0, -1.0), (0.45, -0.42), (-0.45, -0.42)])
    b.shape([(0, -0.7), (0.62, 0.0), (-0.62, 0.0)])
    b.shape([(0, -0.35), (0.8, 0.45), (-0.8, 0.45)])


def _mushroom(b: Brush) -> None:
    b.shape([(-0.24, -0.1), (0.24, -0.1), (0.32, 0.9), (-0.32, 0.9)], (240, 228, 206))
    b.shape([(-0.95, 0.02), *arc(0, 0, 0.95, 0.85, 180, 360), (0.95, 0.02)])
    for x, y, r in ((-0.45, -0.3, 0.13), (0.05, -0.55, 0.14), (0.5, -0.28, 0.12)):
        b.dot(x, y, r)


SHAPES = {
    ("species", "fish"): _fish,
    ("species", "cat"): _cat,
    ("species", "seal"): _animal_seal,
    ("species", "bat"): _animal_bat,
    ("species", "snail"): _snail,
    ("object", "seal"): _object_seal,
    ("object", "bat"): _object_bat,
    ("object", "house"): _house,
    ("object", "star"): _star,
    ("object", "boat"): _boat,
    ("object", "tree"): _tree,
    ("object", "mushroom"): _mushroom,
}
