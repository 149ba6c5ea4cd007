// Real applications behind `--upstream` alone, beside the same applications as they are: signing in works, the console
// shows no error that it does not show without, and the pages come to show the same.
//
// APPS chooses some, by name. An application that is not installed is skipped, and the table says why.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { eventually, startBrowser, startUpstream } from '../support.mjs';
import { answers, apps, stopAll, vacant, value } from './apps.mjs';
import { startCounter } from './counter.mjs';
import { missing, others } from './others.mjs';

const CHANGES = 3;
/** For how long requests are counted. */
const WINDOW = 15_000;
/** How long a page may take to show what another one shows. */
const PATIENCE = 30_000;

/** What a page shows, without numbers, which may be clocks and ports, and without what Sungrazer puts in. */
async function shown(page) {
    const frames = await Promise.all(page.frames().map((frame) => frame.evaluate(() => {
        const own = (element) => element.matches('script[src*="/.sungrazer/"]');
        const tags = [...document.querySelectorAll('*')].filter((element) => !own(element)).map((element) => element.localName);
        const counts = {};
        for (const tag of tags) {
            counts[tag] = (counts[tag] ?? 0) + 1;
        }
        return { text: document.body?.innerText ?? '', counts: Object.entries(counts).sort().map(([tag, count]) => `${tag} × ${count}`) };
    }).catch(() => ({ text: '', counts: [] }))));
    // Sorted: scripts that load parts of a page at the same time insert them in the order in which they come.
    return frames.flatMap(({ text, counts }) => [...text.replace(/\d+/g, '#').split('\n').map((line) => line.trim()).sort(), ...counts]);
}

/** The first line that two pages do not share, if there is one. */
async function difference(direct, through) {
    const [before, after] = await Promise.all([shown(direct), shown(through)]);
    const at = before.findIndex((line, index) => line !== after[index]);
    if (at >= 0) {
        return `${JSON.stringify(before[at])} became ${JSON.stringify(after[at])}`;
    }
    return before.length < after.length && `more: ${JSON.stringify(after[before.length])}`;
}

/** Opens and signs in, and waits until the page is drawn. */
async function open(app, base) {
    const browser = await startBrowser({ httpCredentials: app.credentials, patience: 60_000 });
    const page = await browser.open('about:blank');
    page.console = [];
    page.on('console', (message) => {
        // Browsers ask for an icon when they like to.
        if (message.type() === 'error' && !message.location().url.endsWith('/favicon.ico')) {
            page.console.push(message.text().replace(/\d+/g, '#'));
        }
    });
    page.asked = [];
    await page.goto(`${base}${app.path}`);
    await app.login?.(page, base);
    if (app.login && app.lists) {
        await page.goto(`${base}${app.path}`);
    }
    await eventually('the page to be drawn', async () => (await value(page, app)) !== undefined, 60_000);
    return { browser, page };
}

/** How long a page takes to show something else than `before`. */
async function takes(app, page, before) {
    const begun = performance.now();
    await eventually('the change to be shown', async () => {
        if (app.lists) {
            await page.reload();
        }
        return (await value(page, app)) !== before;
    }, 60_000);
    return performance.now() - begun;
}

const table = [];
const median = (numbers) => Math.round([...numbers].sort((a, b) => a - b)[numbers.length >> 1]);

async function compare(name, app, folder, stops) {
    const port = await vacant();
    const running = await app.start(folder, port);
    stops.push(...running.stops);
    const direct = `http://127.0.0.1:${port}`;
    await answers(`${direct}${app.path}`);
    const counter = await startCounter(port, true);
    stops.push(async () => counter.stop());
    const sidecar = await startUpstream(counter.url);
    stops.push(() => sidecar.stop());
    const sides = [];
    for (const base of [direct, sidecar.url]) {
        const side = await open(app, base);
        stops.push(() => side.browser.stop());
        sides.push(side.page);
    }
    const times = [[], []];
    for (let number = 0; number < CHANGES; number++) {
        await sleep(1000 + number * 700);
        const before = await Promise.all(sides.map((page) => value(page, app)));
        await running.change();
        const took = await Promise.all(sides.map((page, side) => takes(app, page, before[side])));
        took.forEach((time, side) => times[side].push(time));
    }
    let differs;
    await eventually('the same to be shown', async () => !(differs = await difference(...sides)), PATIENCE).catch(() => {});
    const [asked, count] = [sides[0].asked.length, counter.asked];
    await sleep(WINDOW);
    const requests = [sides[0].asked.length - asked, counter.asked - count];
    const errors = sides.map((page) => new Set([...page.errors.map((error) => error.replace(/\d+/g, '#')), ...page.console]));
    const more = [...errors[1]].filter((error) => !errors[0].has(error));
    table.push([name, app.what ?? app.polls, more.length ? more.join('; ') : 'none', differs || 'same', ...times.map((all) => `${median(all)} ms`), ...requests]);
    assert.deepEqual(more, [], 'errors that the page does not make by itself');
    assert.ok(!differs, differs);
}

for (const [name, app] of Object.entries({ ...apps, ...others })) {
    if (process.env.APPS && !process.env.APPS.split(',').includes(name)) {
        continue;
    }
    test(`${name}, directly and through`, { timeout: 400_000 }, async (context) => {
        const lacks = missing(app);
        if (lacks) {
            table.push([name, app.what ?? app.polls, `skipped: ${lacks} is not installed`]);
            context.skip(`${lacks} is not installed`);
            return;
        }
        const folder = mkdtempSync(join(tmpdir(), `sungrazer-${name}-`));
        const stops = [];
        try {
            await compare(name, app, folder, stops);
        } catch (error) {
            if (table.at(-1)?.[0] !== name) {
                table.push([name, app.what ?? app.polls, `failed: ${String(error.message).split('\n')[0]}`]);
            }
            throw error;
        } finally {
            for (const stop of stops.reverse()) {
                await stop().catch(() => {});
            }
            await stopAll();
            rmSync(folder, { recursive: true, force: true });
        }
    });
}

after(() => {
    const columns = ['application', 'what is special', 'more errors', 'pages', 'a change without', 'with', `requests in ${WINDOW / 1000} s without`, 'with'];
    console.log(`| ${columns.join(' | ')} |\n|${' --- |'.repeat(columns.length)}`);
    for (const row of table) {
        console.log(`| ${[...row, ...Array(columns.length).fill('')].slice(0, columns.length).join(' | ')} |`);
    }
});
