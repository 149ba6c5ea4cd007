// Pages that load themselves again, libraries that poll for their pages, and frames.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { page } from './application.mjs';
import { shows, stage } from './stage.mjs';
import { eventually } from './support.mjs';

/** Seconds. */
const REFRESH = 2;

const rows = (state) => Array.from({ length: 60 }, (_, n) => `<tr><td>row ${n}<td>${n === 1 ? state.count : n}`).join('\n');

/** A status page as they were made in the last century, in quirks mode. */
const status = (state, head = '', body = '') => `<html><head><title>Status ${state.count}</title>${head}
</head><body><h1>Count: <b id=count>${state.count}</b></h1><form><input id=typed value=""></form>
<table>${rows(state)}</table>${body}</body></html>`;

const META = `<meta http-equiv="refresh" content="${REFRESH}">`;

/** Half a minute of silence, as RIFF has it. */
const TONE = (() => {
    const [rate, seconds] = [8000, 30];
    const header = Buffer.alloc(44);
    header.write('RIFF', 0);
    header.writeUInt32LE(36 + rate * seconds, 4);
    header.write('WAVEfmt ', 8);
    header.writeUInt32LE(16, 16);
    header.writeUInt16LE(1, 20);
    header.writeUInt16LE(1, 22);
    header.writeUInt32LE(rate, 24);
    header.writeUInt32LE(rate, 28);
    header.writeUInt16LE(1, 32);
    header.writeUInt16LE(8, 34);
    header.write('data', 36);
    header.writeUInt32LE(rate * seconds, 40);
    return Buffer.concat([header, Buffer.alloc(rate * seconds, 128)]);
})();

/** A page that plays something, in places that change. */
const playing = (state) => status(state, META, `<section class="of-${state.count}">${'<p>another</p>'.repeat(state.count % 3)}
<audio src="/tone.wav" controls title="${state.count}"></audio><p>${state.count}</p>
<video controls loop><source src="/tone.wav" type="audio/wav"></video></section>`);

const html = (make) => (request, send, application) => send(200, 'text/html; charset=iso-8859-1', make(application.state));
const on = stage({
    '/meta': html((state) => status(state, META)),
    '/late-meta': html((state) => status(state, `<script type="application/json">{}</script>${META}`)),
    '/header': (request, send, application) => send(200, 'text/html', status(application.state), { refresh: String(REFRESH) }),
    '/early-script': html((state) => status(state, `<script>window.early = 1;</script>${META}`)),
    '/scripted': html((state) => status(state, META, '<script>document.querySelector("h1").append("!");</script>')),
    '/reloads': html((state) => status(state, '', `<script>setTimeout(() => location.reload(), ${REFRESH * 1000});</script>`)),
    '/assigns': html((state) => status(state, '', `<script>setInterval(() => { location.href = location.href; }, ${REFRESH * 1000});</script>`)),
    '/frames': '<!doctype html><title>Frames</title><iframe src="/meta" name="inner"></iframe>',
    '/reloads-frame': `<!doctype html><title>Frames</title><iframe src="/plain" name="inner"></iframe>
        <script>setInterval(() => frames[0].location.reload(), ${REFRESH * 1000});</script>`,
    '/playing': html(playing),
    '/tone.wav': (request, send) => send(200, 'audio/wav', TONE, { 'cache-control': 'no-store' }),
    '/plain': html((state) => status(state)),
    '/frameset': '<html><head><title>Frames</title></head><frameset cols="50%,50%"><frame src="/meta"><frame src="/empty"></frameset></html>',
    '/empty': page(''),
    '/fragment': html((state) => `<b id="count">${state.count}</b>`),
    '/htmx': page('', '<script src="/lib/htmx.org/dist/htmx.js"></script>').replace('<output id="count"></output>', `<div hx-get="/fragment" hx-trigger="load, every 2s"></div>`),
    '/htmx4': page('', '<script src="/lib/htmx4/dist/htmx.js"></script>').replace('<output id="count"></output>', `<div hx-get="/fragment" hx-trigger="load, every 2s"></div>`),
    '/turbo': page('setInterval(() => document.querySelector("turbo-frame").reload(), 2000);', '<script src="/lib/@hotwired/turbo/dist/turbo.es2017-umd.js"></script>')
        .replace('<output id="count"></output>', '<turbo-frame id="frame" src="/turbo-frame"></turbo-frame>'),
    '/turbo-frame': html((state) => `<html><body><turbo-frame id="frame"><b id="count">${state.count}</b></turbo-frame></body></html>`),
});

test('what is playing goes on while the page is made anew around it', async () => {
    const page = await on.open('/playing');
    await held(page, '/playing');
    // Browsers let nobody make a noise whom no user has touched.
    await page.click('h1');
    await page.evaluate(async () => {
        window.heard = [];
        window.players = [...document.querySelectorAll('audio, video')];
        for (const player of players) {
            await player.play();
            for (const type of ['pause', 'emptied', 'loadstart', 'seeking', 'abort', 'ended']) {
                player.addEventListener(type, () => heard.push(`${player.nodeName} ${type}`));
            }
        }
    });
    const times = () => page.evaluate(() => players.map((player) => player.currentTime));
    for (let round = 0; round < 3; round++) {
        const before = await times();
        await shows(page, on.change());
        await page.waitForFunction((before) => players.every((player, at) => player.currentTime > before[at] + 0.2), before);
    }
    const state = await page.evaluate(() => ({
        heard, mark: 'mark' in window, paused: players.map((player) => player.paused),
        there: players.every((player) => player.isConnected), around: document.querySelector('section').className,
    }));
    assert.deepEqual(state, { heard: [], mark: true, paused: [false, false], there: true, around: `of-${on.application.state.count}` });
    assert.deepEqual(page.errors, []);
    await page.close();
});

/**
 * Waits until the page is followed: its own time to load again has passed, and it has not. Before that it loads itself as without us,
 * until its own loads were seen to be alike.
 */
async function held(page, path) {
    for (let loads = 0; ; loads++) {
        await page.evaluate(() => (window.mark = {}));
        const before = page.loads;
        await sleep(REFRESH * 1000 + 500);
        if (page.loads === before) {
            break;
        }
        assert.ok(loads < 3, `${path} is loaded again and again, though nothing changed`);
    }
    assert.ok(await page.evaluate(() => 'mark' in window));
}

for (const path of ['/meta', '/late-meta', '/header']) {
    test(`${path}: is made anew in place when it has changed, and only then`, async () => {
        const page = await on.open(path);
        await held(page, path);
        await page.fill('#typed', 'half a word');
        await page.evaluate(() => {
            document.getElementById('typed').setSelectionRange(2, 4);
            scrollTo(0, 300);
            window.row = document.querySelectorAll('tr')[7];
        });
        const scrolled = await page.evaluate(() => scrollY);
        assert.ok(scrolled > 0);
        const took = await shows(page, on.change());
        console.log(`${path}: shown after ${took} ms; the page loads itself again every ${REFRESH} s`);
        assert.ok(took < REFRESH * 1000 / 3, `${took} ms`);
        const state = await page.evaluate(() => ({
            mark: 'mark' in window, typed: document.activeElement.value, selected: document.activeElement.selectionStart,
            scrolled: scrollY, row: window.row === document.querySelectorAll('tr')[7], title: document.title, mode: document.compatMode,
            cells: document.querySelectorAll('td').length, second: document.querySelectorAll('td')[3].textContent.trim(),
        }));
        const count = on.application.state.count;
        assert.deepEqual(state, {
            mark: true, typed: 'half a word', selected: 2, scrolled, row: true, title: `Status ${count}`, mode: 'BackCompat',
            cells: 120, second: String(count),
        });
        assert.deepEqual(page.errors, []);
        await page.close();
    });
}

for (const path of ['/early-script', '/scripted', '/reloads', '/assigns']) {
    test(`${path}: a page with scripts is loaded again as it says, and at once when it has changed`, async () => {
        const page = await on.open(path);
        const loaded = (times) => eventually(`${times} loads`, () => page.times(path) >= times);
        await loaded(2);
        // It is as often as without us: neither more nor less.
        const begun = performance.now();
        await loaded(4);
        const pace = (performance.now() - begun) / 2;
        assert.ok(pace > REFRESH * 1000 * 0.9 && pace < REFRESH * 1000 * 2, `${pace} ms`);
        // A change before a load is followed is part of its first state, so that a busy machine is asked more than once.
        const took = [];
        do {
            await loaded(page.times(path) + 1);
            await sleep(400);
            took.push(await shows(page, on.change()));
        } while (took.at(-1) >= REFRESH * 1000 * 0.6 && took.length < 3);
        console.log(`${path}: shown after ${took.join(', ')} ms; the page loads itself again every ${REFRESH} s`);
        assert.ok(took.at(-1) < REFRESH * 1000 * 0.6, took.join());
        assert.deepEqual(page.errors, []);
        await page.close();
    });
}

test('/reloads-frame: a page in a frame that its page loads again', async () => {
    const page = await on.open('/reloads-frame');
    const frame = await (await page.waitForSelector('iframe', { state: 'attached' })).contentFrame();
    // One reload is no period.
    await eventually('it to be loaded again, twice', () => page.times('/plain') >= 3);
    await sleep(400);
    const took = await shows(frame, on.change());
    assert.ok(took < REFRESH * 1000 * 0.6, `${took} ms`);
    assert.deepEqual(page.errors, []);
    await page.close();
});

for (const [path, selector] of [['/frames', 'iframe'], ['/frameset', 'frame']]) {
    test(`${path}: a page in a frame that loads itself again`, async () => {
        const page = await on.open(path);
        const frame = await (await page.waitForSelector(selector, { state: 'attached' })).contentFrame();
        await shows(frame, on.application.state.count);
        await frame.evaluate(() => (window.mark = 1));
        await sleep(REFRESH * 1000 + 500);
        const took = await shows(frame, on.change());
        assert.ok(took < REFRESH * 1000 / 3, `${took} ms`);
        assert.equal(await frame.evaluate(() => window.mark), 1);
        assert.deepEqual(page.errors, []);
        await page.close();
    });
}

for (const path of ['/htmx', '/htmx4', '/turbo']) {
    test(`${path}: what the library polls for follows the stream`, async () => {
        const page = await on.open(path);
        await shows(page, on.application.state.count);
        const target = path === '/turbo' ? '/turbo-frame' : '/fragment';
        await eventually('polls to leave the network', async () => {
            const before = page.times(target);
            await sleep(2300);
            return before > 1 && page.times(target) === before;
        });
        const took = [];
        for (let round = 0; round < 3; round++) {
            // A poll that is early takes the place of the next.
            await sleep(2300);
            took.push(await shows(page, on.change()));
        }
        console.log(`${path}: shown after ${took.join(', ')} ms; the page polls every 2 s`);
        assert.ok(took.every((ms) => ms < 1000), took.join());
        assert.deepEqual(page.errors, []);
        await page.close();
    });
}
