"""Prompt styles: named texts in styles.csv that a job adds to its prompts."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sd_prism.files import write_whole

from modules import errors

PLACEHOLDER = "{prompt}"
DIVIDER = "do_not_save"  # the path of a menu entry that only names the file of the styles below it


class PromptStyle(NamedTuple):
    """One style; `path` is the file that it is kept in."""

    name: str
    prompt: str | None
    negative_prompt: str | None
    path: str | None = None


def merge_prompts(style_prompt: str, prompt: str) -> str:
    """The prompt in place of the style's {prompt}, or else followed by the style."""
    if PLACEHOLDER in style_prompt:
        return style_prompt.replace(PLACEHOLDER, prompt)
    return ", ".join(filter(None, (prompt.strip(), style_prompt.strip())))


def apply_styles_to_prompt(prompt: str, styles: Iterable[str | None]) -> str:
    """The prompt with the texts of several styles, in order."""
    for style in styles:
        prompt = merge_prompts(style or "", prompt)
    return prompt


def extract_style_text_from_prompt(style_text: str, prompt: str) -> tuple[bool, str]:
    """Whether the style's text is in the prompt, and the prompt without it."""
    text, style = prompt.strip(), style_text.strip()
    if PLACEHOLDER in style:
        left, _, right = style.partition(PLACEHOLDER)
        if text.startswith(left) and text.endswith(right):
            return True, text[len(left) : len(text) - len(right)]
    elif text.endswith(style):
        return True, text.removesuffix(style).removesuffix(", ")
    return False, prompt


def extract_original_prompts(style: PromptStyle, prompt: str, negative_prompt: str) -> tuple[bool, str, str]:
    """Whether both texts of the style are in the prompts, and the prompts without them."""
    if not style.prompt and not style.negative_prompt:
        return False, prompt, negative_prompt
    in_prompt, before = extract_style_text_from_prompt(style.prompt or "", prompt)
    in_negative, negative_before = extract_style_text_from_prompt(style.negative_prompt or "", negative_prompt)
    if in_prompt and in_negative:
        return True, before, negative_before
    return False, prompt, negative_prompt


class StyleDatabase:
    """The styles of one or more CSV files; a path may have a pattern with * or ? in its last part."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.no_style = PromptStyle("None", "", "", None)
        self.styles: dict[str, PromptStyle] = {}
        self.paths = [Path(path) for path in paths]
        self.all_styles_files: list[Path] = []
        first = self.paths[0]
        self.default_path = first
        if _is_pattern(first):
            self.default_path = next(first.parent.glob(first.name), first.parent / "styles.csv")
            self.paths.insert(0, self.default_path)
        self.prompt_fields = [field for field in PromptStyle._fields if field != "path"]
        self.reload()

    def reload(self) -> None:
        """Read the files anew; with several files each begins with an entry that names it."""
        self.styles.clear()
        found = [file for path in self.paths for file in (path.parent.glob(path.name) if _is_pattern(path) else [path])]
        self.all_styles_files = list(dict.fromkeys(found))
        for file in self.all_styles_files:
            if len(found) > 1:
                title = f" {file.stem.upper()} ".center(40, "-")
                self.styles[title] = PromptStyle(title, None, None, DIVIDER)
            if file.is_file():
                self.load_from_csv(file)

    def load_from_csv(self, path: str | Path) -> None:
        """Add the styles of one file; one that cannot be read is reported and kept under another name."""
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                for row in csv.DictReader(file, skipinitialspace=True):
                    name = row["name"]
                    if name and not name.startswith("#"):
                        prompt = row["prompt"] if "prompt" in row else row["text"]  # "text" in old files
                        self.styles[name] = PromptStyle(name, prompt, row.get("negative_prompt", ""), str(path))
        except KeyError as error:
            errors.report_damaged(path, ValueError(f"it has no column {error}"))
        except (OSError, UnicodeError, csv.Error) as error:
            errors.report_damaged(path, error)

    def get_style_paths(self) -> set[str]:
        """The files that `save_styles` writes; styles without one get the default file."""
        for name, style in self.styles.items():
            if not style.path:
                self.styles[name] = style._replace(path=str(self.default_path))
        return {str(self.default_path), *(str(style.path) for style in self.styles.values())} - {DIVIDER}

    def get_style_prompts(self, styles: Iterable[str]) -> list[str | None]:
        """The prompts of these styles, "" for unknown ones."""
        return [self.styles.get(name, self.no_style).prompt for name in styles]

    def get_negative_style_prompts(self, styles: Iterable[str]) -> list[str | None]:
        """The negative prompts of these styles, "" for unknown ones."""
        return [self.styles.get(name, self.no_style).negative_prompt for name in styles]

    def apply_styles_to_prompt(self, prompt: str, styles: Iterable[str]) -> str:
        """The prompt with these styles."""
        return apply_styles_to_prompt(prompt, self.get_style_prompts(styles))

    def apply_negative_styles_to_prompt(self, prompt: str, styles: Iterable[str]) -> str:
        """The negative prompt with these styles."""
        return apply_styles_to_prompt(prompt, self.get_negative_style_prompts(styles))

    def save_styles(self, path: str | None = None) -> None:
        """Write every file, the old one being kept as .bak; `path` is not used, as in the host."""
        for style_path in self.get_style_paths():
            rows = io.StringIO(newline="")
            writer = csv.writer(rows)
            writer.writerow(self.prompt_fields)
            writer.writerows(style[:3] for style in self.styles.values() if style.path == style_path)
            if os.path.exists(style_path):
                shutil.copy(style_path, f"{style_path}.bak")
            write_whole(style_path, rows.getvalue(), encoding="utf-8-sig")

    def extract_styles_from_prompt(self, prompt: str, negative_prompt: str) -> tuple[list[str], str, str]:
        """The names of the styles that both prompts contain, and the prompts without them."""
        extracted: list[str] = []
        waiting = list(self.styles.values())
        while True:
            for style in waiting:
                found, prompt, negative_prompt = extract_original_prompts(style, prompt, negative_prompt)
                if found:
                    waiting.remove(style)
                    extracted.insert(0, style.name)
                    break
            else:
                return extracted, prompt, negative_prompt


def _is_pattern(path: Path) -> bool:
    return "*" in path.name or "?" in path.name
