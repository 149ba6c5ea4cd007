// A route with a duration for its interval: what the application is asked, and what is shown after a
// write though nobody looks for its effect.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { isLook, page } from './application.mjs';
import { drawsAgain, followed, stage } from './stage.mjs';
import { eventually } from './support.mjs';

const INTERVAL = 1000;
/** Longer than such a route's `every`. */
const SLOW = 2500;

const polls = (url, interval) => page(`
    const poll = () => fetch(${url}).then((r) => r.json()).then(draw);
    poll(); setInterval(poll, ${interval});`);

let count = 0;
const on = stage({
    '/plain': polls("'/state'", INTERVAL),
    '/unique': polls("'/state?' + Date.now()", INTERVAL),
    '/countdown': page(`
        let left = 0;
        setInterval(() => {
            left = (left + 5) % 6;
            if (left === 0) fetch('/rare').then((r) => r.json()).then(draw);
        }, ${SLOW / 6});`),
    '/rare': (request, send) => send(200, 'application/json', '{"count":1}'),
    '/restless': polls("'/load'", SLOW),
    '/load': (request, send) => send(200, 'application/json', JSON.stringify({ load: (37 * count++) % 101 })),
    '/layouts/one': (request, send, application) => {
        if (request.body.startsWith('{')) {
            application.state = JSON.parse(request.body);
        }
        send(204, 'text/plain', '');
    },
}, { routes: '[[route]]\npath = "/**"\nevery = "1s"\nnoise = "off"\nshim = "learn"\n' });

const save = (page, body) => page.evaluate(async (body) => {
    await fetch('/layouts/one', { method: 'PUT', body });
    return drawn.length;
}, body);

for (const path of ['/plain', '/unique']) {
    test(`${path}: what a page has written is in all that it is shown, whatever its writes did before`, async () => {
        const pages = [await on.open(path), await on.open(path)];
        await Promise.all(pages.map((page) => followed(page)));
        // Nothing comes of these, until nobody looks for anything after them.
        const looks = () => on.application.askedFor('/state', isLook).length;
        await eventually('writes to be no reason to look', async () => {
            const before = looks();
            await save(pages[0], `wide ${'x'.repeat(looks() % 7)}`);
            await sleep(INTERVAL / 4);
            const soon = looks();
            await sleep(INTERVAL);
            return soon === before;
        }, 40_000);
        for (let round = 0; round < 4; round++) {
            const state = { count: on.application.state.count + 1 };
            const from = await save(pages[round % 2], JSON.stringify(state));
            await drawsAgain(pages[round % 2], 2);
            const shown = await pages[round % 2].evaluate((from) => drawn.slice(from).map(({ count }) => count), from);
            assert.deepEqual(new Set(shown), new Set([state.count]), `round ${round}`);
            await Promise.all(pages.map((page) => page.waitForFunction((count) => drawn.at(-1).count === count, state.count)));
            await save(pages[0], `narrow${'x'.repeat(round)}`);
        }
        for (const page of pages) {
            const shown = await page.evaluate(() => drawn.map(({ count }) => count));
            assert.deepEqual(shown, [...shown].sort((a, b) => a - b), 'an older state after a newer one');
            assert.deepEqual(page.errors, []);
            await page.close();
        }
    });
}

test('what is asked for at every sixth tick is looked at no more often than that', async () => {
    const page = await on.open('/countdown');
    const asked = () => on.application.askedFor('/rare').length;
    await page.waitForFunction(() => draws > 4);
    await eventually('looks to keep the page\'s pace', async () => {
        const before = asked();
        await sleep(4 * SLOW);
        return asked() - before <= 5;
    }, 60_000);
    assert.deepEqual(page.errors, []);
    await page.close();
});

test('what changes each time is asked for by all tabs together no more often than by one', async () => {
    const pages = await Promise.all([1, 2, 3, 4].map(() => on.open('/restless')));
    const asked = () => on.application.askedFor('/load').length;
    await Promise.all(pages.map((page) => page.waitForFunction(() => draws > 3)));
    const rate = async (time) => {
        const before = asked();
        await sleep(time);
        return asked() - before;
    };
    const most = (time) => time / SLOW + 1;
    await eventually('looks to keep the pages\' pace', async () => (await rate(3 * SLOW)) <= most(3 * SLOW), 60_000);
    const found = await rate(4 * SLOW);
    assert.ok(found >= 3 && found <= most(4 * SLOW), `${found} requests`);
    for (const page of pages) {
        await drawsAgain(page);
        assert.deepEqual(page.errors, []);
        await page.close();
    }
});
