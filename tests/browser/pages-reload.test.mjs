// Pages that are loaded again before their time: never while the user or the page is at something, and never more than by
// themselves. Each page is opened directly and through Sungrazer, with the same outcome.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { LEARNS, stage } from './stage.mjs';
import { eventually } from './support.mjs';

/** Seconds: longer than a test takes. */
const REFRESH = 60;

/** So long a page is watched that is not to be loaded again before its time. */
const WATCHED = 2000;

const doc = (body, head = `<meta http-equiv="refresh" content="${REFRESH}">`) => `<!doctype html><html><head><meta charset="utf-8"><title>page</title>${head}</head><body>${body}</body></html>`;
const done = [];
const html = (make) => (request, send, { state }) => send(200, 'text/html; charset=utf-8', make(state.count, request));
const late = (ms, body) => (request, send) => void setTimeout(() => send(200, 'text/html', doc(body, '')), ms);
/** A write, by which the page changes at once; it is answered later. */
const step = (ms) => (request, send, application) => {
    done.push(request.path);
    application.state = { count: application.state.count + 1 };
    setTimeout(() => send(200, 'application/json', '{}'), ms);
};

const STEPS = `fetch('/step1', { method: 'POST' }).then(() => fetch('/step2', { method: 'POST' })).then(() => {
    const last = new XMLHttpRequest();
    last.open('POST', '/step3');
    last.onload = () => { document.title = 'all done'; };
    last.send();
})`;

const on = stage({
    '/page': html((count) => doc(`<p id="count">${count}</p><form method="post" action="/form"><input name="text"><button id="post">b</button></form>
        <a id="slow" href="/slow">slow</a><button id="steps" onclick="${STEPS.replaceAll('"', '&quot;')}">s</button>
        <div id="menu" hidden>menu</div><button id="open" onclick="menu.hidden = !menu.hidden">m</button>
        <iframe id="inner" src="/inner"></iframe><script>window.script = true</script>`)),
    '/shadow': html((count) => doc(`<p id="count">${count}</p><x-card><template shadowrootmode="open"><input id="in"></template></x-card>`)),
    '/handler': html((count) => doc(`<p id="count">${count}</p><div id="menu" hidden>menu</div><button id="open" onclick="menu.hidden = !menu.hidden">m</button>`)),
    '/javascript': html((count) => doc(`<p id="count">${count}</p><div id="menu" hidden>menu</div><a id="open" href=" JavaScript:void(menu.hidden = !menu.hidden)">m</a>`)),
    '/by-itself': html((count) => doc(`<p id="count">${count}</p><script>window.begin = () => { ${STEPS} }</script>`)),
    '/asks': html((count) => doc(`<p id="count">${count}</p><script>window.begin = () => { fetch('/slow').then(() => { document.title = 'answered'; }) }</script>`)),
    '/goes': html((count) => doc(`<p id="count">${count}</p><script>window.begin = () => { setTimeout(() => { location = '/slow'; }, 0) }</script>`)),
    '/inner': doc('<input id="in">', ''),
    '/form': (request, send, application) => {
        application.state = { count: application.state.count + 1 };
        setTimeout(() => send(200, 'text/html', doc('<title>receipt</title>', '')), 1200);
    },
    '/slow': late(1500, '<b id="report">report</b>'),
    '/step1': step(300),
    '/step2': step(300),
    '/step3': step(300),
    '/short': html((count) => doc(`<p id="count">${count}</p><script>window.script = true</script>`, '<meta http-equiv="refresh" content="1">')),
    '/short-header': (request, send, { state }) => send(200, 'text/html', doc(`<p>${state.count}</p><a id="slow" href="/slow">slow</a>`, ''), { refresh: '1' }),
    '/saves': html((count, { url }) => doc(`<p id="count">${count}</p><button id="save" onclick="fetch('/step1', { method: 'POST' }).then(() => setTimeout(() => location.reload(), 700))">s</button>
        <script>window.script = '${url}'</script>`, '')),
    '/twice': html((count) => doc(`<p id="count">${count}</p><script>
        const times = Number(sessionStorage.getItem('times')) + 1;
        sessionStorage.setItem('times', times);
        if (times < 3) setTimeout(() => location.reload(), times * 1500 - 1000);</script>`, '')),
    '/token': html((count) => doc(`<p id="count">${count}</p><form><input type="hidden" name="token" value="${Math.random()}"></form>`, '<meta http-equiv="refresh" content="2">')),
    '/cookie': (request, send, { state }) => send(200, 'text/html', doc(`<p>${state.count}</p>`, '<meta http-equiv="refresh" content="2">'), { 'set-cookie': `t=${Math.random()}; HttpOnly; Path=/` }),
}, { routes: LEARNS.replace('/**', '/handler').replace('"learn"', 'true') + LEARNS });

const loads = (page, path) => page.times(path);
const ways = { directly: (path) => on.openPlain(path), through: (path) => on.open(path) };

/** Opens `path` both ways; `drive` says what there is to see, which is the same, and what it is. */
function both(name, path, drive, expected) {
    test(name, async () => {
        for (const [way, open] of Object.entries(ways)) {
            done.length = 0;
            const page = await open(path);
            if (way === 'through') {
                await eventually('it to be followed', async () => await on.sidecar.held(path, 'stream') > 0);
            }
            // What comes first is the page as it was loaded.
            await sleep(300);
            await page.evaluate(() => (window.mark = 1));
            const seen = await drive(page, way);
            assert.deepEqual(seen, expected, way);
            assert.deepEqual(page.errors, [], way);
            await page.close();
        }
    });
}

/** The page changes, and nothing is to come of it. */
async function changes(page) {
    on.change();
    await sleep(WATCHED);
    return page.evaluate(() => window.mark);
}

test('a page that nobody has touched is loaded again at once', async () => {
    const page = await on.open('/short');
    await page.close();
    const long = await on.open('/handler');
    await eventually('it to be followed', async () => await on.sidecar.held('/handler', 'stream') > 0);
    await sleep(300);
    const count = on.change();
    await long.waitForFunction((count) => document.getElementById('count').textContent === String(count), count);
    await long.close();
});

both('a form that is being sent arrives', '/page', async (page) => {
    await page.click('#post', { noWaitAfter: true });
    await eventually('the receipt', () => page.evaluate(() => document.title === 'receipt' || !!document.querySelector('title + title, body title')).catch(() => false));
    return loads(page, '/page');
}, 1);

both('a link that takes its time arrives, whatever changes meanwhile', '/page', async (page) => {
    await page.click('#slow', { noWaitAfter: true });
    on.change();
    await page.waitForSelector('#report');
    return loads(page, '/page');
}, 1);

both('a link of a page of nothing but markup that takes longer than its refresh arrives', '/short-header', async (page) => {
    await page.click('#slow', { noWaitAfter: true });
    await page.waitForSelector('#report');
}, undefined);

both('a page that goes elsewhere by itself gets there', '/goes', async (page) => {
    await page.evaluate(() => begin());
    on.change();
    await page.waitForSelector('#report');
}, undefined);

both('a save in several steps is made whole', '/page', async (page) => {
    await page.click('#steps');
    await page.waitForFunction(() => document.title === 'all done');
    await sleep(WATCHED / 2);
    return [done, await page.evaluate(() => [document.title, window.mark])];
}, [['/step1', '/step2', '/step3'], ['all done', 1]]);

both('and so is one that the page makes by itself', '/by-itself', async (page) => {
    await page.evaluate(() => begin());
    await page.waitForFunction(() => document.title === 'all done');
    await sleep(WATCHED / 2);
    return [done, await page.evaluate(() => document.title)];
}, [['/step1', '/step2', '/step3'], 'all done']);

both('what the page is asking for is answered', '/asks', async (page) => {
    await page.evaluate(() => begin());
    on.change();
    await page.waitForFunction(() => document.title === 'answered');
    return page.evaluate(() => window.mark);
}, 1);

for (const [name, path, act, read] of [
    ['what is typed stays', '/page', (page) => page.fill('[name=text]', 'half'), () => document.forms[0].text.value],
    ['what is typed in a frame stays', '/page', (page) => page.frameLocator('#inner').locator('#in').fill('half'), () => frames[0].document.getElementById('in').value],
    ['what is typed into a shadow stays', '/shadow', (page) => page.locator('#in').fill('half'), () => document.querySelector('x-card').shadowRoot.getElementById('in').value],
    ['what a script has opened stays', '/page', (page) => page.click('#open'), () => !document.getElementById('menu').hidden && 'half'],
    ['what a handler in an attribute has opened stays', '/handler', (page) => page.click('#open'), () => !document.getElementById('menu').hidden && 'half'],
    ['what a javascript: URL has opened stays', '/javascript', (page) => page.click('#open'), () => !document.getElementById('menu').hidden && 'half'],
]) {
    both(name, path, async (page) => {
        await act(page);
        const mark = await changes(page);
        return [mark, await page.evaluate(read)];
    }, [1, 'half']);
}

for (const [name, stop] of [
    ['window.stop()', () => window.stop()],
    ['taking the element away', () => document.querySelector('meta[http-equiv=refresh]').remove()],
    ['another time in the element', () => (document.querySelector('meta[http-equiv=refresh]').content = '600')],
]) {
    both(`${name}: it is not loaded again before its time`, '/page', async (page) => {
        await page.evaluate(stop);
        return changes(page);
    }, 1);
}

both('window.stop() ends a refresh for good', '/short', async (page) => {
    await page.evaluate(() => window.stop());
    const before = loads(page, '/short');
    on.change();
    await sleep(WATCHED);
    return loads(page, '/short') - before;
}, 0);

both('the element is where it was', '/page', (page) => page.evaluate(() => [document.querySelector('meta[http-equiv=refresh]').content, document.head.children.length]), [String(REFRESH), 3]);

test('a page that was loaded again once, after something was saved, is not asked for again', async () => {
    const page = await on.open('/saves');
    for (let round = 0; round < 3; round++) {
        await page.evaluate(() => (window.mark = 1));
        await page.click('#save');
        await page.waitForFunction(() => !window.mark);
    }
    const asked = on.application.askedFor('/saves').length;
    const mark = await page.evaluate(() => (window.mark = 1)) && await changes(page);
    assert.deepEqual([mark, on.application.askedFor('/saves').length - asked], [1, 0]);
    await page.close();
});

test('two reloads at different times are no period', async () => {
    const page = await on.open('/twice');
    await eventually('both', () => page.times('/twice') === 3);
    await sleep(500);
    await page.evaluate(() => (window.mark = 1));
    const asked = on.application.askedFor('/twice').length;
    assert.deepEqual([await changes(page), on.application.askedFor('/twice').length - asked], [1, 0]);
    await page.close();
});

for (const path of ['/token', '/cookie']) {
    test(`${path}: what is another one with each load is soon left alone`, async () => {
        const page = await on.open(path);
        await eventually('some loads', () => page.times(path) > 3);
        // What the application is asked for besides, as the page does not move.
        const surplus = () => on.application.askedFor(path).length - page.times(path);
        const settled = async () => {
            const first = surplus();
            await sleep(400);
            return first === surplus() && { surplus: first };
        };
        const before = await eventually('nothing to be under way', settled);
        const seen = page.times(path);
        await eventually('some more', () => page.times(path) > seen + 2);
        assert.deepEqual(await eventually('nothing to be under way', settled), before);
        await page.close();
    });
}
