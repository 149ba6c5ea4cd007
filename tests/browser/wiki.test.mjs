// The wiki of the examples in a browser: a page that polls, and what its route in examples/wiki makes of it.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';

import { eventually, startBrowser, startDemo, startSidecar } from './support.mjs';

const ROUTES = readFileSync(new URL('../../examples/wiki/sungrazer.toml', import.meta.url), 'utf8');

/** For its wiki alone. */
let demo;
let wiki;
let browser;

before(async () => {
    demo = await startDemo();
    wiki = await startSidecar(demo.polled, ROUTES);
    browser = await startBrowser();
});

after(async () => {
    await browser?.stop();
    await wiki?.stop();
    await demo?.stop();
});

test('EventSource.onmessage is given every text that is saved', async () => {
    const page = await browser.open(`${wiki.url}/`);
    await page.evaluate(() => {
        window.seen = [];
        window.source = new EventSource('/wiki/text');
        window.source.onmessage = (event) => window.seen.push({ data: event.data, id: event.lastEventId });
    });
    const count = () => page.evaluate(() => window.seen.length);
    await eventually('the first event', async () => (await count()) === 1);
    const texts = ['One line.', 'Two\nlines.\n', 'caf\u00e9 \u2603 \ud83c\udf0d', ''];
    for (const [index, text] of texts.entries()) {
        await demo.edit(text);
        await eventually(`the event of ${JSON.stringify(text)}`, async () => (await count()) === index + 2);
    }
    const seen = await page.evaluate(() => window.seen);
    assert.deepEqual(seen.slice(1).map((event) => event.data), texts);
    assert.equal(new Set(seen.map((event) => event.id)).size, seen.length, 'every event has an id of its own');
    assert.deepEqual(page.errors, []);
    await page.close();
    await eventually('the stream to be given up', async () => (await wiki.held('/wiki/text', 'sse')) === 0);
});

test('an EventSource comes back when its stream ends, and is told nothing twice', async () => {
    const sidecar = await startSidecar(
        demo.polled,
        '[[route]]\npath = "/wiki/text"\nevery = "100ms"\nmax_age = "300ms"\nretry = "50ms"\n',
    );
    const page = await browser.open(`${sidecar.url}/`);
    await page.evaluate(() => {
        window.opened = 0;
        window.seen = [];
        window.ends = [];
        const source = new EventSource('/wiki/text');
        source.onopen = () => (window.opened += 1);
        source.onmessage = (event) => window.seen.push(event.data);
        source.addEventListener('end', (event) => window.ends.push(JSON.parse(event.data).reason));
    });
    const opened = () => page.evaluate(() => window.opened);
    const texts = ['Before.', 'Between.', 'After.'];
    for (const text of texts) {
        const before = await opened();
        await demo.edit(text);
        await eventually('the text', () => page.evaluate((text) => window.seen.at(-1) === text, text));
        await eventually('two reconnections', async () => (await opened()) >= before + 2);
    }
    const [seen, ends] = await page.evaluate(() => [window.seen, window.ends]);
    assert.deepEqual(seen.slice(-texts.length), texts);
    assert.ok(seen.length <= texts.length + 1, `told twice: ${JSON.stringify(seen)}`);
    assert.ok(ends.every((reason) => reason === 'max-age'), JSON.stringify(ends));
    assert.deepEqual(page.errors, []);
    await page.close();
    await sidecar.stop();
});

test('the unmodified page shows a change sooner than it polls', async () => {
    const page = await browser.open(`${wiki.url}/`);
    const interval = await page.evaluate(() => INTERVAL);
    const delays = [];
    // It is held once its rhythm is known, which takes some polls, and more on a busy machine; at first not for long, so that
    // an edit may just miss that.
    while (!delays.some((delay) => delay < interval / 4)) {
        assert.ok(delays.length < 6, `shown ${delays} ms after it was saved, though the page was held; it polls every ${interval} ms`);
        await eventually('the page to be held', async () => (await wiki.held('/wiki/text', 'poll')) === 1, 150_000);
        const [text, saved] = [`Edit ${delays.length + 1}.`, Date.now()];
        await demo.edit(text);
        await page.waitForFunction((text) => document.getElementById('text').textContent === text, text);
        delays.push(Date.now() - saved);
    }
    console.log(`shown ${delays} ms after it was saved; the page polls every ${interval} ms`);
    assert.deepEqual(page.errors, []);
    await page.close();
});

test('what is written in the pushed page reaches another that is pushed', async () => {
    const [writer, reader] = [await browser.open(`${wiki.url}/`), await browser.open(`${wiki.url}/`)];
    await reader.evaluate(() => {
        new EventSource('/wiki/text').onmessage = (event) => show(event.data);
    });
    await writer.getByRole('button', { name: 'Edit' }).click();
    await writer.getByLabel('Your version:').fill('Written in a browser.');
    await writer.getByRole('button', { name: 'Save' }).click();
    for (const page of [writer, reader]) {
        await page.waitForFunction(() => document.getElementById('text').textContent === 'Written in a browser.');
    }
    await writer.close();
    await reader.close();
});
