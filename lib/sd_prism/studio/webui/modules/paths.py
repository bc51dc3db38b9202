"""Where things lie. `configure` must run before scripts are loaded, because they copy these names."""

from __future__ import annotations

from pathlib import Path

script_path = str(Path(__file__).resolve().parents[1])
modules_path = str(Path(__file__).resolve().parent)
data_path = script_path
models_path = str(Path(data_path) / "models")
extensions_dir = str(Path(data_path) / "extensions")
paths: dict[str, str] = {}


def configure(data_folder: str | Path) -> None:
    """Point every folder that the user owns at `data_folder`; folders are made when first written to."""
    global data_path, models_path, extensions_dir
    data_path = str(Path(data_folder))
    models_path = str(Path(data_path) / "models")
    extensions_dir = str(Path(data_path) / "extensions")
