"""What controllers and alerting call: each is answered in the way that its caller understands."""

from aiohttp import web

from watchdog.api import hooks_alertmanager, hooks_flagger
from watchdog.api.hooks_call import Accepts, Commands
from watchdog.api.service import Service


def routes(service: Service, accepts: Accepts, may_command: Accepts) -> list[web.RouteDef]:
    """The hooks' routes.

    Args:
        service: what the routes are for.
        accepts: raises what is to be answered to a caller whose token, empty if there is none, is not the right one.
        may_command: the same for what moves a route.
    """
    commands = Commands(service)
    return [
        *hooks_flagger.routes(service, accepts, commands),
        *hooks_alertmanager.routes(service, accepts, may_command, commands),
    ]
