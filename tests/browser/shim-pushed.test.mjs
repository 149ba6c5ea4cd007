// What is pushed already, by socket.io or by a socket of the page's own: the same with the script as without.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Server } from 'socket.io';
import { WebSocketServer } from 'ws';

import { isLook, page } from './application.mjs';
import { stage } from './stage.mjs';
import { eventually } from './support.mjs';

const COLLECTS = 'window.events = []; const take = (number) => events.push(number);';

/** A page that is told by socket.io, over what `transports` says. */
const socketIo = (transports) => page(`${COLLECTS}
    const socket = io({ transports: ${JSON.stringify(transports)} });
    socket.on('news', (number) => { take(number); socket.emit('seen', number); });
    setInterval(() => (window.transport = socket.io.engine.transport.name), 100);`,
'<script src="/lib/socket.io-client/dist/socket.io.js"></script>');

const on = stage({
    '/socket.io-polling': socketIo(['polling']),
    '/socket.io': socketIo(['polling', 'websocket']),
    '/web-socket': page(`${COLLECTS}
        new WebSocket(location.origin.replace('http', 'ws') + '/socket').onmessage = ({ data }) => take(Number(data));`),
});

/** Who is told of what happens. */
const told = new Set();
const seen = [];
let sockets;

/** Has the application tell by sockets, too. */
function attach({ server }) {
    const plain = new WebSocketServer({ noServer: true });
    // It closes what is no upgrade of its own, if it is not told to leave that.
    sockets = new Server(server, { pingInterval: 1000, serveClient: false, destroyUpgrade: false });
    sockets.on('connection', (socket) => {
        told.add((number) => socket.emit('news', number));
        socket.on('seen', (number) => seen.push(number));
    });
    server.on('upgrade', (request, socket, head) => {
        if (request.url === '/socket') {
            plain.handleUpgrade(request, socket, head, (client) => told.add((number) => client.send(String(number))));
        }
    });
    server.on('request', (request) => request.url.startsWith('/socket.io/') && on.application.asked.push({ path: '/socket.io/', headers: request.headers }));
}
after(() => sockets?.disconnectSockets(true));

const bases = [['without', (path) => on.openPlain(path)], ['with', (path) => on.open(path)]];

const PAUSES = [100, 50, 700, 1200, 2500, 100];

for (const [path, source, transport] of [
    ['/socket.io-polling', '/socket.io/', 'polling'],
    ['/socket.io', '/socket.io/', 'websocket'],
    ['/web-socket', '/socket'],
]) {
    test(`${path}: each thing is told once and in order, to who was to be told`, async () => {
        if (!sockets) {
            attach(on.application);
        }
        for (const [name, open] of bases) {
            told.clear();
            seen.length = 0;
            const page = await open(path);
            await eventually('somebody to tell', () => told.size > 0);
            if (transport) {
                await page.waitForFunction((transport) => window.transport === transport, transport);
            }
            for (const [number, pause] of PAUSES.entries()) {
                await sleep(pause);
                told.forEach((tell) => tell(number));
            }
            const all = [...PAUSES.keys()];
            await page.waitForFunction((count) => events.length >= count, all.length);
            await sleep(500);
            assert.equal(told.size, 1, name);
            assert.deepEqual(await page.evaluate(() => events), all, name);
            assert.deepEqual(seen, transport ? all : [], name);
            assert.deepEqual(page.errors, []);
            await page.close();
        }
        assert.deepEqual(on.application.askedFor(source, isLook), []);
    });
}
