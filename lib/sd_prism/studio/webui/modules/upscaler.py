"""Upscalers of pictures: those that need no model."""

from __future__ import annotations

from typing import Any

from PIL import Image

LANCZOS, NEAREST = Image.Resampling.LANCZOS, Image.Resampling.NEAREST
PASSES = 3


class Upscaler:
    """Makes pictures larger; derive from this and write `do_upscale`."""

    name = ""
    model_name: str | None = None  # of a file that does the work
    scalers: list[UpscalerData]

    def __init__(self, create_dirs: bool = False) -> None:
        self.scale: float = 1
        self.scalers = [UpscalerData(self.name, None, self)]

    def do_upscale(self, img: Image.Image, selected_model: str | None = None) -> Image.Image:
        """One pass, by whatever factor the upscaler has; the same picture if it has none."""
        return img

    def upscale(self, img: Image.Image, scale: float, selected_model: str | None = None) -> Image.Image:
        """`img` times `scale`, both sides cut to multiples of 8; up to three passes, then Lanczos for the rest."""
        from modules import shared

        self.scale = scale
        size = int((img.width * scale) // 8 * 8), int((img.height * scale) // 8 * 8)
        for i in range(PASSES):
            large_enough = img.width >= size[0] and img.height >= size[1] and (i > 0 or scale != 1)
            if large_enough or shared.state.interrupted:
                break
            before = img.size
            img = self.do_upscale(img, selected_model)
            if img.size == before:
                break
        return img if img.size == size else img.resize(size, resample=LANCZOS)


class UpscalerData:
    """One entry of the upscaler menus."""

    def __init__(
        self, name: str, path: str | None, upscaler: Upscaler | None = None, scale: int = 4, model: Any = None
    ) -> None:
        self.name, self.scaler, self.scale, self.model = name, upscaler, scale, model
        self.data_path = self.local_data_path = path


class UpscalerNone(Upscaler):
    """Leaves the picture to the final Lanczos."""

    name = "None"


class _Filter(Upscaler):
    filter: Image.Resampling

    def do_upscale(self, img: Image.Image, selected_model: str | None = None) -> Image.Image:
        return img.resize((int(img.width * self.scale), int(img.height * self.scale)), resample=self.filter)


class UpscalerLanczos(_Filter):
    """Pillow's Lanczos."""

    name, filter = "Lanczos", LANCZOS


class UpscalerNearest(_Filter):
    """Pillow's nearest neighbour."""

    name, filter = "Nearest", NEAREST


def builtin() -> list[UpscalerData]:
    """The studio's own upscalers in the menu's order."""
    return [data for kind in (UpscalerNone, UpscalerLanczos, UpscalerNearest) for data in kind().scalers]
