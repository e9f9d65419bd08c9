#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""Clients nobody here wrote judge the emulator: mosquitto_sub and mosquitto_rr of Debian's mosquitto-clients.

What they can do of the contract beyond telemetry (tests/flow/test_emulator_clients.c): twins, commands and what a
method's caller sends. The service side goes over paho.
"""

import json
import os
import subprocess
import sys

from hub_paho import API_VERSION, World, die_with_parent, expect, expect_eq, judged, now_ms, run_tests


class Tool:
    """One of the programs as a device, on its way until its output is asked for."""

    def __init__(self, world, program, device, *arguments):
        emulator = world.emulator
        expiry = now_ms() + 3600000
        # They take Authentication Data as a string: one with a NUL in it is passed over.
        while b"\0" in (signature := world.sign(emulator.key(device), device, expiry=str(expiry))):
            expiry += 1
        self.process = subprocess.Popen(
            [program, "-V", "5", "-h", "localhost", "-p", str(emulator.port), "--cafile", emulator.ca_file, "-i", device,
             "-c", "-x", "3600", "-W", "20", "-D", "connect", "authentication-method", "SAS",
             "-D", "connect", "authentication-data", os.fsdecode(signature),
             "-D", "connect", "user-property", "api-version", API_VERSION,
             "-D", "connect", "user-property", "sas-expiry", str(expiry), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=die_with_parent)

    def output(self):
        text, _ = self.process.communicate()
        text = text.decode()
        expect_eq(self.process.returncode, 0, text)
        return text.strip()


def subscribed(service, device):
    """Waits until the device has a subscription."""

    def has_one():
        return json.loads(service.request("$service/devices/show", user={"device": device}).payload)["subscriptions"]

    service.until(has_one, "subscription")


@judged
def mosquitto_rr_gets_and_patches_the_twin(world):
    device = world.new_device()
    answer = ["-e", "$iothub/responses", "-D", "publish", "correlation-data", "one", "-F", "%P|%p"]
    patch = Tool(world, "mosquitto_rr", device, "-t", "$iothub/twin/patch/reported", "-m", '{"a":1}', *answer)
    expect_eq(patch.output(), "version:2|", "patch")
    get = Tool(world, "mosquitto_rr", device, "-t", "$iothub/twin/get", "-n", *answer)
    expect_eq(json.loads(get.output().split("|")[1]),
              {"desired": {"$version": 1}, "reported": {"a": 1, "$version": 2}}, "twin")
    bad = Tool(world, "mosquitto_rr", device, "-t", "$iothub/twin/patch/reported", "-m", "[]", *answer)
    expect(bad.output().startswith("status:0100 reason:"), "Bad Request")
    late = Tool(world, "mosquitto_rr", device, "-t", "$iothub/twin/patch/reported", "-m", "{}",
                "-D", "publish", "user-property", "if-version", "7", *answer)
    expect_eq(late.output(), "status:0104|", "if-version")


@judged
def mosquitto_sub_completes_commands(world):
    device = world.new_device()
    service = world.service()
    for payload in ("one", "two"):
        service.request("$service/commands/send", payload, user={"device": device, "@colour": "blue"})
    tool = Tool(world, "mosquitto_sub", device, "-q", "1", "-t", "$iothub/commands", "-C", "2", "-F", "%t %q %p %P")
    lines = tool.output().splitlines()
    expect_eq([line.split()[:3] for line in lines], [["$iothub/commands", "1", "one"], ["$iothub/commands", "1", "two"]],
              "commands")
    for line in lines:
        expect("delivery-count:1" in line and "@colour:blue" in line and "sequence-no:" in line, line)
    service.until(lambda: json.loads(service.request(
        "$service/commands/list", user={"device": device}).payload) == [], "completion")


@judged
def mosquitto_sub_gets_desired_changes(world):
    device = world.new_device()
    service = world.service()
    tool = Tool(world, "mosquitto_sub", device, "-t", "$iothub/twin/patch/desired", "-C", "1", "-F", "%q %P %p")
    subscribed(service, device)
    service.request("$service/twin/patch", '{"speed":3}', user={"device": device})
    expect_eq(tool.output(), '0 version:2 {"speed":3}', "patch")


@judged
def mosquitto_sub_gets_a_methods_request(world):
    device = world.new_device()
    service = world.service()
    tool = Tool(world, "mosquitto_sub", device, "-t", "$iothub/methods/+", "-C", "1", "-F", "%t %q %p")
    subscribed(service, device)
    # It goes without an answer: the caller is told so.
    answer = service.request("$service/methods/call", "in", user={"device": device, "method": "reboot"})
    expect_eq(answer.user.get("status"), "06A0", "a device that left")
    expect_eq(tool.output(), "$iothub/methods/reboot 0 in", "request")


def versions(n_devices):
    for program in ("mosquitto_sub", "mosquitto_rr"):
        said = subprocess.run([program, "--version"], stdout=subprocess.PIPE, check=False).stdout.decode()
        print("# judge:", said.splitlines()[0] if said else f"{program} of no known version", flush=True)
    return World(n_devices)


if __name__ == "__main__":
    sys.exit(run_tests(lambda: versions(10), World.close))
