"""Who may move a route that several watchdogs share, by what Kubernetes or Prometheus hold anyway.

A kind of quorum is one file, with its settings class, and one row in `open_authority`.
"""

import secrets
import socket
from typing import Annotated, assert_never

from pydantic import Field

from watchdog.kubernetes import Kubernetes
from watchdog.settings import Settings
from watchdog.sharing.authority import Quorum, SharedAuthority
from watchdog.sharing.elapsed import Elapsed, since_boot
from watchdog.sharing.lease import Lease, LeaseSettings
from watchdog.sharing.lease_object import Identity
from watchdog.sharing.votes_kubernetes import KubernetesQuorumSettings, KubernetesVotes
from watchdog.sharing.votes_prometheus import PrometheusQuorumSettings, PrometheusVotes

QuorumSettings = Annotated[KubernetesQuorumSettings | PrometheusQuorumSettings, Field(discriminator="by")]


class SharingSettings(Settings):
    """Several watchdogs watch the same routes; one of them leads, and moves them."""

    lease: LeaseSettings
    quorum: QuorumSettings | None = None
    """How many must agree on a fault; without it, the leader's word is enough."""
    identity: Identity = Field(default_factory=lambda: socket.gethostname().lower())
    """This watchdog among the others; its host's name, which is its pod's, where absent."""


def open_authority(settings: SharingSettings, *, elapsed: Elapsed = since_boot) -> SharedAuthority:
    """This watchdog's part in what `settings` describe. It contacts nobody before it is asked something."""
    api = Kubernetes(settings.lease)
    holder = (
        f"{settings.identity}_{secrets.token_hex(4)}"  # who starts again can't take its earlier self's lead for its own
    )
    lease = Lease(settings.lease, holder=holder, api=api, elapsed=elapsed)
    quorum = _open_quorum(settings, api, elapsed)
    return SharedAuthority(lease, quorum, keep_every_s=settings.lease.retry)


def _open_quorum(settings: SharingSettings, api: Kubernetes, elapsed: Elapsed) -> Quorum | None:
    match settings.quorum:
        case None:
            return None
        case KubernetesQuorumSettings() as quorum:
            votes = KubernetesVotes(
                quorum,
                api=api,
                group=settings.lease.name,
                identity=settings.identity,
                timeout_s=settings.lease.timeout,
                elapsed=elapsed,
            )
            return Quorum(votes=votes, need=quorum.need)
        case PrometheusQuorumSettings() as quorum:
            return Quorum(votes=PrometheusVotes(quorum), need=quorum.need)
        case _:
            assert_never(settings.quorum)
