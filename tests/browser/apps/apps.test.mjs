// Real applications in a browser: what the browser script does for them, and that it does nothing else to them.
//
// CHANGES is how many changes are timed; the table is printed at the end.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { eventually, startBrowser, startSidecar } from '../support.mjs';
import { answers, apps, vacant, value } from './apps.mjs';
import { startCounter } from './counter.mjs';

const CHANGES = Number(process.env.CHANGES ?? 7);
const TABS = 10;
/** A window may begin just before what comes again and again. */
const EDGE = 3;
/** For how long requests are counted. */
const WINDOW = 20_000;

const median = (numbers) => Math.round([...numbers].sort((a, b) => a - b)[numbers.length >> 1]);

const ROUTES = '[[route]]\npath = "/**"\nshim = "learn"\n';

/** Times changes that `change` makes, from when each is done to when the page shows it. */
async function time(app, page, change) {
    const took = [];
    for (let number = 0; number < CHANGES; number++) {
        await sleep(700 + (number * 1370) % 2900);
        const before = await value(page, app);
        await change();
        const begun = performance.now();
        await eventually('the change', async () => (await value(page, app)) !== before, 60_000);
        took.push(performance.now() - begun);
    }
    return took;
}

/** Times changes on a page at `base`, and counts what the application is asked with one tab and with many. */
async function measure(app, running, counter, base) {
    const browser = await startBrowser({ httpCredentials: app.credentials, patience: 120_000 });
    const open = async () => {
        const page = await browser.open(`${base}${app.path}`);
        await eventually('the page to be drawn', () => value(page, app), 120_000);
        return page;
    };
    const pages = [await open()];
    // Long enough for the page's own loop to have come round.
    await sleep(app.interval * 2 + 2000);
    const changed = await time(app, pages[0], running.change);
    const written = await time(app, pages[0], () => running.write(base));
    const shown = await value(pages[0], app);
    // What nothing has happened to for so long is fetched as often as a page does it; what is always asked for by the
    // page itself stays as it is.
    const settle = base === counter.url || app.genuine ? app.interval : app.interval * 11;
    const asked = [];
    for (const tabs of [1, TABS]) {
        while (pages.length < tabs) {
            pages.push(await open());
        }
        await sleep(tabs === 1 ? settle : app.interval * 2);
        const before = counter.asked;
        await sleep(WINDOW);
        asked.push(counter.asked - before);
    }
    const errors = [...new Set(pages.flatMap((page) => page.errors))];
    await browser.stop();
    return { figures: [`${median(changed)} ms`, `${median(written)} ms`, ...asked], asked, shown, errors };
}

const table = [];

for (const [name, app] of Object.entries(apps)) {
    if (process.env.APPS && !process.env.APPS.split(',').includes(name)) {
        continue;
    }
    test(`${name}: ${app.polls}`, { timeout: 1_200_000 }, async () => {
        const folder = mkdtempSync(join(tmpdir(), `sungrazer-${name}-`));
        const port = await vacant();
        const running = await app.start(folder, port);
        const stops = [...running.stops];
        try {
            await answers(`http://127.0.0.1:${port}${app.path}`);
            const counter = await startCounter(port);
            stops.push(() => counter.stop());
            const native = await measure(app, running, counter, counter.url);
            table.push([name, 'without', ...native.figures]);
            const first = app.routes?.(folder) ?? '';
            for (const [kind, routes] of [[app.genuine ? 'tuned' : 'default', ROUTES], ['tuned', app.tuned?.()]]) {
                if (!routes) {
                    continue;
                }
                const sidecar = await startSidecar(counter.url, first + routes);
                const pushed = await measure(app, running, counter, sidecar.url).finally(() => sidecar.stop());
                table.push([name, kind, ...pushed.figures]);
                assert.deepEqual(pushed.errors, native.errors, 'errors that the page does not make by itself');
                // What is there after all changes is the same for who looks without Sungrazer.
                const browser = await startBrowser({ httpCredentials: app.credentials, patience: 120_000 });
                const page = await browser.open(`${counter.url}${app.path}`);
                await eventually('the same to be shown', async () => (await value(page, app)) === pushed.shown, 60_000);
                await browser.stop();
                // Speed is for the table; how often the application is asked is not a matter of speed. No more than by one tab
                // without Sungrazer, however many there are, but for what only the tabs can do.
                const [one, many] = native.asked;
                const said = `${pushed.asked} requests, ${native.asked} without`;
                assert.ok(pushed.asked[0] <= one + EDGE, said);
                assert.ok(pushed.asked[1] <= (app.genuine ? many : app.writes ? many * 0.75 : one) + EDGE, said);
            }
        } finally {
            for (const stop of stops.reverse()) {
                await stop();
            }
            rmSync(folder, { recursive: true, force: true });
        }
    });
}

after(() => {
    console.log(`| application | Sungrazer | change behind its back, shown after | change by a request, shown after | requests in ${WINDOW / 1000} s, 1 tab | ${TABS} tabs |`);
    console.log('| --- | --- | --- | --- | --- | --- |');
    for (const row of table) {
        console.log(`| ${row.join(' | ')} |`);
    }
});
