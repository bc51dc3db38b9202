"""For every test: how long an example takes says nothing about whether it is right."""

from hypothesis import HealthCheck, settings

LONG = 20_000  # examples of each property in a long run


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help=f"try {LONG:,} examples of each property")


def pytest_configure(config):
    settings.register_profile("prism", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("long", settings.get_profile("prism"), max_examples=LONG)
    settings.load_profile("long" if config.getoption("--long") else "prism")
