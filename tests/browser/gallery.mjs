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
        catalogue: await (await fetch(`${url}/catalogue.json`)).json(),
        async stop() {
            await sidecar.stop();
            child.kill('SIGTERM');
            await ended;
            rmSync(folder, { recursive: true });
        },
    };
}

/**
 * Fills in a form and sends it, in one step, since a page that loads itself again may do so between two. Gives the time at
 * which it was sent.
 */
export const send = (page, values, button = '[type=submit]') => page.evaluate(({ values, button }) => {
    const submit = document.querySelector(button);
    for (const [name, value] of Object.entries(values)) {
        submit.form.elements[name].value = value;
    }
    const at = Date.now();
    submit.click();
    return at;
}, { values, button });

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
async function act(application, page, word) {
    for (;;) {
        try {
            return await application.act(within(application, page), word);
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
 * the other's screen in less than a quarter of the interval, three times in a row. All four pages show the same in the end.
 */
export async function play(gallery, users, application, rounds) {
    const { path, interval } = application;
    const pages = [];
    for (const at of [gallery.url, gallery.sidecar.url]) {
        for (const user of users) {
            const page = await user.open(`${at}${path}`);
            await application.enter?.(page, pages.length % 2);
            pages.push(page);
        }
    }
    const [direct, directOther, through, throughOther] = pages;
    let number = 0;
    const one = async (page) => {
        // An early run of a page's timer takes the place of the next, and more than one in its interval would be one too many.
        await sleep((application.rest ?? interval) + 200 + Math.random() * 300);
        const word = `${application.word ?? 'word'}${++number}`;
        const all = pages.filter((other) => other !== page);
        const seen = all.map((other) => shown(application, other, word));
        const begun = await act(application, page, word);
        const times = await Promise.all(seen);
        return (page) => times[all.indexOf(page)] - begun;
    };
    const times = { direct: [], behind: [], through: [] };
    for (let round = 0; round < rounds; round += 1) {
        const took = await one(direct);
        times.direct.push(took(directOther));
        times.behind.push(took(throughOther));
    }
    const isLive = () => times.through.length >= Math.max(3, rounds) && times.through.slice(-3).every((time) => time < interval / 4);
    while (!isLive()) {
        assert.ok(times.through.length < 10 + rounds, `${path} does not become live: shown after ${times.through} ms`);
        times.through.push((await one(through))(throughOther));
    }
    await application.quiet?.(direct);
    const states = await eventually(`the same in all pages of ${path}`, async () => {
        const all = await Promise.all(pages.map((page) => state(application, page)));
        return all.every((one) => one && one === all[0]) && all;
    });
    assert.ok(states[0].includes(`${application.word ?? 'word'}${number}`), states[0]);
    for (const page of pages) {
        assert.deepEqual(page.errors, [], page.url());
        await page.close();
    }
    const result = Object.fromEntries(Object.entries(times).map(([name, all]) => [name, median(all)]));
    console.log(`${path}: ${JSON.stringify(times)}`);
    return result;
}
