"""For all tests: what waits for a stage begins first; properties have no deadline."""

import os

import pytest
from hypothesis import settings

settings.register_profile("patient", deadline=None)  # a busy machine takes its time
settings.load_profile("patient")

os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"  # any image id will do, and a thousand take time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on a stage mostly wait: the others fill the gaps, and make up for uneven ends."""
    items.sort(key=lambda item: item.get_closest_marker("stage") is None)
