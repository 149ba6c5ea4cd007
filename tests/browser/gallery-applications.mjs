// What two users do in the applications of the gallery, by path.
//
// `act(page, word)` does something of which the others see `word`, and gives the time at which it was sent; `shows(word)`, in the
// page or its `frame`, says whether it is there; `state()`, in the same place, is what all pages have to agree on.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Fills in a form and sends it, in one step, since a page that loads itself again may do so between two. */
const send = (page, values, button = '[type=submit]') => page.evaluate(({ values, button }) => {
    const submit = document.querySelector(button);
    for (const [name, value] of Object.entries(values)) {
        submit.form.elements[name].value = value;
    }
    const at = Date.now();
    submit.click();
    return at;
}, { values, button });

/** In the page. */
const textHas = (word) => document.body.textContent.includes(word);

/** Text of an element, as all but the last kind of state is. */
const textOf = (id) => new Function(`return document.getElementById('${id}').innerText`);

const headlines = {
    interval: 3000,
    act: (page, word) => send(page, { headline: word }),
    shows: textHas,
    state: textOf('headline'),
};

const wiki = {
    interval: 5000,
    act: (page, word) => page.evaluate((word) => {
        document.getElementById('draft').value = word;
        const at = Date.now();
        document.querySelector('[type=submit]').click();
        return at;
    }, word),
    shows: (word) => document.getElementById('text').textContent === word,
    state: textOf('text'),
};

export const APPLICATIONS = {
    '/chat/': {
        interval: 3000,
        act: (page, word) => send(page, { name: 'ann', text: word }),
        shows: textHas,
        state: textOf('log'),
    },
    '/log/': {
        interval: 4000,
        act: (page, word) => send(page, { name: 'ann', text: word }),
        shows: textHas,
        state: textOf('log'),
    },
    '/frames/': {
        interval: 4000,
        frame: 'log',
        act: (page, word) => send(page.frame('say'), { name: 'ann', text: word }),
        shows: textHas,
        state: () => document.body.innerText,
    },
    '/irc/': {
        interval: 3000,
        /** Cookies are the same whatever the port is, so that a user has one session. */
        async enter(page, number) {
            if (number < 2) {
                await send(page, { nick: number ? 'bob' : 'ann' });
            }
            await page.waitForFunction(() => document.getElementById('lines').textContent.includes('has come'));
        },
        act: (page, word) => send(page, { text: word }, '#say [type=submit]'),
        shows: textHas,
        /** What was said: each has come at a time of their own. */
        state: () => Array.from(document.querySelectorAll('#lines div'), (line) => line.textContent).filter((line) => line[0] === '<').join('\n'),
    },
    '/page/': {
        interval: 3000,
        enter: (page, number) => page.evaluate((name) => {
            form.elements.name.value = name;
            isHere();
        }, number % 2 ? 'bob' : 'ann'),
        act: (page, word) => send(page, { id: '1', text: word }),
        shows: textHas,
        state: () => document.getElementById('here').innerText + document.getElementById('paragraphs').innerText,
    },
    '/board/': {
        interval: 4000,
        act: (page, word) => send(page, { name: word, answer: 'maybe', says: 'if there is soup' }),
        shows: textHas,
        state: textOf('board'),
    },
    '/wiki/': wiki,
    '/wiki/live': wiki,
    '/feed/': {
        interval: 4000,
        act: (page, word) => send(page, { title: word }),
        shows: textHas,
        state: textOf('entries'),
    },
    '/scores/': {
        interval: 3000,
        /** It is loaded again before its time at most once in two intervals. */
        rest: 6000,
        async enter(page) {
            page.desk = await page.context().newPage();
            await page.desk.goto(new URL('/scores/desk', page.url()).href);
        },
        act: (page, word) => send(page.desk, { name: word, team: 'Leeks' }),
        shows: textHas,
        state: () => document.getElementById('scores').innerText + document.getElementById('last').innerText,
    },
    '/market/': {
        interval: 3000,
        act: (page, word) => send(page, { name: word, symbol: 'AKU' }, '[value=Buy]'),
        shows: textHas,
        state: () => document.getElementById('quotes').innerText + document.getElementById('state').innerText,
        /** It stands still. */
        quiet: (page) => page.evaluate(() => document.querySelector('[value="Close it"]').click()),
    },
    '/auction/': {
        interval: 3000,
        act: (page, word) => send(page, { name: word }),
        shows: (word) => document.getElementById('bids').textContent.includes(word),
        state: () => document.getElementById('item').innerText + document.getElementById('bids').innerText,
    },
    '/plant/': {
        interval: 3000,
        act: (page, word) => send(page, { lever: 'pump', to: String(50 + (word.length + word.charCodeAt(4)) % 40), name: word }),
        shows: (word) => document.getElementById('levers').textContent.includes(word),
        state: () => document.getElementById('levers').innerText + document.getElementById('gauges').innerText,
    },
    '/camera/': {
        interval: 3000,
        word: '',
        act: (page, word) => send(page, { to: word }),
        /** Whether the bright post is there. */
        shows: (word) => {
            const canvas = document.createElement('canvas');
            canvas.getContext('2d').drawImage(document.getElementById('picture'), 0, 0);
            return canvas.getContext('2d').getImageData(Number(word) * 8 + 4, 90, 1, 1).data[0] > 200;
        },
        state: () => {
            const canvas = document.createElement('canvas');
            canvas.width = 320;
            canvas.getContext('2d').drawImage(document.getElementById('picture'), 0, 0);
            const row = canvas.getContext('2d').getImageData(0, 90, 320, 1).data;
            return Array.from({ length: 40 }, (_, block) => block).filter((block) => row[4 * (block * 8 + 4)] > 200).join();
        },
    },
    '/upload/': {
        interval: 3000,
        async act(page, word) {
            const file = { name: `${word}.bin`, mimeType: 'application/octet-stream', buffer: Buffer.alloc(200_000) };
            await page.locator('[type=file]').setInputFiles(file);
            return send(page, {});
        },
        shows: (word) => document.getElementById('list').textContent.includes(`${word}.bin100%`),
        state: textOf('list'),
    },
    '/folder/': {
        interval: 4000,
        /** Nobody asks for anything: somebody's program writes a file. */
        act(page, word, { folder }) {
            writeFileSync(join(folder, `${word}.txt`), word);
            return Date.now();
        },
        shows: textHas,
        state: textOf('list'),
    },
    '/streams/loop': headlines,
    '/streams/frame': headlines,
    '/streams/sse': headlines,
    '/streams/ndjson': headlines,
    '/bus/': {
        interval: 3000,
        act: (page, word) => send(page, { text: word }),
        shows: textHas,
        state: textOf('widgets'),
    },
    '/jobs/': {
        interval: 3000,
        act: (page, word) => send(page, { name: word }),
        shows: textHas,
        state: textOf('jobs'),
    },
    '/cgi-bin/status': {
        interval: 4000,
        act: (page, word) => send(page, { notice: word }),
        shows: textHas,
        state: textOf('notice'),
    },
    '/top/': {
        interval: 3000,
        act: (page, word) => send(page, { name: word }),
        shows: textHas,
        /** Which jobs there are. What they use is not the same at any two moments. */
        state: () => document.getElementById('top').innerText.match(/^ *\d+ |top\d+$/gm).join(),
    },
};
