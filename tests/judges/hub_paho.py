# SPDX-License-Identifier: MIT
"""What the paho scripts of this directory share: TAP, an emulator as a process, signatures, and paho's client with
a memory of all that came.

paho 1.6 shows its users neither the reason code of a PUBACK nor AUTH, and answers a QoS 1 message at once; the
subclass below adds that, with paho's own encoder and decoder of properties and reason codes.
"""

import base64
import ctypes
import hashlib
import hmac
import json
import os
import shutil
import signal
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import traceback

import paho.mqtt
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

API_VERSION = "2020-10-01-preview"
AUTH = 0xF0
FACTOR = int(os.environ.get("TEST_TIMEOUT_FACTOR", "1"))
BUILD = os.environ.get("IOTHUB_BUILD", "build")


# --- TAP ---


class Failed(Exception):
    """What was expected did not happen."""


def expect(condition, what):
    if not condition:
        raise Failed(what)


def expect_eq(got, want, what=""):
    if got != want:
        raise Failed(f"{what}: got {got!r}, expected {want!r}")


TESTS = []


def judged(function):
    """Makes the function a test."""
    TESTS.append(function)
    return function


def run_tests(setup, teardown, limit_s=30):
    """Runs the tests with what setup() gives, each within a time limit, and prints TAP. Returns the exit code."""

    def on_alarm(_signo, _frame):
        raise Failed("still running")

    wanted = [test for test in TESTS if len(sys.argv) < 2 or any(w in test.__name__ for w in sys.argv[1:])]
    n_failed = 0
    print(f"TAP version 13\n1..{len(wanted)}")
    print(f"# judge: paho.mqtt {paho.mqtt.__version__}, Python {sys.version.split()[0]}", flush=True)
    signal.signal(signal.SIGALRM, on_alarm)
    world = setup()
    try:
        for number, test in enumerate(wanted, 1):
            verdict = "ok"
            signal.alarm(limit_s * FACTOR)
            try:
                test(world)
            except Exception:  # pylint: disable=broad-except
                for line in traceback.format_exc().splitlines():
                    print("#", line)
                verdict = "not ok"
                n_failed += 1
            signal.alarm(0)
            world.end_of_test()
            print(f"{verdict} {number} - {test.__name__}", flush=True)
    finally:
        teardown(world)
    return 1 if n_failed else 0


def die_with_parent():
    """In a child: ends when this script does, however it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


# --- the emulator ---


class Emulator:
    """The emulator as a process with a directory of its own."""

    def __init__(self, devices):
        self.dir = tempfile.mkdtemp(prefix="iothub-judge-")
        self.process = None
        self.port = 0
        self.options = [f"--device={device}" for device in devices]

    def start(self):
        reader, writer = os.pipe()
        with open(f"{self.dir}/log", "ab") as log:
            self.process = subprocess.Popen(
                [f"{BUILD}/iothub-emulator", "--state", self.dir, f"--port={self.port}", f"--ready-fd={writer}"]
                + self.options, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[writer],
                preexec_fn=die_with_parent)
        os.close(writer)
        with os.fdopen(reader) as ready:
            port = ready.readline()
        expect(port.strip(), f"the emulator did not start: {self.log()}")
        self.port = int(port)

    def log(self):
        with open(f"{self.dir}/log", encoding="utf-8") as log:
            return "".join(log.readlines()[-5:])

    def stop(self, signo=signal.SIGTERM):
        process, self.process = self.process, None
        process.send_signal(signo)
        code = process.wait()
        # A sanitizer speaks up at the end.
        expect_eq(code, 0 if signo == signal.SIGTERM else -signo, f"the emulator's exit code, {self.log()}")

    def remove(self):
        if self.process:
            self.stop(signal.SIGKILL)
        shutil.rmtree(self.dir)

    @property
    def ca_file(self):
        return f"{self.dir}/ca.pem"

    def key(self, device):
        """The raw key of a device, or of the service's policy."""
        path = "service" if device == "service" else f"devices/{device}"
        with open(f"{self.dir}/{path}.connection-string", encoding="utf-8") as file:
            fields = dict(field.split("=", 1) for field in file.read().strip().split(";"))
        return base64.b64decode(fields["SharedAccessKey"])


# --- the client ---


def properties_of(packet_type, user=None, **first_class):
    """paho's properties: user properties as pairs or a dictionary, the rest by paho's names."""
    properties = Properties(packet_type)
    for name, value in first_class.items():
        setattr(properties, name, value)
    if user:
        pairs = user.items() if isinstance(user, dict) else user
        properties.UserProperty = [(name, str(value)) for name, value in pairs]
    return properties


def user_of(properties):
    """User properties as a dictionary."""
    return dict(getattr(properties, "UserProperty", [])) if properties else {}


def now_ms():
    return int(time.time() * 1000)


class Answer:
    """A reason code and its properties, of CONNACK, PUBACK, DISCONNECT or AUTH."""

    def __init__(self, reason, properties=None):
        self.reason = reason
        self.properties = properties
        self.user = user_of(properties)

    def __repr__(self):
        return f"reason {self.reason} {self.user}"

    def expect(self, reason, status=None, has=()):
        expect_eq(self.reason, reason, repr(self))
        expect_eq(self.user.get("status"), status, repr(self))
        expect_eq(sorted(set(self.user) - {"status"}), sorted(has), repr(self))


class Message:  # pylint: disable=too-few-public-methods
    """A PUBLISH of the hub."""

    def __init__(self, message):
        self.topic = message.topic
        self.payload = message.payload
        self.qos = message.qos
        self.mid = message.mid
        self.properties = message.properties
        self.user = user_of(message.properties)
        self.correlation = getattr(message.properties, "CorrelationData", None)


class Client(mqtt.Client):
    """paho's client, which notes all that comes and is driven by whoever waits for something."""

    def __init__(self, client_id):
        super().__init__(client_id, protocol=mqtt.MQTTv5)
        self.connack = None
        self.session_present = None
        self.pubacks = {}
        self.subacks = {}
        self.unsubacks = {}
        self.auths = []
        self.messages = []
        self.goodbye = None
        self.closed = False
        self.hold = False  # QoS 1 messages are answered by settle() only
        self.correlation = 0
        self.on_connect = self._note_connect
        self.on_disconnect = self._note_disconnect
        self.on_message = lambda _client, _data, message: self.messages.append(Message(message))
        self.on_subscribe = self._note_subscribe
        self.on_unsubscribe = self._note_unsubscribe

    def _note_connect(self, _client, _data, flags, reason, properties=None):
        self.connack = Answer(reason if isinstance(reason, int) else reason.value, properties)
        self.session_present = flags["session present"]

    def _note_disconnect(self, _client, _data, _reason, _properties=None):
        self.closed = True

    def _note_subscribe(self, _client, _data, mid, reasons, _properties=None):
        self.subacks[mid] = [reason.value for reason in reasons]

    def _note_unsubscribe(self, _client, _data, mid, _properties, reasons):
        self.unsubacks[mid] = [r.value for r in (reasons if isinstance(reasons, list) else [reasons])]

    def _answer_in(self, packet_type, offset):
        packet = self._in_packet["packet"]
        reason, properties = 0, None
        if len(packet) > offset:
            reason = packet[offset]
        if len(packet) > offset + 1:
            properties = Properties(packet_type)
            properties.unpack(packet[offset + 1:])
        return Answer(reason, properties)

    def _handle_pubackcomp(self, cmd):
        mid, = struct.unpack("!H", self._in_packet["packet"][:2])
        self.pubacks[mid] = self._answer_in(PacketTypes.PUBACK, 2)
        return super()._handle_pubackcomp(cmd)

    def _handle_disconnect(self):
        self.goodbye = self._answer_in(PacketTypes.DISCONNECT, 0)
        return super()._handle_disconnect()

    def _packet_handle(self):
        if self._in_packet["command"] == AUTH:
            self.auths.append(self._answer_in(PacketTypes.AUTH, 0))
            return mqtt.MQTT_ERR_SUCCESS
        return super()._packet_handle()

    def _send_puback(self, mid):
        return mqtt.MQTT_ERR_SUCCESS if self.hold else super()._send_puback(mid)

    def _send_body(self, command, body):
        packet = bytearray([command])
        self._pack_remaining_length(packet, len(body))
        return self._packet_queue(command, packet + body, 0, 0)

    def settle(self, message, reason=0, user=None):
        """PUBACK of a held message."""
        self._send_body(0x40, struct.pack("!HB", message.mid, reason)
                        + properties_of(PacketTypes.PUBACK, user).pack())

    def authenticate(self, user, **first_class):
        """AUTH, reason Re-authenticate."""
        self._send_body(AUTH, b"\x19" + properties_of(PacketTypes.AUTH, user, **first_class).pack())

    def until(self, condition, what, timeout_s=10):
        """Drives the client until condition() is true."""
        end = time.monotonic() + timeout_s * FACTOR
        while not condition():
            if time.monotonic() > end:
                raise Failed(f"no {what}; the hub's good-bye: {self.goodbye}, closed: {self.closed}")
            if self.socket() is None:
                raise Failed(f"no {what}: connection closed, the hub's good-bye: {self.goodbye}")
            self.loop(0.05)

    def until_closed(self, timeout_s=10):
        """Drives it until the hub has closed; returns the DISCONNECT, or None."""
        self.until(lambda: self.closed, "end of the connection", timeout_s)
        return self.goodbye

    def send(self, topic, payload=b"", qos=1, retain=False, user=None, **first_class):
        """A PUBLISH; returns the PUBACK of QoS 1."""
        mid = self.publish(topic, payload, qos, retain,
                           properties_of(PacketTypes.PUBLISH, user, **first_class)).mid
        if qos == 0:
            return None
        self.until(lambda: mid in self.pubacks, "PUBACK")
        return self.pubacks.pop(mid)

    def next_message(self, topic=None, timeout_s=10):
        """The next message, with this topic."""
        self.until(lambda: self.messages, "message", timeout_s)
        message = self.messages.pop(0)
        if topic:
            expect_eq(message.topic, topic, "topic")
        return message

    def request(self, topic, payload=b"", user=None, correlation=None, timeout_s=10, **first_class):
        """A request; returns its response. The service side's topics differ from the device's."""
        if correlation is None:
            self.correlation += 1
            correlation = struct.pack("!Q", self.correlation)
        responses = "$service/responses" if topic.startswith("$service/") else "$iothub/responses"
        self.send(topic, payload, 0, user=user, CorrelationData=correlation, **first_class)

        def found():
            return [m for m in self.messages if m.topic == responses
                    and m.correlation == correlation]

        self.until(found, f"response to {topic}", timeout_s)
        message = found()[0]
        self.messages.remove(message)
        expect_eq(message.qos, 0, "QoS of a response")
        return message

    def subscribe_to(self, *filters):
        """One SUBSCRIBE of (filter, QoS) pairs; returns the codes of its SUBACK."""
        _, mid = self.subscribe([(f, mqtt.SubscribeOptions(qos)) for f, qos in filters])
        self.until(lambda: mid in self.subacks, "SUBACK")
        return self.subacks.pop(mid)

    def unsubscribe_from(self, *filters):
        _, mid = self.unsubscribe(list(filters))
        self.until(lambda: mid in self.unsubacks, "UNSUBACK")
        return self.unsubacks.pop(mid)

    def drop(self):
        """Ends the connection without a word, or closes what is left of it."""
        if self.socket():
            self._sock_close()
        self.closed = True


class World:
    """An emulator, and the clients of the test that runs."""

    def __init__(self, n_devices):
        self.devices = [f"d{number}" for number in range(n_devices)]
        self.n_used = 0
        self.emulator = Emulator(self.devices)
        self.emulator.start()
        self.clients = []

    def new_device(self):
        """The name of a device no test has used."""
        self.n_used += 1
        return self.devices[self.n_used - 1]

    def sign(self, key, client_id, policy="", at="", expiry="", host="localhost"):
        text = f"{host}\n{client_id}\n{policy}\n{at}\n{expiry}\n"
        return hmac.new(key, text.encode(), hashlib.sha256).digest()

    def connect(self, client_id, key=None, policy=None, at=None, expiry=None, user=(), drop_user=(), signature=None,
                method="SAS", keepalive=60, clean_start=False, session_expiry=3600, refused=False, prepare=None,
                **first_class):
        """Connects; everything can be other than it should be. Returns the client once CONNACK came."""
        if expiry is None:
            expiry = str(now_ms() + 3600000)
        if key is None:
            key = self.emulator.key("service" if policy == "service" else client_id)
        if signature is None:
            signature = self.sign(key, client_id, policy or "", at or "", expiry)
        pairs = {"api-version": API_VERSION, "sas-policy": policy, "sas-at": at, "sas-expiry": expiry}
        pairs = [(n, v) for n, v in pairs.items() if v is not None and n not in drop_user] + list(user)
        if method:
            first_class.setdefault("AuthenticationMethod", method)
            if signature:
                first_class.setdefault("AuthenticationData", signature)
        if session_expiry is not None:
            first_class["SessionExpiryInterval"] = session_expiry
        client = Client(client_id)
        self.clients.append(client)
        client.tls_set(self.emulator.ca_file, cert_reqs=ssl.CERT_REQUIRED)
        if prepare:
            prepare(client)
        client.connect("localhost", self.emulator.port, keepalive, clean_start=clean_start,
                       properties=properties_of(PacketTypes.CONNECT, pairs, **first_class))
        client.until(lambda: client.connack, "CONNACK")
        if not refused:
            expect_eq(client.connack.reason, 0, repr(client.connack))
        return client

    def service(self):
        """A client of the service side."""
        return self.connect(f"service/judge{len(self.clients)}", policy="service", session_expiry=None)

    def fault(self, device, **members):
        """Sets a fault for a device."""
        service = self.service()
        answer = service.request("$service/faults/set", json.dumps({"device": device, **members}))
        expect("status" not in answer.user, answer.user)
        service.drop()

    def end_of_test(self):
        for client in self.clients:
            client.drop()
        self.clients.clear()

    def close(self):
        self.end_of_test()
        try:
            self.emulator.stop()
        finally:
            self.emulator.remove()
