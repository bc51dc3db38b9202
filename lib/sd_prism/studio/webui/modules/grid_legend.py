"""The texts above and beside a grid of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageColor, ImageDraw, ImageFont

from modules import shared

STRIKE = 4  # pixels of the line through a text that is not active


class GridAnnotation:
    """A text of the legend; one that is not active is drawn pale and struck through."""

    def __init__(self, text: Any = "", is_active: bool = True) -> None:
        self.text, self.is_active = str(text), is_active


@dataclass(frozen=True)
class _Line:
    """One drawn line and its size in pixels."""

    text: str
    is_active: bool
    width: float
    height: float


def get_font(fontsize: int) -> Any:
    """The font of the settings in this size, or the one that Pillow brings along."""
    try:
        return ImageFont.truetype(shared.opts.font, fontsize) if shared.opts.font else ImageFont.load_default(fontsize)
    except OSError:
        return ImageFont.load_default(fontsize)


class _Legend:
    def __init__(self, fontsize: int) -> None:
        self.fontsize, self.spacing, self.font = fontsize, fontsize // 2, get_font(fontsize)
        self.paper = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    def lines(self, texts: list[GridAnnotation], width: int) -> list[_Line]:
        """The texts, wrapped at `width` pixels."""
        return [self._line(row, text.is_active) for text in texts for row in self._wrapped(text.text, width)]

    def _line(self, text: str, is_active: bool) -> _Line:
        left, top, right, bottom = self.paper.textbbox((0, 0), text, font=self.font)
        return _Line(text, is_active, right - left, bottom - top)

    def _wrapped(self, text: str, width: int) -> list[str]:
        rows = [""]
        for word in text.split():
            longer = f"{rows[-1]} {word}".strip()
            if self.paper.textlength(longer, font=self.font) <= width:
                rows[-1] = longer
            else:
                rows.append(word)
        return rows

    def height(self, lines: list[_Line]) -> float:
        return sum(line.height + self.spacing for line in lines) - self.spacing

    def draw(self, image: Image.Image, lines: list[_Line], x: float, y: float, width: int) -> None:
        """The lines around `x`, from `y` down; a line that is wider than `width` gets a smaller font."""
        drawing = ImageDraw.Draw(image)
        for line in lines:
            colour = _colour("grid_text_active_color" if line.is_active else "grid_text_inactive_color")
            middle = y + line.height / 2
            drawing.text((x, middle), line.text, font=self._fitting(line.text, width), fill=colour, anchor="mm")
            if not line.is_active:
                ends = [(x - line.width // 2, middle), (x + line.width // 2, middle)]
                drawing.line(ends, fill=colour, width=STRIKE)
            y += line.height + self.spacing

    def _fitting(self, text: str, width: int) -> Any:
        font = self.font
        for size in range(self.fontsize - 1, 0, -1):
            if self.paper.textlength(text, font=font) <= width:
                break
            font = get_font(size)
        return font


def _colour(setting: str) -> tuple[int, ...]:
    return ImageColor.getcolor(getattr(shared.opts, setting), "RGB")  # type: ignore[return-value]


def draw_grid_annotations(
    im: Image.Image,
    width: int,
    height: int,
    hor_texts: list[list[GridAnnotation]],
    ver_texts: list[list[GridAnnotation]],
    margin: int = 0,
) -> Image.Image:
    """A grid of cells of `width` x `height` with texts above its columns and left of its rows.

    Args:
        hor_texts: the texts of each column; `ver_texts`: those of each row.
        margin: pixels between the cells.

    Raises:
        ValueError: there is not one list of texts for each column and row.
    """
    cols, rows = im.width // width, im.height // height
    for name, texts, number in (("columns", hor_texts, cols), ("rows", ver_texts, rows)):
        if len(texts) != number:
            raise ValueError(f"the grid has {number} {name}, but there are texts for {len(texts)}")
    legend = _Legend(max(1, (width + height) // 25))
    pad_left = width * 3 // 4 if any(text.text for texts in ver_texts for text in texts) else 0
    above = [legend.lines(texts, width) for texts in hor_texts]
    beside = [legend.lines(texts, pad_left) for texts in ver_texts]
    highest = max(legend.height(lines) for lines in above)
    pad_top = int(highest) + legend.spacing * 2 if highest else 0

    size = (im.width + pad_left + margin * (cols - 1), im.height + pad_top + margin * (rows - 1))
    result = Image.new("RGB", size, _colour("grid_background_color"))
    lefts = [pad_left + (width + margin) * col for col in range(cols)]
    tops = [pad_top + (height + margin) * row for row in range(rows)]
    for row, top in enumerate(tops):
        for col, left in enumerate(lefts):
            result.paste(im.crop((width * col, height * row, width * (col + 1), height * (row + 1))), (left, top))
    for left, lines in zip(lefts, above):
        legend.draw(result, lines, left + width / 2, (pad_top - legend.height(lines)) / 2, width)
    for top, lines in zip(tops, beside):
        legend.draw(result, lines, pad_left / 2, top + (height - legend.height(lines)) / 2, pad_left)
    return result
