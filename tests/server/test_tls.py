# SPDX-License-Identifier: Apache-2.0
"""TLS on both ports: Triton's client through it, and what does not get through."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent.ssl
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
import trustme
from cryptography.hazmat.primitives import serialization
from tritonclient.utils import InferenceServerException

from nerite.errors import InvalidArgument
from nerite.server.options import ServerOptions
from nerite.server.server import Server
from nerite.testing import serve

CONFIG = """backend: "identity" max_batch_size: 0
input { name: "X" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }
"""
PATIENCE = 0.5


class Pems:
    """An authority, and the PEM files of a server and of a client that it knows."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.roots = folder / "roots.pem"
        self.certificate, self.key = folder / "server.pem", folder / "server.key"
        self.client, self.client_key = folder / "client.pem", folder / "client.key"
        self.authority.cert_pem.write_to_path(str(self.roots))
        self.issue()
        client = self.authority.issue_cert("client.test")
        client.cert_chain_pems[0].write_to_path(str(self.client))
        client.private_key_pem.write_to_path(str(self.client_key))

    def issue(self) -> None:
        """New files for the server, each put in place in one step, as a renewal does it."""
        issued = self.authority.issue_cert("localhost", "127.0.0.1")
        for path, pem in (
            (self.certificate, b"".join(blob.bytes() for blob in issued.cert_chain_pems)),
            (self.key, issued.private_key_pem.bytes()),
        ):
            fresh = path.with_suffix(".new")
            fresh.write_bytes(pem)
            os.replace(fresh, path)

    def options(self, protocol: str, *, mutual: bool = False) -> dict[str, Any]:
        return {
            f"{protocol}_use_ssl": True,
            f"{protocol}_use_ssl_mutual": mutual,
            f"{protocol}_server_cert": self.certificate,
            f"{protocol}_server_key": self.key,
            f"{protocol}_root_cert": self.roots if mutual else "",
        }


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tls")
    (root / "echo/1").mkdir(parents=True)
    (root / "echo/config.pbtxt").write_text(CONFIG)
    return root


@pytest.fixture
def pems(tmp_path: Path) -> Pems:
    return Pems(tmp_path)


def port_of(server: Server, protocol: str) -> int:
    return server.ports[protocol][1]


def grpc_client(server: Server, pems: Pems, *, known: bool = False) -> Any:
    files = {"private_key": pems.client_key, "certificate_chain": pems.client} if known else {}
    return tritonclient.grpc.InferenceServerClient(
        f"localhost:{port_of(server, 'grpc')}",
        ssl=True,
        root_certificates=str(pems.roots),
        **{name: str(path) for name, path in files.items()},
    )


def http_client(server: Server, pems: Pems, *, known: bool = False) -> Any:
    def context(**_: Any) -> Any:
        made = gevent.ssl.create_default_context(cafile=str(pems.roots))
        if known:
            made.load_cert_chain(pems.client, pems.client_key)
        return made

    return tritonclient.http.InferenceServerClient(
        f"localhost:{port_of(server, 'http')}", ssl=True, ssl_context_factory=context
    )


CLIENTS: dict[str, tuple[Callable[..., Any], Any]] = {
    "grpc": (grpc_client, tritonclient.grpc),
    "http": (http_client, tritonclient.http),
}


def echoed(client: Any, module: Any) -> bool:
    """Whether long and short tensors come back."""
    for count in (2, 500_000):
        array = np.arange(count, dtype=np.float32)
        tensor = module.InferInput("X", [count], "FP32")
        tensor.set_data_from_numpy(array)
        if not np.array_equal(client.infer("echo", [tensor]).as_numpy("Y"), array):
            return False
    return True


@pytest.mark.parametrize("mutual", [False, True])
@pytest.mark.parametrize("protocol", CLIENTS)
def test_tritons_client_through_tls(
    repository: Path, pems: Pems, protocol: str, mutual: bool
) -> None:
    make, module = CLIENTS[protocol]
    options = pems.options(protocol, mutual=mutual)
    with serve(repository, **options) as server, make(server, pems, known=mutual) as client:
        assert client.is_server_live()
        assert echoed(client, module)
    assert server.options.http_use_ssl == (protocol == "http")


@pytest.mark.parametrize("protocol", CLIENTS)
def test_a_client_without_a_certificate_does_not_get_through(
    repository: Path, pems: Pems, tmp_path: Path, protocol: str
) -> None:
    make, _ = CLIENTS[protocol]
    (tmp_path / "others").mkdir()
    stranger = Pems(tmp_path / "others")
    shutil.copy(pems.roots, stranger.roots)  # it trusts the server, the server does not trust it
    refusals = (InferenceServerException, ssl.SSLError, ConnectionError, OSError)
    with serve(repository, **pems.options(protocol, mutual=True)) as server:
        for who, known in ((pems, False), (stranger, True)):
            with make(server, who, known=known) as client, pytest.raises(refusals):
                client.is_server_live()
        with make(server, pems, known=True) as client:
            assert client.is_server_live()


def certificate(port: int, alpn: str, **limits: Any) -> tuple[bytes | None, str | None]:
    """The certificate that a port shows, and the protocol that it agrees on."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    for name, value in limits.items():
        setattr(context, name, value)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        context.wrap_socket(raw) as secured,
    ):
        return secured.getpeercert(binary_form=True), secured.selected_alpn_protocol()


def test_each_port_agrees_on_its_protocol_and_speaks_no_old_tls(
    repository: Path, pems: Pems
) -> None:
    options = {**pems.options("http"), **pems.options("grpc")}
    with serve(repository, **options) as server:
        assert server.http_url.startswith("https://")
        for protocol, alpn in (("http", "http/1.1"), ("grpc", "h2")):
            port = port_of(server, protocol)
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                limits = {"minimum_version": version, "maximum_version": version}
                shown, agreed = certificate(port, alpn, **limits)
                assert shown is not None
                assert agreed == alpn
            with pytest.raises(ssl.SSLError), pytest.warns(DeprecationWarning, match="TLSv1_1"):
                certificate(port, alpn, maximum_version=ssl.TLSVersion.TLSv1_1)


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01", b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n"])
@pytest.mark.parametrize("protocol", CLIENTS)
def test_a_peer_that_does_not_speak_tls_is_let_go(
    repository: Path, pems: Pems, protocol: str, sent: bytes
) -> None:
    options = pems.options(protocol)
    with serve(repository, header_timeout_secs=PATIENCE, **options) as server:
        with socket.create_connection(("127.0.0.1", port_of(server, protocol)), 10) as raw:
            raw.sendall(sent)
            with contextlib.suppress(ConnectionResetError):
                assert raw.recv(4096)[:1] in (b"", b"\x15")  # nothing, or an alert
        make, module = CLIENTS[protocol]
        with make(server, pems) as client:
            assert echoed(client, module)


def test_a_stop_does_not_wait_for_a_handshake(repository: Path, pems: Pems) -> None:
    with serve(repository, header_timeout_secs=60, **pems.options("grpc")) as server:
        raw = socket.create_connection(("127.0.0.1", port_of(server, "grpc")), 10)
        while server.engine.counters()["connections"] == 0:
            time.sleep(0.001)
        assert server.stop(5)
        with raw:
            assert raw.recv(1) == b""


def shown_until(port: int, wanted: Callable[[bytes | None], bool]) -> bytes | None:
    """The certificate of a port, once it is the wanted one."""
    end = time.monotonic() + 10
    while not wanted(shown := certificate(port, "h2")[0]):
        assert time.monotonic() < end
        time.sleep(0.05)
    return shown


def test_renewed_files_are_used_and_useless_ones_are_not(
    repository: Path, pems: Pems, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(repository, **pems.options("grpc")) as server:
        port = port_of(server, "grpc")
        first = certificate(port, "h2")[0]
        pems.issue()
        second = shown_until(port, lambda shown: shown != first)
        with grpc_client(server, pems) as client:
            assert echoed(client, tritonclient.grpc)
        with caplog.at_level(logging.WARNING):
            pems.key.write_text("no key")
            shown_until(port, lambda _: "--grpc-server-key" in caplog.text)
        assert f"'{pems.key}' is not usable: it holds no private key" in caplog.text
        assert "the certificates of before stay in use" in caplog.text
        assert certificate(port, "h2")[0] == second


def spoilt(pems: Pems, what: str) -> None:
    if what == "another's key":
        shutil.copy(pems.client_key, pems.key)
    elif what == "a key with a password":
        key = serialization.load_pem_private_key(pems.key.read_bytes(), None)
        secret = serialization.BestAvailableEncryption(b"secret")
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret)
        pems.key.write_bytes(key.private_bytes(*form))
    elif what == "no certificate":
        shutil.copy(pems.key, pems.certificate)
    elif what == "half a certificate":
        pems.certificate.write_bytes(pems.certificate.read_bytes()[:300])
    elif what == "no roots":
        pems.roots.write_text("")
    elif what == "a folder":
        pems.roots.unlink()
        pems.roots.mkdir()
    else:
        pems.certificate.unlink()


@pytest.mark.parametrize("protocol", CLIENTS)
@pytest.mark.parametrize(
    ("what", "flag", "file", "why"),
    [
        ("nothing", "server-cert", "certificate", "No such file or directory"),
        ("no certificate", "server-cert", "certificate", "it holds no certificate in PEM form"),
        ("half a certificate", "server-cert", "certificate", "it is no PEM file"),
        ("another's key", "server-key", "key", "with certificate '"),
        ("a key with a password", "server-key", "key", "no private key in PEM form without a pass"),
        ("no roots", "root-cert", "roots", "it holds no certificate in PEM form"),
        ("a folder", "root-cert", "roots", "it is not a file"),
    ],
)
def test_a_file_that_is_of_no_use_is_named(
    repository: Path, pems: Pems, protocol: str, what: str, flag: str, file: str, why: str
) -> None:
    spoilt(pems, what)
    with pytest.raises(InvalidArgument) as told:
        serve(repository, **pems.options(protocol, mutual=True)).__enter__()
    place = f"--{protocol}-{flag}: '{getattr(pems, file)}' is not usable: "
    assert str(told.value).startswith(place)
    assert why in str(told.value).removeprefix(place)


@pytest.mark.parametrize("protocol", CLIENTS)
def test_combinations_that_mean_less_than_they_say_are_refused(protocol: str) -> None:
    for given, told in (
        ({"use_ssl": True}, "--{0}-use-ssl needs --{0}-server-cert, a PEM file"),
        (
            {"use_ssl_mutual": True, "server_cert": "c", "server_key": "k"},
            "--{0}-use-ssl-mutual needs --{0}-root-cert, a PEM file",
        ),
        ({"server_cert": "c"}, "--{0}-server-cert is given, but the port would be open without"),
    ):
        with pytest.raises(InvalidArgument) as refused:
            ServerOptions(**{f"{protocol}_{name}": value for name, value in given.items()})
        assert told.format(protocol) in str(refused.value)


def test_roots_that_nobody_is_held_against_are_warned_of(
    repository: Path, pems: Pems, caplog: pytest.LogCaptureFixture
) -> None:
    options = {**pems.options("grpc"), "grpc_root_cert": pems.roots}
    with serve(repository, **options) as server, grpc_client(server, pems) as client:
        assert client.is_server_live()
    assert "--grpc-root-cert is not used" in caplog.text


@pytest.fixture(autouse=True)
def _told(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, logger="nerite"):
        yield
