"""What the tests of faults share."""

from __future__ import annotations

import pytest


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether the case is marked `long`: only then is it asserted how long something took.

    The others run on machines that do a lot beside.
    """
    return request.node.get_closest_marker("long") is not None
