"""Prism Block Merge. The work is done in lib/sd_prism; this file is what the webui finds."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from modules import scripts


def _bind_package() -> None:
    """Binds lib/sd_prism as `sd_prism` by its path: hosts restore sys.path, and other extensions have a `lib` too."""
    folder = Path(__file__).resolve().parent.parent / "lib" / "sd_prism"
    package = sys.modules.get("sd_prism")
    if package is None:
        spec = spec_from_file_location("sd_prism", folder / "__init__.py", submodule_search_locations=[str(folder)])
        package = sys.modules["sd_prism"] = module_from_spec(spec)
        try:
            spec.loader.exec_module(package)
        except BaseException:
            del sys.modules["sd_prism"]
            raise
    if Path(package.__file__).resolve().parent != folder:
        raise ImportError(f"two copies of Prism are installed: {package.__file__} and {folder}; remove one of them")


_bind_package()
from sd_prism.hosts import merge  # noqa: E402

merge.register()


class PrismMerge(scripts.Script):
    def title(self):
        return merge.MERGE.title

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return merge.ui(self)

    def before_process(self, p, *args):
        merge.before_process(p)

    def process(self, p, *args):
        merge.process(p, args)

    def after_extra_networks_activate(self, p, *args, extra_network_data, **kwargs):
        merge.networks_told(p, extra_network_data)

    def process_batch(self, p, *args, **kwargs):
        merge.before_encoding(p)

    def process_before_every_sampling(self, p, *args, **kwargs):
        merge.before_sampling(p)
