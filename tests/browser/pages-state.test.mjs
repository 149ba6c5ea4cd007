// Pages of nothing but markup that are changed in place: what the user has begun stays with what it was begun in, and where
// that cannot be, the page is left as it is until it loads itself again.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { LEARNS, stage } from './stage.mjs';

/** Seconds: none of these tests waits for it. */
const REFRESH = 60;

/** So long a page that is to be left alone is watched. A change in place takes less than half of it. */
const WATCHED = 1200;

const submitted = () => [...document.forms].map((form) => [...new FormData(form)].map(([name, value]) => `${name}=${value.name ?? value}`).join('&')).join(' ');
const focused = () => document.activeElement.name || document.activeElement.textContent || document.activeElement.nodeName;
const table = (rows, row) => `<form><table>${rows.map((name, at) => `<tr>${row(name, at)}</tr>`).join('\n')}</table></form>`;
const list = (before, after, row) => (n) => table(n < 2 ? before : after, (name, at) => row(name, at, n));
const rolling = (row) => list(['A', 'B', 'C'], ['B', 'C', 'D'], row);
const type = (selector, text) => (page) => page.fill(selector, text);

/**
 * By name: the page's body as it is before (0, then 1) and after (2), what the user does, what is read, and what that is
 * after; `left` if the page is to be left alone instead.
 */
const CASES = {
    'a box, by its name': {
        body: rolling((x) => `<td>${x}<td><input type="checkbox" name="kill_${x}">`),
        act: (page) => page.check('[name=kill_B]'), is: 'kill_B=on',
    },
    'a box, by its value': {
        body: rolling((x) => `<td><input type="checkbox" name="kill" value="${x}"><td>${x}`),
        act: (page) => page.check('[value=B]'), is: 'kill=B',
    },
    'a box in a row whose figures change': {
        body: list(['A', 'B'], ['N', 'A', 'B'], (x, at, n) => `<td><input type="checkbox" name="kill" value="${x}"><td>${x} ${n + at}% 0:${10 + n} ${n}.5 KiB`),
        act: (page) => page.check('[value=B]'), is: 'kill=B',
    },
    'a box in rows that are sorted anew': {
        body: list(['A', 'B', 'C'], ['C', 'B', 'A'], (x, at, n) => `<td><input type="checkbox" name="kill" value="${x}"><td>${x} ${n}%`),
        act: (page) => page.check('[value=A]'), is: 'kill=A',
    },
    'a box without a name, by its label': {
        body: (n) => `<form>${(n < 2 ? ['A', 'B', 'C'] : ['B', 'C', 'D']).map((x) => `<label>${x}<input type="checkbox"></label>`).join('')}</form>`,
        act: (page) => page.getByLabel('B').check(),
        read: () => [...document.querySelectorAll('label')].filter((label) => label.control.checked).map((label) => label.textContent).join(), is: 'B',
    },
    'a box that is not checked by hand any more': {
        body: (n) => `<form><input type="checkbox" name="a" ${n < 2 ? '' : 'checked'}></form>`,
        act: async (page) => {
            await page.check('[name=a]');
            await page.uncheck('[name=a]');
        }, is: '',
    },
    'a radio button': {
        body: rolling((x) => `<td>${x}<td><input type="radio" name="job" value="${x}">`),
        act: (page) => page.check('[value=B]'), is: 'job=B',
    },
    'a radio button, where the page now chooses another': {
        body: (n) => `<form>${['A', 'B', 'C'].map((x) => `<input type="radio" name="job" value="${x}" ${x === (n < 2 ? 'A' : 'C') ? 'checked' : ''}>`).join('')}</form>`,
        act: (page) => page.check('[value=B]'), is: 'job=B',
    },
    'radio buttons of several forms': {
        body: (n) => ['x', 'y'].map((form) => `<form id="${form}">${(n < 2 ? ['A', 'B'] : ['B', 'C']).map((x) => `<input type="radio" name="job" value="${x}">`).join('')}</form>`).join(''),
        act: (page) => page.check('#y [value=B]'), is: ' job=B',
    },
    'an option': {
        body: (n) => `<form><select name="job">${(n < 2 ? ['A', 'B', 'C'] : ['B', 'C', 'D']).map((x) => `<option>${x}`).join('')}</select></form>`,
        act: (page) => page.selectOption('select', 'B'), is: 'job=B',
    },
    'an option, where the page now chooses another': {
        body: (n) => `<form><select name="job">${['A', 'B', 'C'].map((x) => `<option value="${x}" ${x === (n < 2 ? 'A' : 'C') ? 'selected' : ''}>job ${x}`).join('')}</select><input name="other"></form>`,
        act: async (page) => {
            await page.selectOption('select', 'B');
            await page.focus('[name=other]');
        }, is: 'job=B&other=',
    },
    'several options': {
        body: (n) => `<form><select multiple name="job">${(n < 2 ? ['A', 'B', 'C', 'D'] : ['Z', 'B', 'C', 'D']).map((x) => `<option>${x}`).join('')}</select></form>`,
        act: (page) => page.selectOption('select', ['B', 'D']), is: 'job=B&job=D',
    },
    'text, by its name': {
        body: rolling((x) => `<td>${x}<td><input name="note_${x}">`),
        act: type('[name=note_B]', 'for B'), is: 'note_B=for B&note_C=&note_D=',
    },
    'text, by what its row says': {
        body: rolling((x, at, n) => `<td>${x} ${n}%<td><input name="note">`),
        act: type('tr:nth-child(2) input', 'for B'), is: 'note=for B&note=&note=',
    },
    'text, by a number that is hidden in its row': {
        body: list([17, 18, 19], [18, 19, 20], (x) => `<td><input type="hidden" name="id" value="${x}"><input name="note">`),
        act: type('tr:nth-child(2) [name=note]', 'for 18'), is: 'id=18&note=for 18&id=19&note=&id=20&note=',
    },
    'text that says what the page has said': {
        body: (n) => `<form><input name="a" value="${n < 2 ? 'old' : 'new'}"><input name="b"></form>`,
        act: async (page) => {
            await page.fill('[name=a]', 'x');
            await page.fill('[name=a]', 'old');
            await page.focus('[name=b]');
        }, is: 'a=old&b=',
    },
    'a longer text': {
        body: rolling((x, at, n) => `<td>${x} ${n} s<td><textarea name="note_${x}"></textarea>`),
        act: type('[name=note_B]', 'for\nB'), is: 'note_B=for\nB&note_C=&note_D=',
    },
    'a file': {
        body: rolling((x) => `<td>${x}<td><input type="file" name="file_${x}">`),
        act: (page) => page.setInputFiles('[name=file_B]', { name: 'b.txt', mimeType: 'text/plain', buffer: Buffer.from('b') }),
        is: 'file_B=b.txt&file_C=&file_D=',
    },
    'the focus, and where it is in a text': {
        body: rolling((x) => `<td>${x}<td><input name="note_${x}" value="text">`),
        act: (page) => page.evaluate(() => {
            document.querySelector('[name=note_B]').focus();
            document.activeElement.setSelectionRange(1, 3);
        }),
        read: () => `${document.activeElement.name} ${document.activeElement.selectionStart}`, is: 'note_B 1',
    },
    'the focus in rows that are sorted anew': {
        body: list(['A', 'B', 'C'], ['C', 'B', 'A'], (x) => `<td><a href="/job/${x}">${x}</a>`),
        act: (page) => page.focus('[href="/job/A"]'), read: focused, is: 'A',
    },
    'what is opened': {
        body: (n) => (n < 2 ? ['A', 'B', 'C'] : ['B', 'C', 'D']).map((x) => `<details><summary>${x}</summary>more of ${x}</details>`).join(''),
        act: (page) => page.click('details:nth-of-type(2) summary'),
        read: () => [...document.querySelectorAll('[open]')].map((node) => node.textContent).join(), is: 'Bmore of B',
    },
    'what pops over': {
        body: (n) => `<button popovertarget="p">b</button><div id="p" popover>menu</div><ul><li>${n < 2 ? 'one' : 'two'}</ul>`,
        act: (page) => page.click('button'), read: () => document.querySelectorAll(':popover-open').length, is: 1,
    },
    'what is edited in the page': {
        body: (n) => `<div contenteditable>text</div><ul>${n < 2 ? '' : '<li>new'}</ul>`,
        act: async (page) => {
            await page.click('[contenteditable]');
            await page.keyboard.type('my ');
        },
        read: () => /my/.test(document.querySelector('[contenteditable]').textContent) && document.activeElement.nodeName, is: 'DIV',
    },
    'a selected text': {
        body: (n) => `<p id="text">to be copied</p><ul>${n < 2 ? '<li>A<li>B' : '<li>B<li>C'}</ul>`,
        act: (page) => page.evaluate(() => getSelection().selectAllChildren(document.getElementById('text'))),
        read: () => String(getSelection()).trim(), is: 'to be copied',
    },
    'where an inner part is scrolled to': {
        body: (n) => `<div id="log" style="height: 40px; overflow: auto">${Array.from({ length: n < 2 ? 20 : 30 }, (_, at) => `<p>line ${at}</p>`).join('')}</div>`,
        act: (page) => page.evaluate(() => new Promise((resolve) => {
            const log = document.getElementById('log');
            log.addEventListener('scroll', resolve);
            log.scrollTop = 77;
        })),
        read: () => document.getElementById('log').scrollTop, is: 77,
    },
    'elements that have no meaning yet': {
        body: (n) => `<form><x-row>${n}%<input name="a"></x-row></form>`,
        act: type('[name=a]', 'typed'), is: 'a=typed',
    },
    // What is not known to be the same any more.
    'text in rows that are counted': {
        body: rolling((x, at) => `<td>${x}<td><input name="note_${at}">`),
        act: type('[name=note_1]', 'for B'), left: true,
    },
    'text in rows that are counted, of numbers': {
        body: list([17, 18, 19], [18, 19, 20], (x, at) => `<td>${x}<td><input id="n${at}" name="note[${at}]">`),
        act: type('#n1', 'for 18'), left: true,
    },
    'a box whose value is its place': {
        body: rolling((x, at) => `<td>${x}<td><input type="checkbox" name="kill" value="${at}">`),
        act: (page) => page.check('[value="1"]'), left: true,
    },
    'text in rows that cannot be told from each other': {
        body: list([1, 2, 3], [1, 2], () => '<td><input name="note">'),
        act: type('tr:nth-child(2) input', 'x'), left: true,
    },
    'text in a row that goes': {
        body: list(['A', 'B', 'C'], ['A', 'C'], (x) => `<td>${x}<td><input name="note_${x}">`),
        act: type('[name=note_B]', 'x'), left: true,
    },
    'an option that goes': {
        body: (n) => `<form><select name="job">${(n < 2 ? ['A', 'B'] : ['A', 'C']).map((x) => `<option>${x}`).join('')}</select></form>`,
        act: (page) => page.selectOption('select', 'B'), left: true,
    },
    'the focus in what goes': {
        body: (n) => (n < 2 ? '<a href="/x">x</a>' : '<b>x</b>'),
        act: (page) => page.focus('a'), read: focused, left: true,
    },
    'what somebody is about to change': {
        body: (n) => `<form><input name="a" value="${n < 2 ? 'old' : 'new'}"></form>`,
        act: (page) => page.focus('[name=a]'), left: true,
    },
    'what is edited in the page, and changes there': {
        body: (n) => `<div contenteditable>${n < 2 ? 'text' : 'another'}</div>`,
        act: async (page) => {
            await page.click('[contenteditable]');
            await page.keyboard.type('my ');
        },
        read: () => document.querySelector('[contenteditable]').textContent, left: true,
    },
    'a selected text that changes': {
        body: (n) => `<p id="text">${n < 2 ? 'to be copied' : 'something else'}</p>`,
        act: (page) => page.evaluate(() => getSelection().selectAllChildren(document.getElementById('text'))),
        read: () => String(getSelection()).trim(), left: true,
    },
    'a selection into which something comes': {
        body: (n) => `<ul id="text"><li>one${n < 2 ? '' : '<li>new'}<li>two</ul>`,
        act: (page) => page.evaluate(() => getSelection().selectAllChildren(document.getElementById('text'))),
        read: () => String(getSelection()).trim(), left: true,
    },
    'what is opened, and is another one then': {
        body: (n) => `<details id="d1"><summary>${n < 2 ? 'A' : 'B'}</summary>more</details><details id="d2"><summary>${n < 2 ? 'B' : 'C'}</summary>more</details>`,
        act: (page) => page.click('#d1 summary'),
        read: () => [...document.querySelectorAll('[open]')].map((node) => node.textContent).join(), left: true,
    },
};

const pages = {};
Object.values(CASES).forEach(({ body }, at) => {
    pages[`/case${at}`] = (request, send, { state: { count } }) => send(200, 'text/html; charset=utf-8', `<!doctype html><html><head><meta charset="utf-8">
<meta http-equiv="refresh" content="${REFRESH}"><title>t</title></head><body><h1 id="count">${count}</h1>${body(count)}</body></html>`);
});
// A route of its own is followed from the first load on.
const on = stage(pages, { routes: LEARNS.replace('"learn"', 'true') });

/** Changes the page, and waits until it shows that. */
async function shown(page, count) {
    on.application.state = { count };
    await page.waitForFunction((count) => document.getElementById('count').textContent === String(count), count);
}

Object.entries(CASES).forEach(([name, { act, read = submitted, is, left }], at) => {
    test(left ? `left as it is: ${name}` : name, async () => {
        on.application.state = { count: 0 };
        const page = await on.open(`/case${at}`);
        await page.evaluate(() => (window.mark = 1));
        // From here on it is followed, and changed in place.
        await shown(page, 1);
        assert.equal(await page.evaluate(() => window.mark), 1);
        await act(page);
        const begun = await page.evaluate(read);
        if (left) {
            on.application.state = { count: 2 };
            await sleep(WATCHED);
            assert.equal(await page.evaluate(() => document.getElementById('count').textContent), '1');
        } else {
            await shown(page, 2);
        }
        assert.deepEqual([await page.evaluate(read), await page.evaluate(() => window.mark)], [left ? begun : is, 1]);
        assert.deepEqual(page.errors, []);
        await page.close();
    });
});

test('nothing is changed under a button that is held down', async () => {
    on.application.state = { count: 0 };
    const page = await on.open('/case0');
    await shown(page, 1);
    await page.mouse.move(200, 200);
    await page.mouse.down();
    on.application.state = { count: 2 };
    await sleep(WATCHED);
    assert.equal(await page.evaluate(() => document.getElementById('count').textContent), '1');
    await page.mouse.up();
    await page.waitForFunction(() => document.getElementById('count').textContent === '2');
    await page.close();
});
