"""Model cards in a webui: the panel that offers one, and jobs that follow one."""
