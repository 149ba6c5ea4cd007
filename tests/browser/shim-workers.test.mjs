// Pages with a service worker of their own: what it answers is what they see, with the script as without.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { isLook, page } from './application.mjs';
import { drawsAgain, followed, shows, stage } from './stage.mjs';
import { eventually } from './support.mjs';

const INTERVAL = 1000;

const polls = (worker) => page(`
    window.ready = navigator.serviceWorker.register('/${worker}.js', { scope: '/${worker}' }).then(() => navigator.serviceWorker.ready);
    const poll = () => fetch('/state').then((r) => r.json()).then(draw);
    poll(); setInterval(poll, ${INTERVAL});`);

/** What a page's worker does with its requests. */
const WORKERS = {
    answers: `addEventListener('fetch', (event) => {
        if (new URL(event.request.url).pathname === '/state') {
            event.respondWith(new Response('{"count":"its own"}', { headers: { 'content-type': 'application/json' } }));
        }
    });`,
    remembers: `addEventListener('fetch', (event) => {
        if (new URL(event.request.url).pathname === '/state') {
            event.respondWith(caches.open('v1').then(async (cache) => {
                const known = await cache.match('/state');
                if (known) return known;
                const answer = await fetch(event.request);
                await cache.put('/state', answer.clone());
                return answer;
            }));
        }
    });`,
    passes: "addEventListener('fetch', (event) => event.respondWith(fetch(event.request)));",
    // Browsers see through one that does nothing at all.
    ignores: "addEventListener('fetch', (event) => (self.last = event.request.url));",
    notifies: "addEventListener('push', () => {});",
    claims: `addEventListener('activate', (event) => event.waitUntil(clients.claim()));
        addEventListener('fetch', (event) => {
            if (new URL(event.request.url).pathname === '/state') {
                event.respondWith(new Response('{"count":"its own"}', { headers: { 'content-type': 'application/json' } }));
            }
        });`,
};

const script = (text) => (request, send) => send(200, 'text/javascript', text);

const on = stage({
    ...Object.fromEntries(Object.entries(WORKERS).flatMap(([name, text]) => [[`/${name}`, polls(name)], [`/${name}.js`, script(text)]])),
    '/refreshes': `<!doctype html><title>Refreshes</title><meta http-equiv="refresh" content="1"><p>none</p><script>
        window.ready = navigator.serviceWorker.register('/refreshes.js', { scope: '/refreshes' }).then(() => navigator.serviceWorker.ready);</script>`,
    '/refreshes.js': script(`let count = 0; addEventListener('fetch', (event) => {
        if (event.request.mode === 'navigate') {
            event.respondWith(fetch(event.request).then((answer) => answer.text())
                .then((text) => new Response(text.replace('none', ++count), { headers: { 'content-type': 'text/html' } })));
        }
    });`),
});

/** Opens a page that its worker controls. */
async function controlled(open, name) {
    const page = await open(`/${name}`);
    await page.evaluate(() => window.ready.then(() => true));
    await page.reload();
    await page.waitForFunction(() => navigator.serviceWorker.controller);
    return page;
}

const shown = (page) => page.evaluate(() => drawn.map(({ count }) => count));

for (const name of ['answers', 'remembers']) {
    test(`a worker that ${name}: its answers are what the page sees`, async () => {
        for (const open of [on.openPlain, on.open]) {
            const page = await controlled(open, name);
            await drawsAgain(page, 2);
            const [first] = await shown(page);
            assert.ok(name === 'remembers' || first === 'its own', first);
            on.change();
            await drawsAgain(page, 3);
            assert.deepEqual(new Set(await shown(page)), new Set([first]));
            assert.deepEqual(page.errors, []);
            await page.close();
        }
    });
}

for (const name of ['passes', 'ignores']) {
    test(`a worker that ${name}: the page asks as it always did, and nobody else asks for it`, async () => {
        const page = await controlled(on.open, name);
        await drawsAgain(page, 3);
        await shows(page, on.change());
        // What other pages followed is fetched for as long as they might come back.
        const looks = () => on.application.askedFor('/state', isLook).length;
        await eventually('looks to end', async () => {
            const before = looks();
            await sleep(INTERVAL / 2);
            return looks() === before;
        });
        const before = looks();
        await shows(page, on.change());
        await sleep(2 * INTERVAL);
        assert.equal(looks(), before);
        // It is hurried by what passes through, nevertheless.
        let body = 'a';
        await eventually('a poll that is hurried by a write', async () => {
            const from = await page.evaluate(() => drawn.length - 1);
            body += 'b';
            await page.evaluate((body) => fetch('/notifies', { method: 'POST', body }).then(() => 0), body);
            await drawsAgain(page, 2);
            const at = await page.evaluate((from) => drawn.slice(from).map(({ at }) => at), from);
            return at.slice(1).some((late, number) => late - at[number] < INTERVAL * 0.8);
        });
        assert.deepEqual(page.errors, []);
        await page.close();
    });
}

test('a page that loads itself again is loaded again by its worker', async () => {
    for (const open of [on.openPlain, on.open]) {
        const page = await open('/refreshes');
        await eventually('it to be counted', async () => Number(await page.evaluate(() => document.querySelector('p').textContent).catch(() => 0)) > 3);
        assert.deepEqual(page.errors, []);
        await page.close();
    }
});

test('a worker that has nothing to do with requests is in nobody\'s way', async () => {
    const page = await controlled(on.open, 'notifies');
    await followed(page);
    const asked = page.times('/state');
    for (let round = 0; round < 3; round++) {
        await shows(page, on.change());
    }
    assert.equal(page.times('/state'), asked);
    assert.deepEqual(page.errors, []);
    await page.close();
});

test('a worker that takes a page over is asked from then on', async () => {
    const page = await on.open('/claims');
    await page.waitForFunction(() => navigator.serviceWorker.controller);
    await eventually('its answers', async () => (await shown(page)).at(-1) === 'its own');
    on.change();
    await drawsAgain(page, 3);
    assert.equal((await shown(page)).at(-1), 'its own');
    assert.deepEqual(page.errors, []);
    await page.close();
});
