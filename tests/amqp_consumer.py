#!/usr/bin/env python3
"""Takes an app's alerts from RabbitMQ, knowing nothing but homeward.proto and the README.

    pip install pika grpcio-tools
    AMQP_URL=amqp://USER:PASSWORD@HOST:5672/VHOST python3 tests/amqp_consumer.py --app weather

USER and PASSWORD are what `homeward admin amqp-user add weather` printed. Prints one line of JSON for
every batch it is handed, repeats too, and acknowledges the batch once that line is written. With
--receipts http://127.0.0.1:8480 and the app's key in APP_KEY it tells Homeward what it has taken, so
that a broker that loses its data costs no repeats. Goes on until it is interrupted: if the broker or
the queue is away, it comes back as soon as they do.
"""

import argparse
import hashlib
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pika
from google.protobuf import json_format, message
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parent.parent / "proto"
# Trying to connect again: soon, and not with all other apps at the same moment.
RECONNECT_S = (0.1, 0.5)
# A broker that is silent for twice this is gone, unless the URL says otherwise (?heartbeat=).
HEARTBEAT_S = 5
# How often to look whether to stop, and to tell what was taken.
LOOK_S = 0.2
# Receipts in one request.
RECEIPTS_MAX = 1000
# How long the last receipts may take.
LAST_RECEIPTS_S = 5


def messages():
    """Compiles the .proto file and gives its messages."""
    with tempfile.TemporaryDirectory() as folder:
        name = "homeward/v1/homeward.proto"
        if protoc.main(["protoc", f"-I{PROTO}", f"--python_out={folder}", name]) != 0:
            sys.exit(f"{PROTO / name} cannot be compiled")
        sys.path.insert(0, folder)
        return importlib.import_module("homeward.v1.homeward_pb2")


class Receipts:
    """Tells Homeward what was taken, in the background: alerts do not wait for it."""

    def __init__(self, url, key):
        self.url = f"{url.rstrip('/')}/v1/receipts"
        self.key = key
        self.waiting = []
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def taken(self, batch_id):
        with self.lock:
            self.waiting.append(batch_id)

    def run(self):
        while not self.stopping.wait(LOOK_S):
            self.tell()
        end = time.monotonic() + LAST_RECEIPTS_S
        while self.waiting and time.monotonic() < end:
            self.tell()
            time.sleep(random.uniform(*RECONNECT_S))

    def tell(self):
        """What cannot be told now is told later; telling it twice does no harm."""
        with self.lock:
            some = self.waiting[:RECEIPTS_MAX]
        if not some:
            return
        receipts = [{"batch_id": batch_id, "kind": "taken"} for batch_id in some]
        request = urllib.request.Request(self.url, json.dumps({"receipts": receipts}).encode())
        request.add_header("Authorization", f"Bearer {self.key}")
        try:
            with urllib.request.urlopen(request, timeout=10):
                pass
        except OSError as error:
            print(f"receipts: {error}, trying again", file=sys.stderr)
            return
        with self.lock:
            del self.waiting[: len(some)]

    def stop(self):
        self.stopping.set()
        self.thread.join()


class Consumer:
    """One app's way from its queue to its phones."""

    def __init__(self, arguments, url, receipts):
        self.messages = messages()
        self.queue = f"homeward.alerts.{arguments.app}.v1"
        self.prefetch = arguments.prefetch
        self.parameters = pika.URLParameters(url)
        if "heartbeat=" not in url:
            self.parameters.heartbeat = HEARTBEAT_S
        self.receipts = receipts
        self.seen = set()
        self.stopping = threading.Event()

    def run(self):
        """Consumes until told to stop, over as many connections as it takes."""
        while not self.stopping.is_set():
            try:
                self.consume()
            except (pika.exceptions.AMQPError, OSError) as error:
                print(f"{type(error).__name__} {error}: connecting again", file=sys.stderr)
            self.stopping.wait(random.uniform(*RECONNECT_S))
        if self.receipts:
            self.receipts.stop()

    def consume(self):
        """One connection: take and acknowledge batch after batch."""
        connection = pika.BlockingConnection(self.parameters)
        try:
            channel = connection.channel()
            # So many batches at a time may be unacknowledged; without a bound the whole queue would
            # come at once, and an urgent alert could not overtake it.
            channel.basic_qos(prefetch_count=self.prefetch)
            # Without a batch it gives nothing but a look at the clock; it ends if the queue goes.
            for method, properties, body in channel.consume(self.queue, inactivity_timeout=LOOK_S):
                if self.stopping.is_set():
                    return
                if method:
                    self.handle(channel, method, properties, body)
        finally:
            # What was not acknowledged comes again.
            if connection.is_open:
                connection.close()

    def handle(self, channel, method, properties, body):
        try:
            batch = self.decode(properties, body)
        except (ValueError, message.DecodeError, json_format.ParseError) as error:
            # To the dead letters, where Homeward's operators see it; asking again would not help.
            print(f"refused: {error}", file=sys.stderr)
            channel.basic_reject(method.delivery_tag, requeue=False)
            return
        # Here an app tells its people, if it has not seen this batch before; it must have done so, or
        # written down that it has to, before it acknowledges the batch.
        self.take(batch)
        # Before the acknowledgement, which may arrive although it fails here.
        if self.receipts:
            self.receipts.taken(batch.batch_id)
        channel.basic_ack(method.delivery_tag)

    def decode(self, properties, body):
        """Both forms that an app may have asked for."""
        batch = self.messages.AlertBatch()
        if properties.content_type == "application/x-protobuf":
            batch.ParseFromString(body)
        elif properties.content_type == "application/json":
            json_format.Parse(body, batch, ignore_unknown_fields=True)
        else:
            raise ValueError(f"content type {properties.content_type}")
        return batch

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

    def stop(self, *_):
        self.stopping.set()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--app", required=True, metavar="NAME")
    parser.add_argument("--prefetch", type=int, default=16, metavar="N", help="unacknowledged at a time")
    parser.add_argument("--receipts", metavar="URL", help="where Homeward's REST is")
    arguments = parser.parse_args()
    url = os.environ.get("AMQP_URL") or sys.exit("AMQP_URL must say where the broker is")
    receipts = None
    if arguments.receipts:
        key = os.environ.get("APP_KEY") or sys.exit("APP_KEY must hold the app's key")
        receipts = Receipts(arguments.receipts, key)
    consumer = Consumer(arguments, url, receipts)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, consumer.stop)
    consumer.run()


if __name__ == "__main__":
    main()
