// The way between pages and the stream: shared by tabs, and given up step by step where something stands in the way.

import assert from 'node:assert/strict';
import { Agent, createServer, request as ask } from 'node:http';
import { test } from 'node:test';

import { isLook, page } from './application.mjs';
import { LEARNS, drawsAgain, stage } from './stage.mjs';
import { eventually, startSidecar } from './support.mjs';

const INTERVAL = 1000;

const POLLS = page(`
    window.shown = [];
    addEventListener('pageshow', (event) => shown.push(event.persisted));
    const poll = () => fetch('/state').then((r) => r.json()).then(draw).catch((error) => (window.failed = String(error)));
    poll(); setInterval(poll, ${INTERVAL});`);

const policed = (policy) => (request, send) => send(200, 'text/html', POLLS, { 'content-security-policy': policy });
const on = stage({
    '/polls': POLLS,
    '/empty': page(''),
    '/no-worker': policed("worker-src 'none'"),
    '/no-worker-in-markup': POLLS.replace('<title>', `<meta http-equiv="content-security-policy" content="worker-src 'none'"><title>`),
    '/no-stream-in-markup': POLLS.replace('<title>', `<meta http-equiv="content-security-policy" content="worker-src 'none'; connect-src http://127.0.0.1:*/state"><title>`),
}, { ignoreDefaultArgs: ['--disable-back-forward-cache'] });

/** Changes the state, and waits until all pages show it. */
async function changes(...pages) {
    const count = on.change();
    await Promise.all(pages.map((page) => page.waitForFunction((count) => drawn.at(-1)?.count === count, count)));
}

/** Waits until a change is shown without any of the pages having asked over the network. */
async function live(...pages) {
    const asked = () => pages.map((page) => page.times('/state')).join();
    await eventually('polls to leave the network', async () => {
        const before = asked();
        await Promise.all(pages.map((page) => drawsAgain(page)));
        await changes(...pages);
        return asked() === before;
    });
}

test('tabs share one stream, which ends with the last of them', async () => {
    const pages = [await on.open('/polls'), await on.open('/polls')];
    await live(...pages);
    assert.equal(await on.sidecar.streams(), 1);
    await pages[0].close();
    await live(pages[1]);
    await pages[1].close();
    await eventually('the stream to end', async () => (await on.sidecar.streams()) === 0);
});

for (const path of ['/no-worker', '/no-worker-in-markup']) {
    test(`${path}: one of the tabs leads, and another takes its place`, async () => {
        const pages = [await on.open(path), await on.open(path)];
        await live(...pages);
        await eventually('one stream', async () => (await on.sidecar.streams()) === 1);
        await pages[0].close();
        await live(pages[1]);
        assert.deepEqual(pages[1].errors, []);
        await pages[1].close();
        await eventually('the stream to end', async () => (await on.sidecar.streams()) === 0);
    });
}

test('on a site without TLS tabs share a worker; where they may not, each has a stream of its own', async () => {
    // Not a loopback address by its name: there are no locks.
    const site = `http://site.example:${new URL(on.sidecar.url).port}`;
    for (const [path, streams] of [['/polls', 1], ['/no-worker', 2]]) {
        const pages = [await on.browser.open(`${site}${path}`), await on.browser.open(`${site}${path}`)];
        assert.equal(await pages[0].evaluate(() => isSecureContext), false);
        await live(...pages);
        assert.equal(await on.sidecar.streams(), streams, path);
        assert.deepEqual(pages.flatMap((page) => page.errors), []);
        await on.browser.clear();
        await eventually('the streams to end', async () => (await on.sidecar.streams()) === 0);
    }
});

test('a page that may not open the stream polls as it always did', async () => {
    const page = await on.open('/no-stream-in-markup');
    await page.waitForFunction(() => draws > 3);
    await changes(page);
    assert.deepEqual(page.errors, []);
    await page.close();
});

test('a page that comes back from the back-forward cache follows on', async () => {
    const page = await on.open('/polls');
    await live(page);
    await page.evaluate(() => (window.mark = 1));
    await page.goto(`${on.sidecar.url}/empty`);
    await eventually('the stream to be given up', async () => (await on.sidecar.streams()) === 0);
    // It is not loaded again, which is what goBack would wait for.
    await page.evaluate(() => setTimeout(() => history.back(), 0));
    await eventually('the page to come back', () => page.evaluate(() => window.shown?.length > 1).catch(() => false));
    const kept = await page.evaluate(() => [window.mark, window.shown]);
    assert.deepEqual(kept, [1, [false, true]], 'it was not kept');
    await live(page);
    await page.close();
});

test('a server that is away for a while is found again', async () => {
    const other = await startSidecar(on.application.url, LEARNS);
    const page = await on.browser.open(`${other.url}/polls`);
    await live(page);
    await other.stop();
    await page.waitForFunction(() => window.failed);
    const again = await startSidecar(on.application.url, LEARNS, new URL(other.url).host);
    await live(page);
    assert.deepEqual(page.errors, []);
    await page.close();
    await again.stop();
});

test('a page that was frozen shows what it has missed as soon as it goes on', async () => {
    const page = await on.open('/polls');
    await live(page);
    // An early poll takes the place of the next: after that one the page may be early again.
    await drawsAgain(page);
    const devtools = await page.context().newCDPSession(page);
    await devtools.send('Page.setWebLifecycleState', { state: 'frozen' });
    const asked = page.times('/state');
    const count = on.change();
    const looks = () => on.application.askedFor('/state', isLook).length;
    const before = looks();
    await eventually('the change to be seen by Sungrazer', () => looks() > before + 1);
    await devtools.send('Page.setWebLifecycleState', { state: 'active' });
    const begun = performance.now();
    await page.waitForFunction((count) => drawn.at(-1).count === count, count);
    const took = performance.now() - begun;
    console.log(`shown ${Math.round(took)} ms after it went on; the page polls every ${INTERVAL} ms`);
    assert.ok(took < INTERVAL / 2, `${took} ms`);
    assert.equal(page.times('/state'), asked, 'it asked by itself');
    await live(page);
    assert.deepEqual(page.errors, []);
});

test('a browser that was offline follows on as soon as it is online', async () => {
    // Its own tab leads: the network of a worker cannot be cut.
    const page = await on.open('/no-worker');
    await live(page);
    await page.context().setOffline(true);
    await page.waitForFunction(() => window.failed);
    await page.context().setOffline(false);
    await live(page);
    assert.deepEqual(page.errors, []);
});

/** Stands between browser and Sungrazer, and treats answers of the stream as `treat` says. */
async function startMiddleman(treat, sidecar = on.sidecar) {
    const { hostname: host, port } = new URL(sidecar.url);
    const agent = new Agent({ keepAlive: true });
    const server = createServer((request, answer) => {
        const sent = ask({ host, port, method: request.method, path: request.url, headers: request.rawHeaders, agent }, (got) => {
            const pass = () => {
                answer.writeHead(got.statusCode, got.rawHeaders);
                got.pipe(answer);
            };
            request.url.endsWith('/stream') ? treat(got, answer, pass) : pass();
        });
        sent.on('error', () => answer.destroy());
        answer.on('close', () => sent.destroy());
        request.pipe(sent);
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    return {
        url: `http://127.0.0.1:${server.address().port}`,
        stop() {
            server.close();
            server.closeAllConnections();
            agent.destroy();
        },
    };
}

test('somebody in between who holds back what is not complete is found out', async () => {
    const middleman = await startMiddleman((got, answer) => {
        const pieces = [];
        got.on('data', (piece) => pieces.push(piece));
        got.on('end', () => {
            const body = Buffer.concat(pieces);
            const { 'transfer-encoding': _, ...headers } = got.headers;
            answer.writeHead(got.statusCode, { ...headers, 'content-length': body.length });
            answer.end(body);
        });
    });
    const page = await on.browser.open(`${middleman.url}/polls`);
    const begun = performance.now();
    await live(page);
    const took = performance.now() - begun;
    console.log(`somebody who holds back: found out, and a change shown, after ${Math.round(took)} ms`);
    assert.ok(took < 12_000 + INTERVAL, `${took} ms`);
    assert.deepEqual(page.errors, []);
    await page.close();
    middleman.stop();
});

test('a stream that has fallen silent is replaced after two heartbeats and a half', async () => {
    const HEARTBEAT = 800;
    const sidecar = await startSidecar(on.application.url, `${LEARNS}heartbeat = "${HEARTBEAT}ms"\n`);
    const streams = [];
    let silent;
    const middleman = await startMiddleman((got, answer, pass) => {
        streams.push(performance.now());
        pass();
        silent = () => {
            got.unpipe(answer);
            return performance.now();
        };
    }, sidecar);
    const page = await on.browser.open(`${middleman.url}/polls`);
    await live(page);
    const before = streams.length;
    const since = silent();
    await eventually('another stream', () => streams.length > before);
    const took = streams.at(-1) - since;
    assert.ok(took > HEARTBEAT && took < HEARTBEAT * 4, `${took} ms`);
    await live(page);
    assert.deepEqual(page.errors, []);
    await page.close();
    middleman.stop();
    await sidecar.stop();
});

test('somebody in between who lets no stream pass leaves a page that polls', async () => {
    const middleman = await startMiddleman((got, answer) => {
        got.resume();
        answer.writeHead(403);
        answer.end();
    });
    const page = await on.browser.open(`${middleman.url}/polls`);
    await page.waitForFunction(() => draws > 3);
    await changes(page);
    assert.deepEqual(page.errors, []);
    await page.close();
    middleman.stop();
});
