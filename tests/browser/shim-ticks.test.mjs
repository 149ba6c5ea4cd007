// Polls that only the page may make: they are hurried when something passes through, and asked no more often for that than the
// page would have asked; and what a timer sends is a write like any other.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { page } from './application.mjs';
import { stage } from './stage.mjs';
import { eventually } from './support.mjs';

/** The pages' own interval. */
const INTERVAL = 1500;

const posts = (body, more = '') => page(`
    const poll = () => fetch('/rpc', { method: 'POST', body: ${body} }).then((r) => r.json()).then(draw);
    poll(); setInterval(poll, ${INTERVAL});${more}`);

let served = 0;
const token = () => Math.random().toString(36).slice(2);
const on = stage({
    '/rpc': (request, send, application) => {
        const next = request.body === 'next' ? ++served : undefined;
        const text = request.body.startsWith('token') ? token() : undefined;
        send(200, 'application/json', JSON.stringify({ ...application.state, next, text }));
    },
    '/comment': (request, send, application) => {
        if (request.body.startsWith('count')) {
            application.state = { count: application.state.count + 1 };
        }
        send(200, 'text/plain', 'ok');
    },
    '/log': (request, send, application) => send(200, 'application/json', JSON.stringify(application.state)),
    '/post/constant': posts("'{\"query\":\"{all}\"}'"),
    '/post/ids': page(`
        let id = 0;
        (function poll() {
            fetch('/rpc', { method: 'POST', body: JSON.stringify({ id: id++, method: 'get' }) }).then((r) => r.json()).then(draw);
            setTimeout(poll, ${INTERVAL});
        })();`),
    '/post/next': posts("'next'"),
    '/post/tokens': posts("'token' + Math.random().toString(36)"),
    '/post/xhr': page(`
        function poll() {
            const xhr = new XMLHttpRequest();
            xhr.onload = () => { draw(JSON.parse(xhr.responseText)); setTimeout(poll, ${INTERVAL}); };
            xhr.open('POST', '/rpc');
            xhr.send('a=1');
        }
        poll();`),
    '/cursor': page(`
        const poll = () => fetch('/log?since=5').then((r) => r.json()).then(draw);
        poll(); setInterval(poll, ${INTERVAL});`),
    '/doc': (request, send, application) => send(200, 'application/json', JSON.stringify(application.saved ?? {})),
    '/save': (request, send, application) => {
        application.saved = JSON.parse(request.body);
        send(200, 'application/json', '{"ok":1}');
    },
    '/autosave': page(`
        let n = 0;
        window.reads = [];
        setInterval(() => fetch('/doc').then((r) => r.json()), 300);
        setInterval(async () => {
            const text = String(++n);
            await fetch('/save', { method: 'POST', body: JSON.stringify({ text }) });
            const { text: read } = await (await fetch('/doc')).json();
            reads.push([text, read]);
            draw({ count: n });
        }, 700);`),
});

const isPoll = (request) => request.path === '/rpc' || request.path === '/log';
const asked = () => on.application.asked.filter(isPoll).length;

/** Somebody else writes something each so many milliseconds, through Sungrazer, until `until` resolves. */
async function others(every, body, until) {
    let number = 0;
    const write = () => fetch(`${on.sidecar.url}/comment`, { method: 'POST', body: `${body} ${token()} ${number++}` }).then((r) => r.text()).catch(() => {});
    const timer = setInterval(write, every);
    try {
        return await until;
    } finally {
        clearInterval(timer);
    }
}

const WAYS = ['/post/constant', '/post/ids', '/post/next', '/post/tokens', '/post/xhr', '/cursor'];

for (const path of WAYS) {
    test(`${path}: a poll is no reason for itself, from the first on`, async () => {
        const before = asked();
        const page = await on.open(path);
        await sleep(INTERVAL * 4.5);
        const [sent, times] = [asked() - before, 1 + Math.floor((await page.evaluate(() => performance.now())) / INTERVAL)];
        assert.ok(sent <= times && sent > 2, `${sent} requests where the page makes ${times}`);
        const gaps = await page.evaluate(() => drawn.slice(1).map(({ at }, number) => Math.round(at - drawn[number].at)));
        assert.ok(gaps.every((gap) => gap > INTERVAL * 0.6 && gap < INTERVAL * 1.4), `it asked after ${gaps.join(', ')} ms`);
        assert.deepEqual(page.errors, []);
        await page.close();
    });

    test(`${path}: others' writes have it asked no more often than the page would`, async () => {
        const pages = await Promise.all([on.open(path), on.open(path)]);
        await Promise.all(pages.map((page) => page.waitForFunction(() => draws > 3)));
        const [before, begun] = [asked(), performance.now()];
        await others(150, 'nothing', sleep(INTERVAL * 6));
        // Timers fire up to a millisecond early by the clock.
        const [sent, intervals] = [asked() - before, Math.ceil((performance.now() - begun) / INTERVAL)];
        // Each is one ahead at most.
        assert.ok(sent >= 8 && sent <= 2 * (intervals + 1), `${sent} requests of two pages in ${intervals} of their intervals`);
        await Promise.all(pages.map((page) => page.close()));
    });
}

for (const path of ['/post/constant', '/post/ids', '/post/xhr', '/cursor']) {
    test(`${path}: what others' writes have changed is shown at once`, async () => {
        const page = await on.open(path);
        await page.waitForFunction(() => draws > 3);
        const took = [];
        for (let round = 0; round < 3; round++) {
            const before = await page.evaluate(() => draws);
            await page.waitForFunction((before) => draws > before + 1, before);
            await sleep(INTERVAL / 5);
            const begun = performance.now();
            await fetch(`${on.sidecar.url}/comment`, { method: 'POST', body: `count ${token()}` });
            await page.waitForFunction((count) => drawn.at(-1).count === count, on.application.state.count);
            took.push(Math.round(performance.now() - begun));
        }
        console.log(`${path}: shown after ${took.join(', ')} ms; the page polls every ${INTERVAL} ms`);
        assert.ok(took.every((ms) => ms < INTERVAL / 2), took.join());
        assert.deepEqual(page.errors, []);
        await page.close();
    });
}

test('a page that saves numbers by a timer reads what it saved', async () => {
    const page = await on.open('/autosave');
    await page.waitForFunction(() => reads.length > 20, undefined, { timeout: 40_000 });
    const old = await page.evaluate(() => reads.filter(([saved, read]) => saved !== read));
    assert.deepEqual(old, []);
    assert.deepEqual(page.errors, []);
    await page.close();
});

test('a page that saves by a timer keeps doing so at its own pace, and others see it', async () => {
    const [writer, reader] = [await on.open('/autosave'), await on.open('/cursor')];
    await writer.waitForFunction(() => draws > 3);
    const saves = () => on.application.askedFor('/save').length;
    const before = saves();
    await others(150, 'nothing', sleep(7000));
    const sent = saves() - before;
    assert.ok(sent >= 8 && sent <= 11, `${sent} in 7 s`);
    await eventually('the reader to poll', () => reader.evaluate(() => draws > 3));
    await Promise.all([writer.close(), reader.close()]);
});
