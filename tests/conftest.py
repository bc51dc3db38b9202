"""For every test: how long an example takes says nothing about whether it is right; one browser for all."""

import pytest
from browser import launch
from hypothesis import HealthCheck, settings

LONG = 20_000  # examples of each property in a long run


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help=f"try {LONG:,} examples of each property")


def pytest_configure(config):
    settings.register_profile("prism", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("long", settings.get_profile("prism"), max_examples=LONG)
    settings.load_profile("long" if config.getoption("--long") else "prism")


@pytest.fixture(scope="session")
def browser():
    """Chromium; Playwright can be started once in a process."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()
