// The gallery of the examples as a program, and two users of each of its applications, who come both directly and through
// Sungrazer.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { eventually, startSidecar } from './support.mjs';

export const GALLERY = new URL('../../examples/gallery/', import.meta.url);

/** Where its configuration says that the shared folder is. */
const FOLDER = '/tmp/sungrazer-gallery';

/** Starts it, and Sungrazer in front of it with the routes of the example. */
export async function startGallery({ irc = '127.0.0.1:9' } = {}) {
    const folder = mkdtempSync(join(tmpdir(), 'sungrazer-gallery-'));
    const program = new URL('gallery.py', GALLERY).pathname;
    const child = spawn('python3', [program, '0', '--folder', folder, '--irc', irc], {
        stdio: ['ignore', 'pipe', 'ignore'],
        env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' },
    });
    const ended = once(child, 'exit');
    const [line] = await once(createInterface({ input: child.stdout }), 'line');
    const url = line.match(/http:\/\/[^/]+/)[0];
    const routes = readFileSync(new URL('sungrazer.toml', GALLERY), 'utf8').replaceAll(FOLDER, folder);
    const sidecar = await startSidecar(url, routes);
    return {
        url,
        sidecar,
        folder,
        /** What the application was asked so far: `requests` by path, and over how many `connections`. */
        counters: async () => (await fetch(`${url}/server/counters`)).json(),
        catalogue: await (await fetch(`${url}/catalogue.json`)).json(),
        async stop() {
            await sidecar.stop();
            child.kill('SIGTERM');
            await ended;
            rmSync(folder, { recursive: true });
        },
    };
}

/** What a page shows. One that loads itself again may do so just now. */
async function state(application, page) {
    return within(application, page)?.evaluate(application.state).catch(() => undefined);
}

/** The page, or the frame of it in which something is shown. */
const within = (application, page) => (application.frame ? page.frame(application.frame) : page);

/** When `target` shows `word`. Nothing is drawn for that, as browsers draw rarely what is not in front. */
async function shown(application, page, word) {
    const asked = { shows: String(application.shows), word };
    const found = await within(application, page).waitForFunction(
        ({ shows, word }) => window.eval(`(${shows})`)(word) && Date.now(),
        asked,
        { polling: 50, timeout: 45_000 },
    );
    return found.jsonValue();
}

/** Acts again if the page was loaded again just then. */
async function act(application, page, word, gallery) {
    for (;;) {
        try {
            return await application.act(page, word, gallery);
        } catch (error) {
            if (!/context was destroyed|navigation/.test(error.message)) {
                throw error;
            }
        }
    }
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

/**
 * Two users do things in an application, directly and through Sungrazer, until what one of them does through Sungrazer was on
 * the other's screen in less than a third of the interval, three times in a row. All four pages show the same in the end.
 */
export async function play(gallery, users, application, rounds) {
    const { path, interval } = application;
    const pages = [];
    for (const at of [gallery.url, gallery.sidecar.url]) {
        for (const user of users) {
            const page = await user.open(`${at}${path}`);
            await application.enter?.(page, pages.length);
            pages.push(page);
        }
    }
    const [direct, directOther, through, throughOther] = pages;
    const prefix = application.word ?? path.replace(/\W/g, '');
    let number = 0;
    /** Acts in a page, and gives the times after which the others show that. */
    const one = async (page, others) => {
        // An early run of a page's timer takes the place of the next, and more than one in its interval would be one too many.
        await sleep((application.rest ?? interval) + 200 + Math.random() * 300);
        const word = `${prefix}${++number}`;
        const seen = others.map((other) => shown(application, other, word));
        const begun = await act(application, page, word, gallery);
        return (await Promise.all(seen)).map((at) => at - begun);
    };
    const times = { direct: [], behind: [], through: [] };
    const isLive = () => times.through.length >= Math.max(3, rounds) && times.through.slice(-3).every((time) => time < interval / 3);
    while (!isLive()) {
        assert.ok(times.through.length < 12 + rounds, `${path} does not become live: shown after ${times.through} ms`);
        times.through.push(...await one(through, [throughOther]));
    }
    // What is changed past Sungrazer, once the pages are followed.
    for (let round = 0; round < rounds; round += 1) {
        const [polled, behind] = await one(direct, [directOther, throughOther]);
        times.direct.push(polled);
        times.behind.push(behind);
    }
    await application.quiet?.(direct);
    const states = await eventually(`the same in all pages of ${path}`, async () => {
        const all = await Promise.all(pages.map((page) => state(application, page)));
        return all.every((one) => one && one === all[0]) && all;
    });
    assert.ok(states[0].includes(`${prefix}${number}`), states[0]);
    for (const page of pages) {
        assert.deepEqual(page.errors, [], page.url());
        await page.close();
    }
    const result = Object.fromEntries(Object.entries(times).map(([name, all]) => [name, median(all)]));
    console.log(`${path}: ${JSON.stringify(times)}`);
    return result;
}
