"""The order of hooks in a hires pass and in an inpaint job."""

from __future__ import annotations

from jobs import job, painted, run
from PIL import Image

HALF = Image.new("L", (64, 64))
HALF.paste(255, (32, 0, 64, 64))


def test_hooks_of_both_passes(open_host, recorder):
    open_host(recorder.folder)
    from modules import scripts, shared

    assert shared.sd_model
    recorder.log.write_text("")
    p = job(
        "txt2img",
        scripts.scripts_txt2img,
        steps=1,
        prompt="a <net:one>",
        hr_prompt="b <net:two>",
        enable_hr=True,
        hr_upscaler="Lanczos",
    )
    run(p)
    call = ["cfg_denoiser", "cfg_denoised", "cfg_after_cfg"]
    lines = recorder.lines()
    assert [line.split()[0] for line in lines] == [
        *("setup", "before_process", "process", "before_process_batch"),
        *("activate", "after_extra_networks_activate", "process_batch"),
        *("process_before_every_sampling", *call),
        *("activate", "after_extra_networks_activate", "before_hr", "process_before_every_sampling", *call),
        *("post_sample", "postprocess_batch", "postprocess_batch_list"),
        *("postprocess_image", "postprocess_maskoverlay", "postprocess_image_after_composite"),
        *("deactivate", "postprocess"),
    ]
    assert [line for line in lines if line.startswith("activate")] == ["activate [['one']]", "activate [['two']]"]
    assert "before_hr True True" in lines and "post_sample 1" in lines
    assert "process_before_every_sampling ['c', 'noise', 'uc', 'x'] False" in lines


def test_hooks_of_an_inpaint_job(open_host, recorder):
    open_host(recorder.folder)
    from modules import scripts, shared

    def words(sampler):
        shared.opts.img2img_extra_noise = 0.1
        recorder.log.write_text("")
        fields = {
            "init_images": [painted()],
            "mask": HALF,
            "steps": 4,
            "denoising_strength": 0.5,
            "mask_blur": 0,
            "inpaint_full_res": False,
        }
        run(job("img2img", scripts.scripts_img2img, sampler_name=sampler, **fields))
        lines = recorder.lines()
        sampled = lines[lines.index("process_before_every_sampling ['c', 'noise', 'uc', 'x'] False") + 1 :]
        return [line for line in sampled if not line.startswith(("post_sample", "cfg_denoiser", "postprocess_b"))]

    step, final = "on_mask_blend False False", "on_mask_blend True True"
    picture = ["postprocess_image (64, 64)", "postprocess_maskoverlay True True", "postprocess_image_after_composite"]
    end = [final, *picture, "postprocess 1"]
    assert shared.sd_model
    assert words("Euler") == ["extra_noise", *["cfg_denoised", step, "cfg_after_cfg"] * 3, *end]
    assert words("DDIM") == ["extra_noise", step, "cfg_denoised", "cfg_after_cfg", *end]
