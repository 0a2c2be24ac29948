"""What the transport needs to know about identity. `livelift.identity.trust.Trust` fits.

Threads call all methods at once. Contexts are asked for anew for every connection, so a renewed certificate, or an
opened pairing, takes effect without a restart.
"""

from __future__ import annotations

import ssl
from typing import Protocol

from livelift.errors import LiveliftError
from livelift.protocol.messages import Peer


class Gate(Protocol):
    @property
    def me(self) -> Peer: ...

    def client_context(self) -> ssl.SSLContext: ...

    def server_context(self) -> ssl.SSLContext: ...

    def peer_of(self, connection: ssl.SSLSocket) -> Peer | None:
        """After the handshake: who is there, None without a certificate (pairing). TrustError: not to be talked to."""

    def pair(self, connection: ssl.SSLSocket) -> None:
        """Serve a client without a certificate, to the end. Any LiveliftError: it did not work out."""

    def explain(self, error: OSError, where: str) -> LiveliftError:
        """The error to raise for a failed handshake or first read with ``where``."""
