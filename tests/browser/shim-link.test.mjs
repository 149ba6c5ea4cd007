// The way between pages and the stream: shared by tabs, and given up step by step where something stands in the way.

import assert from 'node:assert/strict';
import { Agent, createServer, request as ask } from 'node:http';
import { after, afterEach, before, test } from 'node:test';

import { page, startLegacy } from './legacy.mjs';
import { eventually, startBrowser, startSidecar } from './support.mjs';

const INTERVAL = 2000;
const ROUTES = '[[route]]\npath = "/**"\nevery = "50ms"\nshim = "learn"\n';

const POLLS = page(`
    window.shown = [];
    addEventListener('pageshow', (event) => shown.push(event.persisted));
    const poll = () => fetch('/state').then((r) => r.json()).then(draw).catch((error) => (window.failed = String(error)));
    poll(); setInterval(poll, ${INTERVAL});`);

let legacy;
let sidecar;
let browser;

before(async () => {
    const policed = (policy) => (request, answer, send) => send(200, 'text/html', POLLS, { 'content-security-policy': policy });
    legacy = await startLegacy({
        '/polls': POLLS,
        '/empty': page(''),
        '/no-worker': policed("worker-src 'none'"),
        '/no-worker-in-markup': POLLS.replace('<title>', `<meta http-equiv="content-security-policy" content="worker-src 'none'"><title>`),
        '/no-stream-in-markup': POLLS.replace('<title>', `<meta http-equiv="content-security-policy" content="worker-src 'none'; connect-src http://127.0.0.1:*/state"><title>`),
    });
    sidecar = await startSidecar(legacy.url, ROUTES);
    browser = await startBrowser({ ignoreDefaultArgs: ['--disable-back-forward-cache'] });
});

afterEach(() => browser?.clear());

after(async () => {
    await browser?.stop();
    await sidecar?.stop();
    await legacy?.stop();
});

/** Changes the state, and waits until all pages show it. */
async function changes(...pages) {
    legacy.state = { count: legacy.state.count + 1 };
    await Promise.all(pages.map((page) => page.waitForFunction((count) => drawn.at(-1)?.count === count, legacy.state.count)));
}

/** Waits until a change is shown without any of the pages having asked over the network. */
async function live(...pages) {
    const asked = () => pages.map((page) => page.times('/state')).join();
    await eventually('polls to leave the network', async () => {
        const before = asked();
        await Promise.all(pages.map(async (page) => {
            const draws = await page.evaluate(() => window.draws);
            await page.waitForFunction((draws) => window.draws > draws, draws);
        }));
        await changes(...pages);
        return asked() === before;
    });
}

test('tabs share one stream, which ends with the last of them', async () => {
    const pages = [await browser.open(`${sidecar.url}/polls`), await browser.open(`${sidecar.url}/polls`)];
    await live(...pages);
    assert.equal(await sidecar.streams(), 1);
    await pages[0].close();
    await live(pages[1]);
    await pages[1].close();
    await eventually('the stream to end', async () => (await sidecar.streams()) === 0);
});

for (const path of ['/no-worker', '/no-worker-in-markup']) {
    test(`${path}: one of the tabs leads, and another takes its place`, async () => {
        const pages = [await browser.open(`${sidecar.url}${path}`), await browser.open(`${sidecar.url}${path}`)];
        await live(...pages);
        await eventually('one stream', async () => (await sidecar.streams()) === 1);
        await pages[0].close();
        await live(pages[1]);
        assert.deepEqual(pages[1].errors, []);
        await pages[1].close();
        await eventually('the stream to end', async () => (await sidecar.streams()) === 0);
    });
}

test('a page that may not open the stream polls as it always did', async () => {
    const page = await browser.open(`${sidecar.url}/no-stream-in-markup`);
    await page.waitForFunction(() => draws > 3);
    await changes(page);
    assert.deepEqual(page.errors, []);
    await page.close();
});

test('a page that comes back from the back-forward cache follows on', async () => {
    const page = await browser.open(`${sidecar.url}/polls`);
    await live(page);
    await page.evaluate(() => (window.mark = 1));
    await page.goto(`${sidecar.url}/empty`);
    await eventually('the stream to be given up', async () => (await sidecar.streams()) === 0);
    // It is not loaded again, which is what goBack would wait for.
    await page.evaluate(() => setTimeout(() => history.back(), 0));
    await eventually('the page to come back', () => page.evaluate(() => window.shown?.length > 1).catch(() => false));
    const kept = await page.evaluate(() => [window.mark, window.shown]);
    assert.deepEqual(kept, [1, [false, true]], 'it was not kept');
    await live(page);
    await page.close();
});

test('a server that is away for a while is found again', async () => {
    const other = await startSidecar(legacy.url, ROUTES);
    const page = await browser.open(`${other.url}/polls`);
    await live(page);
    await other.stop();
    await page.waitForFunction(() => window.failed);
    const again = await startSidecar(legacy.url, ROUTES, new URL(other.url).host);
    await live(page);
    assert.deepEqual(page.errors, []);
    await page.close();
    await again.stop();
});

/** Stands between browser and Sungrazer, and treats answers of the stream as `treat` says. */
async function startMiddleman(treat) {
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
            answer.writeHead(got.statusCode, { ...got.headers, 'transfer-encoding': '' });
            answer.end(Buffer.concat(pieces));
        });
    });
    const page = await browser.open(`${middleman.url}/polls`);
    await live(page);
    assert.deepEqual(page.errors, []);
    await page.close();
    middleman.stop();
});

test('somebody in between who lets no stream pass leaves a page that polls', async () => {
    const middleman = await startMiddleman((got, answer) => {
        got.resume();
        answer.writeHead(403);
        answer.end();
    });
    const page = await browser.open(`${middleman.url}/polls`);
    await page.waitForFunction(() => draws > 3);
    await changes(page);
    assert.deepEqual(page.errors, []);
    await page.close();
    middleman.stop();
});
