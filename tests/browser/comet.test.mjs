// What polling and streams cost, side by side, on the gallery of the examples. With UPDATE_DOCUMENTS=1 the figures in docs/guide/comet.md
// are made anew.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { startGallery } from './gallery.mjs';
import { eventually, startBrowser } from './support.mjs';

const READERS = 10;
/** Milliseconds for which requests are counted. */
const WINDOW = 12_000;
const UPLOAD = 50 * 1024 * 1024;

let gallery;
let browser;
/** By the name of a row in docs/guide/comet.md: polled, and pushed. */
const figures = {};

before(async () => {
    [gallery, browser] = await Promise.all([startGallery(), startBrowser()]);
});

after(async () => {
    await browser?.stop();
    await gallery?.stop();
    if (process.env.UPDATE_DOCUMENTS) {
        update();
    }
});

function found(name, polled, pushed) {
    figures[name] = [polled, pushed];
    console.log(`${name}: polled ${polled}, pushed ${pushed}`);
}

/** Opens a page of one user so many times. */
const openAll = (user, url, times = READERS) => Promise.all(Array.from({ length: times }, () => user.open(url)));

const noStreams = () => eventually('streams to be given up', async () => (await gallery.sidecar.streams()) === 0);

test('ten readers, while nothing happens: requests, and connections of their browser', async () => {
    const [direct, through] = await Promise.all([browser.user(), browser.user()]);
    // Both pages ask every three seconds; by their paths they are told apart.
    await openAll(direct, `${gallery.url}/jobs/`);
    await openAll(through, `${gallery.sidecar.url}/streams/loop`);
    await eventually('a stream', async () => (await gallery.sidecar.streams()) > 0);
    await sleep(6000);
    const before = await gallery.counters();
    await sleep(WINDOW);
    const now = await gallery.counters();
    const [polled, pushed] = ['/jobs/table', '/streams/news.json'].map((path) => now.requests[path] - before.requests[path]);
    found(`requests of ${READERS} tabs to the application in ${WINDOW / 1000} s`, polled, pushed);
    const streams = await gallery.sidecar.streams();
    found(`streams of these ${READERS} tabs`, 0, streams);
    await Promise.all([direct.leave(), through.leave()]);
    assert.ok(polled > READERS * 2, `${polled} polls are too few to compare with`);
    assert.ok(pushed < polled / 3, `${pushed} requests for streams, and ${polled} for polls`);
    assert.equal(streams, 1, 'one for all tabs');
    await noStreams();
});

test('how many tabs of one browser have room', async () => {
    const rooms = async (path) => {
        const user = await browser.user();
        let room = 0;
        while (room < READERS) {
            const page = await Promise.race([user.open(`${gallery.sidecar.url}${path}`).catch(() => undefined), sleep(10_000)]);
            if (!page) {
                break;
            }
            room += 1;
            // What it waits for has begun.
            await page.waitForFunction(() => document.body.innerText.length > 20);
            await sleep(100);
        }
        await user.leave();
        await noStreams();
        return room;
    };
    const [script, own] = [await rooms('/streams/loop'), await rooms('/wiki/live')];
    found(`tabs of one browser that load, of ${READERS} with a stream each over HTTP/1.1, or with one for all`, own, script);
    assert.equal(script, READERS);
    assert.ok(own < READERS, `${own}`);
});

/** Milliseconds that so many bytes take. */
const send = (at) => new Promise((resolve, reject) => {
    const begun = performance.now();
    const options = { method: 'POST', headers: { 'content-length': UPLOAD } };
    const sent = request(`${at}/upload/send?name=large.bin`, options, (answer) => {
        answer.resume().on('end', () => resolve(performance.now() - begun));
    });
    sent.on('error', reject);
    sent.end(Buffer.alloc(UPLOAD));
});

const median = (numbers) => Math.round([...numbers].sort((a, b) => a - b)[numbers.length >> 1]);

async function uploads(at) {
    const took = [];
    for (let round = 0; round < 5; round++) {
        took.push(await send(at));
    }
    return median(took);
}

test('an upload, directly and through, while ten streams are open', async () => {
    const user = await browser.user();
    const streams = Array.from({ length: READERS }, () => {
        const stream = request(`${gallery.sidecar.url}/upload/list`, { headers: { accept: 'application/x-ndjson' } }, (answer) => answer.resume());
        stream.on('error', () => {});
        stream.end();
        return stream;
    });
    await eventually('streams', async () => (await gallery.sidecar.streams()) === READERS);
    const [direct, through] = [await uploads(gallery.url), await uploads(gallery.sidecar.url)];
    found(`an upload of 50 MiB, directly, and through while ${READERS} streams tell of it`, `${direct} ms`, `${through} ms`);
    streams.forEach((stream) => stream.destroy());
    await user.leave();
    await noStreams();
});

test('what has not changed is not sent', async () => {
    const asked = async (tag) => {
        const answer = await fetch(`${gallery.url}/feed/atom.xml`, { headers: tag ? { 'if-none-match': tag } : {}, cache: 'no-store' });
        return [answer.status, (await answer.text()).length, answer.headers.get('etag')];
    };
    const [, whole, tag] = await asked();
    const [status, none] = await asked(tag);
    assert.deepEqual([status, none], [304, 0]);
    const user = await browser.user();
    await user.open(`${gallery.sidecar.url}/feed/`);
    const metric = async (result) => {
        const text = await (await fetch(`${gallery.sidecar.admin}/metrics`)).text();
        return Number(text.match(new RegExp(`fetches_total\\{[^}]*feed/atom.xml[^}]*result="${result}"[^}]*\\} (\\d+)`))?.[1] ?? 0);
    };
    await eventually('fetches', async () => (await metric('not_modified')) > 4);
    const [same, changed] = [await metric('not_modified'), await metric('changed')];
    found(`bytes of a feed that is the same (${whole} of it), polled with its ETag, and fetched`, none, 0);
    assert.ok(changed <= 2, `${same} of ${same + changed} were answered 304`);
    await user.leave();
    await noStreams();
});

/** Whether a page with this in it has loaded after two seconds: until then a browser shows that it is busy. */
async function loads(page, html) {
    return page.evaluate(async (html) => {
        const frame = document.createElement('iframe');
        const loaded = new Promise((resolve) => (frame.onload = () => resolve(true)));
        frame.srcdoc = html;
        document.body.append(frame);
        const late = new Promise((resolve) => setTimeout(resolve, 2000, false));
        const has = await Promise.race([loaded, late]);
        frame.remove();
        return has;
    }, html);
}

test('whether the browser shows that a page loads, while a stream is open', async () => {
    const user = await browser.user();
    const page = await user.open(`${gallery.sidecar.url}/server/counters`);
    const url = '/.sungrazer/iframe?url=/streams/news.json&callback=parent.update';
    const update = '<script>function update() {}</script>';
    const ways = {
        'a forever frame in the markup': `${update}<iframe src="${url}"></iframe>`,
        'a forever frame that is added when the page has loaded': `${update}<script>onload = function () {
            var frame = document.createElement('iframe'); frame.src = '${url}'; document.body.appendChild(frame); }</script>`,
        'XMLHttpRequest': `<script>var xhr = new XMLHttpRequest(); xhr.open('GET', '/streams/news.json');
            xhr.setRequestHeader('Accept', 'application/x-ndjson'); xhr.send();</script>`,
        'EventSource': '<script>new EventSource("/streams/news.txt")</script>',
    };
    const has = {};
    for (const [way, html] of Object.entries(ways)) {
        has[way] = await loads(page, html);
        found(`has loaded while a stream is open: ${way}`, 'yes', has[way] ? 'yes' : 'no');
    }
    assert.deepEqual(Object.values(has), [false, true, true, true]);
    await user.leave();
});

/** Writes the figures into their rows. */
function update() {
    const file = new URL('../../docs/guide/comet.md', import.meta.url);
    const head = '| | polled | pushed |\n| --- | ---: | ---: |\n';
    const rows = Object.entries(figures).map(([name, [polled, pushed]]) => `| ${name} | ${polled} | ${pushed} |\n`);
    const text = readFileSync(file, 'utf8').replace(/\| \| polled[^]*?\n(?!\|)/, `${head}${rows.join('')}`);
    writeFileSync(file, text);
}
