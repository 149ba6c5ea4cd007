// What the tests of the browser script play on: an application, Sungrazer in front of it, and Chromium.

import { after, afterEach, before } from 'node:test';

import { startApplication } from './application.mjs';
import { eventually, startBrowser, startSidecar } from './support.mjs';

/** A route that learns what its pages poll, and looks often, however long nothing has changed. */
export const LEARNS = '[[route]]\npath = "/**"\nevery = "50ms"\nevery_max = "50ms"\nshim = "learn"\n';

/** Sets up `application`, `sidecar` and `browser` for the tests of a file, which are given them when they run. */
export function stage(pages, { routes = LEARNS, ...options } = {}) {
    const on = {
        /** Changes what is polled, and returns its new count. */
        change() {
            on.application.state = { count: on.application.state.count + 1 };
            return on.application.state.count;
        },
        /** Opens one of the application's pages, with Sungrazer in front of it or without. */
        open: (path) => on.browser.open(`${on.sidecar.url}${path}`),
        openPlain: (path) => on.browser.open(`${on.application.url}${path}`),
    };
    before(async () => {
        on.application = await startApplication(pages);
        [on.sidecar, on.browser] = await Promise.all([startSidecar(on.application.url, routes), startBrowser(options)]);
    });
    afterEach(() => on.browser?.clear());
    after(async () => {
        await on.browser?.stop();
        await on.sidecar?.stop();
        await on.application?.stop();
    });
    return on;
}

/** How often a page has drawn. */
export const draws = (page) => page.evaluate(() => window.draws);

/** Waits until the page has drawn `more` often. */
export async function drawsAgain(page, more = 1) {
    const before = await draws(page);
    await page.waitForFunction((wanted) => window.draws >= wanted, before + more);
}

/** Waits until polls of `path` are answered without the network. */
export async function followed(page, path = '/state') {
    await page.waitForFunction(() => window.draws > 1);
    await eventually(`polls of ${path} to leave the network`, async () => {
        const asked = page.times(path);
        await drawsAgain(page, 2);
        return page.times(path) === asked;
    });
}

/** Waits until `target`, a page or a frame, shows the count, and says how many milliseconds that took. */
export async function shows(target, count) {
    const begun = performance.now();
    await target.waitForFunction((count) => document.getElementById('count')?.textContent === String(count), count);
    return Math.round(performance.now() - begun);
}
