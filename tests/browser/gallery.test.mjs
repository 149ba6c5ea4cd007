// The gallery of the examples: every application directly and through Sungrazer, with two users. With UPDATE_DOCUMENTS=1 the table of
// its README is made anew.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';

import { GALLERY, play, send, startGallery } from './gallery.mjs';
import { startBrowser } from './support.mjs';

const ROUNDS = process.env.UPDATE_DOCUMENTS ? 7 : 1;

let gallery;
let browser;
let users;

before(async () => {
    [gallery, browser] = await Promise.all([startGallery(), startBrowser()]);
    users = [await browser.user(), await browser.user()];
});

after(async () => {
    if (process.env.UPDATE_DOCUMENTS && Object.keys(measured).length === gallery.catalogue.length) {
        writeTable();
    }
    await browser?.stop();
    await gallery?.stop();
});

/** In the page: whether its text has `word`. */
const textHas = (word) => document.body.textContent.includes(word);

const APPLICATIONS = {
    '/chat/': {
        interval: 3000,
        act: (page, word) => send(page, { name: 'ann', text: word }),
        shows: textHas,
        state: () => document.getElementById('log').innerText,
    },
    '/board/': {
        interval: 5000,
        act: (page, word) => send(page, { name: word, answer: 'maybe', says: 'if there is soup' }),
        shows: textHas,
        state: () => document.getElementById('board').innerText,
    },
    '/market/': {
        interval: 2000,
        act: (page, word) => send(page, { name: word, symbol: 'AKU' }, '[value=Buy]'),
        shows: textHas,
        state: () => document.getElementById('quotes').innerText + document.getElementById('state').innerText,
        /** It stands still. */
        quiet: (page) => page.locator('[value="Close it"]').click(),
    },
};

/** By path: what was measured. */
const measured = {};

describe('applications, with two users', { concurrency: true }, () => {
    for (const [path, application] of Object.entries(APPLICATIONS)) {
        test(path, async () => {
            measured[path] = await play(gallery, users, { path, ...application }, ROUNDS);
        });
    }
});

test('every application that the index shows is tried', () => {
    assert.deepEqual(gallery.catalogue.map(({ path }) => path).sort(), Object.keys(APPLICATIONS).sort());
});

/** The table of the README, made of what was measured. */
function writeTable() {
    const file = new URL('README.md', GALLERY);
    const head = '| application | after | how it asks | polled | behind its back | pushed |\n| --- | --- | --- | ---: | ---: | ---: |\n';
    const rows = gallery.catalogue.map(({ path, title, pattern, how }) => {
        const { direct, behind, through } = measured[path];
        return `| ${title} (\`${path}\`) | ${pattern} | ${how} | ${direct} ms | ${behind} ms | ${through} ms |\n`;
    });
    const text = readFileSync(file, 'utf8').replace(/\| application[^]*?\n(?!\|)/, `${head}${rows.join('')}`);
    writeFileSync(file, text);
}
