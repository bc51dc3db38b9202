"""`python prism.py bench`: each module has `run() -> dict` and `table(rows) -> str`, and prints nothing itself."""
