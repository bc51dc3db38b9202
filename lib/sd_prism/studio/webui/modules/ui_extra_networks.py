"""Pages of cards that put something into the prompt when they are clicked: networks, embeddings, checkpoints."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

extra_pages: list[ExtraNetworksPage] = []


def register_page(page: ExtraNetworksPage) -> None:
    """Add a page; extensions do so in `on_before_ui`."""
    extra_pages.append(page)


def initialize() -> None:
    """Forget all pages."""
    extra_pages.clear()


def register_default_pages() -> None:
    """Add the host's own pages."""
    register_page(ExtraNetworksPageTextualInversion())
    register_page(ExtraNetworksPageCheckpoints())


def quote_js(s: str) -> str:
    """`s` as a string of JavaScript."""
    return json.dumps(s, ensure_ascii=False)


class ExtraNetworksPage:
    """One page of cards. Override `list_items` and, where files can come and go, `refresh`."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.name = title.lower()
        self.extra_networks_tabname = self.name.replace(" ", "_")
        self.allow_prompt = True
        self.allow_negative_prompt = False

    def refresh(self) -> None:
        """Look for files anew."""

    def list_items(self) -> Iterable[dict[str, Any]]:
        """The cards: "name", "filename", "search_terms", "description" and what a click does.

        That is "prompt", an expression of JavaScript whose value goes into the prompt, or "onclick", a statement.
        """
        raise NotImplementedError

    def allowed_directories_for_previews(self) -> list[str]:
        """The folders that the page's files lie in."""
        return []

    def search_terms_from_path(self, filename: str, possible_directories: list[str] | None = None) -> str:
        """The file's path from the page's folder on."""
        for folder in possible_directories or self.allowed_directories_for_previews():
            if Path(folder).resolve() in Path(filename).resolve().parents:
                return os.path.relpath(filename, os.path.dirname(os.path.abspath(folder)))
        return ""

    def find_description(self, path: str) -> str | None:
        """The text beside a file: its path without ending, and .txt or .description.txt."""
        for file in (Path(f"{path}.txt"), Path(f"{path}.description.txt")):
            if file.is_file():
                return file.read_text(encoding="utf-8", errors="replace")
        return None

    def find_preview(self, path: str) -> str | None:
        """None: the studio's cards have no pictures."""
        return None

    def get_sort_keys(self, path: str) -> dict[str, Any]:
        """What cards of files can be sorted by."""
        file = Path(path)
        times = file.stat()
        return {
            "date_created": int(times.st_ctime),
            "date_modified": int(times.st_mtime),
            "name": file.name.lower(),
            "path": str(file).lower(),
        }


class ExtraNetworksPageTextualInversion(ExtraNetworksPage):
    """The embeddings that fit the loaded model; a click adds the name to the prompt."""

    def __init__(self) -> None:
        super().__init__("Textual Inversion")
        self.allow_negative_prompt = True

    def refresh(self) -> None:
        """Read the folder anew."""
        _embeddings().load_textual_inversion_embeddings(force_reload=True)

    def list_items(self) -> Iterable[dict[str, Any]]:
        """A card for each embedding."""
        for name, embedding in list(_embeddings().word_embeddings.items()):
            yield {
                "name": name,
                "filename": embedding.filename,
                "shorthash": embedding.shorthash,
                "description": self.find_description(os.path.splitext(embedding.filename)[0]),
                "search_terms": [self.search_terms_from_path(embedding.filename), embedding.hash],
                "prompt": quote_js(name),
            }

    def allowed_directories_for_previews(self) -> list[str]:
        """The embeddings folder."""
        return list(_embeddings().embedding_dirs)


class ExtraNetworksPageCheckpoints(ExtraNetworksPage):
    """The checkpoints; a click loads one."""

    def __init__(self) -> None:
        super().__init__("Checkpoints")
        self.allow_prompt = False

    def refresh(self) -> None:
        """Look for checkpoints anew."""
        from modules import sd_models

        sd_models.list_models()

    def list_items(self) -> Iterable[dict[str, Any]]:
        """A card for each checkpoint."""
        from modules import sd_models

        for info in list(sd_models.checkpoints_list.values()):
            yield {
                "name": info.name_for_extra,
                "filename": info.filename,
                "shorthash": info.shorthash,
                "description": self.find_description(os.path.splitext(info.filename)[0]),
                "search_terms": [term for term in (self.search_terms_from_path(info.filename), info.sha256) if term],
                "onclick": f"return selectCheckpoint({quote_js(info.name)})",
            }

    def allowed_directories_for_previews(self) -> list[str]:
        """The checkpoints' folders."""
        from modules import sd_models

        return [str(folder) for folder in sd_models.model_folders()]


def _embeddings() -> Any:
    from modules import sd_hijack

    return sd_hijack.model_hijack.embedding_db
