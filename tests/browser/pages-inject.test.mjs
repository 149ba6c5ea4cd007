// The page's own code finds the page as it was made: nothing of ours is in it, and no policy is violated.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { stage } from './stage.mjs';

const html = (body, headers = {}) => (request, send) => send(200, 'text/html; charset=utf-8', body, headers);
const LOOKS = `window.seen = [];
const look = (when) => seen.push([when, document.scripts.length, document.getElementsByTagName('script')[0].id, document.head.childNodes.length,
    [...document.childNodes].map((node) => node.nodeName).join(), document.lastChild.lastChild.lastChild?.nodeName]);
look('script');
addEventListener('DOMContentLoaded', () => look('DOMContentLoaded'));
document.addEventListener('readystatechange', () => look(document.readyState));
addEventListener('load', () => look('load'));
new MutationObserver((records) => records.forEach(({ addedNodes, removedNodes }) => [...addedNodes, ...removedNodes]
    .forEach((node) => (/sungrazer/.test(node.data ?? node.src) && seen.push(node.nodeName))))).observe(document, { childList: true, subtree: true });`;

const on = stage({
    '/looks': html(`<!doctype html><html><head><meta charset="utf-8"><title>t</title>
<script id="first">${LOOKS}</script></head><body><p>x</p></body></html>`),
    '/frames': html('<!doctype html><title>t</title><iframe id="f"></iframe>'),
    '/part': html('<div>one</div><div>two</div>'),
    '/text': html('OK<br>3 rows'),
    '/script-part': html('<script>parent.called = 1</script>'),
    '/data': html('<textarea>{"a":1}</textarea>'),
    '/whole': html('<!doctype html><html><head><title>t</title></head><body><b>x</b></body></html>'),
    '/integrity': html('<!doctype html><html><head><title>t</title></head><body>x</body></html>', { 'integrity-policy': 'blocked-destinations=(script)' }),
    '/integrity-reported': html(`<!doctype html><html><head><title>t</title></head><body>x</body></html>`, { 'integrity-policy-report-only': 'blocked-destinations=(script), endpoints=(e)' }),
    '/list': html('<li>one<li>two'),
    '/page': html('<!doctype html><html><head><title>t</title></head><body>x</body></html>'),
}, { });

test('scripts find no element of ours, whenever they look', async () => {
    const seen = [];
    for (const open of [on.openPlain, on.open]) {
        const page = await open('/looks');
        await page.waitForFunction(() => window.seen.at(-1)[0] === 'load');
        seen.push(await page.evaluate(() => window.seen));
        assert.equal(await page.evaluate(() => 'sungrazer' in window), open === on.open);
        await page.close();
    }
    assert.deepEqual(seen[1], seen[0]);
    assert.equal(seen[0].length, 5);
});

for (const path of ['/part', '/text', '/script-part', '/data', '/whole']) {
    test(`${path}: a frame holds what was sent`, async () => {
        const seen = [];
        for (const open of [on.openPlain, on.open]) {
            const page = await open('/frames');
            seen.push(await page.evaluate((path) => new Promise((resolve) => {
                const frame = document.getElementById('f');
                frame.onload = () => {
                    const { documentElement, body } = frame.contentDocument;
                    resolve([documentElement.outerHTML, body.childNodes.length, body.lastChild?.nodeName]);
                };
                frame.src = path;
            }), path));
            await page.close();
        }
        assert.deepEqual(seen[1], seen[0]);
    });
}

for (const path of ['/integrity', '/integrity-reported']) {
    test(`${path}: the script runs, and nothing is reported`, async () => {
        const page = await on.browser.open('about:blank');
        await page.addInitScript(() => {
            window.reports = [];
            new ReportingObserver((list) => list.forEach(({ type }) => window.reports.push(type)), { buffered: true }).observe();
        });
        await page.goto(`${on.sidecar.url}${path}`);
        await sleep(1500);
        assert.deepEqual(await page.evaluate(() => ['sungrazer' in window, window.reports]), [true, []]);
        await page.close();
    });
}

test('on hosts that browsers do not trust, scripts that ask for HTML are given no more than that', async () => {
    const base = on.sidecar.url.replace('127.0.0.1', 'site.example');
    const page = await on.browser.open(`${base}/page`);
    assert.ok(await page.evaluate(() => 'sungrazer' in window));
    for (const headers of [{}, { accept: 'text/html' }, { accept: 'text/html, application/xhtml+xml', 'x-anything': '1' }]) {
        assert.equal(await page.evaluate(async (headers) => (await fetch('/list', { headers })).text(), headers), '<li>one<li>two');
    }
    await page.close();
});
