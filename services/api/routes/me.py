"""Say who the caller is, what it may do, and what is switched on."""

from fastapi import APIRouter

from visual_memory import __version__
from visual_memory.schemas.session import Features, Limits, Me
from visual_memory.services.api.authenticate import CallerDep, ServiceDep
from visual_memory.services.api.authorize import ANY_SCOPE, AuthorizedRoute, requires_scope
from visual_memory.services.settings import Settings

router = APIRouter(prefix="/v1", tags=["session"], route_class=AuthorizedRoute)


@router.get("/me", operation_id="get_me")
@requires_scope(ANY_SCOPE)
def get_me(caller: CallerDep, service: ServiceDep) -> Me:
    """Return the tenant, the scopes and the limits of the key, and what is switched on."""
    key, settings = caller.key, service.settings
    return Me(
        tenant=key.tenant,
        key=key.id,
        name=key.name,
        scopes=key.scopes,
        session_expires_at=caller.token.expires_at if caller.token else None,
        encoder=service.classify.encoder.name,
        version=__version__,
        limits=Limits(
            requests_per_minute=key.requests_per_minute,
            bytes_per_minute=key.bytes_per_minute,
            body_bytes=settings.api.max_body_bytes,
            images=settings.api.max_images,
            picture_bytes=settings.pictures.max_bytes,
            picture_pixels=settings.pictures.max_pixels,
        ),
        features=_features(settings, key.tenant),
    )


def _features(settings: Settings, tenant: str) -> Features:
    return Features(
        label_check=settings.curate.label_check,
        prune=settings.curate.prune,
        judgements=bool(settings.curate.judge_seconds),
        rerank=settings.rerank.url is not None and tenant in settings.rerank.tenants,
        picture_urls=bool(settings.pictures.url_hosts),
        filter_fields={name: kind.value for name, kind in settings.metadata.items()},
        retention=bool(settings.retention),
    )
