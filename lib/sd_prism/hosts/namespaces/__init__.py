"""Namespaces in a webui: prompts rendered and bound as the host parses them, and what the text box asks for."""
