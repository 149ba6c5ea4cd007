// The gallery of the examples: every application directly and through Sungrazer, with two users. With UPDATE_DOCUMENTS=1 the
// table of its README is made anew.

import assert from 'node:assert/strict';
import { readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { APPLICATIONS } from './gallery-applications.mjs';
import { GALLERY, play, startGallery } from './gallery.mjs';
import { NO_IRC, startIrc } from './irc.mjs';
import { eventually, startBrowser } from './support.mjs';

const ROUNDS = process.env.UPDATE_DOCUMENTS ? 3 : 1;

let irc;
let gallery;
let browser;
/** By path: what was measured. */
const measured = {};

before(async () => {
    irc = NO_IRC ? undefined : await startIrc();
    [gallery, browser] = await Promise.all([startGallery({ irc: irc?.address }), startBrowser()]);
});

after(async () => {
    if (process.env.UPDATE_DOCUMENTS && Object.keys(measured).length === gallery.catalogue.length) {
        writeTable();
    }
    await browser?.stop();
    await gallery?.stop();
    await irc?.stop();
});

describe('applications, with two users', { concurrency: 8 }, () => {
    /** Pages that show the same have their turns: by the first segment of their paths. */
    const turns = {};
    for (const [path, application] of Object.entries(APPLICATIONS)) {
        test(path, { skip: path === '/irc/' && NO_IRC }, () => {
            const [, of] = path.split('/');
            turns[of] = Promise.allSettled([turns[of]]).then(() => tryOut(path, application));
            return turns[of];
        });
    }
});

async function tryOut(path, application) {
    // A browser has six connections to a site, and some applications hold one of them.
    const users = await Promise.all([browser.user(), browser.user()]);
    measured[path] = await play(gallery, users, { path, ...application }, ROUNDS);
    await Promise.all(users.map((user) => user.leave()));
}

test('every application that the index shows is tried', () => {
    assert.deepEqual(gallery.catalogue.map(({ path }) => path).sort(), Object.keys(APPLICATIONS).sort());
});

test('somebody with a plain IRC client is heard in the pages, and hears them', { skip: NO_IRC }, async () => {
    const carl = await irc.join('carl', '#soup');
    const user = await browser.user();
    const page = await user.open(`${gallery.sidecar.url}/irc/`);
    await page.fill('[name=nick]', 'dora');
    await page.click('[value=Enter]');
    await page.getByText('* dora has come.').waitFor();
    await eventually('the page to be followed', async () => (await gallery.sidecar.streams()) > 0);
    await carl.hears('dora');
    await page.fill('[name=text]', 'Is there soup?');
    await page.click('[value=Say]');
    await carl.hears('PRIVMSG #soup :Is there soup?');
    const took = [];
    for (const answer of ['There is.', 'With onions.', 'And leeks.']) {
        await sleep(3300);
        const begun = Date.now();
        carl.say(answer);
        await page.getByText(`<carl> ${answer}`).waitFor();
        took.push(Date.now() - begun);
    }
    console.log(`shown ${took} ms after it was said; the page polls every 3000 ms`);
    // By its own polls alone, three in a row this fast would be one chance in eight; and there is no other way to learn of it.
    assert.ok(took.every((time) => time < 1500), `${took}`);
    assert.deepEqual(page.errors, []);
    carl.leave();
    await user.leave();
});

test('who has bid is shown that bid by the next poll, and each after it', async () => {
    const page = await browser.open(`${gallery.sidecar.url}/auction/`);
    await page.waitForFunction(() => highest > 0);
    const seen = await page.evaluate(async () => {
        const ask = (method, url, body) => new Promise((resolve) => {
            const xhr = new XMLHttpRequest();
            xhr.open(method, url);
            xhr.setRequestHeader('Content-Type', 'application/x-www-form-urlencoded');
            xhr.onload = () => resolve(xhr);
            xhr.send(body);
        });
        const seen = [];
        for (let amount = highest + 100; seen.length < 20; amount++) {
            const { status } = await ask('POST', '/auction/bid', `name=eve&amount=${amount}`);
            const { bids } = JSON.parse((await ask('GET', '/auction/state')).responseText);
            seen.push([status, bids.at(-1).amount - amount]);
        }
        return seen;
    });
    assert.deepEqual(seen, Array(20).fill([204, 0]));
    await page.close();
});

test('a large upload is seen to come, by another user, while it does', async () => {
    const [sender, other] = await Promise.all([browser.user(), browser.user()]);
    const [from, to] = await Promise.all([sender.open(`${gallery.sidecar.url}/upload/`), other.open(`${gallery.sidecar.url}/upload/`)]);
    await to.evaluate(() => {
        window.seen = [];
        new MutationObserver(() => {
            const [, percent] = /large\.bin(\d+)%/.exec(document.getElementById('list').textContent) ?? [];
            if (percent && window.seen.at(-1) !== Number(percent)) {
                window.seen.push(Number(percent));
            }
        }).observe(document.getElementById('list'), { childList: true, subtree: true });
    });
    // A line of 80 Mbit/s.
    const line = await from.context().newCDPSession(from);
    await line.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: 10e6 });
    const file = join(gallery.folder, 'large.bin');
    writeFileSync(file, Buffer.alloc(50 * 1024 * 1024));
    await from.setInputFiles('[type=file]', file);
    const begun = Date.now();
    await from.click('[type=submit]');
    await from.frame('sent').getByText('Received: 5242').waitFor();
    const took = Date.now() - begun;
    await to.waitForFunction(() => seen.at(-1) === 100);
    const seen = await to.evaluate(() => window.seen);
    console.log(`50 MiB in ${took} ms; the other saw ${seen.join(', ')} %`);
    assert.deepEqual(seen, [...seen].sort((a, b) => a - b), 'it never goes back');
    assert.ok(seen[0] < 100, `${seen}`);
    assert.deepEqual([...from.errors, ...to.errors], []);
    await Promise.all([sender.leave(), other.leave()]);
    unlinkSync(file);
});

test('the index shows each application twice, and everybody can use it', async () => {
    const page = await browser.open(`${gallery.sidecar.url}/`);
    await page.setViewportSize({ width: 1280, height: 900 });
    assert.equal(await page.locator('tbody tr').count(), gallery.catalogue.length);
    for (const { path } of gallery.catalogue) {
        const frames = page.locator(`tr:has(a[href="${path}"]) iframe`);
        await frames.first().scrollIntoViewIfNeeded();
        for (const [index, at] of [gallery.url, gallery.sidecar.url].entries()) {
            const shown = () => frames.nth(index).elementHandle().then((frame) => frame?.contentFrame());
            await eventually(`${path} at ${at}`, async () => {
                const frame = await shown().catch(() => undefined);
                return frame?.url() === `${at}${path}` && frame.evaluate(() => document.readyState === 'complete').catch(() => false);
            });
        }
    }
    const loaded = await page.locator('iframe[src]').count();
    assert.ok(loaded > 0 && loaded <= 16, `${loaded} frames are loaded`);
    await page.evaluate(readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8'));
    for (const [name, colorScheme, width] of [['light', 'light', 1280], ['dark', 'dark', 1280], ['phone', 'light', 390]]) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 900 });
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= width, `${name}: ${wide} px wide`);
        const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ['violations'], iframes: false }));
        assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 200)}`), [], name);
        if (process.env.UPDATE_DOCUMENTS && width > 1000) {
            await page.evaluate(() => scrollTo(0, 0));
            await page.waitForTimeout(3000);
            await page.screenshot({ path: new URL(`gallery-${name}.png`, GALLERY).pathname });
        }
    }
    await page.close();
});

/** The table of the README, made of what was measured. */
function writeTable() {
    const file = new URL('README.md', GALLERY);
    const head = '| application | after | how it asks | polled | pushed |\n| --- | --- | --- | ---: | ---: |\n';
    const rows = gallery.catalogue.map(({ path, title, pattern, how }) => {
        const { direct, through } = measured[path];
        return `| ${title} (\`${path}\`) | ${pattern} | ${how} | ${direct} ms | ${through} ms |\n`;
    });
    const text = readFileSync(file, 'utf8').replace(/\| application[^]*?\n(?!\|)/, `${head}${rows.join('')}`);
    writeFileSync(file, text);
}
