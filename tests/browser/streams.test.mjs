// Clients of streams as programs have them: Chromium's own, and libraries for pages and for Node.js.

import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';

import { EventSource } from 'eventsource';
import WebSocket from 'ws';

import { startApplication } from './application.mjs';
import { eventually, startBrowser, startSidecar } from './support.mjs';

const ROUTE = '[[route]]\npath = "/news"\nevery = "50ms"\nevery_max = "100ms"\nretry = "50ms"\n';
const JSON_TYPE = 'application/json';
// Long enough that a patch is smaller than the whole.
const FILLER = 'x'.repeat(200);

let application;
let sidecar;
let browser;

/** Lets the application say number `n`. */
const say = (n) => application.set('/news', JSON_TYPE, JSON.stringify({ filler: FILLER, n }));

before(async () => {
    application = await startApplication();
    application.set('/', 'text/html', '<!doctype html><title>A page</title>');
    say(1);
    sidecar = await startSidecar(application.url, ROUTE);
    browser = await startBrowser();
});

beforeEach(() => say(1));

after(async () => {
    await browser?.stop();
    await sidecar?.stop();
    await application?.stop();
});

test('npm eventsource is given every change, and comes back by itself', async (t) => {
    const short = await startSidecar(application.url, `${ROUTE}max_age = "300ms"\n`);
    t.after(() => short.stop());
    const seen = [];
    let opened = 0;
    const ends = [];
    const source = new EventSource(`${short.url}/news`);
    source.onopen = () => (opened += 1);
    source.onmessage = (event) => seen.push({ n: JSON.parse(event.data).n, id: event.lastEventId });
    source.addEventListener('end', (event) => ends.push(JSON.parse(event.data).reason));
    for (const n of [1, 2, 3]) {
        say(n);
        await eventually(`number ${n}`, () => seen.at(-1)?.n === n);
        const before = opened;
        await eventually('a reconnection', () => opened > before);
    }
    await eventually('to be held', async () => (await short.held('/news', 'sse')) === 1);
    source.close();
    assert.deepEqual(seen.map((event) => event.n), [1, 2, 3], 'told something twice, or not');
    assert.ok(ends.length >= 2 && ends.every((reason) => reason === 'max-age'), JSON.stringify(ends));
    await eventually('its leaving to be noticed', async () => (await short.held('/news', 'sse')) === 0);
});

test('fetch-event-source is given snapshots and patches where it asks for deltas, and resumes', async (t) => {
    const short = await startSidecar(application.url, `${ROUTE}max_age = "1s"\n`);
    t.after(() => short.stop());
    const page = await browser.open(`${short.url}/`);
    await page.evaluate(async () => {
        const { fetchEventSource } = await import('/lib/@microsoft/fetch-event-source/lib/esm/index.js');
        window.seen = [];
        window.opened = [];
        window.leave = new AbortController();
        fetchEventSource('/news', {
            signal: window.leave.signal,
            headers: { prefer: 'delta=merge-patch' },
            openWhenHidden: true,
            async onopen({ headers }) {
                window.opened.push([headers.get('content-type'), headers.get('preference-applied')]);
            },
            onmessage: (event) => event.event && window.seen.push([event.event, event.data]),
            // By default it takes the end of a stream for the end of all.
            onclose() {
                throw new Error('come back');
            },
            onerror() {},
        });
    });
    const news = () => page.evaluate(() => window.seen.filter(([event]) => event !== 'end'));
    const opened = () => page.evaluate(() => window.opened.length);
    await eventually('the first snapshot', async () => (await news()).length === 1);
    say(2);
    await eventually('a patch', async () => (await news()).length === 2);
    const before = await opened();
    await eventually('a reconnection', async () => (await opened()) > before);
    say(3);
    await eventually('another patch', async () => (await news()).length === 3);
    const snapshot = JSON.stringify({ filler: FILLER, n: 1 });
    assert.deepEqual(await news(), [['snapshot', snapshot], ['patch', '{"n":2}'], ['patch', '{"n":3}']]);
    const [head] = await page.evaluate(() => window.opened);
    assert.deepEqual(head, ['text/event-stream', 'delta=merge-patch']);
    await page.evaluate(() => window.leave.abort());
    await eventually('its leaving to be noticed', async () => (await short.held('/news', 'sse')) === 0);
    assert.deepEqual(page.errors, []);
    await page.close();
});

/** Follows `/news` over a WebSocket of any make, and writes over it; `send` and `messages` are its two ends. */
async function conversation(send, messages) {
    const find = async (what, test) => eventually(what, async () => (await messages()).find(test));
    await send({ subscribe: '/news', delta: 'json-patch' });
    const first = await find('a snapshot', (message) => message.event === 'snapshot');
    assert.deepEqual([first.url, first.status, first.body.n], ['/news', 200, 1]);
    say(2);
    const patch = await find('a patch', (message) => message.event === 'patch');
    assert.equal(patch.base, first.version);
    assert.deepEqual(patch.patch, [{ op: 'replace', path: '/n', value: 2 }]);
    application.set('/save', JSON_TYPE, '{"saved":true}', { status: 201 });
    const headers = { 'content-type': JSON_TYPE };
    await send({ request: { id: 7, method: 'POST', url: '/save', headers, body: '{"text":"\u00e9"}' } });
    const { response } = await find('an answer', (message) => message.response);
    assert.deepEqual([response.id, response.status, response.body], [7, 201, '{"saved":true}']);
    const saved = application.askedFor('/save').at(-1);
    assert.deepEqual([saved.method, saved.body, saved.headers['content-type']], ['POST', '{"text":"\u00e9"}', JSON_TYPE]);
    await send({ unsubscribe: '/news' });
    await eventually('nobody to follow it', async () => (await sidecar.held('/news', 'websocket')) === 0);
}

test("Chromium's WebSocket follows, is patched, and writes", async () => {
    const page = await browser.open(`${sidecar.url}/`);
    await page.evaluate(async () => {
        window.heard = [];
        window.whenClosed = new Promise((resolve) => (window.socketClosed = resolve));
        window.socket = new WebSocket(`ws://${location.host}/.sungrazer/ws`, 'sungrazer.v1');
        socket.onmessage = (event) => heard.push(JSON.parse(event.data));
        socket.onclose = (event) => socketClosed([event.code, event.wasClean]);
        await new Promise((resolve) => (socket.onopen = resolve));
    });
    await conversation(
        (message) => page.evaluate((message) => window.socket.send(JSON.stringify(message)), message),
        () => page.evaluate(() => window.heard),
    );
    await page.evaluate(() => window.socket.close(1000, 'enough'));
    assert.deepEqual(await page.evaluate(() => window.whenClosed), [1000, true]);
    assert.deepEqual(page.errors, []);
    await page.close();
});

test('npm ws follows, is patched, writes, and closes cleanly', async () => {
    const socket = new WebSocket(`${sidecar.url.replace('http', 'ws')}/.sungrazer/ws`, 'sungrazer.v1');
    const heard = [];
    socket.on('message', (data, isBinary) => heard.push(isBinary ? null : JSON.parse(data)));
    const closed = new Promise((resolve) => socket.once('close', resolve));
    let pongs = 0;
    socket.on('pong', () => (pongs += 1));
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
    await conversation((message) => socket.send(JSON.stringify(message)), () => heard);
    socket.ping('are you there');
    await eventually('a pong', () => pongs === 1);
    // In fragments, with a ping between them.
    socket.send('{"subscribe":', { fin: false });
    socket.ping();
    socket.send('"/news"}', { fin: true });
    await eventually('another snapshot', () => heard.filter((message) => message.event === 'snapshot').length === 2);
    socket.close(1000);
    assert.equal(await closed, 1000);
});

test('npm ws is told why it may not come in', async () => {
    const refused = (options, protocols) =>
        new Promise((resolve) => {
            const url = `${sidecar.url.replace('http', 'ws')}/.sungrazer/ws`;
            const socket = new WebSocket(url, protocols, options);
            socket.on('unexpected-response', (request, response) => resolve(response.statusCode));
            socket.on('open', () => resolve(`open as ${socket.protocol}`));
        });
    assert.equal(await refused({ origin: 'http://other.example' }, 'sungrazer.v1'), 403);
    assert.equal(await refused({ origin: sidecar.url }, ['other', 'sungrazer.v1']), 'open as sungrazer.v1');
});
