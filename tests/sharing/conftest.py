"""An API server, and a clock that a test moves."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.kube_api import KubeApi, kube_api
from tests.sharing.simulated import Clock


@pytest_asyncio.fixture
async def api() -> AsyncIterator[KubeApi]:
    async with kube_api() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()
