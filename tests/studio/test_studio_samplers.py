"""Samplers as the host lists them, and the settings that they take."""

from __future__ import annotations

import pytest
from sd_prism.studio import host

JOB = {"prompt": "a red apple", "steps": 3, "seed": 42}


def run(**fields):
    """(pixels, infotext) of a job."""
    processed = host.run(host.request_of({**JOB, **fields})).processed
    return processed.images[0].tobytes(), processed.infotexts[0]


def test_the_list_says_what_the_host_says(served):
    listed = served.client.get("/sdapi/v1/samplers").json()
    options = {x["name"]: x["options"] for x in listed}
    assert next(iter(options)) == "DPM++ 2M" and "DDPM" not in options
    assert options["Euler"] == options["DDIM"] == options["LCM"] == {}
    assert options["DPM++ 2M"] == {"scheduler": "karras"} and options["Euler a"] == {"uses_ensd": "True"}
    assert options["DPM++ 2M SDE Heun"] == {
        "scheduler": "exponential",
        "brownian_noise": "True",
        "solver_type": "heun",
    }
    assert options["DPM2 a"] == {
        "scheduler": "karras",
        "discard_next_to_last_sigma": "True",
        "uses_ensd": "True",
        "second_order": "True",
    }


@pytest.mark.parametrize("name", ["Euler", "Heun", "DPM2"])
def test_churn_of_a_request_is_used_and_not_told(served, name):
    pixels, infotext = run(sampler_name=name, s_churn=5, s_noise=1.1, s_tmax=3)
    assert "Sigma" not in infotext and pixels != run(sampler_name=name)[0]


def test_churn_of_the_settings_wins_and_is_told(served):
    settings = {"s_churn": 3, "s_tmax": 5}
    pixels, infotext = run(sampler_name="Euler", s_churn=5, override_settings=settings)
    assert "Sigma churn: 3" in infotext and "Sigma tmax: 5" in infotext
    assert pixels == run(sampler_name="Euler", override_settings=settings)[0]


def test_euler_a_takes_no_sigma_noise_and_dpmpp_2s_a_does(served):
    assert run(sampler_name="Euler a", s_noise=1.3)[0] == run(sampler_name="Euler a")[0]
    assert run(sampler_name="DPM++ 2S a", s_noise=1.3)[0] != run(sampler_name="DPM++ 2S a")[0]


def test_the_two_solvers_of_dpmpp_2m_sde_differ(served):
    assert run(sampler_name="DPM++ 2M SDE")[0] != run(sampler_name="DPM++ 2M SDE Heun")[0]


def test_the_seed_delta_is_told_only_where_it_counts(served):
    settings = {"eta_noise_seed_delta": 7}
    assert "ENSD: 7" in run(sampler_name="Euler a", override_settings=settings)[1]
    assert "ENSD" not in run(sampler_name="Euler a", eta=0, override_settings=settings)[1]
    assert "ENSD" not in run(sampler_name="DPM++ SDE", override_settings=settings)[1]
