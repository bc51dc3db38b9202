"""The part of the webui's own package that extensions rely on, as the studio provides it."""
