"""The host's HTTP models."""
