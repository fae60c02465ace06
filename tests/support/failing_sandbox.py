"""Decoders that fail as `tests.support.failing_decoder` says."""

from typing import Any

from tests.support.failing_decoder import WORK
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.sandbox.sandbox_pool import SandboxPool
from visual_memory.services.decoding.sandbox.sandbox_protocol import Header


class FailingSandbox(SandboxPool):
    """Gives up pictures that hang after a second, in a process of their own, and others after a minute.

    Args:
        limits: the largest picture that is accepted.
    """

    def __init__(self, limits: PictureLimits) -> None:
        super().__init__(limits, 60, 1, WORK)
        self._hasty = SandboxPool(limits, 1, 1, WORK)

    def run(self, tenant: str, request: Header, picture: bytes, max_bytes: int) -> tuple[dict[str, Any], bytearray]:
        """As of the class above."""
        if picture.endswith(b"hang"):
            return self._hasty.run(tenant, request, picture, max_bytes)
        return super().run(tenant, request, picture, max_bytes)

    def close(self) -> None:
        """Close both."""
        self._hasty.close()
        super().close()
