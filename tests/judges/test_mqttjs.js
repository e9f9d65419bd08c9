#!/usr/bin/env node
// SPDX-License-Identifier: MIT
// A client nobody here wrote judges the emulator: mqtt.js, see hub_mqttjs.js. Every operation of the contract, and the
// errors that a client can bring about.
'use strict';

const assert = require('node:assert');
const { World, expectAnswer, runTests, sign, userOf } = require('./hub_mqttjs.js');

const TELEMETRY = '$iothub/telemetry';
const TWIN_GET = '$iothub/twin/get';
const REPORTED = '$iothub/twin/patch/reported';
const DESIRED = '$iothub/twin/patch/desired';
const COMMANDS = '$iothub/commands';
const METHODS = '$iothub/methods/+';
const RESPONSES = '$iothub/responses';

const BAD_REQUEST = [131, '0100', ['reason']];
const NOT_AUTHORIZED = [135, '0101', ['trace-id']];
// Status: reason code, and what else the answer has.
const OUTCOMES = {
	'0001': [0, []],
	'0100': [131, ['reason']], '0101': [135, ['trace-id']], '0102': [131, ['reason']],
	'0103': [131, ['reason', 'trace-id']], '0104': [131, []], '0501': [151, []], '0502': [151, []],
	'0503': [131, ['reason']], '0504': [131, ['reason']], '0601': [131, ['trace-id']], '0602': [131, ['trace-id']],
	'0603': [131, ['trace-id']], '06A0': [131, []], '06A1': [131, ['reason', 'trace-id']], '06A2': [131, ['reason']],
};

function json(packet) {
	return JSON.parse(packet.payload.toString());
}

async function goodBye(client, reason) {
	const packet = await client.of('disconnect');

	assert.strictEqual(packet.reasonCode, reason, JSON.stringify(packet));
	await client.of('closed');
	return packet;
}

// The device's part of a method call, and what the caller gets.
async function callMethod(world, device, answer, user = {}) {
	const client = await world.connect(device);
	const service = await world.service();

	await client.subscribe({ [METHODS]: 0 });
	const response = service.request('$service/methods/call', 'in', { user: { device, method: 'reboot', ...user } });
	const request = await client.message('$iothub/methods/reboot');

	assert.strictEqual(request.qos, 0);
	assert.strictEqual(request.payload.toString(), 'in');
	if (answer)
		await client.send(RESPONSES, 'out', { qos: 0, user: answer,
			correlationData: request.properties.correlationData });
	return response;
}

const tests = {
	async connack_names_every_limit(world) {
		const client = await world.connect(world.newDevice(), { keepalive: 0 });
		const { userProperties, ...properties } = client.connack.properties;

		assert.strictEqual(userProperties, undefined);
		assert.deepStrictEqual({ ...properties }, { receiveMaximum: 16, maximumQoS: 1, retainAvailable: false,
			maximumPacketSize: 262144, topicAliasMaximum: 10, wildcardSubscriptionAvailable: false,
			subscriptionIdentifiersAvailable: false, sharedSubscriptionAvailable: false, serverKeepAlive: 1140,
			...(properties.authenticationMethod ? { authenticationMethod: 'SAS' } : {}) });
		assert.strictEqual(client.connack.sessionPresent, false);
	},

	async connect_is_checked(world) {
		const device = world.newDevice();

		await world.refused(device, { user: { 'api-version': undefined } }, ...BAD_REQUEST);
		await world.refused(device, { user: { 'api-version': '1' } }, ...BAD_REQUEST);
		await world.refused(device, { user: { favourite: 'blue' } }, ...BAD_REQUEST);
		await world.refused(device, { user: { 'sas-expiry': undefined } }, ...BAD_REQUEST);
		await world.refused(device, { expiry: '2100-01-01T00:00:00-07:00' }, ...BAD_REQUEST);
		await world.refused(device, { method: null }, ...BAD_REQUEST);
		await world.refused(device, { username: 'u' }, ...BAD_REQUEST);
		await world.refused(device, { will: { topic: TELEMETRY, payload: 'gone', qos: 0 } }, ...BAD_REQUEST);
		await world.refused(device, { method: 'X509' }, ...NOT_AUTHORIZED);
		await world.refused(device, { key: Buffer.from('another') }, ...NOT_AUTHORIZED);
		await world.refused(device, { expiry: String(Date.now() - 600000) }, ...NOT_AUTHORIZED);
		await world.connect(device, { expiry: '2100-01-01T00:00:00.000Z', at: '1600987795320' });
	},

	async without_problem_information_only_the_code_tells(world) {
		const client = await world.connect(world.newDevice(),
			{ properties: { requestProblemInformation: false } });

		expectAnswer(await client.send(TELEMETRY, 'x', { user: { colour: 'blue' } }), 131);
	},

	async the_session_stays(world) {
		const device = world.newDevice();
		let client = await world.connect(device);

		assert.deepStrictEqual(await client.subscribe({ [DESIRED]: 0 }), [0]);
		client.drop();
		client = await world.connect(device);
		assert.strictEqual(client.connack.sessionPresent, true);
		const service = await world.service();

		await service.request('$service/twin/patch', '{"a":1}', { user: { device } });
		assert.deepStrictEqual(json(await client.message(DESIRED)), { a: 1 });
		client.drop();
		client = await world.connect(device, { clean: true });
		assert.strictEqual(client.connack.sessionPresent, false);
	},

	async another_connection_takes_over(world) {
		const device = world.newDevice();
		const first = await world.connect(device);

		await world.connect(device);
		await goodBye(first, 142);
	},

	async the_token_ends(world) {
		await goodBye(await world.connect(world.newDevice(), { expiry: String(Date.now() + 1500) }), 135);
	},

	async authenticates_again(world) {
		const device = world.newDevice();
		const key = world.emulator.key(device);
		const client = await world.connect(device, { expiry: String(Date.now() + 2500) });
		const at = String(Date.now());
		const expiry = String(Date.now() + 3600000);

		client.sendPacket({ cmd: 'auth', reasonCode: 0x19, properties: { authenticationMethod: 'SAS',
			authenticationData: sign(key, device, { at, expiry }),
			userProperties: { 'sas-at': at, 'sas-expiry': expiry } } });
		expectAnswer(await client.send(TELEMETRY, 'meanwhile'), 0);
		assert.strictEqual((await client.of('auth')).reasonCode, 0);
		// Past the end of the first token.
		await new Promise((resolve) => { setTimeout(resolve, 3000); });
		expectAnswer(await client.send(TELEMETRY, 'afterwards'), 0);
		client.sendPacket({ cmd: 'auth', reasonCode: 0x19, properties: { authenticationMethod: 'SAS',
			authenticationData: Buffer.alloc(32), userProperties: { 'sas-expiry': expiry } } });
		await goodBye(client, 135);
	},

	async subscriptions_are_answered_one_by_one(world) {
		const client = await world.connect(world.newDevice());

		assert.deepStrictEqual(await client.subscribe({ [COMMANDS]: 1, [DESIRED]: 0, [METHODS]: 0,
			'$iothub/methods/a': 0, 'methods/b': 0 }), [1, 0, 0, 0, 0]);
		assert.deepStrictEqual(await client.subscribe({ '$iothub/nothing': 0, '$iothub/commands/': 1 }),
			[0x8f, 0x8f]);
		assert.deepStrictEqual(await client.subscribe({ '#': 0, '$iothub/twin/patch/+': 0 }), [0xa2, 0xa2]);
		assert.deepStrictEqual(await client.unsubscribe([COMMANDS, 'x']), [0, 17]);
		assert.deepStrictEqual(await client.subscribe(Object.fromEntries(
			Array.from({ length: 47 }, (_, i) => [`$iothub/methods/m${i}`, 0]))), [...Array(46).fill(0), 0x97]);
	},

	async telemetry_arrives_with_all_it_has(world) {
		const device = world.newDevice();
		const monitor = await world.service();
		const client = await world.connect(device);
		const payload = Buffer.from(Array.from({ length: 256 }, (_, i) => i));

		await monitor.subscribe({ [`$service/telemetry/${device}`]: 0 });
		expectAnswer(await client.send(TELEMETRY, payload, { contentType: 'a/b', user: { 'message-id': 'm',
			'user-id': 'u', 'correlation-id': 'c', 'content-encoding': 'e', 'creation-time': '1600987795320',
			'@colour': 'grün' } }), 0);
		const message = await monitor.message(`$service/telemetry/${device}`);
		const { 'enqueued-time': time, 'enqueued-sequence': sequence, ...user } = userOf(message);

		assert(message.payload.equals(payload) && time && sequence);
		assert.strictEqual(message.properties.contentType, 'a/b');
		assert.deepStrictEqual(user, { 'message-id': 'm', 'user-id': 'u', 'correlation-id': 'c',
			'content-encoding': 'e', 'iothub-creation-time-utc': '2020-09-24T22:49:55.320Z', '@colour': 'grün',
			'device-id': device });
	},

	async telemetry_with_an_error_is_refused(world) {
		const device = world.newDevice();
		let client = await world.connect(device);

		for (const user of [{ colour: 'blue' }, { 'creation-time': '2021-04-21T11:30:16-07:00' }, { status: '0000' }])
			expectAnswer(await client.send(TELEMETRY, 'x', { user }), ...BAD_REQUEST);
		expectAnswer(await client.send('$iothub/telemetry/', 'x'), 131, '0504', ['reason']);
		await client.send(TELEMETRY, 'x', { qos: 0, user: { colour: 'blue' } });
		expectAnswer(await goodBye(client, 131), ...BAD_REQUEST);
		client = await world.connect(device);
		await client.send('$iothub/nothing', 'x', { qos: 0 });
		await goodBye(client, 144);
	},

	async no_qos_2_and_no_retain(world) {
		const device = world.newDevice();
		let client = await world.connect(device);

		client.client.publish(TELEMETRY, 'x', { qos: 2 }, () => {});
		await goodBye(client, 0x9b);
		client = await world.connect(device);
		client.client.publish(TELEMETRY, 'x', { qos: 1, retain: true }, () => {});
		await goodBye(client, 0x9a);
	},

	async aliases_stand_for_topics(world) {
		const device = world.newDevice();
		const client = await world.connect(device);

		expectAnswer(await client.send(TELEMETRY, 'x', { topicAlias: 10 }), 0);
		expectAnswer(await client.send('', 'x', { topicAlias: 10 }), 0);
	},

	async more_than_16_in_flight_is_the_end(world) {
		const device = world.newDevice();
		const client = await world.connect(device);

		await world.fault(device, { fault: 'delay', operation: 'telemetry', ms: 5000 });
		for (let i = 0; i < 17; i++)
			client.client.publish(TELEMETRY, 'x', { qos: 1 }, () => {});
		await goodBye(client, 147);
	},

	async twins(world) {
		const device = world.newDevice();
		const client = await world.connect(device);

		assert.deepStrictEqual(json(await client.request(TWIN_GET)),
			{ desired: { $version: 1 }, reported: { $version: 1 } });
		let answer = await client.request(REPORTED, '{"a":{"b":1},"c":2}');

		assert.deepStrictEqual(userOf(answer), { version: '2' });
		assert.strictEqual(answer.payload.length, 0);
		answer = await client.request(REPORTED, '{"a":{"b":null},"d":3}', { user: { 'if-version': '2' } });
		assert.deepStrictEqual(userOf(answer), { version: '3' });
		answer = await client.request(REPORTED, '{"d":4}', { user: { 'if-version': '2' } });
		assert.deepStrictEqual(userOf(answer), { status: '0104' });
		const { reported } = json(await client.request(TWIN_GET));

		assert.deepStrictEqual([reported.a.b, reported.c, reported.d, reported.$version], [undefined, 2, 3, 3]);
		for (const payload of ['[]', 'x', '', '{"a.b":1}', '{"$a":1}', JSON.stringify({ a: 'x'.repeat(4097) })])
			assert.strictEqual(userOf(await client.request(REPORTED, payload)).status, '0100', payload.slice(0, 20));
	},

	async desired_changes_arrive(world) {
		const device = world.newDevice();
		const client = await world.connect(device);
		const service = await world.service();

		await client.subscribe({ [DESIRED]: 0 });
		await service.request('$service/twin/patch', '{"speed":3,"old":null}', { user: { device } });
		const message = await client.message(DESIRED);

		assert.deepStrictEqual([message.qos, userOf(message), json(message)],
			[0, { version: '2' }, { speed: 3, old: null }]);
	},

	async requests_have_rules(world) {
		const device = world.newDevice();
		let client = await world.connect(device);

		for (const correlation of [Buffer.from([0]), Buffer.alloc(16, 255)])
			assert.deepStrictEqual(userOf(await client.request(TWIN_GET, '', { correlation })), {});
		assert.deepStrictEqual(userOf(await client.request(TWIN_GET, '', { responseTopic: 'a' })), {});
		assert.strictEqual(userOf(await client.request(TWIN_GET, '', { user: { a: 'b' } })).status, '0100');
		expectAnswer(await client.send(TWIN_GET, '', { correlationData: Buffer.from('1') }), ...BAD_REQUEST);
		await client.send(TWIN_GET, '', { qos: 0 });
		expectAnswer(await goodBye(client, 131), ...BAD_REQUEST);
		client = await world.connect(device);
		await client.send(TWIN_GET, '', { qos: 0, correlationData: Buffer.alloc(17) });
		expectAnswer(await goodBye(client, 131), ...BAD_REQUEST);
	},

	async commands_are_completed_abandoned_and_rejected(world) {
		const device = world.newDevice();
		const service = await world.service();
		const client = await world.connect(device);
		const list = async () => json(await service.request('$service/commands/list', '', { user: { device } }));
		const send = () => service.request('$service/commands/send', 'x', { contentType: 'a/b',
			user: { device, '@colour': 'blue', 'message-id': 'm' } });

		client.hold = true;
		await send();
		await client.subscribe({ [COMMANDS]: 1 });
		const first = await client.message(COMMANDS);
		const user = userOf(first);

		assert.deepStrictEqual(Object.keys(user).sort(),
			['@colour', 'delivery-count', 'enqueued-time', 'message-id', 'sequence-no']);
		assert.deepStrictEqual([first.qos, first.payload.toString(), first.properties.contentType], [1, 'x', 'a/b']);
		client.settle(first, 131, { status: '0603' });
		const second = await client.message(COMMANDS);

		assert.deepStrictEqual(userOf(second), { ...user, 'delivery-count': '2' });
		client.settle(second, 131, { status: '0100' });
		await client.request(TWIN_GET);
		assert.deepStrictEqual((await list()).map((command) => command['dead-letter-reason']), ['rejected']);
		await send();
		client.settle(await client.message(COMMANDS));
		await client.request(TWIN_GET);
		assert.strictEqual((await list()).length, 1);
	},

	async methods(world) {
		const good = await callMethod(world, world.newDevice(), { 'response-code': '200' });

		assert.deepStrictEqual([userOf(good), good.payload.toString()], [{ 'response-code': '200' }, 'out']);
		const unavailable = await callMethod(world, world.newDevice(), { status: '06A0' });

		assert.strictEqual(userOf(unavailable).status, '06A0');
		const timeout = await callMethod(world, world.newDevice(), null, { 'response-timeout': '1' });

		assert.strictEqual(userOf(timeout).status, '06A1');
		const failed = await callMethod(world, world.newDevice(), { 'response-code': '-1' });

		assert.strictEqual(userOf(failed).status, '06A2');
	},

	async every_outcome(world) {
		const device = world.newDevice();
		const client = await world.connect(device);

		for (const [status, [reason, has]] of Object.entries(OUTCOMES)) {
			await world.fault(device, { fault: 'status', operation: 'telemetry', status, count: 1 });
			expectAnswer(await client.send(TELEMETRY, 'x'), reason, status, has);
		}
		for (const status of ['0501', '0502', '0601', '0602', '0603']) {
			await world.fault(device, { fault: 'status', operation: 'twin-get', status, count: 1 });
			expectAnswer(await client.request(TWIN_GET), 0, status, OUTCOMES[status][1]);
		}
		expectAnswer(await client.send(TELEMETRY, 'x'), 0);
	},
};

runTests(tests, new World(60));
