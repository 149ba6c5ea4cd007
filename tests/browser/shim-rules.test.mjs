// What the browser script must never do, and what a page must never notice.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { isLook, page } from './application.mjs';
import { draws, followed, stage } from './stage.mjs';
import { eventually } from './support.mjs';

const INTERVAL = 800;

const counted = (send, value) => send(200, 'application/json', JSON.stringify(value));

let served = 0;
const on = stage({
    '/empty': page(''),
    '/write': (request, send, application) => {
        application.state = { count: Number(request.body) };
        send(204, 'text/plain', '');
    },
    // Each of these is no pure read, though only the first two say so.
    '/inbox': (request, send) => counted(send, { count: ++served }),
    '/queue/pop': (request, send) => counted(send, { count: ++served }),
    '/log': (request, send) => counted(send, { count: ++served }),
    '/post-page': page(`
        const poll = () => fetch('/inbox', { method: 'POST', body: JSON.stringify({ id: Date.now(), method: 'get' }) })
            .then((r) => r.json()).then(draw);
        poll(); setInterval(poll, ${INTERVAL * 4});`),
    '/pop-page': page(`
        const poll = () => fetch('/queue/pop').then((r) => r.json()).then(draw);
        poll(); setInterval(poll, ${INTERVAL * 4});`),
    '/since-page': page(`
        const poll = () => fetch('/log?since=' + (drawn.length && drawn.at(-1).count)).then((r) => r.json()).then(draw);
        poll(); setInterval(poll, ${INTERVAL * 4});`),
    '/stands-page': page(`
        const poll = () => fetch('/log?after=7').then((r) => r.json()).then(draw);
        poll(); setInterval(poll, ${INTERVAL * 4});`),
    '/counts-page': page(`
        let n = 100;
        const poll = () => fetch('/log?n=' + n++).then((r) => r.json()).then(draw);
        poll(); setInterval(poll, ${INTERVAL * 4});`),
    '/poll-page': page(`
        const poll = () => fetch('/state').then((r) => r.json()).then(draw);
        poll(); setInterval(poll, ${INTERVAL});`),
    '/pauses-page': page(`
        const poll = () => document.hidden || fetch('/state').then((r) => r.json()).then(draw);
        document.addEventListener('visibilitychange', poll);
        poll(); setInterval(poll, ${INTERVAL});`),
    '/told': (request, send) => send(200, 'application/json', JSON.stringify({ url: request.url }), {
        'x-request-id': request.headers['x-request-id'] ?? '',
    }),
    '/ids-page': page(`
        window.wrong = [];
        const names = ['temperature_sensor_1', 'temperature_sensor_2', '550e8400-e29b-41d4-a716-446655440000', Date.now().toString(36), '1234567890'];
        for (const name of names) {
            setInterval(() => fetch('/told?' + name).then((r) => r.json()).then((told) => {
                if (told.url !== '/told?' + name) wrong.push([name, told.url]);
                draw(told);
            }), 400);
        }`),
    '/requests-page': page(`
        window.wrong = [];
        let number = 0;
        setInterval(() => {
            const id = String(++number);
            fetch('/told', { headers: { 'X-Request-Id': id } }).then((r) => {
                if (r.headers.get('x-request-id') !== id) wrong.push([id, r.headers.get('x-request-id')]);
                draw({ count: id });
            });
        }, 400);`),
    '/token-page': page(`
        let polls = 0;
        setInterval(() => {
            const token = Math.floor(polls++ / 10);
            fetch('/state', { headers: { Authorization: 'Bearer ' + token } }).then((r) => r.json()).then(draw);
        }, 260);`),
    '/broken': (request, send, application) =>
        application.broken ? send(503, 'text/plain', 'Out of order.') : counted(send, { count: 1 }),
    '/broken-page': page(`
        window.statuses = [];
        const poll = () => fetch('/broken').then((r) => { statuses.push(r.status); draw({ count: r.status }); });
        poll(); setInterval(poll, ${INTERVAL});`),
});

for (const [name, path, target, least = 2] of [
    ['a POST', '/post-page', '/inbox'],
    ['a read that consumes', '/pop-page', '/queue/pop'],
    ['a cursor that moves', '/since-page', '/log'],
    ['a cursor that stands still', '/stands-page', '/log'],
    ['a number that counts', '/counts-page', '/log', 3],
]) {
    test(`${name} is never asked for by anybody but the page, and never answered from memory; a write fires its timer`, async () => {
        on.application.asked.length = 0;
        const page = await on.open(path);
        await eventually('polls', async () => (await draws(page)) >= least);
        // Whoever follows needs a moment for it, and the next poll is far away.
        await sleep(INTERVAL);
        const before = await draws(page);
        const writer = await on.open('/empty');
        const wrote = performance.now();
        // The same again and again would be a poll.
        await writer.evaluate((path) => fetch(`/write?${path}`, { method: 'POST', body: '1' }), path);
        await eventually('an early poll', async () => (await draws(page)) > before);
        const took = performance.now() - wrote;
        assert.ok(took < INTERVAL * 2, `${took} ms after the write; the page polls every ${INTERVAL * 4} ms`);
        const [polls, drawn] = [on.application.asked.filter((request) => request.path === target), await page.evaluate(() => drawn)];
        assert.ok(!polls.some(isLook), 'Sungrazer asked for it itself');
        // Each answer is one of its own, and all of them were drawn, in order.
        assert.equal(new Set(drawn.map(({ count }) => count)).size, drawn.length);
        assert.ok(polls.length >= drawn.length, `${polls.length} requests, ${drawn.length} answers`);
        assert.ok(polls.every((request) => !request.headers['sungrazer-poll']), 'the mark is for Sungrazer alone');
        assert.deepEqual(page.errors, []);
        await page.close();
        await writer.close();
    });
}

for (const path of ['/ids-page', '/requests-page']) {
    test(`${path}: what is answered is what was asked for`, async () => {
        const page = await on.open(path);
        await page.waitForFunction(() => draws > 40);
        assert.deepEqual(await page.evaluate(() => wrong), []);
        assert.deepEqual(page.errors, []);
        await page.close();
    });
}

test('a page that renews its token now and then goes on to be followed', async () => {
    const page = await on.open('/token-page');
    await page.waitForFunction(() => draws > 10 * 5);
    const before = page.times('/state');
    await page.waitForFunction((draws) => window.draws >= draws + 20, await draws(page));
    const asked = page.times('/state') - before;
    assert.ok(asked < 12, `${asked} of 20 polls went out`);
    assert.deepEqual(page.errors, []);
    await page.close();
});

test('a page that pauses while nobody sees it is left in peace', async () => {
    const page = await on.open('/pauses-page');
    await followed(page);
    const hide = (hidden) => page.evaluate((hidden) => {
        Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
        Object.defineProperty(document, 'visibilityState', { value: hidden ? 'hidden' : 'visible', configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    }, hidden);
    await hide(true);
    const before = await draws(page);
    const asked = page.times('/state');
    const count = on.change();
    await sleep(INTERVAL * 2);
    assert.deepEqual([await draws(page), page.times('/state')], [before, asked]);
    await hide(false);
    await page.waitForFunction((count) => drawn.at(-1).count === count, count);
    assert.deepEqual(page.errors, []);
});

test('what a user asks for is asked of the application', async () => {
    const page = await on.open('/poll-page');
    await followed(page);
    const before = page.times('/state');
    await page.evaluate(() => {
        document.body.insertAdjacentHTML('beforeend', '<button id="now">Now</button>');
        document.getElementById('now').onclick = () => fetch('/state').then(() => (window.clicked = true));
    });
    await page.click('#now');
    await page.waitForFunction(() => window.clicked);
    assert.equal(page.times('/state'), before + 1);
    await page.close();
});

test('after a write of its own a page is never shown the state before', async () => {
    const page = await on.open('/poll-page');
    await followed(page);
    for (let value = 1001; value < 1006; value++) {
        const seen = await page.evaluate(async ([value, interval]) => {
            const from = drawn.length;
            await fetch('/write', { method: 'POST', body: String(value) });
            const poll = () => fetch('/state').then((r) => r.json()).then(draw);
            await poll();
            const after = drawn.length;
            // One that was early took the place of the next.
            await new Promise((resolve) => setTimeout(resolve, interval * 2 + 200));
            return { own: drawn[after - 1].count, later: drawn.slice(after).map(({ count }) => count), from };
        }, [value, INTERVAL]);
        assert.equal(seen.own, value);
        assert.ok(seen.later.length > 0 && seen.later.every((count) => count === value), JSON.stringify(seen));
    }
    await page.close();
});

test('what goes wrong at the application is what the page sees, and it recovers', async () => {
    const page = await on.open('/broken-page');
    await followed(page, '/broken');
    on.application.broken = true;
    await page.waitForFunction(() => statuses.at(-1) === 503);
    on.application.broken = false;
    await page.waitForFunction(() => statuses.at(-1) === 200);
    await followed(page, '/broken');
    assert.deepEqual(page.errors, []);
    await page.close();
});

test('a change is a DOM event, and a URL can be followed by a function', async () => {
    const page = await on.open('/empty');
    await page.evaluate(() => {
        window.events = [];
        window.states = [];
        document.addEventListener('sungrazer:change', (event) => events.push(event.detail));
        window.stop = window.sungrazer.subscribe('/state', ({ url, version, body }) => states.push({ url, version, body }));
    });
    await page.waitForFunction(() => states.length === 1);
    on.application.state = { count: 77 };
    await page.waitForFunction(() => states.at(-1).body.count === 77);
    const [events, states] = await page.evaluate(() => [window.events, window.states]);
    assert.deepEqual(events.at(-1), states.at(-1));
    assert.equal(states.at(-1).url, '/state');
    await page.evaluate(() => window.stop());
    const looks = () => on.application.askedFor('/state', isLook).length;
    await eventually('the looks to end', async () => {
        const before = looks();
        await sleep(500);
        return looks() === before;
    });
    await page.close();
});

test('ten tabs ask the application no more than one', async () => {
    const count = async (tabs) => {
        const pages = [];
        for (let n = 0; n < tabs; n++) {
            pages.push(await on.open('/poll-page'));
        }
        for (const page of pages) {
            await page.waitForFunction(() => draws > 5);
        }
        // Now and then a page asks itself, and is answered from memory.
        const asks = () => on.application.askedFor('/state', (request) => !isLook(request)).length;
        const before = asks();
        await sleep(6000);
        const asked = asks() - before;
        assert.ok(pages.some((page) => page.times('/state') > 4), 'no page has asked itself');
        on.change();
        for (const page of pages) {
            await page.waitForFunction((count) => drawn.at(-1).count === count, on.application.state.count);
        }
        await Promise.all(pages.map((page) => page.close()));
        return asked;
    };
    assert.equal(await count(10), 0, 'polls of the pages themselves that were passed on');
});
