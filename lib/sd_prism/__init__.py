"""Prism: makes a webui follow a model's card. Importing this package costs nothing; its rooms load when used."""

__version__ = "0.1.0"
