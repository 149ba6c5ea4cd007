// Real applications in a browser: what the browser script does for them, and that it does nothing else to them.
//
// CHANGES is how many changes are timed; the table is printed at the end.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, createServer, request as ask } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { eventually, startBrowser, startSidecar } from '../support.mjs';
import { answers, apps, vacant } from './apps.mjs';

const CHANGES = Number(process.env.CHANGES ?? 5);
const TABS = 10;
/** For how long requests are counted. */
const WINDOW = 15_000;

/** Counts what the application is asked, and passes it on. */
async function startCounter(port) {
    const counter = { asked: 0 };
    const agent = new Agent({ keepAlive: true });
    const server = createServer((request, answer) => {
        counter.asked += 1;
        const { method, url, rawHeaders } = request;
        const sent = ask({ host: '127.0.0.1', port, method, path: url, headers: rawHeaders, agent }, (got) => {
            answer.writeHead(got.statusCode, got.rawHeaders);
            got.pipe(answer);
        });
        sent.on('error', () => answer.destroy());
        answer.on('close', () => sent.destroy());
        request.pipe(sent);
    });
    server.on('upgrade', (request, socket, head) => {
        const lines = [`${request.method} ${request.url} HTTP/1.1`];
        for (let at = 0; at < request.rawHeaders.length; at += 2) {
            lines.push(`${request.rawHeaders[at]}: ${request.rawHeaders[at + 1]}`);
        }
        const sent = connect(port, '127.0.0.1', () => {
            sent.write(`${lines.join('\r\n')}\r\n\r\n`);
            sent.write(head);
            sent.pipe(socket).pipe(sent);
        });
        for (const end of [sent, socket]) {
            end.on('error', () => {
                sent.destroy();
                socket.destroy();
            });
        }
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    counter.url = `http://127.0.0.1:${server.address().port}`;
    counter.stop = () => {
        server.close();
        server.closeAllConnections();
        agent.destroy();
    };
    return counter;
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

/** Times changes on a page at `base`, and counts what the application is asked with one tab and with many. */
async function measure(app, running, counter, base) {
    const browser = await startBrowser({ httpCredentials: app.credentials });
    const open = async () => {
        const page = await browser.open(`${base}${app.path}`);
        await eventually('the page to be drawn', () => value(page, app));
        return page;
    };
    const pages = [await open()];
    const took = [];
    // Long enough for the page's own loop to have come round.
    await sleep(12_000);
    for (let change = 0; change < CHANGES; change++) {
        await sleep(700 + (change * 1370) % 2900);
        const before = await value(pages[0], app);
        await running.change();
        const begun = performance.now();
        await eventually('the change', async () => (await value(pages[0], app)) !== before);
        took.push(performance.now() - begun);
    }
    const shown = await value(pages[0], app);
    const asked = [];
    for (const tabs of [1, TABS]) {
        while (pages.length < tabs) {
            pages.push(await open());
        }
        await sleep(12_000);
        const before = counter.asked;
        await sleep(WINDOW);
        asked.push(counter.asked - before);
    }
    const errors = pages.flatMap((page) => page.errors);
    await browser.stop();
    return { median: median(took), shown, asked, errors };
}

async function value(page, app) {
    for (const frame of page.frames()) {
        const found = await frame.evaluate(app.value).catch(() => undefined);
        if (found !== undefined && found !== null) {
            return String(found);
        }
    }
    return undefined;
}

const table = [];

for (const [name, app] of Object.entries(apps)) {
    if (process.env.APPS && !process.env.APPS.split(',').includes(name)) {
        continue;
    }
    test(`${name}: ${app.polls}`, { timeout: 600_000 }, async () => {
        const folder = mkdtempSync(join(tmpdir(), `sungrazer-${name}-`));
        const port = await vacant();
        const running = await app.start(folder, port);
        const stops = [...running.stops];
        try {
            await answers(`http://127.0.0.1:${port}${app.path}`);
            const counter = await startCounter(port);
            stops.push(() => counter.stop());
            const routes = `${app.routes?.(folder) ?? ''}[[route]]\npath = "/**"\nshim = "learn"\n`;
            const sidecar = await startSidecar(counter.url, routes);
            stops.push(() => sidecar.stop());
            const without = await measure(app, running, counter, counter.url);
            const pushed = await measure(app, running, counter, sidecar.url);
            table.push([name, app.polls, ...[without, pushed].map(({ median }) => `${Math.round(median)} ms`), ...without.asked, ...pushed.asked]);
            assert.deepEqual(pushed.errors, without.errors, 'errors that the page does not make by itself');
            // What is there after all changes is the same for who looks without Sungrazer.
            const browser = await startBrowser({ httpCredentials: app.credentials });
            const page = await browser.open(`${counter.url}${app.path}`);
            await eventually('the same to be shown', async () => (await value(page, app)) === pushed.shown);
            await browser.stop();
            assert.ok(app.genuine || pushed.asked[1] <= Math.max(without.asked[0], pushed.asked[0]) * 1.5 + 2, `${pushed.asked} requests, ${without.asked} without`);
        } finally {
            for (const stop of stops.reverse()) {
                await stop();
            }
            rmSync(folder, { recursive: true, force: true });
        }
    });
}

after(() => {
    console.log(`| application | polls by | change to DOM, median, without | with | requests in ${WINDOW / 1000} s, 1 tab, without | ${TABS} tabs | 1 tab, with | ${TABS} tabs |`);
    console.log('| --- | --- | --- | --- | --- | --- | --- | --- |');
    for (const row of table) {
        console.log(`| ${row.join(' | ')} |`);
    }
});
