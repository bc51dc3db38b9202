"""Translations of the page: JSON files {text: translation} of the data folder and of extensions."""

from __future__ import annotations

import json
import os
from pathlib import Path

from modules import errors, scripts

localizations: dict[str, list[str]] = {}


def list_localizations(dirname: str) -> None:
    """Find the files `<dirname>/*.json` and `<extension>/localizations/*.json`; several may share one name."""
    localizations.clear()
    own = sorted(Path(dirname).glob("*.json")) if os.path.isdir(dirname) else []
    files = [str(path) for path in own] + [file.path for file in scripts.list_scripts("localizations", ".json")]
    for file in files:
        localizations.setdefault(Path(file).stem, []).append(file)


def localization_js(current_localization_name: str) -> str:
    """The page's `window.localization`; a file that cannot be read is reported and left out."""
    data: dict[str, str] = {}
    for file in localizations.get(current_localization_name, []):
        try:
            data.update(json.loads(Path(file).read_text(encoding="utf8")))
        except (OSError, ValueError, TypeError):
            errors.report(f"Error loading localization from {file}", exc_info=True)
    # "<" may not end the script that this stands in.
    return f"window.localization = {json.dumps(data)}".replace("<", "\\u003c")
