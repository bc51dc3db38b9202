"""Adapters: the only rooms that know a webui's `modules`. The studio honours the same contract and is one of them."""
