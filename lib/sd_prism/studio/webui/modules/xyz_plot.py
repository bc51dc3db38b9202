"""One X/Y/Z plot: its axes, its cells in the order that costs least, and the grids made of them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from math import prod
from typing import Any

from PIL import Image

from modules import errors, images, processing, shared
from modules.grid_legend import GridAnnotation, draw_grid_annotations
from modules.processing import Processed
from modules.shared import opts, state

TITLE = "X/Y/Z plot"
SEEDS = ("Seed", "Var. seed")


class Axis:
    """One axis of a plot: its letter, its option, its values and the text they came from."""

    def __init__(self, letter: str, option: Any, values: list[Any], text: str) -> None:
        self.letter, self.option, self.values, self.text = letter, option, values, text

    def labels(self, p: Any) -> list[list[GridAnnotation]]:
        """The legend's texts."""
        return [[GridAnnotation(self.option.format_value(p, self.option, x))] for x in self.values]

    def infotext(self, fixed_seeds: bool) -> dict[str, str]:
        """What the grid's infotext says of this axis."""
        if self.option.label == "Nothing":
            return {}
        said = {f"{self.letter} Type": self.option.label, f"{self.letter} Values": self.text}
        if fixed_seeds and self.option.label in SEEDS:
            said[f"Fixed {self.letter} Values"] = ", ".join(map(str, self.values))
        return said


class Plot:
    """The cells of one plot, drawn one after another."""

    def __init__(self, p: Any, axes: list[Axis], *, vary: Sequence[bool], fixed_seeds: bool) -> None:
        self.p, self.axes, self.vary, self.fixed_seeds = p, axes, vary, fixed_seeds
        self.lengths = [len(axis.values) for axis in axes]
        self.count = prod(self.lengths)
        self.cells: list[Processed | None] = [None] * self.count
        self.grid_infotexts: dict[int | None, str] = {}
        self.comments: list[str] = []
        self.error: Exception | None = None

    def index(self, ix: int, iy: int, iz: int) -> int:
        """The place of a cell in reading order, layer by layer."""
        return ix + iy * self.lengths[0] + iz * self.lengths[0] * self.lengths[1]

    def places(self) -> list[tuple[int, int, int]]:
        """(ix, iy, iz) of all cells in drawing order: the costliest axis changes least often, then z, y, x."""
        slow, middle, fast = sorted((2, 1, 0), key=lambda axis: -self.axes[axis].option.cost)
        found = []
        for a in range(self.lengths[slow]):
            for b in range(self.lengths[middle]):
                for c in range(self.lengths[fast]):
                    place = dict(zip((slow, middle, fast), (a, b, c)))
                    found.append((place[0], place[1], place[2]))
        return found

    def steps(self) -> int:
        """Sampling steps of the whole plot, the second pass included."""

        def total(label: str, otherwise: int) -> int:
            axis = next((axis for axis in self.axes if axis.option.label == label), None)
            return sum(axis.values) * self.count // len(axis.values) if axis else otherwise

        steps = total("Steps", self.p.steps * self.count)
        if getattr(self.p, "enable_hr", False):
            steps += total("Hires steps", self.p.hr_second_pass_steps * self.count or steps)
        return steps * self.p.n_iter

    def draw(self) -> None:
        """Draw every cell; one that fails stays empty and the others are drawn."""
        state.job_count = self.count * self.p.n_iter
        shared.total_tqdm.updateTotal(self.steps())
        for place in self.places():
            if state.interrupted or state.stopping_generation:
                break
            state.job = f"{self.index(*place) + 1} out of {self.count}"
            try:
                self._draw_cell(*place)
            except Exception as error:
                errors.display(error, "generating image for xyz plot")
                self.error = self.error or error
                self.comments.append(f"X/Y/Z plot: cell {self.index(*place) + 1} of {self.count} failed: {error}")

    def _draw_cell(self, ix: int, iy: int, iz: int) -> None:
        place = (ix, iy, iz)
        cell = copy(self.p)
        cell.styles = cell.styles[:]
        for axis, index in zip(self.axes, place):
            axis.option.apply(cell, axis.values[index], axis.values)
        weight = 1
        for index, length, varied in zip(place, self.lengths, self.vary):
            if varied:
                cell.seed += index * weight
                weight *= length
        processed = processing.process_images(cell)
        if processed.images:
            self.cells[self.index(*place)] = processed
            self._say(cell, iz)

    def _say(self, cell: Any, iz: int) -> None:
        """The infotexts of the grids come from their first picture."""
        x, y, z = self.axes
        layer = {"Script": TITLE, **x.infotext(self.fixed_seeds), **y.infotext(self.fixed_seeds)}
        for key, said in ((iz, layer), (None, {**layer, **z.infotext(self.fixed_seeds)})):
            if key not in self.grid_infotexts:
                told = copy(cell)
                told.extra_generation_params = {**cell.extra_generation_params, **said}
                self.grid_infotexts[key] = processing.create_infotext(
                    told, told.all_prompts, told.all_seeds, told.all_subseeds
                )

    def pictures(self) -> list[Image.Image]:
        """One picture per cell; an empty one where there is none."""
        first = next(cell for cell in self.cells if cell).images[0]
        return [cell.images[0] if cell else Image.new(first.mode, first.size) for cell in self.cells]

    def layers(self, pictures: list[Image.Image], legend: bool, margin: int) -> list[Image.Image]:
        """The grid of x and y for each value of z."""
        x, y, _z = self.axes
        size = self.lengths[0] * self.lengths[1]
        found = []
        for start in range(0, self.count, size):
            cells = pictures[start : start + size]
            grid = images.image_grid(cells, rows=self.lengths[1])
            if legend:
                width, height = (max(sizes) for sizes in zip(*(cell.size for cell in cells)))
                grid = draw_grid_annotations(grid, width, height, x.labels(self.p), y.labels(self.p), margin)
            found.append(grid)
        return found

    def whole(self, layers: list[Image.Image], legend: bool) -> Image.Image:
        """All layers side by side."""
        grid = images.image_grid(layers, rows=1)
        if not legend:
            return grid
        width, height = (max(sizes) for sizes in zip(*(layer.size for layer in layers)))
        return draw_grid_annotations(grid, width, height, self.axes[2].labels(self.p), [[GridAnnotation()]])

    def result(self, *, legend: bool, margin: int, sub_images: bool, sub_grids: bool) -> Processed:
        """The whole grid, then the layers and the cells if they are wanted.

        As in the host, prompts and seeds are those of layers and cells only: the grid itself has none.

        Raises:
            Exception: the first cell's, when no cell could be drawn.
        """
        drawn = [cell for cell in self.cells if cell]
        if not drawn:
            if self.error:
                raise self.error
            return Processed(self.p, [], self.p.seed, "")
        pictures = self.pictures()
        layers = self.layers(pictures, legend, margin)
        grids = [self.whole(layers, legend), *layers]
        texts = [self.grid_infotexts[None], *(self.grid_infotexts.get(iz, "") for iz in range(self.lengths[2]))]
        empty = Processed(self.p, [], self.p.seed, "")
        cells = [cell or empty for cell in self.cells]
        firsts = [cells[self.index(0, 0, iz)] for iz in range(self.lengths[2])] if sub_grids else []
        if opts.grid_save:
            self._save(grids if sub_grids and len(layers) > 1 else grids[:1], texts, cells[0])
        kept = len(grids) if sub_grids else 1
        result = copy(drawn[0])
        result.images = [*_with_text(grids[:kept], texts), *(pictures if sub_images else [])]
        result.infotexts = [*texts[:kept], *(cell.infotexts[0] if cell.images else "" for cell in cells if sub_images)]
        result.all_prompts = [cell.prompt for cell in [*firsts, *cells]]
        result.all_seeds = [cell.seed for cell in [*firsts, *cells]]
        result.index_of_first_image = 1
        result.comments = "\n".join([text for text in (result.comments, *self.comments) if text])
        return result

    def _save(self, grids: list[Image.Image], texts: list[str], first: Processed) -> None:
        for grid, text in zip(grids, texts):
            images.save_image(
                grid,
                str(self.p.outpath_grids),
                "xyz_grid",
                info=text,
                extension=opts.grid_format,
                prompt=first.prompt,
                seed=first.seed,
                grid=True,
                p=self.p,
            )


def _with_text(pictures: list[Image.Image], texts: list[str]) -> list[Image.Image]:
    for picture, text in zip(pictures, texts):
        if opts.enable_pnginfo:
            picture.info["parameters"] = text
    return pictures
