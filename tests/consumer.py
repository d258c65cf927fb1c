#!/usr/bin/env python3
"""Takes an app's alerts from Homeward, knowing nothing but homeward.proto.

    pip install grpcio grpcio-tools
    APP_KEY=hw_app_... python3 tests/consumer.py --server 127.0.0.1:8481

Prints one line of JSON for every batch it is handed, repeats too, and acknowledges the batch once
that line is written. Stops when it is interrupted, after --batches, or after --idle seconds in
which nothing came. If the server goes away, it comes back as soon as the server does.
"""

import argparse
import hashlib
import importlib
import json
import os
import queue
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import grpc
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parent.parent / "proto"
# The server hands over one batch more whenever one is acknowledged, up to this many at a time.
MAX_IN_FLIGHT = 16
# Trying to connect again: soon, and not with all other apps at the same moment.
RECONNECT_S = (0.1, 0.5)
# Later calls will not help either: the key is wrong, or this program is.
HOPELESS = (
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
)


def stubs():
    """Compiles the .proto file and gives its messages and its client."""
    with tempfile.TemporaryDirectory() as folder:
        name = "homeward/v1/homeward.proto"
        command = ["protoc", f"-I{PROTO}", f"--python_out={folder}", f"--grpc_python_out={folder}", name]
        if protoc.main(command) != 0:
            sys.exit(f"{PROTO / name} cannot be compiled")
        sys.path.insert(0, folder)
        messages = importlib.import_module("homeward.v1.homeward_pb2")
        clients = importlib.import_module("homeward.v1.homeward_pb2_grpc")
        return messages, clients


class Consumer:
    """One app's way from the server to its phones."""

    def __init__(self, arguments, key):
        self.messages, self.clients = stubs()
        self.arguments = arguments
        self.metadata = (("authorization", f"Bearer {key}"),)
        self.seen = set()
        self.batches = 0
        self.last = time.monotonic()
        self.stopping = threading.Event()
        self.call = None

    def run(self):
        """Consumes until told to stop, over as many connections as it takes."""
        threading.Thread(target=self.watch_the_clock, daemon=True).start()
        while not self.stopping.is_set():
            try:
                with grpc.insecure_channel(self.arguments.server) as channel:
                    self.consume(self.clients.AlertsStub(channel))
            except grpc.RpcError as error:
                if error.code() in HOPELESS:
                    sys.exit(f"{error.code().name}: {error.details()}")
                if not self.stopping.is_set():
                    print(f"{error.code().name}: connecting again", file=sys.stderr)
            self.stopping.wait(random.uniform(*RECONNECT_S))

    def consume(self, server):
        """One stream: say hello, then acknowledge batch after batch."""
        outgoing = queue.Queue()
        hello = self.messages.Hello(max_in_flight=MAX_IN_FLIGHT)
        outgoing.put(self.messages.ConsumeRequest(hello=hello))
        # iter(.., None): the stream of requests goes on until None is put.
        self.call = server.Consume(iter(outgoing.get, None), metadata=self.metadata)
        if self.stopping.is_set():
            self.call.cancel()
        try:
            for batch in self.call:
                # Here an app tells its people, if it has not seen this batch before; it must have
                # done so, or written down that it has to, before it acknowledges the batch.
                self.take(batch)
                ack = self.messages.Ack(batch_id=batch.batch_id)
                outgoing.put(self.messages.ConsumeRequest(ack=ack))
                if self.batches == self.arguments.batches:
                    break
        finally:
            # Ends the requests, and with them the stream, once the last of them has been sent.
            outgoing.put(None)
        if self.batches == self.arguments.batches:
            self.stopping.set()
            for _ in self.call:  # Until the server has heard the last acknowledgement.
                pass

    def take(self, batch):
        """Writes down what a batch says. What was seen before is the same, byte for byte."""
        line = {
            "batch_id": batch.batch_id,
            "repeat": batch.batch_id in self.seen,
            "alert_id": batch.alert.alert_id,
            "kind": self.messages.Kind.Name(batch.alert.kind).removeprefix("KIND_").lower(),
            "revision": batch.alert.revision,
            "people": len(batch.tokens),
            "tokens": [token.decode(errors="replace") for token in batch.tokens],
            "sha256": hashlib.sha256(batch.SerializeToString(deterministic=True)).hexdigest(),
            "at": time.monotonic(),
        }
        print(json.dumps(line), flush=True)
        self.seen.add(batch.batch_id)
        self.batches += 1
        self.last = time.monotonic()

    def stop(self, *_):
        """Ends the stream; what was not acknowledged comes again on the next one."""
        self.stopping.set()
        if self.call is not None:
            self.call.cancel()

    def watch_the_clock(self):
        while self.arguments.idle and not self.stopping.is_set():
            left = self.last + self.arguments.idle - time.monotonic()
            if left <= 0:
                self.stop()
            else:
                time.sleep(left)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="127.0.0.1:8481", metavar="HOST:PORT")
    parser.add_argument("--batches", type=int, metavar="N", help="stop after so many")
    parser.add_argument("--idle", type=float, metavar="S", help="stop when nothing came for so long")
    arguments = parser.parse_args()
    key = os.environ.get("APP_KEY") or sys.exit("APP_KEY must hold the app's key")
    consumer = Consumer(arguments, key)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, consumer.stop)
    consumer.run()


if __name__ == "__main__":
    main()
