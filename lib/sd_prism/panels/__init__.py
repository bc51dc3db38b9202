"""Gradio builders: panels drawn from their declarations. The only room, with the studio, that imports gradio."""
