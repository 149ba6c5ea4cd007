// Which requests belong to a timer, and which timers are fired early for them: those, and no others.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { page } from './application.mjs';
import { drawsAgain, followed, stage } from './stage.mjs';
import { eventually } from './support.mjs';

/** The pages' own interval. */
const INTERVAL = 1200;

/** Two things that are polled for, one behind the other: `left` is one value, `right` another. */
const drawsBoth = `
    window.both = [];
    const get = (path) => fetch(path).then((r) => r.json());
    function show(left, right) { both.push([left.left, right.right]); draw({ count: left.left + '/' + right.right }); }`;

/** Two loops that are kept going by one line. */
const POLLER = `
    class Poller {
        constructor(work, interval) { Object.assign(this, { work, interval }); this.schedule(); }
        schedule() { later(() => this.run(), this.interval); }
        async run() { try { await this.work(); } finally { this.schedule(); } }
    }
    const waiting = [];
    const arm = () => { for (const args of waiting.splice(0)) { setTimeout(...args); } };
    function later(...args) { waiting.push(args); queueMicrotask(arm); }`;

/** What a library does with the timers of a page: all of them are set by the same lines of it. */
const LIBRARY = `
    const natively = window.setTimeout;
    const deep = (level, work) => (level > 0 ? deep(level - 1, work) : work());
    window.setTimeout = function (handler, delay, ...args) {
        return deep(6, () => natively.call(window, function task() { deep(6, () => handler(...args)); }, delay));
    };`;

/** Something that is to happen once, after a while: \`happened\` says when it did. */
const LOGOUT = `
    const set = performance.now();
    setTimeout(() => (window.happened = performance.now() - set), ${INTERVAL * 8});`;

const LOOP = `
    function poll() { fetch('/state').then((r) => r.json()).then((s) => { draw(s); setTimeout(poll, ${INTERVAL}); }); }
    poll();`;

const says = (name) => (request, send, application) =>
    send(200, 'application/json', JSON.stringify({ [name]: application[name] }), { 'cache-control': 'no-store' });

const on = stage({
    '/left': says('left'),
    '/right': says('right'),
    '/chain': page(`${drawsBoth}
        const poll = async () => { const left = await get('/left'); show(left, await get('/right')); };
        poll(); setInterval(poll, ${INTERVAL});`),
    '/chain-xhr': page(`${drawsBoth}
        function ask(path, then) {
            const xhr = new XMLHttpRequest();
            xhr.onload = () => then(JSON.parse(xhr.responseText));
            xhr.open('GET', path);
            xhr.send();
        }
        const poll = () => ask('/left', (left) => ask('/right', (right) => { show(left, right); setTimeout(poll, ${INTERVAL}); }));
        poll();`),
    '/batch': page(`${drawsBoth}
        const poll = async () => show(...(await Promise.all([get('/left'), get('/right')])));
        poll(); setInterval(poll, ${INTERVAL});`),
    '/pollers': page(`${drawsBoth}${POLLER}
        let left, right;
        new Poller(async () => { left = await get.call(null, '/left'); draws += 1; later(() => fetch('/saved', { method: 'PUT', body: String(draws) }), 300); if (right) show(left, right); }, ${INTERVAL});
        new Poller(async () => { right = await fetch.call(null, '/right').then((r) => r.json()); if (left) show(left, right); }, ${INTERVAL * 1.3});
        new Poller(() => fetch('/state', { method: 'POST', body: 'beats' }), ${INTERVAL * 0.7});`),
    '/idle': page(`
        const poll = () => requestIdleCallback(() => fetch('/state').then((r) => r.json()).then(draw));
        poll(); setInterval(poll, ${INTERVAL});`),
    '/frame': page(`
        const poll = () => requestAnimationFrame(() => fetch('/state').then((r) => r.json()).then(draw));
        poll(); setInterval(poll, ${INTERVAL});`),
    '/if-new': page(`${drawsBoth}
        let known;
        const poll = async () => {
            const left = await get('/left');
            draws += 1;
            if (left.left !== known) { known = left.left; show(left, await get('/right')); }
        };
        poll(); setInterval(poll, ${INTERVAL});`),
    '/reload-if-new': page(`
        let known;
        const poll = () => fetch('/left').then((r) => r.json()).then(({ left }) => {
            draw({ count: left });
            if (known !== undefined && left !== known) { setTimeout(() => location.reload(), 10); }
            known = left;
        });
        poll(); setInterval(poll, ${INTERVAL});`),
    '/strings': page(`
        window.runs = [];
        const again = () => requestAnimationFrame(again);
        for (let n = 0; n < 20; n++) { again(); }
        window.note = () => runs.push(window[Symbol.for('sungrazer')].run()?.site.pace);
        for (let n = 0; n < 100; n++) { setTimeout(() => setInterval('note()', 300), n * 7); }
        setTimeout("let declared = 1;", 300);
        setTimeout("window.found = [typeof declared, String(this), document.currentScript]", 600);`),
    '/same-lines': page(`${LOGOUT}${LOOP}`, `<script>${LIBRARY}</script>`),
    '/one-helper': page(`
        const after = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
        const set = performance.now();
        after(${INTERVAL * 8}).then(() => (window.happened = performance.now() - set));
        (async () => { for (;;) { draw(await (await fetch('/state')).json()); await after(${INTERVAL}); } })();`),
    '/zone': page(`${LOGOUT}${LOOP}`, '<script src="/lib/zone.js/bundles/zone.umd.js"></script>'),
});

/** Changes `name`, and waits until the page has drawn that by \`both\`; says how long it took. */
async function changes(page, name) {
    const value = (on.application[name] = (on.application[name] ?? 0) + 1);
    const begun = performance.now();
    await page.waitForFunction(([at, value]) => both.at(-1)?.[at] === value, [name === 'left' ? 0 : 1, value]);
    return performance.now() - begun;
}

for (const path of ['/chain', '/chain-xhr', '/batch', '/pollers']) {
    test(`${path}: of several polls by the same lines each is followed, and hurries it`, async () => {
        Object.assign(on.application, { left: 1, right: 1 });
        const page = await on.open(path);
        await followed(page, '/left');
        await followed(page, '/right');
        const took = [];
        for (const name of ['right', 'left', 'right']) {
            await drawsAgain(page);
            took.push(Math.round(await changes(page, name)));
        }
        console.log(`${path}: shown after ${took.join(', ')} ms; the page polls every ${INTERVAL} ms`);
        assert.ok(took.every((ms) => ms < INTERVAL / 2), took.join());
        assert.deepEqual(page.errors, []);
    });
}

for (const path of ['/idle', '/frame']) {
    test(`${path}: what a timer has asked for later, when there is time, is its own`, async () => {
        const page = await on.open(path);
        await followed(page);
        await drawsAgain(page);
        const count = on.change();
        const begun = performance.now();
        await page.waitForFunction((count) => drawn.at(-1).count === count, count);
        const took = performance.now() - begun;
        assert.ok(took < INTERVAL / 2, `${took} ms`);
        assert.deepEqual(page.errors, []);
    });
}

test('what is asked for because of news is never older than the news', async () => {
    Object.assign(on.application, { left: 1, right: 1 });
    const page = await on.open('/if-new');
    await followed(page, '/left');
    for (let round = 2; round < 9; round++) {
        // First the one that is asked for behind the other.
        Object.assign(on.application, { right: round });
        Object.assign(on.application, { left: round });
        await page.waitForFunction((round) => both.at(-1)[0] === round, round);
        assert.deepEqual(await page.evaluate(() => both.at(-1)), [round, round]);
    }
    assert.deepEqual(page.errors, []);
});

test('a page that loads itself again because of what it was told does so', async () => {
    on.application.left = 1;
    const page = await on.open('/reload-if-new');
    await followed(page, '/left');
    await page.evaluate(() => (window.mark = 1));
    on.application.left = 2;
    const begun = performance.now();
    await eventually('the page to be loaded again', () => page.evaluate(() => !('mark' in window)).catch(() => false));
    assert.ok(performance.now() - begun < INTERVAL);
    assert.deepEqual(page.errors, []);
});

test('code in a string runs as what its timer asks for, whatever else happens in between', async () => {
    const page = await on.open('/strings');
    // One in a hundred would be another's, or nobody's, if its timer was another task than its code.
    await page.waitForFunction(() => runs.length > 1500);
    assert.deepEqual([...new Set(await page.evaluate(() => runs))], [300]);
    // What it declares outlives it.
    assert.deepEqual(await page.evaluate(() => window.found), ['number', '[object Window]', null]);
    assert.deepEqual(page.errors, []);
});

for (const path of ['/same-lines', '/one-helper', '/zone']) {
    test(`${path}: a timer that was set by the same lines as a poll's, for something else, is not hurried`, async () => {
        const page = await on.open(path);
        await followed(page);
        const took = [];
        while (!(await page.evaluate(() => window.happened))) {
            const count = on.change();
            const begun = performance.now();
            await page.waitForFunction((count) => drawn.at(-1).count === count, count);
            took.push(Math.round(performance.now() - begun));
            await drawsAgain(page);
        }
        console.log(`${path}: shown after ${took.join(', ')} ms; the page polls every ${INTERVAL} ms`);
        const happened = await page.evaluate(() => window.happened);
        assert.ok(happened > INTERVAL * 8 - 5, `it came to pass after ${happened} ms`);
        assert.ok(took.length > 0 && took.every((ms) => ms < INTERVAL / 2), 'the poll is not hurried either');
        assert.deepEqual(page.errors, []);
    });
}
