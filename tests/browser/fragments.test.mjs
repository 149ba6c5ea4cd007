// Pages made of fragments, by htmx and by Turbo: none of them is changed, nor is the application behind them.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { startApplication } from './application.mjs';
import { eventually, startBrowser, startSidecar } from './support.mjs';

const ROUTES = `
[[route]]
path = "/fragment"
every = "50ms"
every_max = "100ms"
hold = "20s"
[[route]]
path = "/stream"
every = "50ms"
every_max = "100ms"
`;

/** How often the pages here ask by themselves. */
const INTERVAL = 2000;

let application;
let sidecar;
let browser;

before(async () => {
    application = await startApplication();
    sidecar = await startSidecar(application.url, ROUTES);
    browser = await startBrowser();
});

after(async () => {
    await browser?.stop();
    await sidecar?.stop();
    await application?.stop();
});

/** Opens a page with these scripts and this body. */
async function open(scripts, body) {
    const tags = scripts.map((script) => `<script src="/lib/${script}"></script>`).join('');
    application.set('/', 'text/html', `<!doctype html><html><head><title>A page</title>${tags}</head><body>${body}</body></html>`);
    return browser.open(`${sidecar.url}/`);
}

const text = (page) => page.evaluate(() => document.getElementById('shown').textContent);

/** The fragment that the application gives from now on. */
const say = (what) => application.set('/fragment', 'text/html; charset=utf-8', `<b title="it's">${what}</b>\n<i>&amp;</i>`);

/** Changes the fragment some times; the page must show it each time, and sooner than it would by itself. */
async function shows(page) {
    for (const what of ['first', 'second', 'third']) {
        say(what);
        await eventually(`${what} to be shown`, async () => (await text(page)).includes(`${what}\n&`));
    }
    assert.deepEqual(page.errors, []);
    await page.close();
}

test('htmx with its extension for server-sent events shows every change', async () => {
    say('before');
    const page = await open(
        ['htmx.org/dist/htmx.js', 'htmx-ext-sse/sse.js'],
        '<div hx-ext="sse" sse-connect="/fragment"><p id="shown" sse-swap="message"></p></div>',
    );
    await eventually('the fragment', async () => (await text(page)).includes('before'));
    await shows(page);
    await eventually('its leaving to be noticed', async () => (await sidecar.held('/fragment', 'sse')) === 0);
});

test('htmx 4 with its extension for server-sent events shows every change', async () => {
    say('before');
    const page = await open(
        ['htmx4/dist/htmx.js', 'htmx4/dist/ext/hx-sse.js'],
        '<p id="shown" hx-sse:connect="/fragment"></p>',
    );
    await eventually('the fragment', async () => (await text(page)).includes('before'));
    await shows(page);
});

// htmx polls by the clock: its polls do not move with their answers, so nobody can know which page they are of, and they are not held.
for (const version of ['htmx.org', 'htmx4']) {
    test(`a page of ${version} that polls a route that holds is shown changes as soon as without Sungrazer`, async () => {
        say('before');
        const page = await open(
            [`${version}/dist/htmx.js`],
            `<p id="shown" hx-get="/fragment" hx-trigger="every ${INTERVAL / 1000}s"></p>`,
        );
        await eventually('the fragment', async () => (await text(page)).includes('before'));
        for (const what of ['first', 'second', 'third']) {
            const asked = page.times('/fragment');
            say(what);
            await page.waitForFunction((what) => document.getElementById('shown').textContent.includes(what), what);
            assert.ok(page.times('/fragment') <= asked + 1, `${what} was not what the next poll was answered`);
        }
        assert.deepEqual(page.errors, []);
        await page.close();
        await eventually('its leaving to be noticed', async () => (await sidecar.held('/fragment', 'poll')) === 0);
    });
}

test("Turbo's stream source carries out what a turbo stream says, each time that it says something else", async () => {
    const stream = (what) =>
        application.set(
            '/stream',
            'text/vnd.turbo-stream.html; charset=utf-8',
            `<turbo-stream action="update" target="shown">\n<template>${what}</template>\n</turbo-stream>
             <turbo-stream action="append" target="log"><template><li>${what}</li></template></turbo-stream>`,
        );
    stream('before');
    const page = await open(
        ['@hotwired/turbo/dist/turbo.es2017-umd.js'],
        '<turbo-stream-source src="/stream"></turbo-stream-source><p id="shown"></p><ol id="log"></ol>',
    );
    for (const what of ['before', 'first', 'second']) {
        stream(what);
        await eventually(`${what} to be shown`, async () => (await text(page)) === what);
    }
    const log = await page.evaluate(() => [...document.querySelectorAll('#log li')].map((item) => item.textContent));
    assert.deepEqual(log, ['before', 'first', 'second']);
    assert.deepEqual(page.errors, []);
    await page.evaluate(() => document.querySelector('turbo-stream-source').remove());
    await eventually('its leaving to be noticed', async () => (await sidecar.held('/stream', 'sse')) === 0);
    await page.close();
});
