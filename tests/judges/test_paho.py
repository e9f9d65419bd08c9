#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""A client nobody here wrote judges the emulator: paho, of Debian's python3-paho-mqtt.

Every operation of the contract, and every error that a client can bring about, one test each. What the service side
does (commands, methods, desired properties, faults) goes over paho, too.
"""

import base64
import json
import sys
import time

from paho.mqtt.packettypes import PacketTypes

from hub_paho import World, expect, expect_eq, judged, now_ms, properties_of, run_tests

TELEMETRY = "$iothub/telemetry"
TWIN_GET = "$iothub/twin/get"
REPORTED = "$iothub/twin/patch/reported"
DESIRED = "$iothub/twin/patch/desired"
COMMANDS = "$iothub/commands"
METHODS = "$iothub/methods/+"
RESPONSES = "$iothub/responses"

# status: reason code, and what else the answer has
OUTCOMES = {
    "0100": (131, ["reason"]), "0101": (135, ["trace-id"]), "0102": (131, ["reason"]),
    "0103": (131, ["reason", "trace-id"]), "0104": (131, []), "0501": (151, []), "0502": (151, []),
    "0503": (131, ["reason"]), "0504": (131, ["reason"]), "0601": (131, ["trace-id"]), "0602": (131, ["trace-id"]),
    "0603": (131, ["trace-id"]), "06A0": (131, []), "06A1": (131, ["reason", "trace-id"]), "06A2": (131, ["reason"]),
}


def iso(ms):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03}Z"


def refused(world, device, reason, status, has, **options):
    client = world.connect(device, refused=True, **options)
    client.connack.expect(reason, status, has)
    client.until(lambda: client.closed, "end of the connection")


def bad_connect(world, **options):
    refused(world, world.new_device(), 131, "0100", ["reason"], **options)


def not_authorized(world, device=None, **options):
    refused(world, device or world.new_device(), 135, "0101", ["trace-id"], **options)


def expect_response(message, status=None, has=()):
    expect_eq(message.user.get("status"), status, str(message.user))
    expect_eq(sorted(set(message.user) - {"status"}), sorted(has), str(message.user))


# --- CONNECT ---


@judged
def connack_names_every_limit(world):
    device = world.new_device()
    client = world.connect(device, keepalive=65535)
    properties = client.connack.properties
    for name, want in (("ReceiveMaximum", 16), ("MaximumQoS", 1), ("RetainAvailable", 0), ("MaximumPacketSize", 262144),
                       ("TopicAliasMaximum", 10), ("WildcardSubscriptionAvailable", 0),
                       ("SubscriptionIdentifierAvailable", 0), ("SharedSubscriptionAvailable", 0),
                       ("ServerKeepAlive", 1140)):
        expect_eq(getattr(properties, name), want, name)
    for name in ("ResponseInformation", "AssignedClientIdentifier"):
        expect(not hasattr(properties, name), name)
    expect_eq(client.session_present, 0, "Session Present")
    client.drop()
    client = world.connect(device, keepalive=2000, RequestResponseInformation=1)
    expect_eq(client.connack.properties.ServerKeepAlive, 1140, "Server Keep Alive")
    expect(not hasattr(client.connack.properties, "ResponseInformation"), "Response Information")
    client.drop()
    client = world.connect(device, keepalive=60)
    expect(not hasattr(client.connack.properties, "ServerKeepAlive"), "Server Keep Alive nobody needs")


@judged
def connect_needs_the_api_version(world):
    bad_connect(world, drop_user=["api-version"])
    bad_connect(world, drop_user=["api-version"], user=[("api-version", "2019-10-01")])


@judged
def connect_takes_a_client_agent_and_a_host(world):
    world.connect(world.new_device(), user=[("client-agent", "paho"), ("host", "localhost")])
    bad_connect(world, user=[("host", "other.example")])


@judged
def connect_takes_no_other_properties(world):
    bad_connect(world, user=[("favourite", "blue")])


@judged
def connect_needs_a_method(world):
    bad_connect(world, method=None)


@judged
def connect_takes_no_user_name_and_no_password(world):
    bad_connect(world, prepare=lambda client: client.username_pw_set("user"))
    bad_connect(world, prepare=lambda client: client.username_pw_set("user", "secret"))


@judged
def connect_takes_no_will(world):
    bad_connect(world, prepare=lambda client: client.will_set(TELEMETRY, "gone"))


@judged
def another_method_is_not_authorized(world):
    not_authorized(world, method="X509", signature=False)
    not_authorized(world, method="X509")
    not_authorized(world, method="Kerberos")


@judged
def a_wrong_signature_is_not_authorized(world):
    device = world.new_device()
    good = world.sign(world.emulator.key(device), device, expiry="4102444800000")
    not_authorized(world, device, expiry="4102444800001", signature=good)
    not_authorized(world, device, expiry="4102444800000", signature=good[:31])
    not_authorized(world, device, key=b"another")
    not_authorized(world, "nobody", key=b"any")
    not_authorized(world, device, expiry=str(now_ms() - 600000))


@judged
def the_expiry_is_needed(world):
    bad_connect(world, drop_user=["sas-expiry"])


@judged
def times_have_two_forms(world):
    device = world.new_device()
    for expiry, at in (("4102444800000", None), ("2100-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
                       ("2100-01-01T00:00:00.123Z", "1600987795320")):
        world.connect(device, expiry=expiry, at=at).drop()
    for expiry in ("2100-01-01T00:00:00-07:00", "2100-01-01T00:00:00+00:00", "2100-01-01T00:00:00", "tomorrow", "-1"):
        refused(world, device, 131, "0100", ["reason"], expiry=expiry)


@judged
def both_keys_sign(world):
    device = world.new_device()
    keys = json.loads(world.service().request("$service/devices/keys", user={"device": device}).payload)
    expect(keys["primary-key"] != keys["secondary-key"], "two keys")
    for name in ("primary-key", "secondary-key"):
        world.connect(device, key=base64.b64decode(keys[name])).drop()


@judged
def a_policy_signs_for_any_device(world):
    with open(f"{world.emulator.dir}/devices.json", encoding="utf-8") as file:
        key = base64.b64decode(json.load(file)["policies"]["device"])
    world.connect(world.new_device(), policy="device", key=key)
    not_authorized(world, policy="device", key=b"another")
    not_authorized(world, policy="nosuch", key=key)


@judged
def a_module_connects(world):
    device = world.new_device()
    service = world.service()
    answer = service.request("$service/devices/add", user={"device": f"{device}/camera"})
    expect("status" not in answer.user, answer.user)
    client = world.connect(f"{device}/camera")
    client.send(TELEMETRY, "from a module").expect(0)
    not_authorized(world, f"{device}/other", key=world.emulator.key(device))


@judged
def without_problem_information_only_the_code_tells(world):
    device = world.new_device()
    client = world.connect(device, key=b"another", refused=True, RequestProblemInformation=0)
    client.connack.expect(135)
    client = world.connect(device, RequestProblemInformation=0)
    client.send(TELEMETRY, user={"unknown": "x"}).expect(131)
    client.send(TELEMETRY, qos=0, user={"unknown": "x"})
    client.until_closed().expect(131)


@judged
def a_small_maximum_packet_size_is_kept(world):
    client = world.connect(world.new_device(), MaximumPacketSize=128)
    answer = client.send(TELEMETRY, user={"u" * 300: "x"})
    expect_eq(answer.reason, 131, repr(answer))
    client.subscribe_to((DESIRED, 0))


# --- sessions ---


@judged
def the_session_stays(world):
    device = world.new_device()
    client = world.connect(device)
    expect_eq(client.subscribe_to((COMMANDS, 1), (DESIRED, 0)), [1, 0], "SUBACK")
    client.drop()
    client = world.connect(device)
    expect_eq(client.session_present, 1, "Session Present")
    service = world.service()
    service.request("$service/twin/patch", '{"a": 1}', user={"device": device})
    expect_eq(json.loads(client.next_message(DESIRED).payload), {"a": 1}, "patch")
    client.drop()
    client = world.connect(device, clean_start=True)
    expect_eq(client.session_present, 0, "Session Present after Clean Start")
    service.request("$service/twin/patch", '{"a": 2}', user={"device": device})
    client.request(TWIN_GET)
    expect_eq(client.messages, [], "what comes without a subscription")


@judged
def a_session_expires(world):
    device = world.new_device()
    client = world.connect(device, session_expiry=None)
    client.subscribe_to((COMMANDS, 1))
    client.drop()
    client = world.connect(device)
    expect_eq(client.session_present, 0, "Session Present")


@judged
def a_session_survives_kill_9(world):
    device = world.new_device()
    client = world.connect(device)
    client.subscribe_to((COMMANDS, 1))
    client.request(REPORTED, '{"kept": true}')
    client.drop()
    service = world.service()
    expect("status" not in service.request("$service/commands/send", "kept", user={"device": device}).user, "sent")
    world.emulator.stop(9)
    world.emulator.start()
    client = world.connect(device)
    expect_eq(client.session_present, 1, "Session Present")
    expect_eq(client.next_message(COMMANDS).payload, b"kept", "command")
    expect_eq(json.loads(client.request(TWIN_GET).payload)["reported"]["kept"], True, "twin")


@judged
def another_connection_takes_over(world):
    device = world.new_device()
    first = world.connect(device)
    world.connect(device)
    expect_eq(first.until_closed().reason, 142, "good-bye")


@judged
def the_token_ends(world):
    client = world.connect(world.new_device(), expiry=str(now_ms() + 1500))
    expect_eq(client.until_closed().reason, 135, "good-bye")


@judged
def authenticates_again(world):
    device = world.new_device()
    key = world.emulator.key(device)
    client = world.connect(device, expiry=str(now_ms() + 2500))
    at, expiry = str(now_ms()), str(now_ms() + 3600000)
    client.authenticate({"sas-at": at, "sas-expiry": expiry}, AuthenticationMethod="SAS",
                        AuthenticationData=world.sign(key, device, at=at, expiry=expiry))
    client.send(TELEMETRY, "meanwhile").expect(0)
    client.until(lambda: client.auths, "AUTH")
    expect_eq(client.auths[0].reason, 0, "AUTH")
    # Past the first token's end: the new one counts.
    end = time.monotonic() + 3
    client.until(lambda: time.monotonic() > end or client.closed, "three seconds")
    client.send(TELEMETRY, "afterwards").expect(0)


@judged
def a_failed_authentication_ends_the_connection(world):
    device = world.new_device()
    expiry = str(now_ms() + 3600000)
    client = world.connect(device)
    client.authenticate({"sas-expiry": expiry}, AuthenticationMethod="SAS", AuthenticationData=b"x" * 32)
    expect_eq(client.until_closed().reason, 135, "good-bye")


@judged
def silence_ends_the_connection(world):
    client = world.connect(world.new_device(), keepalive=1)
    client._keepalive = 3600  # paho's own pings
    expect_eq(client.until_closed().reason, 141, "good-bye")


# --- subscriptions ---


@judged
def subscriptions_are_answered_one_by_one(world):
    client = world.connect(world.new_device())
    expect_eq(client.subscribe_to((COMMANDS, 1), (DESIRED, 0), ("$iothub/methods/a", 0), (METHODS, 0),
                                  ("methods/b", 0), (RESPONSES, 0)), [1, 0, 0, 0, 0, 0], "SUBACK")
    expect_eq(client.subscribe_to(("$iothub/nothing", 0), ("$iothub/Commands", 1), ("$iothub/commands/", 1),
                                  (TELEMETRY, 0)), [0x8F] * 4, "unknown topics")
    expect_eq(client.subscribe_to(("#", 0), ("$iothub/#", 0), ("$iothub/+", 0), ("$iothub/twin/patch/+", 0)),
              [0xA2] * 4, "wildcards")
    expect_eq(client.unsubscribe_from(COMMANDS, "$iothub/nothing"), [0, 17], "UNSUBACK")


@judged
def at_most_50_subscriptions(world):
    client = world.connect(world.new_device())
    expect_eq(client.subscribe_to(*[(f"$iothub/methods/m{i}", 0) for i in range(51)]), [0] * 50 + [0x97], "SUBACK")
    expect_eq(client.subscribe_to(("$iothub/methods/m7", 0)), [0], "one that is there")


@judged
def responses_come_without_a_subscription(world):
    client = world.connect(world.new_device())
    client.request(TWIN_GET)
    client.unsubscribe_from(RESPONSES)
    client.request(TWIN_GET)


@judged
def a_suback_can_fail_on_demand(world):
    device = world.new_device()
    world.fault(device, fault="suback", reason=0x97, topic=COMMANDS, count=1)
    client = world.connect(device)
    expect_eq(client.subscribe_to((COMMANDS, 1), (DESIRED, 0)), [0x97, 0], "SUBACK")


# --- telemetry ---


@judged
def telemetry_arrives_with_all_it_has(world):
    device = world.new_device()
    monitor = world.service()
    expect_eq(monitor.subscribe_to((f"$service/telemetry/{device}", 0)), [0], "SUBACK")
    client = world.connect(device)
    payload = bytes(range(256))
    client.send(TELEMETRY, payload, ContentType="application/x-all", user={
        "content-encoding": "identity", "message-id": "m1", "user-id": "u1", "correlation-id": "c1",
        "creation-time": "2021-04-21T11:30:16.250Z", "@colour": "grün"}).expect(0)
    message = monitor.next_message(f"$service/telemetry/{device}")
    expect_eq(message.payload, payload, "payload")
    expect_eq(message.properties.ContentType, "application/x-all", "Content Type")
    for name, want in (("content-encoding", "identity"), ("message-id", "m1"), ("user-id", "u1"),
                       ("correlation-id", "c1"), ("iothub-creation-time-utc", "2021-04-21T11:30:16.250Z"),
                       ("@colour", "grün"), ("device-id", device)):
        expect_eq(message.user.get(name), want, name)
    client.send(TELEMETRY, b"", qos=0, user={"creation-time": "1600987795320"})
    message = monitor.next_message()
    expect_eq(message.payload, b"", "payload")
    expect_eq(message.user["iothub-creation-time-utc"], "2020-09-24T22:49:55.320Z", "creation-time in ms")
    # What the operation does not mention of MQTT's own is ignored.
    client.send(TELEMETRY, "x", ResponseTopic="a/b", CorrelationData=b"x" * 40, MessageExpiryInterval=1).expect(0)
    expect_eq(monitor.next_message().payload, b"x", "payload")


@judged
def telemetry_with_an_error_is_refused(world):
    client = world.connect(world.new_device())
    for user in ({"colour": "blue"}, {"creation-time": "2021-04-21T11:30:16-07:00"}, {"creation-time": "soon"},
                 {"Message-Id": "x"}, {"status": "0000"}, {"if-version": "1"}):
        client.send(TELEMETRY, "x", user=user).expect(131, "0100", ["reason"])
    for creation_time in ("2021-04-21T11:30:16Z", "1600987795320"):
        client.send(TELEMETRY, "x", user={"creation-time": creation_time}).expect(0)


@judged
def an_error_at_qos_0_ends_the_connection(world):
    client = world.connect(world.new_device())
    client.send(TELEMETRY, "x", qos=0, user={"colour": "blue"})
    client.until_closed().expect(131, "0100", ["reason"])


@judged
def topics_match_exactly(world):
    device = world.new_device()
    client = world.connect(device)
    for topic in ("$iothub/telemetry/", "$iothub/Telemetry", "$iothub/nothing", "telemetry", COMMANDS, DESIRED):
        client.send(topic, "x").expect(131, "0504", ["reason"])
    client.send("$iothub/telemetry/", "x", qos=0)
    expect_eq(client.until_closed().reason, 144, "good-bye")


@judged
def no_qos_2_and_no_retain(world):
    device = world.new_device()
    client = world.connect(device)
    client.publish(TELEMETRY, "x", 2)
    expect_eq(client.until_closed().reason, 0x9B, "good-bye")
    client = world.connect(device)
    client.publish(TELEMETRY, "x", 1, retain=True)
    expect_eq(client.until_closed().reason, 0x9A, "good-bye")


@judged
def a_packet_can_be_too_large(world):
    client = world.connect(world.new_device())
    room = 262144 - 5 - 2 - len(TELEMETRY) - 2
    client.send(TELEMETRY, b"x" * (room - 2)).expect(0)
    client.publish(TELEMETRY, b"x" * (room + 10), 1)
    expect_eq(client.until_closed().reason, 149, "good-bye")


@judged
def aliases_stand_for_topics(world):
    client = world.connect(world.new_device())
    client.send(TELEMETRY, "x", TopicAlias=10).expect(0)
    client.publish(TELEMETRY, "x", 1, properties=properties_of(PacketTypes.PUBLISH, TopicAlias=11))
    expect_eq(client.until_closed().reason, 148, "good-bye")


@judged
def more_than_16_in_flight_is_the_end(world):
    device = world.new_device()
    world.fault(device, fault="delay", operation="telemetry", ms=5000)
    client = world.connect(device)
    client.max_inflight_messages_set(20)
    for _ in range(17):
        client.publish(TELEMETRY, "x", 1)
    expect_eq(client.until_closed().reason, 147, "good-bye")


# --- twins ---


@judged
def a_twin_has_two_parts_and_their_versions(world):
    device = world.new_device()
    client = world.connect(device)
    answer = client.request(TWIN_GET)
    expect_response(answer)
    expect_eq(json.loads(answer.payload), {"desired": {"$version": 1}, "reported": {"$version": 1}}, "twin")
    answer = client.request(REPORTED, '{"a": {"b": 1, "c": [1, "x", null, true]}, "d": "e"}')
    expect_response(answer, None, ["version"])
    expect_eq((answer.user["version"], answer.payload), ("2", b""), "patch")
    answer = client.request(REPORTED, '{"a": {"b": null}, "d": null}', user={"if-version": "2"})
    expect_eq(answer.user["version"], "3", "version")
    twin = json.loads(client.request(TWIN_GET).payload)
    expect_eq(twin["reported"]["a"]["c"][:2], [1, "x"], "reported")
    expect_eq(sorted(twin["reported"]), ["$version", "a"], "reported")
    expect("b" not in twin["reported"]["a"], "what null removed")
    expect_response(client.request(REPORTED, '{"x": 1}', user={"if-version": "2"}), "0104")
    expect_eq(json.loads(client.request(TWIN_GET).payload)["reported"]["$version"], 3, "version")


@judged
def desired_changes_arrive(world):
    device = world.new_device()
    client = world.connect(device)
    client.subscribe_to((DESIRED, 0))
    service = world.service()
    answer = service.request("$service/twin/patch", '{"speed": 3, "old": null}', user={"device": device})
    expect_eq(answer.user, {"version": "2"}, "answer")
    message = client.next_message(DESIRED)
    expect_eq((message.qos, message.user), (0, {"version": "2"}), "patch")
    expect_eq(json.loads(message.payload), {"speed": 3, "old": None}, "patch")
    expect_eq(json.loads(client.request(TWIN_GET).payload)["desired"], {"speed": 3, "$version": 2}, "desired")


@judged
def twins_have_limits(world):
    client = world.connect(world.new_device())

    def nested(levels):
        return '{"a":' * levels + "1" + "}" * levels

    good = [nested(10), json.dumps({"k" * 1024: 1}), json.dumps({"k": "v" * 4096}),
            json.dumps({"k" * 1024: None}), json.dumps({f"k{i}": "v" * 4000 for i in range(8)})]
    bad = ["", "x", "[]", "1", "null", '{"a":', nested(12), json.dumps({"k" * 1025: 1}), json.dumps({"k": "v" * 4097}),
           '{"a.b": 1}', '{"$a": 1}', '{"a b": 1}', '{"a\\u0001": 1}', '{"a\\u007f": 1}',
           json.dumps({f"k{i}": "v" * 4096 for i in range(9)})]
    for payload in good:
        expect_response(client.request(REPORTED, payload), None, ["version"])
        clear = {key: None for key in json.loads(payload)}
        expect_response(client.request(REPORTED, json.dumps(clear)), None, ["version"])
    version = json.loads(client.request(TWIN_GET).payload)["reported"]["$version"]
    for payload in bad:
        answer = client.request(REPORTED, payload)
        expect_eq(answer.user.get("status"), "0100", f"{payload[:40]}: {answer.user}")
    expect_eq(json.loads(client.request(TWIN_GET).payload)["reported"]["$version"], version, "version")


@judged
def requests_have_rules(world):
    device = world.new_device()
    client = world.connect(device)
    for correlation in (b"\0", b"\xff" * 16):
        expect_response(client.request(TWIN_GET, correlation=correlation))
    expect_response(client.request(TWIN_GET, ResponseTopic="elsewhere"))
    expect_response(client.request(TWIN_GET, user={"colour": "blue"}), "0100", ["reason"])
    expect_response(client.request(TWIN_GET, "payload"), "0100", ["reason"])
    expect_response(client.request(REPORTED, "{}", user={"if-version": "-1"}), "0100", ["reason"])
    client.send(TWIN_GET, qos=1, CorrelationData=b"1").expect(131, "0100", ["reason"])
    client.send(REPORTED, "{}", qos=1, CorrelationData=b"1").expect(131, "0100", ["reason"])
    client.send(TWIN_GET, qos=0)
    client.until_closed().expect(131, "0100", ["reason"])
    client = world.connect(device)
    client.send(TWIN_GET, qos=0, CorrelationData=b"x" * 17)
    client.until_closed().expect(131, "0100", ["reason"])


# --- commands ---


@judged
def a_command_waits_and_arrives_with_all_it_has(world):
    device = world.new_device()
    service = world.service()
    answer = service.request("$service/commands/send", bytes(range(256)), ContentType="a/b", user={
        "device": device, "message-id": "m", "user-id": "u", "correlation-id": "c", "content-encoding": "e",
        "creation-time": "2021-04-21T11:30:16Z", "@colour": "blue"})
    expect("status" not in answer.user, answer.user)
    client = world.connect(device)
    client.hold = True
    client.request(TWIN_GET)
    expect_eq(client.messages, [], "what comes without a subscription")
    client.subscribe_to((COMMANDS, 1))
    message = client.next_message(COMMANDS)
    expect_eq((message.qos, message.payload), (1, bytes(range(256))), "command")
    expect_eq(message.properties.ContentType, "a/b", "Content Type")
    expect_eq(message.user["sequence-no"], answer.user["sequence-no"], "sequence-no")
    for name, want in (("delivery-count", "1"), ("message-id", "m"), ("user-id", "u"), ("correlation-id", "c"),
                       ("content-encoding", "e"), ("@colour", "blue")):
        expect_eq(message.user.get(name), want, name)
    expect("enqueued-time" in message.user and "creation-time" in message.user, message.user)
    client.settle(message)
    client.request(TWIN_GET)
    listed = service.request("$service/commands/list", user={"device": device})
    expect_eq(json.loads(listed.payload), [], "commands")


@judged
def commands_are_abandoned_and_rejected(world):
    device = world.new_device()
    service = world.service()
    client = world.connect(device)
    client.hold = True
    client.subscribe_to((COMMANDS, 1))
    service.request("$service/commands/send", "x", user={"device": device})
    first = client.next_message(COMMANDS)
    client.settle(first, 131, {"status": "0603"})
    second = client.next_message(COMMANDS)
    expect_eq((first.user["delivery-count"], second.user["delivery-count"]), ("1", "2"), "delivery-count")
    expect_eq(first.user["sequence-no"], second.user["sequence-no"], "sequence-no")
    client.settle(second, 131, {"status": "0100"})
    client.request(TWIN_GET)
    expect_eq(client.messages, [], "after the rejection")
    listed = json.loads(service.request("$service/commands/list", user={"device": device}).payload)
    expect_eq([(c["state"], c["dead-letter-reason"]) for c in listed], [("dead-lettered", "rejected")], "commands")


@judged
def an_unanswered_command_comes_again(world):
    device = world.new_device()
    service = world.service()
    service.request("$service/commands/send", "x", user={"device": device})
    client = world.connect(device)
    client.hold = True
    client.subscribe_to((COMMANDS, 1))
    sequence_no = client.next_message(COMMANDS).user["sequence-no"]
    client.drop()
    client = world.connect(device)
    expect_eq(client.next_message(COMMANDS).user["sequence-no"], sequence_no, "sequence-no")


@judged
def a_command_expires(world):
    device = world.new_device()
    service = world.service()
    service.request("$service/commands/send", "x", user={"device": device, "ttl": "1"})

    def reasons():
        listed = json.loads(service.request("$service/commands/list", user={"device": device}).payload)
        return [command.get("dead-letter-reason") for command in listed]

    service.until(lambda: reasons() == ["expired"], "expiry")
    client = world.connect(device)
    client.subscribe_to((COMMANDS, 1))
    client.request(TWIN_GET)
    expect_eq(client.messages, [], "commands")


# --- methods ---


def call(world, device, answer, **user):
    """Calls a method; @answer(client, request) is the device's part. Returns the caller's answer."""
    client = world.connect(device)
    client.subscribe_to((METHODS, 0))
    service = world.service()
    service.send("$service/methods/call", b"\0in", 0, CorrelationData=b"call",
                 user={"device": device, "method": "reboot", **user})
    message = client.next_message("$iothub/methods/reboot")
    expect_eq((message.qos, message.payload, message.user), (0, b"\0in", {}), "request")
    correlation = message.correlation
    expect(1 <= len(correlation) <= 16, "Correlation Data")
    answer(client, correlation)
    return service.next_message("$service/responses")


@judged
def a_method_is_called(world):
    answer = call(world, world.new_device(), lambda client, correlation: client.send(
        RESPONSES, b"\0out", 0, user={"response-code": "200"}, CorrelationData=correlation))
    expect_eq((answer.payload, answer.user), (b"\0out", {"response-code": "200"}), "answer")


@judged
def a_method_by_each_of_its_names(world):
    for topic in ("$iothub/methods/reboot", "methods/reboot"):
        device = world.new_device()
        client = world.connect(device)
        expect_eq(client.subscribe_to((topic, 0)), [0], "SUBACK")
        service = world.service()
        service.send("$service/methods/call", b"", 0, CorrelationData=b"1", user={"device": device, "method": "reboot"})
        client.next_message("$iothub/methods/reboot")
        other = service.request("$service/methods/call", user={"device": device, "method": "other"})
        expect_eq(other.user["status"], "06A0", "another method")


@judged
def a_method_can_be_unavailable(world):
    answer = call(world, world.new_device(), lambda client, correlation: client.send(
        RESPONSES, b"", 0, user={"status": "06A0"}, CorrelationData=correlation))
    expect_eq(answer.user.get("status"), "06A0", "answer")
    service = world.service()
    answer = service.request("$service/methods/call", user={"device": world.new_device(), "method": "reboot"})
    expect_eq(answer.user.get("status"), "06A0", "a device that is not there")


@judged
def a_method_without_a_response_times_out(world):
    answer = call(world, world.new_device(), lambda client, correlation: None, **{"response-timeout": "1"})
    expect_eq(answer.user.get("status"), "06A1", "answer")


@judged
def a_response_nobody_understands_is_a_failure(world):
    for user in ({}, {"response-code": "x"}, {"status": "0601"}):
        answer = call(world, world.new_device(), lambda client, correlation, user=user: client.send(
            RESPONSES, b"", 0, user=user, CorrelationData=correlation))
        expect_eq(answer.user.get("status"), "06A2", str(user))


# --- outcomes ---


@judged
def every_outcome_of_telemetry(world):
    device = world.new_device()
    client = world.connect(device)
    for status, (reason, has) in OUTCOMES.items():
        world.fault(device, fault="status", operation="telemetry", status=status, count=1)
        client.send(TELEMETRY, "x").expect(reason, status, has)
    world.fault(device, fault="status", operation="telemetry", status="0001", count=1)
    client.send(TELEMETRY, "x").expect(0, "0001")
    client.send(TELEMETRY, "x").expect(0)


@judged
def every_outcome_at_qos_0(world):
    device = world.new_device()
    for status, (reason, _) in OUTCOMES.items():
        client = world.connect(device)
        world.fault(device, fault="status", operation="telemetry", status=status, count=1)
        client.send(TELEMETRY, "x", 0)
        goodbye = client.until_closed()
        expect_eq((goodbye.reason, goodbye.user.get("status")), (reason, status), "good-bye")


@judged
def every_outcome_of_twin_requests(world):
    device = world.new_device()
    client = world.connect(device)
    for status in ("0100", "0101", "0102", "0501", "0502", "0601", "0602", "0603", "0104"):
        world.fault(device, fault="status", operation="twin-patch", status=status, count=1)
        expect_response(client.request(REPORTED, '{"a": 1}'), status, OUTCOMES[status][1])
        if status != "0104":
            world.fault(device, fault="status", operation="twin-get", status=status, count=1)
            expect_response(client.request(TWIN_GET), status, OUTCOMES[status][1])
    expect_eq(json.loads(client.request(TWIN_GET).payload)["reported"]["$version"], 1, "version")


@judged
def too_much_is_throttled(world):
    device = world.new_device()
    client = world.connect(device)
    world.fault(device, fault="throttle", rate=1, burst=1)
    client.send(TELEMETRY, "x").expect(0)
    client.send(TELEMETRY, "x").expect(151, "0501")
    device = world.new_device()
    client = world.connect(device)
    world.fault(device, fault="quota", messages=1)
    client.send(TELEMETRY, "x").expect(0)
    client.send(TELEMETRY, "x").expect(151, "0502")


@judged
def good_byes_on_demand(world):
    device = world.new_device()
    for members, reason in (({"fault": "expire"}, 135), ({"fault": "take-over"}, 142),
                            ({"fault": "disconnect", "reason": 151}, 151), ({"fault": "disconnect", "reason": 159}, 159),
                            ({"fault": "disconnect", "reason": 157, "server-reference": "other:1"}, 157)):
        client = world.connect(device)
        world.fault(device, **members)
        goodbye = client.until_closed()
        expect_eq(goodbye.reason, reason, str(members))
        if reason == 157:
            expect_eq(goodbye.properties.ServerReference, "other:1", "Server Reference")


@judged
def refused_on_demand(world):
    device = world.new_device()
    world.fault(device, fault="refuse", reason=0x9D, count=1, **{"server-reference": "other.example"})
    client = world.connect(device, refused=True)
    expect_eq((client.connack.reason, client.connack.properties.ServerReference), (0x9D, "other.example"), "CONNACK")
    world.fault(device, fault="limits", count=1, **{"receive-maximum": 3, "maximum-packet-size": 1000})
    properties = world.connect(device).connack.properties
    expect_eq((properties.ReceiveMaximum, properties.MaximumPacketSize), (3, 1000), "limits")



if __name__ == "__main__":
    sys.exit(run_tests(lambda: World(90), World.close))
