"""What carries notices to people and their systems.

A kind of channel is one file, with its settings class, and one row in `open_channel`.
"""

from typing import Annotated, assert_never

from pydantic import Field

from watchdog.channels.alertmanager import AlertmanagerChannel, AlertmanagerSettings
from watchdog.channels.pagerduty import PagerDutyChannel, PagerDutySettings
from watchdog.channels.webhook import WebhookChannel, WebhookSettings
from watchdog.ports import Channel

ChannelSettings = Annotated[AlertmanagerSettings | PagerDutySettings | WebhookSettings, Field(discriminator="kind")]


def open_channel(settings: ChannelSettings) -> Channel:
    """The channel that `settings` describe. Nobody is contacted before it delivers."""
    match settings:
        case AlertmanagerSettings():
            return AlertmanagerChannel(settings)
        case PagerDutySettings():
            return PagerDutyChannel(settings)
        case WebhookSettings():
            return WebhookChannel(settings)
        case _:
            assert_never(settings)
