"""What the panel is in every webui: its paste fields, menus and arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...settings import Field, Value
from ..webui import PanelHost
from . import decoders


class CascadePanel(PanelHost):
    """The decoder is written into the infotext by its file, and random noise by its seed."""

    cost = 0.3  # an axis of the decoder's file changes less often than one of seeds

    def paste_fields(self, components: Sequence[Any]) -> list[tuple[Any, Callable[[dict[str, Any]], Any]]]:
        """A picture without our key says nothing of a decoder, so the panel stays as it is."""

        def reader(name: str) -> Callable[[dict[str, Any]], Value | None]:
            return lambda params: self.pasted(params)[name] if self.panel.title in params else None

        return [(component, reader(name)) for name, component in zip(self.panel.names, components)]

    def arguments(self, p: Any, args: Sequence[object]) -> Sequence[object]:
        """A list of pictures is a text with blanks between them."""
        if not args or not isinstance(args[0], Mapping) or not isinstance(args[0].get("images"), list):
            return args
        return [{**args[0], "images": " ".join(map(str, args[0]["images"]))}]

    def choices(self, one: Field) -> Callable[[], list[str]] | None:
        return decoders.names if one.name == "decoder" else super().choices(one)
