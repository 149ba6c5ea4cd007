// The dashboard: what it shows, that it is pushed, and that everybody can use it. With UPDATE_DOCUMENTS=1 its pictures in
// docs/ are taken anew, which takes two minutes longer.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { eventually, startBrowser, startSidecar } from './support.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const PICTURES = process.env.UPDATE_DOCUMENTS ? new URL('../../docs/', import.meta.url).pathname : null;

const ROUTES = `[[route]]
path = "/api/messages"
every = "500ms"
every_max = "1s"
hold = "25s"
[[route]]
path = "/api/orders/*"
every = "1s"
every_max = "2s"
[[route]]
path = "/status.json"
every = "500ms"
every_max = "1s"
audience = "public"
`;

/** An application that knows nothing of push: what it answers is in `pages`, by path. */
async function startApplication() {
    const pages = new Map();
    const server = createServer((request, response) => {
        const page = pages.get(request.url.split('?')[0]) ?? { status: 404, body: {} };
        response.writeHead(page.status ?? 200, { 'Content-Type': 'application/json' });
        response.end(JSON.stringify(page.body));
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    return {
        pages,
        url: `http://127.0.0.1:${server.address().port}`,
        stop: () => {
            server.closeAllConnections();
            server.close();
        },
    };
}

let application;
let sidecar;
let browser;
const clients = new AbortController();

/** A client that asks with these headers and reads whatever comes. */
async function hold(path, headers) {
    const response = await fetch(`${sidecar.url}${path}`, { headers, signal: clients.signal });
    assert.equal(response.status, 200, path);
    (async () => {
        for await (const _ of response.body);
    })().catch(() => {});
}

function write(path, body, status = 200) {
    application.pages.set(path, { body, status });
}

before(async () => {
    application = await startApplication();
    write('/api/messages', { messages: ['Good morning'] });
    write('/api/orders/open', { orders: [1041, 1042, 1043], of: 'today' });
    write('/status.json', { healthy: true });
    sidecar = await startSidecar(application.url, ROUTES);
    browser = await startBrowser();
    for (let number = 0; number < 24; number += 1) {
        await hold('/api/messages', { Accept: 'text/event-stream', Cookie: `session=${number % 3}` });
    }
    for (let number = 0; number < 9; number += 1) await hold('/status.json', { Accept: 'application/x-ndjson' });
    for (let number = 0; number < 5; number += 1) await hold('/api/orders/open', { Accept: 'text/event-stream' });
    await hold('/.sungrazer/stream?url=/api/messages&url=/api/orders/open', {});
});

after(async () => {
    clients.abort();
    await browser?.stop();
    await sidecar?.stop();
    application?.stop();
});

async function open(admin = sidecar.admin) {
    const page = await browser.open(`${admin}/`);
    await page.setViewportSize({ width: 1280, height: 900 });
    return page;
}

const text = (page, selector) => page.locator(selector).innerText();

test('it shows what goes on, as it goes on, and asks only once', async () => {
    const page = await browser.open('about:blank');
    const asked = [];
    page.on('request', (request) => asked.push(new URL(request.url()).pathname));
    await page.goto(`${sidecar.admin}/`);
    await page.locator('#connection.live').waitFor();
    assert.equal(await text(page, '#held'), '39');
    assert.match(await text(page, '#transport-list'), /sse 29/);
    assert.match(await text(page, '#routes'), /\/api\/orders\/\*/);
    assert.equal(await page.locator('#resources tr').count(), 6);
    write('/api/messages', { messages: ['Good morning', 'Coffee?'] });
    await page.locator('#changes li', { hasText: '/api/messages' }).filter({ hasText: 'changed' }).first().waitFor();
    await eventually('the rates', async () => Number((await text(page, '#polls-rate')).replace(',', '')) > 10);
    assert.match(await text(page, '#factor'), /×$/);
    await eventually('the delay', async () => / (ms|s)$/.test(await text(page, '#delay')));
    assert.deepEqual(asked.filter((path) => path.startsWith('/api/')), ['/api/state'], 'pushed, not polled');
    assert.deepEqual(page.errors, []);
    await page.close();
    await eventually('the page to be given up', async () => {
        const metrics = await (await fetch(`${sidecar.admin}/metrics`)).text();
        return !metrics.includes('/api/state');
    });
});

test('what is wrong stands at the top, with the reason', async () => {
    const page = await open();
    sidecar.configure(ROUTES.replace('every_max', 'evry_max'));
    const problems = page.getByRole('alert', { name: 'Problems' });
    await problems.getByText('did you mean').waitFor();
    assert.equal(await text(page, '#config-state'), 'wrong file');
    sidecar.configure(ROUTES);
    await problems.getByText('did you mean').waitFor({ state: 'detached' });
    write('/api/orders/open', { error: 'database' }, 503);
    const row = page.locator('#resources tr', { hasText: '/api/orders/open' }).first();
    await row.getByText('stale', { exact: true }).waitFor();
    assert.match(await row.innerText(), /the upstream answered 503/);
    assert.match(await page.locator('#changes li').first().innerText(), /503/);
    write('/api/orders/open', { orders: [1041, 1042, 1043, 1044], of: 'today' });
    await row.getByText('live', { exact: true }).waitFor();
    await page.close();
});

test('why a resource is as it is can be asked with the keyboard alone', async () => {
    const page = await open();
    const link = page.getByRole('link', { name: 'why /status.json is as it is' });
    await link.focus();
    await page.keyboard.press('Enter');
    const dialog = page.getByRole('dialog', { name: 'Why /status.json is as it is' });
    await dialog.getByText('the first fetch').waitFor();
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'hidden' });
    assert.ok(await link.evaluate((link) => link === document.activeElement), 'the focus is where it was');
    await page.getByRole('searchbox').fill('orders');
    assert.equal(await page.locator('#resources tr', { hasText: 'messages' }).count(), 0);
    const pause = page.getByRole('button', { name: 'Pause' });
    await pause.press('Space');
    assert.equal(await pause.getAttribute('aria-pressed'), 'true');
    assert.equal(await text(page, '#connection'), 'paused');
    const before = await page.locator('#changes li').count();
    write('/status.json', { healthy: true, since: Date.now() });
    await sleep(1500);
    assert.equal(await page.locator('#changes li').count(), before, 'it stands still');
    await pause.press('Space');
    await eventually('it to go on', async () => (await page.locator('#changes li').count()) > before);
    assert.deepEqual(page.errors, []);
    await page.close();
});

test('a listener with a token asks for it', async () => {
    const guarded = await startSidecar(application.url, `[server]\nadmin_token = "let me in"\n${ROUTES}`);
    const page = await open(guarded.admin);
    const field = page.getByLabel('This listener asks for the admin token');
    await field.fill('let me out');
    await field.press('Enter');
    await page.getByText('That is not the token.').waitFor();
    assert.equal(await text(page, '#held'), '0');
    await field.fill('let me in');
    await field.press('Enter');
    await page.locator('#connection.live').waitFor();
    await page.close();
    await guarded.stop();
});

test('nothing in it is out of reach: light, dark, and on a phone', async () => {
    const page = await open();
    await page.locator('#changes li').first().waitFor();
    if (PICTURES) await sleep(125_000);
    const looks = [
        ['dashboard-light', { colorScheme: 'light' }, { width: 1280, height: 900 }],
        ['dashboard-dark', { colorScheme: 'dark' }, { width: 1280, height: 900 }],
        ['dashboard-phone', { colorScheme: 'dark' }, { width: 390, height: 844 }],
    ];
    await page.evaluate(AXE);
    for (const [name, media, size] of looks) {
        await page.emulateMedia({ ...media, reducedMotion: 'reduce' });
        await page.setViewportSize(size);
        const width = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(width <= size.width, `${name}: ${width} px wide`);
        const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ['violations'] }));
        const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes[0].html.slice(0, 200)}`);
        assert.deepEqual(found, [], name);
        if (PICTURES) await page.screenshot({ path: `${PICTURES}${name}.png` });
    }
    await page.close();
});
