// Pages that nobody rewrites: they poll as they always did, and are told of changes at once.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { page, startLegacy } from './legacy.mjs';
import { eventually, startBrowser, startSidecar } from './support.mjs';

/** The pages' own interval. */
const INTERVAL = 1500;

const EVERY = `${INTERVAL}`;

/** Each way to poll, and the library that it needs. */
const LOOPS = {
    'setInterval and fetch': page(`
        const poll = () => fetch('/state').then((r) => r.json()).then(draw);
        poll(); setInterval(poll, ${EVERY});`),
    'setInterval and XMLHttpRequest': page(`
        function poll() {
            const xhr = new XMLHttpRequest();
            xhr.open('GET', '/state');
            xhr.onreadystatechange = function () { if (this.readyState === 4 && this.status === 200) draw(JSON.parse(this.responseText)); };
            xhr.send();
        }
        poll(); setInterval(poll, ${EVERY});`),
    'setTimeout after completion, with XMLHttpRequest': page(`
        function poll() {
            const xhr = new XMLHttpRequest();
            xhr.onload = () => { draw(xhr.response); setTimeout(poll, ${EVERY}); };
            xhr.open('GET', '/state');
            xhr.responseType = 'json';
            xhr.send();
        }
        poll();`),
    'setTimeout after completion, with fetch': page(`
        function poll() { fetch('/state').then((r) => r.json()).then((s) => { draw(s); setTimeout(poll, ${EVERY}); }); }
        poll();`),
    'an async loop that sleeps': page(`
        const sleep = (ms) => new Promise((r) => setTimeout(r, ms));
        (async () => { for (;;) { const r = await fetch('/state'); draw(await r.json()); await sleep(${EVERY}); } })();`),
    'code in a string': page(`
        function poll() { fetch('/state').then((r) => r.json()).then((s) => { draw(s); setTimeout("poll()", ${EVERY}); }); }
        poll();`),
    'jQuery without cache': page(`
        function poll() { $.ajax({ url: '/state', cache: false, dataType: 'json' }).done(draw).always(() => setTimeout(poll, ${EVERY})); }
        poll();`, '<script src="/lib/jquery.js"></script>'),
    'jQuery with setInterval': page(`
        setInterval(() => $.getJSON('/state', draw), ${EVERY});`, '<script src="/lib/jquery.js"></script>'),
    axios: page(`
        const poll = async () => draw((await axios.get('/state')).data);
        poll(); setInterval(poll, ${EVERY});`, '<script src="/lib/axios.js"></script>'),
    'a bare number as cache buster': page(`
        const poll = () => fetch('/state?' + Date.now()).then((r) => r.json()).then(draw);
        poll(); setInterval(poll, ${EVERY});`),
    'synchronous XMLHttpRequest': page(`
        function poll() { const xhr = new XMLHttpRequest(); xhr.open('GET', '/state', false); xhr.send(); draw(JSON.parse(xhr.responseText)); }
        poll(); setInterval(poll, ${EVERY});`),
};

let legacy;
let sidecar;
let browser;

before(async () => {
    const pages = Object.fromEntries(Object.values(LOOPS).map((body, number) => [`/page${number}`, body]));
    legacy = await startLegacy(pages);
    sidecar = await startSidecar(legacy.url, '[[route]]\npath = "/**"\nevery = "50ms"\nshim = "learn"\n');
    browser = await startBrowser();
});

afterEach(() => browser?.clear());

after(async () => {
    await browser?.stop();
    await sidecar?.stop();
    await legacy?.stop();
});

const shows = (page, count) => page.waitForFunction((count) => document.getElementById('count').textContent === String(count), count);

/** Waits until the page's polls are answered from the replica. */
async function followed(page, path = '/state') {
    await eventually('the poll to be followed', () => page.evaluate(() => window.draws >= 2));
    await eventually('polls to leave the network', async () => {
        const before = await page.evaluate(() => window.draws);
        const asked = page.times(path);
        await eventually('another poll', async () => (await page.evaluate(() => window.draws)) > before);
        return page.times(path) === asked;
    });
}

for (const [number, way] of Object.keys(LOOPS).entries()) {
    test(`${way}: a change is shown at once, and the polls leave the network`, async () => {
        const page = await browser.open(`${sidecar.url}/page${number}`);
        await followed(page);
        const took = [];
        for (let round = 0; round < 3; round++) {
            await sleep(INTERVAL / 5);
            legacy.state = { count: legacy.state.count + 1 };
            const changed = performance.now();
            await shows(page, legacy.state.count);
            took.push(Math.round(performance.now() - changed));
        }
        console.log(`${way}: shown after ${took.join(', ')} ms; the page polls every ${INTERVAL} ms`);
        // Three times in a row this fast, by its own polls alone, would be one chance in 64.
        assert.ok(took.every((ms) => ms < INTERVAL / 2), took.join());
        assert.deepEqual(page.errors, []);
        await page.close();
    });
}
