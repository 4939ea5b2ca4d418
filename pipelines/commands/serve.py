"""`pipe serve`: the pairing service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from gated_vae.pipelines.options import Host, Port, StorePath, option


def serve(
    store: StorePath,
    host: Host = "127.0.0.1",
    port: Port = 8815,
    token_file: Annotated[
        Path | None,
        option("File with the token that clients have to bring, for addresses beyond this machine.", "none"),
    ] = None,
    tls_cert: Annotated[
        Path | None, option("Certificate (PEM) to encrypt with TLS, for networks that you do not trust.", "none")
    ] = None,
    tls_key: Annotated[Path | None, option("Private key (PEM) of the certificate.", "none")] = None,
    max_streams: Annotated[
        int, option("How many streams to serve at a time; one more is told to come back.", min=1)
    ] = 16,
) -> None:
    """Serve a store's pairs over Arrow Flight.

    It ends on SIGINT or SIGTERM. Trainers use it in place of the folder: pipe train grpc://127.0.0.1:8815 --out run

    Example: pipe serve store --port 8815
    """
    import os
    import signal
    from contextlib import suppress

    from gated_vae.pairing.service.access import ServiceOptions
    from gated_vae.pairing.service.server import PairService
    from gated_vae.pipelines import channels, console
    from gated_vae.preprocessing.errors import GatedVAEError

    stops = {signal.SIGINT, signal.SIGTERM}
    # Blocked in the server's threads, too, and waited for: a handler may run just before the wait, which then never ends.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    options = ServiceOptions(host, port, token_file, tls_cert, tls_key, max_streams)
    try:
        service = PairService(store, options)
    except Exception:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    if token_file and not tls_cert:
        console.say("The token travels unencrypted: give --tls-cert and --tls-key on a network that others use.")
    with suppress(GatedVAEError), channels.printing():  # whoever has closed standard output may know the address
        print(f"serving {store} at {service.address}")
    signal.sigwait(stops)
    if not service.close():
        os._exit(0)  # some client does not read; the server only reads, too, so nothing is lost
