"""The pairing service against the local loader, over loopback; and everything that may go wrong on the way."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import flight
from torch.utils.data import DataLoader

from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pairing.service.access import ServiceOptions
from gated_vae.pairing.service.server import PairService
from gated_vae.pairing.stream import remote
from gated_vae.pairing.stream.address import Address
from gated_vae.pairing.stream.loader import PairBatch, PairLoader
from gated_vae.pipelines.process import InterruptedTrainingError
from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
from gated_vae.pipelines.training.train import train
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import write_json
from gated_vae.preprocessing.store import Store, manifest_path, open_store
from tests.machine import HANG, own_host, until
from tests.stores import make_store

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def serve(store: Store) -> Iterator[Callable[..., PairService]]:
    """Start services of the store; all are closed in the end."""
    started: list[PairService] = []

    def start(**options: object) -> PairService:
        started.append(PairService(store.path, ServiceOptions(**{"port": 0, **options})))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for service in started:
        service.close()


@pytest.fixture
def service(serve: Callable[..., PairService]) -> PairService:
    return serve()


@pytest.fixture
def client(service: PairService) -> Iterator[flight.FlightClient]:
    with flight.connect(service.address) as connected:
        yield connected


def ticket(**values: object) -> flight.Ticket:
    return flight.Ticket(json.dumps(values))


def act(client: flight.FlightClient, name: str, **values: object) -> dict[str, object]:
    (result,) = client.do_action((name, json.dumps(values).encode()))
    return json.loads(result.body.to_pybytes())  # type: ignore[no-any-return]


def equal(ours: PairBatch, theirs: PairBatch) -> bool:
    names = ("input_id", "target_id", "group", "input", "target")
    return ours.partition == theirs.partition and all(torch.equal(getattr(ours, n), getattr(theirs, n)) for n in names)


@pytest.mark.parametrize(("rank", "world_size", "step"), [(0, 1, 0), (0, 1, 7), (1, 3, 0), (2, 3, 5), (90, 100, 1)])
@pytest.mark.parametrize("partitions", [None, ["expression"], ["expression", "pose"]])
@pytest.mark.parametrize("batches", ["turns", "together"])
def test_the_loader_gets_the_same_batches_from_service_and_folder(
    service: PairService,
    store: Store,
    rank: int,
    world_size: int,
    step: int,
    partitions: list[str] | None,
    batches: str,
) -> None:
    options = {"rank": rank, "world_size": world_size, "partitions": partitions, "batches": batches}
    loaders = [
        PairLoader(source, 16, seed=3, epoch=1, itself=lambda step: 0.3 * (step % 2), **options)  # type: ignore[arg-type]
        for source in (store.path, service.address)
    ]
    for loader in loaders:
        loader.load_state_dict({**loader.state_dict(), "step": min(step, len(loader))})
    assert len(loaders[0]) == len(loaders[1])
    assert loaders[0].state_dict() == loaders[1].state_dict()
    for _epoch in range(2):
        pairs = list(zip(*loaders, strict=True))
        assert all(equal(*pair) for pair in pairs)
    assert loaders[0].state_dict() == loaders[1].state_dict()
    assert all(batch.input.numpy().flags.writeable for batch in pairs[0])


def test_one_record_batch_is_one_training_batch(client: flight.FlightClient, store: Store) -> None:
    chunks = list(client.do_get(ticket(partition=None, batch_size=32, seed=5, images=True)))
    expected = list(PairLoader(store.path, 32, seed=5))
    for chunk, batch in zip(chunks, expected, strict=True):
        rows = chunk.data.to_pydict()
        assert set(rows["partition"]) == {batch.partition}
        for name in ("input_id", "target_id", "group"):
            assert rows[name] == getattr(batch, name).tolist()
        for name in ("input", "target"):
            assert rows[name] == [image.tobytes() for image in getattr(batch, name).numpy()]


def test_same_ticket_same_bytes_and_missing_keys_take_the_defaults(client: flight.FlightClient) -> None:
    full = ticket(partition="pose", seed=0, epoch=0, rank=0, world_size=1, batch_size=128, first_step=0, images=False)
    first, again, default = (client.do_get(wanted).read_all() for wanted in (full, full, ticket()))
    assert first.equals(again, check_metadata=True)
    assert first.equals(default, check_metadata=True)
    assert [chunk.data.num_rows for chunk in client.do_get(full)] == [128, 128, 44]


def test_flights_describe_the_partitions(client: flight.FlightClient) -> None:
    infos = list(client.list_flights())
    assert [info.descriptor.path for info in infos] == [[b"pose"], [b"expression"]]
    for info in infos:
        assert info.total_records == client.do_get(info.endpoints[0].ticket).read_all().num_rows == 300
        assert client.get_flight_info(info.descriptor).schema == info.schema
    command = flight.FlightDescriptor.for_command(ticket(images=True).ticket)
    info = client.get_flight_info(command)
    assert info.schema == client.do_get(info.endpoints[0].ticket).schema
    assert info.schema.field("input").type.byte_width == 16 * 16


def test_manifest_and_statistics(client: flight.FlightClient, store: Store) -> None:
    assert act(client, "manifest") == store.manifest
    client.do_get(ticket(batch_size=100)).read_all()
    counted = act(client, "statistics")
    assert {name: counted[name] for name in ("streams", "batches", "pairs")} == {
        "streams": 1,
        "batches": 3,
        "pairs": 300,
    }
    assert {kind.type for kind in client.list_actions()} == {"statistics", "health", "manifest"}
    with pytest.raises(flight.FlightServerError, match="no action 'stop'"):
        act(client, "stop")


def test_a_store_replaced_while_served_is_refused(client: flight.FlightClient, store: Store) -> None:
    write_json(manifest_path(store.path), {**store.manifest, "source_digest": "sha256:1"})
    for attempt in (lambda: client.do_get(ticket()).read_all(), lambda: act(client, "health")):
        with pytest.raises(flight.FlightServerError, match="was replaced"):
            attempt()
    write_json(manifest_path(store.path), store.manifest)
    assert client.do_get(ticket()).read_all().num_rows == 300


def test_a_client_that_vanishes_frees_its_stream(tmp_path: Path) -> None:
    service = PairService(make_store(tmp_path / "big", 400, size=256).path, ServiceOptions(port=0, max_streams=1))
    long = ticket(batch_size=4, images=True)  # more than the transport takes at once
    try:
        with flight.connect(service.address) as first, flight.connect(service.address) as second:
            reader = first.do_get(long)
            reader.read_chunk()
            with pytest.raises(flight.FlightUnavailableError, match="All 1 streams are taken"):
                second.do_get(ticket()).read_all()
            reader.cancel()
            until(lambda: not act(second, "statistics")["streams_open"])
            assert second.do_get(ticket()).read_all().num_rows == 400
    finally:
        service.close()


def test_a_slow_client_does_not_make_the_server_run_ahead(tmp_path: Path) -> None:
    service = PairService(make_store(tmp_path / "big", 400, size=256).path, ServiceOptions(port=0))
    try:
        with flight.connect(service.address) as client:
            reader = client.do_get(ticket(batch_size=4, images=True))  # 100 batches of half a megabyte
            reader.read_chunk()
            time.sleep(0.3)
            assert act(client, "statistics")["batches"] < 40
            reader.cancel()
    finally:
        service.close()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    return tmp_path / "token"


def test_only_the_right_token_opens(
    serve: Callable[..., PairService],
    token_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    address = serve(token_file=token_file).address
    with flight.connect(address) as client:
        for header in (None, "", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"):
            headers = [] if header is None else [(b"authorization", header.encode())]
            options = flight.FlightCallOptions(headers=headers)
            for call in (
                lambda o: client.do_get(ticket(), o).read_all(),
                lambda o: list(client.do_action("health", o)),
            ):
                with pytest.raises(flight.FlightUnauthenticatedError):
                    call(options)
    with pytest.raises(GatedVAEError, match="token is missing or wrong"):
        PairLoader(address, 32)
    monkeypatch.setenv("GATED_VAE_TOKEN_FILE", str(token_file))
    assert len(list(PairLoader(address, 32))) == 20
    assert TOKEN not in "".join(capfd.readouterr())


@pytest.mark.parametrize("text", ["", "short", "with space 0123456789abcdef"])
def test_a_weak_token_is_refused(store: Store, tmp_path: Path, text: str) -> None:
    (tmp_path / "weak").write_text(text)
    with pytest.raises(GatedVAEError, match="holds no token"):
        PairService(store.path, ServiceOptions(port=0, token_file=tmp_path / "weak"))


def test_other_machines_need_a_token(token_file: Path) -> None:
    for host in ("0.0.0.0", "::", "example.org", "192.168.1.5"):
        with pytest.raises(GatedVAEError, match="A token is needed"):
            ServiceOptions(host)
        ServiceOptions(host, token_file=token_file)
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        ServiceOptions(host)
    with pytest.raises(GatedVAEError, match="both --tls-cert and --tls-key"):
        ServiceOptions(tls_cert=token_file)


def test_a_port_in_use_and_a_store_without_pairs_say_so(serve: Callable[..., PairService], store: Store) -> None:
    first, second = serve(), serve()  # two servers on one store: both only read
    assert first.port != second.port
    with pytest.raises(GatedVAEError, match="in use"):
        serve(port=first.port)
    store.with_partitions({})
    with pytest.raises(GatedVAEError, match="no pairs yet"):
        serve()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Path]]:
    """Make a certificate for a host, as the options of a service that bring it."""

    def make(names: str) -> dict[str, Path]:
        folder = tmp_path_factory.mktemp("tls")
        cert, key = folder / "cert.pem", folder / "key.pem"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=service"
        command += f" -addext subjectAltName={names} -keyout {key} -out {cert}"
        try:
            subprocess.run(command.split(), check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("openssl is not installed: no certificate to test with")
        return {"tls_cert": cert, "tls_key": key}

    return make


def test_tls_and_what_keeps_it_from_coming_about(
    serve: Callable[..., PairService],
    certificate: Callable[..., dict[str, Path]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    ours, theirs = certificate("DNS:localhost,IP:127.0.0.1"), certificate("DNS:elsewhere.example")
    address, elsewhere, plain = (serve(**options).address for options in (ours, theirs, {}))
    assert address.startswith("grpc+tls://")

    def refused(wrong: str, why: str, remedy: str) -> None:
        with pytest.raises(GatedVAEError, match="No service answers") as caught:
            PairLoader(wrong, 32)
        assert re.search(why, caught.value.why)
        assert remedy in caught.value.remedy

    refused(address, "certificate is refused: ", "Let GATED_VAE_TLS_ROOTS name the file")
    refused(address.replace("+tls", ""), "wants TLS", "Write grpc+tls:// in place of grpc://")
    refused(address.replace("+tls", "+tcp"), "wants TLS", "Write grpc+tls://")
    refused(plain.replace("grpc", "grpc+tls"), "does not speak TLS", "Write grpc:// in place of grpc+tls://")
    monkeypatch.setenv("GATED_VAE_TLS_ROOTS", str(theirs["tls_cert"]))
    refused(address, "certificate is refused: ", "Let GATED_VAE_TLS_ROOTS name the file")
    refused(elsewhere, "not valid for '127.0.0.1'", "Write the host as the certificate names it")
    (tmp_path / "empty.pem").write_text("no certificate")
    monkeypatch.setenv("GATED_VAE_TLS_ROOTS", str(tmp_path / "empty.pem"))
    refused(address, "GATED_VAE_TLS_ROOTS names holds no certificate", "Let it name another")
    assert len(PairLoader(plain, 32)) == 20
    monkeypatch.setenv("GATED_VAE_TLS_ROOTS", str(ours["tls_cert"]))
    assert len(list(PairLoader(address, 32))) == 20


def test_a_proxy_for_the_web_is_not_asked(service: PairService, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # where nobody listens
    machine = Address.parse("grpc://10.0.0.7:8815")
    assert not machine.by_proxy
    monkeypatch.setenv("grpc_proxy", "http://127.0.0.1:9")
    assert machine.by_proxy
    for host in ("127.0.0.1", "localhost", "[::1]"):
        assert not Address.parse(f"grpc://{host}:8815").by_proxy
    assert len(list(PairLoader(service.address, 32))) == 20


def test_addresses_in_every_form(service: PairService) -> None:
    for address in (service.address.replace("grpc", "grpc+tcp"), service.address.replace("grpc", "GRPC")):
        assert len(list(PairLoader(address, 32))) == 20
    assert str(Address.parse("grpc+tls://[::1]:8815")) == "grpc+tls://[::1]:8815"
    for wrong in (
        "http://127.0.0.1:8815",
        "grpc://127.0.0.1",
        "grpc://:8815",
        "grpc://host:port",
        "grpc+unix:///socket",
    ):
        with pytest.raises(GatedVAEError, match="no address of a pairing service") as caught:
            PairLoader(wrong, 32)
        assert "grpc://HOST:PORT or grpc+tls://HOST:PORT" in caught.value.remedy


class Process:
    """`pipe serve` in a process of its own, at a port that stays its own when it is started again."""

    def __init__(self, store: Path, port: int = 0, *options: str) -> None:
        where = ("--host", own_host(), "--port", str(port))
        command = [sys.executable, "-m", "gated_vae.pipelines.cli", "serve", str(store), *where, *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.line = self._process.stdout.readline()
        self.address = self.line.split()[-1]
        self.port = int(self.address.rpartition(":")[2])

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def peak(self) -> int:
        """The most memory it has had, in bytes."""
        told = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(told.partition("VmHWM:")[2].split()[0]) << 10

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def stop(self) -> int:
        self._process.terminate()
        assert self._process.communicate() == ("", "")
        return self._process.returncode


def test_the_command_says_where_it_serves_and_ends_on_sigterm_though_a_client_does_not_read(tmp_path: Path) -> None:
    store = make_store(tmp_path / "big", 400, size=256)
    process = Process(store.path)
    assert process.line == f"serving {store.path} at grpc://{own_host()}:{process.port}\n"
    reader = flight.connect(process.address).do_get(ticket(batch_size=4, images=True))
    reader.read_chunk()
    assert process.stop() == 0
    reader.cancel()


def test_killed_and_started_again_in_mid_epoch_every_pair_comes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "DELAYS", (*remote.DELAYS, *[5.0] * 20))  # it may start slowly
    store = make_store(tmp_path / "store", 3000, size=32)
    process = Process(store.path)
    ranks = [PairLoader(process.address, 4, rank=rank, world_size=2, prefetch=1) for rank in range(2)]
    whole = [PairLoader(store.path, 4, rank=rank, world_size=2) for rank in range(2)]
    seen: Counter[tuple[str, int]] = Counter()
    again: list[Process] = []
    restart = threading.Timer(0.2, lambda: again.append(Process(store.path, process.port)))
    for step, (batches, expected) in enumerate(zip(zip(*ranks, strict=True), zip(*whole, strict=True), strict=True)):
        if step == 40:
            process.kill()
            restart.start()
        assert all(map(equal, batches, expected))
        seen.update((batch.partition, int(sample)) for batch in batches for sample in batch.input_id)
    assert seen == Counter({(name, sample): 1 for name in ("pose", "expression") for sample in range(3000)})
    restart.join()
    assert again[0].stop() == 0


CLIENT = """
import sys
from gated_vae.pairing.stream.loader import PairLoader
address, rank, done, path = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
loader = PairLoader(address, 4, rank=rank, world_size=3)
loader.load_state_dict({**loader.state_dict(), "step": done})
with open(path, "a") as lines:
    for batch in loader:
        print(batch.partition, *batch.input_id.tolist(), file=lines, flush=True)
"""


@pytest.mark.slow
def test_a_soak_with_clients_and_server_killed_gives_every_pair_once_to_one_rank(tmp_path: Path) -> None:
    samples = int(os.environ.get("SOAK_SAMPLES", "60000"))
    store = make_store(tmp_path / "store", samples, size=32)
    generator, server = np.random.default_rng(0), Process(store.path)
    logs, errors = [tmp_path / f"rank{rank}" for rank in range(3)], tmp_path / "errors"

    def start(rank: int) -> subprocess.Popen[bytes]:
        whole = logs[rank].read_text().rpartition("\n") if logs[rank].exists() else ("", "", "")
        logs[rank].write_text(whole[0] + whole[1])  # without a line that was torn
        done = str(whole[0].count("\n") + len(whole[1]))
        command = [sys.executable, "-c", CLIENT, server.address, str(rank), done, str(logs[rank])]
        with errors.open("ab") as messages:
            return subprocess.Popen(command, stderr=messages)

    clients = [start(rank) for rank in range(3)]
    kills, started = {"client": 0, "server": 0}, time.monotonic()
    while any(client.poll() != 0 for client in clients):
        time.sleep(float(generator.uniform(0.5, 3)))
        victim = int(generator.integers(4))
        if victim == 3:
            server.kill()
            server = Process(store.path, server.port)
            kills["server"] += 1
        elif clients[victim].poll() != 0:  # running, or it met no server at its very start, where it does not try again
            clients[victim].kill()
            clients[victim].wait()
            clients[victim] = start(victim)
            kills["client"] += 1
    print(f"\n{2 * samples:,} pairs in {time.monotonic() - started:.0f} s; killed and started again: {kills}")
    assert sum(kills.values()) >= 3
    failures = re.findall(r"^\S*Error.*", errors.read_text(), re.MULTILINE)
    assert all("No service answers" in failure for failure in failures), failures
    seen = Counter(
        (line.split()[0], int(sample))
        for log in logs
        for line in log.read_text().splitlines()
        for sample in line.split()[1:]
    )
    assert seen == Counter({(name, sample): 1 for name in ("pose", "expression") for sample in range(samples)})
    assert server.stop() == 0


def test_a_service_that_stays_away_or_comes_back_with_another_store(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "DELAYS", (0.01, 0.02))
    service = PairService(store.path, ServiceOptions(own_host(), 0))
    loader = PairLoader(service.address, 8, prefetch=0)
    assert len(list(loader)) == len(loader)
    service.close()
    with pytest.raises(GatedVAEError, match="went away"):
        next(iter(loader))
    with pytest.raises(GatedVAEError, match="No service answers"):
        PairLoader(service.address, 8)
    other = PairService(make_store(tmp_path / "other", 200).path, ServiceOptions(own_host(), service.port))
    try:
        with pytest.raises(GatedVAEError, match="another store"):
            next(iter(loader))
    finally:
        other.close()


def test_targets_are_not_composed_from_a_service(service: PairService) -> None:
    with pytest.raises(GatedVAEError, match="come in pairs, not on request"):
        PairLoader(service.address, 8, batches="composed")


def config(source: object) -> TrainConfig:
    model = GatedVAEConfig({"expression": 3, "pose": 2}, image_shape=(16, 16), network="fc", hidden=(16, 16))
    return TrainConfig(str(source), model, steps=25, batch_size=32, lr=1e-3)


def weights(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir() if ".state" not in path.name)


def last(run: Path) -> bytes:
    return (run / "checkpoints" / "step-000000025.safetensors").read_bytes()


def test_training_from_the_service_gives_the_folders_weights(
    service: PairService, store: Store, tmp_path: Path
) -> None:
    train(config(store.path), TrainOptions(tmp_path / "folder"))
    train(config(service.address), TrainOptions(tmp_path / "service"))
    assert last(tmp_path / "folder") == last(tmp_path / "service")


def test_when_the_service_stays_away_the_state_is_saved(
    serve: Callable[..., PairService], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "DELAYS", (0.01, 0.02))
    service, options = serve(host=own_host()), TrainOptions(tmp_path / "run")

    def close(done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        if done == 3:
            service.close()

    with pytest.raises(GatedVAEError, match="went away"):
        train(config(service.address), options, close)
    (saved,) = weights(options.out)
    assert 3 <= int(saved[5:14]) < 25
    serve(host=own_host(), port=service.port)
    assert train(config(service.address), options).steps_now == 25 - int(saved[5:14])
    train(config(store.path), TrainOptions(tmp_path / "whole"))
    assert last(options.out) == last(tmp_path / "whole")


@pytest.mark.parametrize(("how", "told"), [(signal.SIGKILL, signal.SIGTERM), (signal.SIGSTOP, signal.SIGINT)])
def test_a_signal_is_heard_while_the_service_is_away(tmp_path: Path, how: int, told: int) -> None:
    """Killed, it is tried again after ever longer waits; stopped, its answers do not come."""
    store = make_store(tmp_path / "store", 3000)
    process, wanted = Process(store.path), replace(config(""), steps=1000)
    sent: list[float] = []

    def send() -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), told)

    def lose(done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        if done == 3:
            process.send(how)
            threading.Timer(0.7, send).start()

    try:
        with pytest.raises(InterruptedTrainingError, match="of 1000 steps is saved"):
            train(replace(wanted, store=process.address), TrainOptions(tmp_path / "run"), lose)
        assert time.monotonic() - sent[0] < sum(remote.DELAYS) / 2, "it is not tried to the end"
    finally:
        process.kill()
    assert len(weights(tmp_path / "run")) == 1


@pytest.fixture
def interrupts() -> Iterator[None]:
    """SIGINT as a terminal's foreground has it: a shell starts what it runs in the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_a_signal_is_heard_while_a_service_is_opened() -> None:
    sent: list[float] = []

    def interrupt() -> None:
        with silent.accept()[0]:  # kept open
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)
            interrupted.wait(HANG)

    interrupted = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            PairLoader(f"grpc://127.0.0.1:{silent.getsockname()[1]}", 32)
        assert time.monotonic() - sent[0] < remote.ANSWER_SECONDS / 2, "no answer is waited for"
        interrupted.set()


@pytest.mark.usefixtures("fresh_forks")
@pytest.mark.filterwarnings("ignore:.*multi-threaded")
def test_forked_workers_of_a_dataloader_are_told_to_be_started_instead(service: PairService) -> None:
    """gRPC does not survive a fork: they would hang, now and then."""
    loader = PairLoader(service.address, 32)
    if (child := os.fork()) == 0:
        signal.alarm(int(HANG))
        try:
            next(iter(loader))
        except GatedVAEError as error:
            os._exit(3 if 'multiprocessing_context="spawn"' in error.remedy else 1)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than this machine has cores
def test_started_workers_of_a_dataloader_share_the_services_batches(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    process = Process(store.path)
    loader = PairLoader(process.address, 32)
    feeder = DataLoader(loader, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    assert all(equal(*pair) for pair in zip(feeder, PairLoader(store.path, 32), strict=True))
    assert process.stop() == 0


def test_the_plain_client_of_the_docs_works(service: PairService) -> None:
    page = (Path(__file__).parents[3] / "docs" / "service.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    assert len(code[1].strip().splitlines()) <= 10
    found: dict[str, object] = {}
    exec(code[1].replace("grpc://127.0.0.1:8815", service.address), found)
    assert open_store(service.store.path).manifest["image_shape"] == list(found["images"].shape[1:])  # type: ignore[attr-defined]
