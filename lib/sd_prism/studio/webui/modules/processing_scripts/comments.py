"""`# ...` in a prompt is a comment up to the end of its line."""

from __future__ import annotations

import re
from typing import Any

from modules import script_callbacks, scripts, shared


def strip_comments(text: str) -> str:
    """The text with a line break in the place of each comment; a line that is all comment goes with both its ends."""
    text = re.sub(r"(^|\n)#[^\n]*(\n|$)", "\n", text)
    return re.sub(r"#[^\n]*(\n|$)", "\n", text)


class ScriptStripComments(scripts.Script):
    """Takes comments out of every prompt of a job, and so out of its infotext."""

    def title(self) -> str:
        """The name in the API."""
        return "Comments"

    def show(self, is_img2img: bool) -> Any:
        """Always on, with nothing to show."""
        return scripts.AlwaysVisible

    def process(self, p: Any, *args: Any) -> None:
        """All prompts exist, and no tag was read yet."""
        if not shared.opts.enable_prompt_comments:
            return
        kinds = ("prompt", "negative_prompt")
        for kind in kinds:
            setattr(p, f"all_{kind}s", [strip_comments(text) for text in getattr(p, f"all_{kind}s")])
            setattr(p, f"main_{kind}", strip_comments(getattr(p, f"main_{kind}")))
        for kind in kinds if getattr(p, "enable_hr", False) else ():
            setattr(p, f"all_hr_{kind}s", [strip_comments(text) for text in getattr(p, f"all_hr_{kind}s")])
            setattr(p, f"hr_{kind}", strip_comments(getattr(p, f"hr_{kind}")))


def before_token_counter(params: script_callbacks.BeforeTokenCounterParams) -> None:
    """Comments are no tokens."""
    if shared.opts.enable_prompt_comments:
        params.prompt = strip_comments(params.prompt)


script_callbacks.on_before_token_counter(before_token_counter)

shared.options_templates.update(
    shared.options_section(
        ("sd", "Stable Diffusion", "sd"),
        {
            "enable_prompt_comments": shared.OptionInfo(True, "Enable comments").info(
                "text between # and the end of its line in a prompt is not used"
            )
        },
    )
)
