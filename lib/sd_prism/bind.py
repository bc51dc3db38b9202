"""Run by every script: binds this folder as the package `sd_prism` by its path.

Hosts restore sys.path after a script has loaded, and other extensions have a `lib` too.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

folder = Path(__file__).resolve().parent
package = sys.modules.get("sd_prism")
if package is None:
    spec = spec_from_file_location("sd_prism", folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None and spec.loader is not None
    package = sys.modules["sd_prism"] = module_from_spec(spec)
    try:
        spec.loader.exec_module(package)
    except BaseException:
        del sys.modules["sd_prism"]
        raise
if Path(str(package.__file__)).resolve().parent != folder:
    raise ImportError(f"two copies of Prism are installed: {package.__file__} and {folder}; remove one of them")
