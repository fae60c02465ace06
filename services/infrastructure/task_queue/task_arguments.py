"""What messages say, once it is checked: anybody who can write to Redis may have sent them."""

from collections.abc import Sequence

from pydantic import TypeAdapter, ValidationError

from visual_memory.schemas.api_key import Tenant
from visual_memory.schemas.errors import InvalidRequest

_TENANT: TypeAdapter[str] = TypeAdapter(Tenant)


def tenant_of(message: Sequence[object]) -> str:
    """The tenant of a message of `TaskQueue.enqueue`.

    Raises:
        InvalidRequest: no tenant has such a name.
    """
    try:
        [tenant] = message
        return _TENANT.validate_python(tenant, strict=True)
    except (ValueError, ValidationError):
        raise InvalidRequest("a message that names no tenant") from None
