// Pages of markup made at random, with rows that come, go, move and change, and a user who sets controls in them. Whatever
// is shown: what was set in a row is in that row, and nowhere else. PAGES_SEED and PAGES_ROUNDS make it longer.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { LEARNS, stage } from './stage.mjs';
import { eventually } from './support.mjs';

const SEED = Number(process.env.PAGES_SEED ?? 7);
const ROUNDS = Number(process.env.PAGES_ROUNDS ?? 6);
const CHANGES = 4;

/** Numbers below `n`, the same for the same seed (mulberry32). */
function randoms(seed) {
    let state = seed;
    return (n) => {
        state = (state + 0x6d2b79f5) | 0;
        let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
        mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
        return Math.floor(((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32 * n);
    };
}

/** How a control is told from those of other rows: by name, by value, by what is hidden beside it, by its place, or not at all. */
const NAMES = [
    (x) => ['', `c_${x}`, ''], (x) => ['', 'c', x], (x) => [`<input type="hidden" name="id" value="${x}">`, 'c', ''],
    (x, at) => ['', `c[${at}]`, ''], (x, at) => ['', 'c', at], () => ['', 'c', ''],
];
const CONTROLS = {
    text: (name, value) => `<input name="${name}" data-of="${value}">`,
    box: (name, value) => `<input type="checkbox" name="${name}" ${value === '' ? '' : `value="${value}"`}>`,
    radio: (name, value) => `<input type="radio" name="r" value="${value || name}">`,
    area: (name) => `<textarea name="${name}"></textarea>`,
    choice: (name) => `<select name="${name}"><option>-<option>one<option>two</select>`,
};
const ROWS = [
    (said, control) => `<tr><td>${said}<td>${control}`, (said, control) => `<tr><td>${control}<td>${said}`,
];

/** A page: `rows` are names; `render` makes HTML of them, and of a number that figures are made of. */
function pageOf(random) {
    const [name, row] = [NAMES[random(NAMES.length)], ROWS[random(ROWS.length)]];
    const kind = Object.keys(CONTROLS)[random(5)];
    const [figures, keyed] = [random(3), random(3) === 0];
    return {
        kind,
        render: (rows, count) => `<!doctype html><html><head><meta charset="utf-8"><meta http-equiv="refresh" content="60"><title>t</title></head><body>
<h1 id="count">${count}</h1><form><table>${rows.map((x, at) => {
            const [beside, named, value] = name(x, at);
            const said = `<b>${x}</b>${figures ? ` ${count + at}${figures > 1 ? '%' : ''}` : ''}${beside}`;
            return row(said, CONTROLS[kind](named, value)).replace('<tr', keyed ? `<tr id="row-${x}"` : '<tr');
        }).join('\n')}</table></form></body></html>`,
    };
}

/** What stands in each row, by its name. */
const read = () => [document.getElementById('count').textContent, Object.fromEntries([...document.querySelectorAll('tr')].map((row) => {
    const control = row.querySelector('input:not([type=hidden]),textarea,select');
    return [row.querySelector('b').textContent, /checkbox|radio/.test(control.type) ? control.checked : control.value];
}))];

let current = '';
// A route of its own is followed from the first load on.
const on = stage({ '/page': (request, send) => send(200, 'text/html; charset=utf-8', current) }, { routes: LEARNS.replace('"learn"', 'true') });

test(`what is set in a row stays in it (seeds from ${SEED})`, async () => {
    let [kept, left] = [0, 0];
    for (let seed = SEED; seed < SEED + ROUNDS; seed++) {
        const random = randoms(seed);
        const { kind, render } = pageOf(random);
        let rows = ['Anna', 'Bert', 'Carl', 'Dora', 'Emil'].slice(0, 2 + random(4));
        let count = 1;
        const show = () => (current = render(rows, count));
        show();
        const page = await on.open('/page');
        const shown = () => page.evaluate(() => document.getElementById('count').textContent).catch(() => '');
        await page.evaluate(() => (window.mark = 1));
        count = 2;
        show();
        await eventually(`seed ${seed}: a change in place`, async () => await shown() === '2');
        const set = {};
        const initial = kind === 'choice' ? '-' : /box|radio/.test(kind) ? false : '';
        for (let change = 0; change < CHANGES; change++) {
            const [, before] = await page.evaluate(read);
            const name = Object.keys(before)[random(Object.keys(before).length)];
            const control = page.locator('tr', { has: page.locator(`b:text-is("${name}")`) }).locator('input:not([type=hidden]),textarea,select');
            const value = kind === 'choice' ? ['one', 'two'][random(2)] : /box|radio/.test(kind) ? true : `for ${name} ${change}`;
            await (kind === 'choice' ? control.selectOption(value) : value === true ? control.check() : control.fill(value));
            if (kind === 'radio') {
                Object.keys(set).forEach((other) => delete set[other]);
            }
            set[name] = value;
            for (let moves = random(3); moves >= 0; moves--) {
                const at = random(rows.length);
                const turns = [
                    () => rows.push(`New${seed}${change}${moves}`), () => rows.unshift(`Top${seed}${change}${moves}`), () => rows.length > 1 && rows.splice(at, 1),
                    () => rows.push(...rows.splice(at, 1)), () => rows.reverse(), () => {},
                ];
                turns[random(turns.length)]();
            }
            rows = [...rows];
            count++;
            show();
            // It is shown, or the page is left as it is.
            const deadline = Date.now() + 1000;
            while (await shown() !== String(count) && Date.now() < deadline) {
                await sleep(30);
            }
            const [said, states] = await page.evaluate(read);
            const where = `seed ${seed}, change ${change}: ${kind} ${JSON.stringify(set)} ${current}`;
            assert.equal(await page.evaluate(() => window.mark), 1, where);
            said === String(count) ? kept++ : left++;
            for (const [row, state] of Object.entries(states)) {
                assert.equal(state, set[row] ?? initial, `${row}: ${where}`);
            }
            for (const row of Object.keys(set)) {
                assert.ok(row in states, `what was set in ${row} has gone: ${where}`);
            }
            assert.deepEqual(page.errors, []);
        }
        await page.close();
    }
    console.log(`${kept} changes in place, ${left} times left as it is`);
    assert.ok(kept > 0 && left > 0);
});
