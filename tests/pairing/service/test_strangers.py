"""The pairing service among strangers: clients that send what no client sends, and services that answer so."""

from __future__ import annotations

import json
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import flight

from gated_vae.pairing.cluster import ClusterOptions, cluster_store
from gated_vae.pairing.service import connections, server
from gated_vae.pairing.service.access import ServiceOptions
from gated_vae.pairing.service.server import PairService
from gated_vae.pairing.stream import remote
from gated_vae.pairing.stream.loader import PairLoader
from gated_vae.pairing.stream.wire import identity
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.sources.base import make_store as make_store_of
from gated_vae.preprocessing.store import Store
from tests.machine import HANG, until
from tests.pairing.service.test_service import Process
from tests.pairing.test_cluster import faces
from tests.stores import Given, make_store, random_images


@pytest.fixture
def service(store: Store) -> Iterator[PairService]:
    service = PairService(store.path, ServiceOptions(port=0))
    yield service
    service.close()


@pytest.fixture
def client(service: PairService) -> Iterator[flight.FlightClient]:
    with flight.connect(service.address) as connected:
        yield connected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"pose", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 4000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b" " * 5000, "5,000 bytes"),
        (b'{"partitions": "pose"}', "unknown keys: partitions"),
        (b'{"partition": "colour"}', "no partition colour"),
        (b'{"partition": 7}', "`partition` is"),
        (b'{"partition": []}', "`partition` is"),
        (b'{"partition": ["pose", "pose"]}', "twice"),
        (b'{"epoch": -1}', "`epoch` is"),
        (b'{"epoch": 1e3}', "`epoch` is"),
        (b'{"seed": true}', "`seed` is"),
        (b'{"images": 1}', "`images` is"),
        (b'{"batch_size": 0}', "`batch_size` is"),
        (b'{"batch_size": 1000000, "images": true}', "too large"),
        (b'{"rank": 1}', "rank 1 of 1"),
        (b'{"first_step": 4}', "has 3 steps"),
        (b'{"partition": false}', "`partition` is"),
        (b'{"partition": 0}', "`partition` is"),
        (b'{"partition": ""}', "no partition"),
        (b'{"partition": {"pose": 1}}', "`partition` is"),
        (b'{"partition": [null]}', "`partition` is"),
        (b'{"partition": [["pose"]]}', "`partition` is"),
        (rb'{"partition": "\ud800"}', "not JSON in UTF-8"),
        (rb'{"\udfff": 1}', "not JSON in UTF-8"),
        (rb'{"partition": ["pose", "\ud83d"]}', "not JSON in UTF-8"),
        (rb'{"partition": "a\u0000b\u001b[31m"}', "no partition"),
        (b'{"seed": 1, "seed": 2}', "a key twice"),
        (b'{"partition": {"a": 1, "a": 1}}', "a key twice"),
        (b'{"seed": NaN}', "`seed` is"),
        (b'{"seed": ' + b"9" * 4000 + b"}", "`seed` is"),
        (b"", "not JSON"),
    ],
)
def test_a_bad_ticket_is_refused_by_doget_and_getflightinfo_in_the_same_words_and_the_server_serves_on(
    client: flight.FlightClient, text: bytes, message: str
) -> None:
    command = flight.FlightDescriptor.for_command(text)
    calls = (
        lambda: client.do_get(flight.Ticket(text)).read_all(),
        lambda: client.get_flight_info(command),
    )
    for call in calls:
        with pytest.raises(flight.FlightServerError) as caught:
            call()
        assert message in str(caught.value)
        assert "Traceback" not in str(caught.value)
    assert client.do_get(flight.Ticket(b'{"first_step": 3}')).read_all().num_rows == 0, "3 steps are all"
    assert client.do_get(flight.Ticket(b"{}")).read_all().num_rows == 300


class NoHandshake(flight.ClientAuthHandler):  # type: ignore[misc]
    def authenticate(self, outgoing: object, incoming: flight.ClientAuthReader) -> None:  # noqa: ARG002
        incoming.read()

    def get_token(self) -> bytes:
        return b""


def test_nothing_can_be_sent_and_that_is_said_in_words(client: flight.FlightClient, store: Store) -> None:
    schema, descriptor = pa.schema([("a", pa.int64())]), flight.FlightDescriptor.for_path("pose")
    table = pa.table({"a": [1]})

    def put() -> None:
        writer, _ = client.do_put(descriptor, schema)
        writer.write_table(table)
        writer.close()

    def exchange() -> None:
        writer, reader = client.do_exchange(descriptor)
        with writer:
            writer.begin(schema)
            writer.write_table(table)
            writer.done_writing()
            reader.read_all()

    for call in (put, exchange, lambda: client.get_schema(descriptor), lambda: client.authenticate(NoHandshake())):
        with pytest.raises((pa.ArrowException, OSError), match="only reads its store") as caught:
            call()
        assert "Traceback" not in str(caught.value)
    store.with_partitions({})
    with pytest.raises(flight.FlightServerError, match="was replaced"):
        client.get_flight_info(flight.FlightDescriptor.for_command(b"{}"))


def test_a_store_is_known_by_what_decided_its_pairs_not_by_what_was_measured(store: Store) -> None:
    """Correlations as another processor's BLAS would round them."""
    quality = {"AU01_r": {"correlation": 0.123456789012345}}
    pose, expression = ({**record, "inertia": 7.5, "quality": quality} for record in store.partitions.values())
    ours = store.with_partitions({"pose": pose, "expression": expression})
    rounded = {**pose, "inertia": 7.500000000000001, "quality": {"AU01_r": {"correlation": 0.123456789012346}}}
    assert identity(ours.with_partitions({"pose": rounded, "expression": expression})) == identity(ours)
    other = ours.with_partitions({"pose": {**pose, "seed": 1}, "expression": expression})
    assert identity(other) != identity(ours)


def replaced(batch: pa.RecordBatch, column: str, values: pa.Array) -> pa.RecordBatch:
    columns = [values if name == column else batch.column(name) for name in batch.schema.names]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


class Foreign(flight.FlightServerBase):  # type: ignore[misc]
    """A service of a stranger's: it says and sends of a good store's what a function makes of it."""

    def __init__(self, store: Store) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self.good, self.asked = PairService(store.path, ServiceOptions(port=0)), 0
        self.manifest: Callable[[dict[str, object]], object] = lambda manifest: manifest
        self.batches: Callable[[list[pa.RecordBatch]], list[pa.RecordBatch]] = lambda batches: batches
        self.address = f"grpc://127.0.0.1:{self.port}"

    def do_action(self, context: object, action: object) -> list[bytes]:  # noqa: ARG002
        said = self.manifest(dict(self.good.store.manifest))
        if isinstance(said, tuple):
            return [*said]
        return [said if isinstance(said, bytes) else json.dumps(said).encode()]

    def do_get(self, context: object, ticket: flight.Ticket) -> flight.RecordBatchStream:  # noqa: ARG002
        self.asked += 1
        with flight.connect(self.good.address) as client:
            stream = client.do_get(ticket)
            batches = self.batches([chunk.data for chunk in stream])
            schema = batches[0].schema if batches else stream.schema
            return flight.RecordBatchStream(pa.RecordBatchReader.from_batches(schema, batches))


@pytest.fixture
def foreign(store: Store) -> Iterator[Foreign]:
    foreign = Foreign(store)
    yield foreign
    foreign.shutdown()
    foreign.good.close()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (lambda _: b"\xff", "schema version None"),
        (lambda _: (), "no manifest, or several"),
        (lambda m: (json.dumps(m).encode(),) * 2, "no manifest, or several"),
        (lambda _: b"[" * 200_000, "schema version None"),
        (lambda _: [], "schema version None"),
        (lambda m: {**m, "taken": "many"}, "taken"),
        (lambda m: {**m, "image_shape": [2**20, 2**20]}, "image_shape"),
        (lambda m: {**m, "partitions": {"../..": m["partitions"]["pose"]}}, "partitions"),
        (lambda m: {**m, "partitions": ["pose"]}, "partitions"),
        (lambda m: {**m, "taken": 299}, "299 taken"),
        (lambda m: {**m, "digests": {}}, "lacks the digests"),
        (lambda m: {**m, "digests": {"images.npy": 1, "samples.parquet": []}}, "digests"),
        (lambda m: {key: m[key] for key in m if key != "digests"}, "lacks the digests"),
    ],
)
def test_a_services_manifest_is_held_against_the_forms_of_a_folders(
    foreign: Foreign, said: Callable[[dict[str, object]], object], why: str
) -> None:
    foreign.manifest = said
    with pytest.raises(GatedVAEError, match="cannot be used") as caught:
        PairLoader(foreign.address, 32)
    assert why in caught.value.why


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (lambda batches: [batches[0].slice(1)], "step 0 has 31 pairs"),
        (lambda batches: [batches[0].slice(0, 0)], "step 0 has 0 pairs"),
        (lambda batches: [replaced(batches[0], "target_id", pa.array([300] * 32))], "step 0 pairs samples"),
        (lambda batches: [replaced(batches[0], "input_id", pa.array([-1] * 32))], "step 0 pairs samples"),
        (lambda batches: [replaced(batches[0], "group", pa.array([None] * 32, pa.int64()))], "Values are missing"),
        (lambda batches: [batch.drop_columns(["group"]) for batch in batches], "other columns"),
        (lambda batches: batches * 2, "more batches than"),
    ],
)
def test_a_services_batches_are_held_against_the_manifest(
    foreign: Foreign, sent: Callable[[list[pa.RecordBatch]], list[pa.RecordBatch]], why: str
) -> None:
    foreign.batches = sent
    with pytest.raises(GatedVAEError) as caught:
        list(PairLoader(foreign.address, 32, prefetch=0))
    assert why in str(caught.value)


def test_a_stream_that_ends_early_is_counted_and_delayed(foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "DELAYS", (0.01, 0.02))
    foreign.batches = lambda _: []
    with pytest.raises(GatedVAEError, match="went away") as caught:
        list(PairLoader(foreign.address, 32, prefetch=0))
    assert "tried 3 times. The stream ended early." in caught.value.why
    assert foreign.asked == 3
    foreign.batches = lambda batches: batches[:3]  # as a server that ends in the middle
    assert len(list(PairLoader(foreign.address, 32))) == 20


def test_what_a_service_says_is_shown_as_one_plain_line(foreign: Foreign) -> None:
    def refuse(_: object) -> bytes:
        raise flight.FlightServerError("no", json.dumps(["\x1b[31mred\r\n\u202e", ["x"], "y" * 9000]).encode())

    foreign.manifest = refuse
    with pytest.raises(GatedVAEError) as caught:
        PairLoader(foreign.address, 32)
    assert str(caught.value).splitlines() == ["[31mred", "['x']", "y" * 300]


def test_a_store_with_splits_is_served_as_from_its_folder(tmp_path: Path) -> None:
    samples = faces(300).drop(columns="sample_id").assign(split=["train"] * 200 + ["valid"] * 50 + ["test"] * 50)
    table = pa.Table.from_pandas(samples, preserve_index=False)
    path = make_store_of(Given(random_images(300), table), tmp_path / "store").store.path
    cluster_store(path, ClusterOptions({"pose": 10, "expression": 10}, draws=2))
    service = PairService(path, ServiceOptions(port=0))
    try:
        ours, theirs = (PairLoader(source, 32, prefetch=0) for source in (path, service.address))
        assert [batch.input_id.tolist() for batch in theirs] == [batch.input_id.tolist() for batch in ours]
    finally:
        service.close()


@pytest.mark.filterwarnings("error")  # so that the warning stops it before anything is sent
def test_a_token_that_travels_in_the_clear_is_warned_of_before_it_is_sent(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("0123456789abcdef")
    service = PairService(store.path, ServiceOptions("0.0.0.0", 0, token_file=tmp_path / "token"))
    monkeypatch.setenv("GATED_VAE_TOKEN_FILE", str(tmp_path / "token"))
    sent: list[object] = []
    monkeypatch.setattr(remote.Service, "_act", lambda *_: sent.append(1))
    try:
        with pytest.raises(UserWarning, match=r"travels to grpc://0.0.0.0:.* unencrypted"):
            PairLoader(service.address, 32)
        assert not sent
        monkeypatch.undo()
        monkeypatch.setenv("GATED_VAE_TOKEN_FILE", str(tmp_path / "token"))
        assert len(list(PairLoader(f"grpc://127.0.0.1:{service.port}", 32))) == 20
    finally:
        service.close()


@contextmanager
def handles(limit: int) -> Iterator[None]:
    """Let this process have so many open files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_machine_without_file_handles_is_told_as_such_and_may_be_tried_again(client: flight.FlightClient) -> None:
    assert list(client.list_flights())
    with handles(3):
        for call in (lambda: client.do_get(flight.Ticket(b"{}")).read_all(), lambda: list(client.do_action("health"))):
            with pytest.raises(flight.FlightUnavailableError, match="cannot read its store: Too many open files"):
                call()
    assert client.do_get(flight.Ticket(b"{}")).read_all().num_rows == 300


def gone(connected: socket.socket) -> bool:
    connected.settimeout(0.01)
    try:
        while connected.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def test_connections_that_say_nothing_are_ended_even_without_file_handles(
    service: PairService, client: flight.FlightClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PATIENCE_SECONDS", HANG)
    idle = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(5)]
    until(lambda: len([*connections.connections(service.port)]) >= len(idle))  # accepting takes handles
    with handles(max(int(path.name) for path in Path("/dev/fd").iterdir()) + 1), ExitStack() as taken:
        with suppress(OSError):
            while True:
                taken.callback(os.close, os.open("/dev/null", os.O_RDONLY))
        time.sleep(0.5)
        assert not any(map(gone, idle))
        monkeypatch.setattr(connections, "PATIENCE_SECONDS", 0.2)
        until(lambda: all(map(gone, idle)))
    monkeypatch.setattr(connections, "PATIENCE_SECONDS", HANG)
    assert client.do_get(flight.Ticket(b"{}")).read_all().num_rows == 300, "gRPC connects again"
    for connected in idle:
        connected.close()


def test_a_client_that_is_busy_between_two_batches_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = PairService(make_store(tmp_path / "big", 400, size=256).path, ServiceOptions(port=0))
    try:
        with flight.connect(service.address) as client:
            reader = client.do_get(
                flight.Ticket(b'{"batch_size": 4, "images": true}')
            )  # 100 batches of half a megabyte
            reader.read_chunk()
            with monkeypatch.context() as patch:
                patch.setattr(connections, "PATIENCE_SECONDS", 0.2)
                time.sleep(0.8)
            assert len([*reader]) == 99
    finally:
        service.close()


def test_a_client_that_does_not_read_is_ended_when_others_wait_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_store(tmp_path / "big", 400, size=256).path
    service = PairService(path, ServiceOptions(port=0, max_streams=1))
    try:
        slow = iter(PairLoader(service.address, 4))  # 100 batches of half a megabyte
        seen = [next(slow)]
        time.sleep(0.3)
        waiting = PairLoader(service.address, 50)
        taken = pytest.raises(flight.FlightUnavailableError, match="streams are taken")
        with flight.connect(service.address) as other, taken:
            other.do_get(flight.Ticket(b"{}")).read_all()
        monkeypatch.setattr(server, "PATIENCE_SECONDS", 0.1)
        assert len(list(waiting)) == 16, "it waits, and its turn comes"
        seen += slow
        expected = PairLoader(path, 4)
        assert [batch.input_id.tolist() for batch in seen] == [batch.input_id.tolist() for batch in expected]
    finally:
        service.close()


def test_a_body_is_not_read_on_beyond_its_bound_of_strangers_neither(store: Store, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef")
    process = Process(store.path, 0, "--token-file", str(tmp_path / "token"))
    body = b"x" * (200 << 20)
    try:
        before = process.peak()

        def send() -> None:
            ended = pytest.raises((flight.FlightUnavailableError, flight.FlightTimedOutError))
            with flight.connect(process.address) as client, ended:
                list(client.do_action(("manifest", body), flight.FlightCallOptions(timeout=HANG)))

        senders = [threading.Thread(target=send) for _ in range(2)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        assert process.peak() - before < 200 << 20
    finally:
        process.kill()
