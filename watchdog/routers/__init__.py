"""What moves ordinary traffic of one model between its two engines.

A kind of router is one file, with its settings class, and one row in `open_router`. A router
reports what it was told, and what the server says of itself; whether traffic really moved is
proven by probing, elsewhere.
"""

from collections.abc import Mapping
from typing import Annotated, assert_never

from pydantic import Field

from watchdog.model.engine import Address, Role
from watchdog.ports import Router
from watchdog.routers.dry_run import DryRunRouter, DryRunSettings
from watchdog.routers.envoy import EnvoyRouter, EnvoySettings
from watchdog.routers.gateway_api import GatewayApiRouter, GatewayApiSettings
from watchdog.routers.haproxy import HaproxyRouter, HaproxySettings
from watchdog.routers.kserve import KServeRouter, KServeSettings
from watchdog.routers.pull import PullRouter, PullSettings
from watchdog.routers.triton import TritonRouter, TritonRouterSettings
from watchdog.routers.webhook import WebhookRouter, WebhookRouterSettings

RouterSettings = Annotated[
    TritonRouterSettings
    | EnvoySettings
    | HaproxySettings
    | GatewayApiSettings
    | KServeSettings
    | WebhookRouterSettings
    | PullSettings
    | DryRunSettings,
    Field(discriminator="kind"),
]


def open_router(settings: RouterSettings, engines: Mapping[Role, Address]) -> Router:
    """The router that `settings` describe, between these engines. It contacts nobody before it is asked something.

    Raises:
        ValueError: this kind of router can't choose between these engines.
    """
    match settings:
        case TritonRouterSettings():
            return TritonRouter(settings, engines)
        case EnvoySettings():
            return EnvoyRouter(settings)
        case HaproxySettings():
            return HaproxyRouter(settings)
        case GatewayApiSettings():
            return GatewayApiRouter(settings)
        case KServeSettings():
            return KServeRouter(settings)
        case WebhookRouterSettings():
            return WebhookRouter(settings, engines)
        case PullSettings():
            return PullRouter()
        case DryRunSettings():
            return DryRunRouter()
        case _:
            assert_never(settings)


def means_of(settings: RouterSettings) -> type[Router]:
    """The kind of router, whose class tells what it can do."""
    return _KINDS[type(settings)]


_KINDS: Mapping[type, type[Router]] = {
    TritonRouterSettings: TritonRouter,
    EnvoySettings: EnvoyRouter,
    HaproxySettings: HaproxyRouter,
    GatewayApiSettings: GatewayApiRouter,
    KServeSettings: KServeRouter,
    WebhookRouterSettings: WebhookRouter,
    PullSettings: PullRouter,
    DryRunSettings: DryRunRouter,
}
