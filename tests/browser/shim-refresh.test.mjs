// What a page that loads itself again does each time that it is loaded, it does with the script as well as without.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { LEARNS, stage } from './stage.mjs';
import { eventually } from './support.mjs';

/** Seconds. */
const REFRESH = 1;

const META = `<meta http-equiv="refresh" content="${REFRESH}">`;

const markup = (head, body) => `<!doctype html><html><head><meta charset="utf-8"><title>t</title>${head}</head><body>${body}</body></html>`;

const page = (make) => (request, send, { state }) => {
    const { head = META, body, headers } = make(state.count);
    send(200, 'text/html; charset=utf-8', markup(head, body), headers);
};

const image = (width) => `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="9"></svg>`;

/** Controls as they are before the change, and after it. */
const controls = (count) => {
    const [before, after] = count % 2 ? ['', 'checked'] : ['checked', ''];
    const [first, second] = count % 2 ? ['', 'selected'] : ['selected', ''];
    return `<form><input type="checkbox" id="box" ${after}>
<input type="radio" name="r" id="one" ${before}><input type="radio" name="r" id="two" ${after}><input type="radio" name="r" id="three">
<select id="choice"><option ${first}>a<option ${second}>b<option>c</select><select id="plain"><option>x<option>y</select>
<textarea id="area">${count}</textarea><input id="text" value="${count}"><progress id="bar" max="100" value="${count}"></progress></form>
<p id="count">${count}</p>`;
};

let empty = false;
const shown = (count) => ({ body: `<p id="count">${count}</p>` });

const on = stage({
    '/image': page(() => ({ body: '<img id="what" src="/image.svg">' })),
    '/image.svg': (request, send, { state }) => send(200, 'image/svg+xml', image(10 + state.count), { 'cache-control': 'no-cache' }),
    '/style': page(() => ({ head: `${META}<link rel="stylesheet" href="/style.css">`, body: '<p id="what">x</p>' })),
    '/style.css': (request, send, { state }) => send(200, 'text/css', `p { width: ${10 + state.count}px }`, { 'cache-control': 'no-cache' }),
    '/frame': page(() => ({ body: '<iframe src="/inner"></iframe>' })),
    '/object': page(() => ({ body: '<object data="/inner" type="text/html"></object>' })),
    '/inner': (request, send, { state }) => send(200, 'text/html', `<b id="what">${state.count}</b>`),
    '/writes': page(() => ({ body: '<script src="/writes.js"></script>' })),
    '/writes.js': (request, send, { state }) => send(200, 'text/javascript', `document.write('<b id="what">${state.count}</b>')`, { 'cache-control': 'no-cache' }),
    '/asks': page(() => ({ body: '<b id="what"></b><script>fetch("/state").then((r) => r.json()).then(({ count }) => { what.textContent = count; })</script>' })),
    '/asks-and-reloads': page(() => ({
        head: '',
        body: `<b id="what"></b><script>fetch("/state").then((r) => r.json()).then(({ count }) => { what.textContent = count; });
            setTimeout(() => location.reload(), ${REFRESH * 1000})</script>`,
    })),
    '/listeners': page((count) => ({
        body: `<p id="count">${count}</p>${'<button>b</button>'.repeat(1 + count % 3)}<script>var clicks = 0, DATA = ${count};
            document.querySelectorAll('button').forEach((b) => b.addEventListener('click', () => { clicks++; }));</script>`,
    })),
    '/counts-down': page(() => ({ body: '<p id="left">9</p><script>setInterval(() => { left.textContent -= 1; }, 200)</script>' })),
    '/waits': page((count) => (count % 2 ? { head: '<meta http-equiv="refresh" content="0; url=/result">', body: 'done' } : { body: 'wait' })),
    '/waits-by-header': page((count) => (count % 2
        ? { head: '', body: 'wait', headers: { refresh: '0; url=/result' } }
        : { head: '', body: 'wait', headers: { refresh: String(REFRESH) } })),
    '/waits-for-script': page((count) => (count % 2 ? { head: '', body: '<script>location.replace("/result")</script>' } : { body: 'wait' })),
    '/result': '<!doctype html><title>Result</title><p>result</p>',
    '/ends': page((count) => ({ ...shown(count), head: count % 2 ? '' : META })),
    '/begins-script': page((count) => ({ body: `<p id="count">${count}</p>${count % 2 ? '<script>window.ran = true</script>' : ''}` })),
    '/controls': page((count) => ({ body: controls(count) })),
    '/details': page((count) => ({ body: `<p id="count">${count}</p><details ${count % 2 ? 'open' : ''}><summary>s</summary>x</details><template><i>${count}</i></template>` })),
    '/empties': (request, send, application) => (empty ? send(204, 'text/html', '') : page(shown)(request, send, application)),
    '/open-end': page((count) => ({ body: `<p id="count">${count}</p><textarea id="open">tail` })),
    '/policy': page(() => ({ head: '<meta http-equiv="content-security-policy" content="worker-src \'none\'">', body: '<p>x</p>' })),
    '/reported': page(() => ({
        head: '<script>window.seen = []; document.addEventListener("securitypolicyviolation", (e) => seen.push(e.violatedDirective))</script>',
        body: '<p>x</p>',
        headers: { 'content-security-policy-report-only': "worker-src 'none'; require-trusted-types-for 'script'" },
    })),
}, { routes: LEARNS.replace('/**', '/controls').replace('"learn"', 'true') + LEARNS });

const bases = [['without', (path) => on.openPlain(path)], ['with', (path) => on.open(path)]];
const even = () => (on.application.state = { count: on.application.state.count + on.application.state.count % 2 });
const value = (target, work) => target.evaluate(work).catch(() => undefined);

const WHAT = {
    '/image': () => document.getElementById('what').naturalWidth - 10,
    '/style': () => document.getElementById('what').offsetWidth - 10,
    '/frame': () => Number(frames[0].document.getElementById('what').textContent),
    '/object': () => Number(frames[0].document.getElementById('what').textContent),
};

for (const path of ['/image', '/style', '/frame', '/object', '/writes', '/asks', '/asks-and-reloads']) {
    test(`${path}: what the page refers to is new though the page is not`, async () => {
        for (const [, open] of bases) {
            const page = await open(path);
            await eventually('the page to be loaded again', () => page.times(path) > 1);
            for (let round = 0; round < 2; round++) {
                const count = on.change();
                const read = WHAT[path] ?? (() => Number(document.getElementById('what').textContent));
                await eventually(`${count} to be shown`, async () => await value(page, read) === count);
            }
            assert.deepEqual(page.errors, []);
            await page.close();
        }
    });
}

test('scripts are as they were made for what is shown', async () => {
    for (const [, open] of bases) {
        const page = await open('/listeners');
        for (let round = 0; round < 3; round++) {
            await sleep(1500);
            const count = on.change();
            await eventually('it to be shown, with all that belongs to it', async () => {
                const [data, clicks] = await value(page, () => {
                    window.clicks = 0;
                    document.querySelectorAll('button').forEach((button) => button.click());
                    return [window.DATA, window.clicks];
                }) ?? [];
                return data === count && clicks === 1 + count % 3;
            });
        }
        assert.deepEqual(page.errors, []);
        await page.close();
    }
});

test('what begins anew with each load does', async () => {
    for (const [, open] of bases) {
        const page = await open('/counts-down');
        await sleep(4500);
        assert.ok(await page.evaluate(() => Number(document.getElementById('left').textContent)) >= 0);
        await page.close();
    }
});

for (const path of ['/waits', '/waits-by-header', '/waits-for-script']) {
    test(`${path}: the browser goes where the page sends it when it is done`, async () => {
        for (const [, open] of bases) {
            even();
            const page = await open(path);
            await sleep(REFRESH * 1000 + 500);
            on.change();
            await page.waitForURL('**/result');
            assert.deepEqual(page.errors, []);
            await page.close();
        }
    });
}

test('a page that says no more that it is to be loaded again is not', async () => {
    for (const [, open] of bases) {
        even();
        const page = await open('/ends');
        await sleep(REFRESH * 1000 + 500);
        const last = on.change();
        await page.waitForFunction((last) => document.getElementById('count').textContent === String(last), last);
        await sleep(500);
        const loads = page.times('/ends');
        on.change();
        await sleep(REFRESH * 2000);
        assert.equal(await page.evaluate(() => document.getElementById('count').textContent), String(last));
        assert.equal(page.times('/ends'), loads);
        await page.close();
    }
});

test('the first script of a page runs', async () => {
    even();
    const page = await on.open('/begins-script');
    await sleep(REFRESH * 1000 + 500);
    on.change();
    await page.waitForFunction(() => window.ran);
    await page.close();
});

test('controls that nobody has touched are as the page has them; others stay', async () => {
    even();
    const page = await on.open('/controls');
    await sleep(REFRESH * 1000 + 500);
    await page.evaluate(() => (window.mark = 1));
    const state = () => page.evaluate(() => {
        const $ = (id) => document.getElementById(id);
        return [$('box').checked, $('one').checked, $('two').checked, $('three').checked, $('choice').value, $('plain').value,
            $('area').value, $('text').value, $('bar').value, window.mark];
    });
    const change = async () => {
        const count = on.change();
        await page.waitForFunction((count) => document.getElementById('count').textContent === String(count), count);
        return count;
    };
    let count = await change();
    assert.deepEqual(await state(), [true, false, true, false, 'b', 'x', String(count), String(count), count, 1]);
    count = await change();
    assert.deepEqual(await state(), [false, true, false, false, 'a', 'x', String(count), String(count), count, 1]);
    await page.check('#three');
    await page.selectOption('#choice', 'c');
    await page.selectOption('#plain', 'y');
    await page.fill('#area', 'typed');
    count = await change();
    assert.deepEqual(await state(), [true, false, false, true, 'c', 'y', 'typed', String(count), count, 1]);
    count = await change();
    assert.deepEqual(await state(), [false, false, false, true, 'c', 'y', 'typed', String(count), count, 1]);
    await page.close();
});

test('what is opened by the page, and what is put aside in it, is as in the page', async () => {
    even();
    const page = await on.open('/details');
    await sleep(REFRESH * 1000 + 500);
    const count = on.change();
    await eventually('both', async () => await value(page, () => document.querySelector('details').open
        && document.querySelector('template').content.textContent) === String(count));
    await page.close();
});

test('an answer without content leaves the page as it is', async () => {
    for (const [, open] of bases) {
        empty = false;
        const page = await open('/empties');
        await sleep(REFRESH * 1000 + 300);
        empty = true;
        const before = await page.evaluate(() => document.body.innerHTML);
        await sleep(REFRESH * 1000 + 1000);
        assert.equal(await page.evaluate(() => document.body.innerHTML), before);
        await page.close();
    }
});

test('nothing is written where it would be seen', async () => {
    const page = await on.open('/open-end');
    assert.match(await page.evaluate(() => document.getElementById('open').value), /^tail<\/body><\/html>$/);
    await page.close();
});

for (const path of ['/policy', '/reported']) {
    test(`${path}: nothing is done that a policy would report`, async () => {
        const page = await on.browser.open('about:blank');
        const said = [];
        page.on('console', (message) => said.push(message.text()));
        await page.goto(`${on.sidecar.url}${path}`);
        await sleep(1500);
        assert.deepEqual(said.filter((text) => /policy|trusted/i.test(text)), []);
        assert.deepEqual(await page.evaluate(() => window.seen ?? []), []);
        await page.close();
    });
}
