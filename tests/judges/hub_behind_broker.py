#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""Plays the hub behind a broker that knows nothing of the contract: a paho client that answers a device's requests.

It answers Get Twin and Patch Twin Reported from a twin of its own, and prints each response of a method as a line of
JSON. What else a hub says comes as lines of JSON on descriptor 3: {"publish": TOPIC, "payload", "qos", "user",
"correlation"} is published, {"answer": {…}} are the User Properties the next request is answered with instead.
Each line is answered by the line "done". It ends with descriptor 3.
usage: hub_behind_broker.py PORT CA-FILE
"""

import json
import os
import sys

import paho.mqtt
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

TWIN_GET = "$iothub/twin/get"
REPORTED = "$iothub/twin/patch/reported"
RESPONSES = "$iothub/responses"


def say(text):
    print(text, flush=True)


def merge(target, patch):
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


class Hub(mqtt.Client):
    """paho's client with a twin."""

    def __init__(self):
        super().__init__("hub", protocol=mqtt.MQTTv5)
        self.reported = {}
        self.version = 1
        self.answer = None
        self.on_connect = self.subscribe_to_all
        self.on_subscribe = lambda *_: say(f"paho.mqtt {paho.mqtt.__version__}, Python {sys.version.split()[0]}")
        self.on_message = self.serve

    @staticmethod
    def subscribe_to_all(client, _data, _flags, _reason, _properties):
        client.subscribe([(topic, SubscribeOptions(0, noLocal=True)) for topic in (TWIN_GET, REPORTED, RESPONSES)])

    def post(self, topic, payload, qos=0, user=None, correlation=None):
        properties = Properties(PacketTypes.PUBLISH)
        if user:
            properties.UserProperty = list(user.items())
        if correlation is not None:
            properties.CorrelationData = correlation
        self.publish(topic, payload, qos, properties=properties)

    def twin_get(self, _message, _user):
        twin = {"desired": {"$version": 1}, "reported": {**self.reported, "$version": self.version}}
        return {}, json.dumps(twin)

    def twin_patch(self, message, user):
        if user.get("if-version", str(self.version)) != str(self.version):
            return {"status": "0104"}, ""
        self.reported = merge(self.reported, json.loads(message.payload))
        self.version += 1
        return {"version": str(self.version)}, ""

    @staticmethod
    def serve(self, _data, message):
        user = dict(getattr(message.properties, "UserProperty", []))
        correlation = getattr(message.properties, "CorrelationData", b"")
        if message.topic == RESPONSES:
            say(json.dumps([correlation.decode(), user, message.payload.decode()]))
            return
        if self.answer:
            user, payload, self.answer = self.answer, "", None
        else:
            user, payload = (self.twin_get if message.topic == TWIN_GET else self.twin_patch)(message, user)
        self.post(RESPONSES, payload, 0, user, correlation)


def main(port, ca_file):
    hub = Hub()
    hub.tls_set(ca_file)
    hub.connect("localhost", int(port))
    hub.loop_start()
    with os.fdopen(3, encoding="utf-8") as lines:
        for line in lines:
            order = json.loads(line)
            if "answer" in order:
                hub.answer = order["answer"]
            else:
                hub.post(order["publish"], order.get("payload", ""), order.get("qos", 0), order.get("user"),
                         order["correlation"].encode() if "correlation" in order else None)
            say("done")
    hub.disconnect()
    hub.loop_stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
