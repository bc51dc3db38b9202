"""Serves the studio with the tiny model, for tests that need a real process: serve.py PORT DATA EXTENSION."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))
    spec = spec_from_file_location("studio_conftest", Path(__file__).with_name("conftest.py"))
    conftest = module_from_spec(spec)
    spec.loader.exec_module(conftest)

    import pytest
    from sd_prism.studio import server

    port, data, extension = sys.argv[1:4]
    with pytest.MonkeyPatch.context() as patch:
        conftest.make_data(Path(data), patch)
        server.start(port=int(port), data_dir=data, extensions=[extension], open_browser=False, builtin=False)
