"""How script files become modules."""

from __future__ import annotations

import importlib.util
import os
from types import ModuleType

loaded_scripts: dict[str, ModuleType] = {}


def load_module(path: str) -> ModuleType:
    """Run the file; the module is named by the file ("freeu.py") and is not put into `sys.modules`.

    Raises:
        ImportError: the file is none of Python's, or it tried to end the process.
        Exception: whatever the file raises.
    """
    spec = importlib.util.spec_from_file_location(os.path.basename(path), path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:  # sys.exit(), or a test runner's way to skip
        raise ImportError(f"{path} tried to end the studio: {type(error).__name__}: {error}") from error
    loaded_scripts[path] = module
    return module
