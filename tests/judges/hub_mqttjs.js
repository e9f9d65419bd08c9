// SPDX-License-Identifier: MIT
// What test_mqttjs.js stands on: TAP, an emulator as a process, signatures, and mqtt.js with a memory of all packets
// that came. mqtt.js is installed by make into build/mqttjs, of the version in mqttjs/package-lock.json.
'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const { createRequire } = require('node:module');
const os = require('node:os');
const path = require('node:path');

const requireInstalled = createRequire(path.resolve(__dirname, '../../build/mqttjs/package.json'));
const mqtt = requireInstalled('mqtt');

const FACTOR = Number(process.env.TEST_TIMEOUT_FACTOR || 1);
const BUILD = process.env.IOTHUB_BUILD || 'build';
const API_VERSION = '2020-10-01-preview';

// --- the emulator ---

class Emulator {
	constructor(devices) {
		this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'iothub-judge-'));
		this.options = devices.map((device) => `--device=${device}`);
		// However this ends, the emulator does, too.
		process.on('exit', () => this.remove());
		for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'])
			process.on(signal, () => process.exit(1));
	}

	async start() {
		const log = fs.openSync(path.join(this.dir, 'log'), 'a');
		this.process = spawn(path.join(BUILD, 'iothub-emulator'),
			['--state', this.dir, '--port=0', '--ready-fd=3', ...this.options],
			{ stdio: ['ignore', log, log, 'pipe'] });
		fs.closeSync(log);
		this.port = await new Promise((resolve, reject) => {
			let text = '';

			this.process.once('exit', () => reject(new Error('the emulator did not start')));
			this.process.stdio[3].on('data', (bytes) => {
				text += bytes;
				if (text.endsWith('\n'))
					resolve(Number(text));
			});
		});
	}

	// Asks it to end; its exit code.
	async stop() {
		const child = this.process;

		this.process = null;
		child.removeAllListeners('exit');
		return new Promise((resolve) => {
			child.once('exit', resolve);
			child.kill('SIGTERM');
		});
	}

	remove() {
		if (this.process)
			this.process.kill('SIGKILL');
		this.process = null;
		fs.rmSync(this.dir, { recursive: true, force: true });
	}

	key(device) {
		const file = device === 'service' ? 'service' : `devices/${device}`;
		const text = fs.readFileSync(path.join(this.dir, `${file}.connection-string`), 'utf8');

		return Buffer.from(/SharedAccessKey=([^;\n]*)/.exec(text)[1], 'base64');
	}
}

// --- the client ---

function sign(key, clientId, { policy = '', at = '', expiry = '' } = {}) {
	return crypto.createHmac('sha256', key).update(`localhost\n${clientId}\n${policy}\n${at}\n${expiry}\n`).digest();
}

// User properties of a packet; {} when there are none.
function userOf(packet) {
	return { ...(packet.properties && packet.properties.userProperties) };
}

// One connection: no reconnecting, every packet kept until somebody waits for it.
class Client {
	constructor(options) {
		this.packets = [];
		this.waiting = [];
		this.closed = false;
		this.hold = false; // PUBACKs are sent by settle() only
		this.correlation = 0;
		this.client = mqtt.connect(options);
		this.client.on('packetreceive', (packet) => this.note(packet));
		this.client.on('error', (error) => { this.error = error; });
		this.client.on('close', () => {
			this.closed = true;
			this.note({ cmd: 'closed' });
		});

		const send = this.client._sendPacket.bind(this.client);

		this.client._sendPacket = (packet, done, ...rest) => {
			if (packet.cmd !== 'puback' || !this.hold)
				send(packet, done, ...rest);
			else if (done)
				done();
		};
		this.sendPacket = send;
	}

	note(packet) {
		this.packets.push(packet);
		for (const wake of this.waiting.splice(0))
			wake();
	}

	// The first packet for which the condition holds, taken out.
	async next(condition, what) {
		const end = Date.now() + 10000 * FACTOR;

		for (;;) {
			const at = this.packets.findIndex(condition);

			if (at >= 0)
				return this.packets.splice(at, 1)[0];
			assert(Date.now() < end, `no ${what} in time`);
			assert(!this.packets.some((packet) => packet.cmd === 'closed'),
				`no ${what}: closed, ${JSON.stringify(this.packets)} ${this.error}`);
			await new Promise((resolve) => {
				const timer = setTimeout(resolve, 1000);

				this.waiting.push(() => {
					clearTimeout(timer);
					resolve();
				});
			});
		}
	}

	of(cmd) {
		return this.next((packet) => packet.cmd === cmd, cmd);
	}

	message(topic) {
		return this.next((packet) => packet.cmd === 'publish' && packet.topic === topic, `message to ${topic}`);
	}

	// PUBLISH; the PUBACK of QoS 1.
	async send(topic, payload = '', { qos = 1, user, ...properties } = {}) {
		if (user)
			properties.userProperties = user;
		this.client.publish(topic, payload, { qos, properties }, () => {});
		return qos ? this.of('puback') : null;
	}

	async request(topic, payload = '', { correlation, ...options } = {}) {
		const responses = topic.startsWith('$service/') ? '$service/responses' : '$iothub/responses';
		const correlationData = correlation || Buffer.from(String(++this.correlation));

		await this.send(topic, payload, { qos: 0, correlationData, ...options });
		return this.next((packet) => packet.cmd === 'publish' && packet.topic === responses &&
			packet.properties.correlationData.equals(correlationData), `response to ${topic}`);
	}

	// One SUBSCRIBE of {filter: QoS}; the codes of SUBACK.
	async subscribe(filters) {
		const map = Object.fromEntries(Object.entries(filters).map(([filter, qos]) => [filter, { qos }]));

		this.client.subscribe(map, () => {});
		return [...(await this.of('suback')).granted];
	}

	async unsubscribe(filters) {
		this.client.unsubscribe(filters, () => {});
		return [...(await this.of('unsuback')).granted];
	}

	settle(message, reasonCode = 0, user = undefined) {
		this.sendPacket({ cmd: 'puback', messageId: message.messageId, reasonCode,
			properties: user ? { userProperties: user } : undefined });
	}

	drop() {
		this.client.end(true);
		if (this.client.stream)
			this.client.stream.destroy();
	}
}

// Reason code, status and the names of what else an answer has.
function expectAnswer(packet, reason, status = undefined, has = []) {
	const { status: got, ...others } = userOf(packet);
	const text = JSON.stringify(packet);

	assert.strictEqual(packet.reasonCode || 0, reason, text);
	assert.strictEqual(got, status, text);
	assert.deepStrictEqual(Object.keys(others).sort(), has, text);
}

class World {
	constructor(nDevices) {
		this.devices = Array.from({ length: nDevices }, (_, i) => `d${i}`);
		this.emulator = new Emulator(this.devices);
		this.clients = [];
	}

	newDevice() {
		return this.devices.pop();
	}

	// Opens a connection with everything as it should be but for what is given; CONNACK is the next packet.
	open(clientId, { key, policy, at, expiry = String(Date.now() + 3600000), user = {}, method = 'SAS', signature,
		sessionExpiryInterval = 3600, keepalive = 60, clean = false, properties = {}, ...more } = {}) {
		const userProperties = { 'api-version': API_VERSION, 'sas-expiry': expiry, ...user };

		if (policy)
			userProperties['sas-policy'] = policy;
		if (at)
			userProperties['sas-at'] = at;
		for (const name of Object.keys(userProperties))
			if (userProperties[name] === undefined)
				delete userProperties[name];

		const authenticationData = signature ||
			sign(key || this.emulator.key(policy === 'service' ? 'service' : clientId), clientId,
				{ policy, at, expiry });
		const authentication = method ? { authenticationMethod: method, authenticationData } : {};
		const client = new Client({ protocol: 'mqtts', host: 'localhost', servername: 'localhost',
			port: this.emulator.port, ca: fs.readFileSync(path.join(this.emulator.dir, 'ca.pem')),
			protocolVersion: 5, clientId, clean, keepalive, reconnectPeriod: 0, resubscribe: false,
			properties: { ...authentication, sessionExpiryInterval, userProperties, ...properties }, ...more });

		this.clients.push(client);
		return client;
	}

	async connect(clientId, options) {
		const client = this.open(clientId, options);

		client.connack = await client.of('connack');
		assert.strictEqual(client.connack.reasonCode, 0, JSON.stringify(client.connack));
		return client;
	}

	async refused(clientId, options, reason, status, has) {
		expectAnswer(await this.open(clientId, options).of('connack'), reason, status, has);
	}

	service() {
		return this.connect(`service/judge${this.clients.length}`,
			{ policy: 'service', sessionExpiryInterval: 0 });
	}

	async fault(device, members) {
		const service = await this.service();
		const answer = await service.request('$service/faults/set', JSON.stringify({ device, ...members }));

		assert.strictEqual(userOf(answer).status, undefined, JSON.stringify(userOf(answer)));
		service.drop();
	}
}

// --- TAP ---

async function runTests(tests, world, limitS = 30) {
	const { version } = requireInstalled('mqtt/package.json');
	const words = process.argv.slice(2);
	const wanted = Object.entries(tests).filter(([name]) => !words.length || words.some((w) => name.includes(w)));
	let number = 0;
	let failed = 0;

	console.log(`TAP version 13\n1..${wanted.length}\n# judge: mqtt.js ${version}, Node.js ${process.version}`);
	await world.emulator.start();
	for (const [name, test] of wanted) {
		let timer;
		let verdict = 'ok';

		try {
			await Promise.race([test(world), new Promise((_, reject) => {
				timer = setTimeout(() => reject(new Error('still running')), limitS * 1000 * FACTOR);
			})]);
		} catch (error) {
			console.log(String(error.stack).replace(/^/gm, '# '));
			verdict = 'not ok';
			failed++;
		}
		clearTimeout(timer);
		world.clients.splice(0).forEach((client) => client.drop());
		console.log(`${verdict} ${++number} - ${name}`);
	}
	// A sanitizer speaks up at the end.
	const code = await world.emulator.stop();

	if (code !== 0)
		console.log(`# the emulator ended with exit code ${code}`);
	process.exit(failed || code !== 0 ? 1 : 0);
}

module.exports = { World, expectAnswer, runTests, sign, userOf };
