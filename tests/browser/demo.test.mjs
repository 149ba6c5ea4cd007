// The demo's page in a browser: what it measures and counts, and that everybody can use it. With UPDATE_DOCUMENTS=1 its
// pictures in docs/ are taken anew.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { animate } from './apng.mjs';
import { eventually, startBrowser, startDemo } from './support.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const PICTURES = process.env.UPDATE_DOCUMENTS ? new URL('../../docs/', import.meta.url).pathname : null;

let demo;
let browser;

before(async () => {
    demo = await startDemo();
    browser = await startBrowser();
});

after(async () => {
    await browser?.stop();
    await demo?.stop();
});

/** Opens the page, and waits until the pushed frame is followed. */
async function open(at = demo) {
    const page = await browser.open(`${at.open}/`);
    await page.setViewportSize({ width: 1280, height: 900 });
    await page.locator('#pushed .state.live').waitFor();
    return page;
}

const text = (page, selector) => page.locator(selector).innerText();

/** The delays that the page has measured on one side, in milliseconds. */
const delays = (page, index) => page.evaluate((index) => sides[index].delays.map(({ delay }) => delay), index);

async function save(page, note, way) {
    await page.getByLabel('Write into the wiki').fill(note);
    await page.getByRole('radio', { name: way }).check();
    await page.getByRole('button', { name: 'Save' }).click();
}

const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

test('it says that it learns, and measures both sides of an edit', async () => {
    const page = await browser.open('about:blank');
    const asked = [];
    page.on('request', (request) => asked.push(new URL(request.url())));
    await page.goto(`${demo.open}/`);
    const pill = page.locator('#pushed .state');
    await pill.getByText('learning…').waitFor();
    await pill.getByText('live', { exact: true }).waitFor();
    assert.equal(await text(page, '#polled .state'), 'polls');
    const frames = page.frames();
    const shows = (index, note) => frames[index].waitForFunction((note) => document.body.innerText.includes(note), note);
    for (const [number, way] of [[1, /through Sungrazer/], [2, /behind its back/], [3, /through Sungrazer/]]) {
        await save(page, `Note ${number}`, way);
        await Promise.all([1, 2].map((index) => shows(index, `Note ${number}`)));
        await eventually('both delays', async () => (await delays(page, 0)).length === number && (await delays(page, 1)).length === number);
    }
    const [polled, pushed] = [await delays(page, 0), await delays(page, 1)];
    console.log(`polled ${polled.map(Math.round)} ms, pushed ${pushed.map(Math.round)} ms`);
    // By its own polls alone, three in a row this fast would be one chance in a hundred.
    assert.ok(median(pushed) < 1500, `${pushed}`);
    assert.ok(polled.every((delay) => delay < 6500), `${polled}`);
    assert.match(await text(page, '#polled .time'), /^\d+(\.\d+)?\ss$/);
    assert.equal(await page.locator('#pushed .chart i').count(), 3);
    assert.equal(await page.locator('#pushed .chart i.behind').count(), 1);
    assert.match(await page.locator('#pushed .chart').getAttribute('aria-label'), /: (\d+\.\d+\ss(, )?){3}$/);
    const href = await page.getByRole('link', { name: 'Dashboard' }).getAttribute('href');
    assert.equal(href, `${demo.admin}/`);
    // Both frames are the application's and the sidecar's, and everything else is here.
    assert.deepEqual([...new Set(asked.map(({ origin }) => origin))].sort(), [demo.open, demo.polled, demo.pushed].sort());
    assert.deepEqual(page.errors, []);
    await page.close();
});

test('ten tabs ask the application ten times more often, but no more often through Sungrazer', async () => {
    const page = await open();
    await page.getByRole('button', { name: 'Open ten more tabs' }).click();
    await eventually('twenty tabs', async () => page.frames().length === 23);
    const rates = async () => (await Promise.all(['polled', 'pushed'].map((side) => text(page, `#${side} .rate`)))).map(Number);
    // Each asks every 5 s: 11 tabs 132 times a minute. Sungrazer asks as often as six would, for any number.
    await eventually('fewer requests through Sungrazer', async () => {
        const [polled, pushed] = await rates();
        return polled > 90 && pushed < polled * 0.7;
    }, 40_000);
    const readers = /^11 readers on each side: \d+ requests a minute polled, \d+ through Sungrazer/;
    await eventually('all readers', async () => readers.test(await text(page, '#load')));
    await page.getByRole('button', { name: 'Close the ten tabs' }).click();
    await eventually('the tabs to be gone', async () => page.frames().length === 3);
    assert.deepEqual(page.errors, []);
    await page.close();
});

test('it can be used by everybody: light, dark, and on a phone', async () => {
    const own = PICTURES ? await startDemo(['--readers', '5', '--edits', '8s']) : demo;
    const page = await open(own);
    if (PICTURES) {
        await record(page);
    }
    await page.evaluate(AXE);
    const looks = [
        ['demo-light', { colorScheme: 'light' }, { width: 1280, height: 900 }],
        ['demo-dark', { colorScheme: 'dark' }, { width: 1280, height: 900 }],
        ['demo-phone', { colorScheme: 'dark' }, { width: 390, height: 844 }],
    ];
    for (const [name, media, size] of looks) {
        await page.emulateMedia({ ...media, reducedMotion: 'reduce' });
        await page.setViewportSize(size);
        const width = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(width <= size.width, `${name}: ${width} px wide`);
        const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ['violations'], iframes: false }));
        const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes[0].html.slice(0, 200)}`);
        assert.deepEqual(found, [], name);
        if (PICTURES) {
            await page.evaluate(() => scrollTo(0, 0));
            await page.screenshot({ path: `${PICTURES}${name}.png` });
        }
    }
    await page.close();
    if (PICTURES) {
        await own.stop();
    }
});

/** Takes the moving picture: edits as they come to both sides, in real time. */
async function record(page) {
    await page.setViewportSize({ width: 1080, height: 850 });
    await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });
    await page.getByRole('button', { name: 'Open ten more tabs' }).click();
    // Charts and counters have something to show.
    await eventually('some edits', async () => (await delays(page, 0)).length >= 8 && (await delays(page, 1)).length >= 8, 120_000);
    await page.evaluate(() => scrollTo(0, 0));
    const shots = [];
    let next = Date.now();
    const notes = ['The soup is hot.', 'No, it is cold.', 'It is warm again.'];
    for (const note of notes) {
        await save(page, note, /through Sungrazer/);
        const until = Date.now() + 6000;
        while (Date.now() < until) {
            shots.push({ png: await page.screenshot(), at: Date.now() });
            next = Math.max(Date.now(), next + 250);
            await sleep(next - Date.now());
        }
    }
    const times = shots.map(({ png, at }, index) => ({ png, time: (shots[index + 1]?.at ?? at + 3000) - at }));
    writeFileSync(`${PICTURES}demo.png`, animate(times));
}
