"""The webui's door at start-up: says what Prism lacks, installs nothing."""

from importlib.metadata import PackageNotFoundError, version

NEEDED = {"torch": (2, 1), "safetensors": (0, 4), "numpy": (1, 26)}


def lacking():
    """One phrase for each package that is missing or too old."""
    for name, least in NEEDED.items():
        want = ".".join(map(str, least))
        try:
            have = version(name)
        except PackageNotFoundError:
            yield f"{name} {want} or newer (not installed)"
            continue
        numbers = tuple(int(part) for part in have.split("+")[0].split(".")[:2] if part.isdigit())
        if numbers < least:
            yield f"{name} {want} or newer (found {have})"


missing = list(lacking())
if missing:
    print(f"Prism needs {', '.join(missing)}. It changes nothing by itself; update the webui's own packages.")
