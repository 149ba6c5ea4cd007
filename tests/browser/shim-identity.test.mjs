// What one client is answered is never shown to another: whatever cookies the stream is opened with, and however they change.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { isLook, page } from './application.mjs';
import { LEARNS, drawsAgain, followed, shows, stage } from './stage.mjs';
import { eventually } from './support.mjs';

const INTERVAL = 300;

/** For so long, and a bit, a page may be shown what belongs to cookies that it cannot see the end of. */
const UNSEEN = 6000;

const cookie = (request, name) => new RegExp(`\\b${name}=(\\w+)`).exec(request.headers.cookie)?.[1] ?? 'nobody';
const polls = (url, init = '{}') => `
    const poll = () => { const at = performance.now(); return fetch('${url}', ${init}).then((r) => r.json())
        .then((said) => { draw(said); drawn.at(-1).asked = at; }); };
    poll(); setInterval(poll, ${INTERVAL});`;
const says = (send, count, headers) => send(200, 'application/json', JSON.stringify({ count }), headers);

let number = 0;
const events = ['e0'];
const TOLD = ['content-type', 'user-agent', 'accept-language', 'sec-fetch-site', 'sec-fetch-mode', 'sec-fetch-dest', 'sec-ch-ua', 'sec-ch-ua-mobile', 'sec-ch-ua-platform'];
const on = stage({
    '/me-page': page(polls('/me')),
    '/me': (request, send) => says(send, cookie(request, 'user')),
    '/become': (request, send) => send(200, 'image/gif', '', { 'set-cookie': `user=${new URL(request.url, 'http://x').searchParams.get('user')}; Path=/; HttpOnly` }),
    '/app/page': (request, send) => send(200, 'text/html', page(polls('me')), { 'set-cookie': 'sid=A; Path=/app; HttpOnly' }),
    '/app/me': (request, send) => says(send, `${cookie(request, 'sid')}${number}`),
    '/two/page': (request, send) => send(200, 'text/html', page(polls('me')), { 'set-cookie': ['u=inner; Path=/two', 'u=outer; Path=/'] }),
    '/two/me': (request, send) => says(send, `${cookie(request, 'u')}${number}`),
    '/refresh/page': (request, send) => send(200, 'text/html', `<html><head><meta charset="utf-8"><meta http-equiv="refresh" content="1"></head>
        <body><b id="count">${cookie(request, 'rid')}${number}</b></body></html>`, { 'set-cookie': 'rid=A; Path=/refresh; HttpOnly' }),
    '/user-page': (request, send) => send(200, 'text/html', `<html><head><meta charset="utf-8"><meta http-equiv="refresh" content="1"></head>
        <body><b id="count">${cookie(request, 'user')}</b></body></html>`),
    '/rotates-page': page(polls('/rotates')),
    '/rotates': (request, send) => says(send, ++number, { 'set-cookie': `turn=${number}; Path=/; HttpOnly` }),
    '/cursor-page': page(`
        window.got = []; document.cookie = 'seen=0;path=/';
        setInterval(async () => {
            const more = await (await fetch('/events')).json();
            got.push(...more); document.cookie = 'seen=' + got.length + ';path=/'; draw({ count: got.length });
        }, ${INTERVAL});`),
    '/events': (request, send) => send(200, 'application/json', JSON.stringify(events.slice(Number(cookie(request, 'seen')) || 0))),
    '/told-page': (request, send) => send(200, 'text/html', page(polls('/told', `{ headers: { 'Content-Type': 'application/json' } }`)),
        { 'set-cookie': 'who=me; Path=/; HttpOnly' }),
    '/told': (request, send) => says(send, JSON.stringify(TOLD.map((name) => [name, request.headers[name]])) + on.application.state.count),
}, { routes: LEARNS.replace('/**', '/refresh/page').replace('"learn"', 'true') + LEARNS });

/** What the page was shown of polls that it made at `since` or later. */
const shown = (page, since = 0) => page.evaluate((since) => [...new Set(drawn.filter(({ asked }) => asked >= since).map(({ count }) => count))], since);
const moment = (page) => page.evaluate(() => performance.now());

for (const [name, whose] of [['app', 'A'], ['two', 'inner']]) {
    test(`/${name}: who is known by a cookie of its path is shown what it is for, and nobody else is asked for`, async () => {
        number = 0;
        const page = await on.open(`/${name}/page`);
        const me = `/${name}/me`;
        await page.waitForFunction(() => draws > 8);
        number = 1;
        await shows(page, `${whose}1`);
        assert.deepEqual(await shown(page), [`${whose}0`, `${whose}1`]);
        // The stream knows better with the second try, or never; then it is left alone, and the page asks for itself.
        const looks = () => on.application.askedFor(me, isLook).length;
        let [before, asked] = [];
        await eventually('what is for somebody else to be left alone', async () => {
            [before, asked] = [looks(), page.times(me)];
            await drawsAgain(page, 6);
            return looks() === before;
        }, 15_000);
        assert.ok(page.times(me) >= asked + 6, 'it was answered from somewhere');
        assert.deepEqual(await shown(page), [`${whose}0`, `${whose}1`]);
        assert.deepEqual(page.errors, []);
        await page.close();
    });
}

test('a page that loads itself again is made anew of what is for it alone', async () => {
    number = 0;
    const page = await on.open('/refresh/page');
    await page.evaluate(() => 0);
    await page.reload();
    const seen = [];
    const until = Date.now() + 5000;
    while (Date.now() < until) {
        number = 1 + Math.floor((Date.now() % 5000) / 2000);
        // It may be loading.
        seen.push(await page.evaluate(() => document.getElementById('count')?.textContent).catch(() => undefined));
        await sleep(50);
    }
    // The last number may have come just now.
    await page.waitForFunction((text) => document.getElementById('count')?.textContent === text, `A${number}`);
    assert.ok(!seen.some((text) => /nobody/.test(text)), [...new Set(seen)].join());
    await page.close();
});

for (const [way, change] of [
    ['document.cookie', () => { document.cookie = 'user=B;path=/'; }],
    ['cookieStore', () => cookieStore.set('user', 'B')],
    ['an age that runs out', () => new Promise((resolve) => {
        document.cookie = 'user=B;path=/;max-age=0';
        setTimeout(resolve, 0);
    })],
]) {
    test(`a cookie that is changed by ${way} has its new owner shown nothing of the old one's, at once, and what is new soon`, async () => {
        const page = await on.open('/me-page');
        await page.evaluate(() => { document.cookie = 'user=A;path=/'; });
        await shows(page, 'A');
        await followed(page, '/me');
        await page.evaluate(change);
        const since = await moment(page);
        const whose = /age/.test(way) ? 'nobody' : 'B';
        await shows(page, whose);
        await drawsAgain(page, 4);
        assert.deepEqual(await shown(page, since), [whose]);
        // And it is followed again, for whom it is now.
        await followed(page, '/me');
        assert.deepEqual(await shown(page, since), [whose]);
        assert.deepEqual(page.errors, []);
        await page.evaluate(() => { document.cookie = 'user=;path=/;max-age=0'; });
        await page.close();
    });
}

for (const [way, change, most] of [
    ['an image', (page) => page.evaluate(() => new Promise((resolve) => {
        const image = new Image();
        image.onload = image.onerror = resolve;
        image.src = '/become?user=B';
    })), 2000],
    ['a fetch', (page) => page.evaluate(() => fetch('/become?user=B').then(() => {})), 2000],
    ['another port', async () => {
        const other = await on.openPlain('/become?user=B');
        await other.close();
    }, UNSEEN],
    ['the user, who clears it,', (page) => page.context().clearCookies(), UNSEEN],
]) {
    test(`a cookie that nobody sees, changed by ${way} is noticed within ${most} ms`, async () => {
        const first = await on.open('/become?user=A');
        await first.close();
        const page = await on.open('/me-page');
        await shows(page, 'A');
        await followed(page, '/me');
        await sleep(1000);
        await change(page);
        const since = await moment(page);
        const whose = /clears/.test(way) ? 'nobody' : 'B';
        await shows(page, whose);
        await page.waitForFunction((until) => drawn.at(-1).asked > until, since + most + 4 * INTERVAL);
        assert.deepEqual(await shown(page, since + most), [whose]);
        assert.deepEqual(page.errors, []);
        await page.context().clearCookies();
        await page.close();
    });
}

test('a page that loads itself again is its new owner\'s soon after the cookie has changed', async () => {
    await (await on.open('/become?user=A')).close();
    const page = await on.open('/user-page');
    await shows(page, 'A');
    await sleep(2500);
    await (await on.openPlain('/become?user=B')).close();
    await sleep(2500);
    assert.equal(await page.textContent('#count'), 'B');
    await page.context().clearCookies();
    await page.close();
});

test('a cookie that is another one with each answer leaves the page to ask by itself, and the stream alone', async () => {
    const page = await on.open('/rotates-page');
    await page.waitForFunction(() => draws > 10);
    const streams = () => page.times('/.sungrazer/stream');
    const [asked, before] = [page.times('/rotates'), streams()];
    const looks = on.application.askedFor('/rotates', isLook).length;
    await drawsAgain(page, 8);
    assert.ok(page.times('/rotates') >= asked + 8);
    assert.equal(streams(), before);
    assert.ok(on.application.askedFor('/rotates', isLook).length <= looks + 1);
    const drawn = await page.evaluate(() => drawn.map(({ count }) => count));
    assert.equal(new Set(drawn).size, drawn.length, 'an answer was given twice');
    await page.close();
});

test('a cookie that says what the page has seen brings each event once', async () => {
    const page = await on.open('/cursor-page');
    await page.waitForFunction(() => got.length === 1 && draws > 4);
    for (let n = 1; n < 9; n++) {
        await sleep(n < 3 ? 1500 : 650);
        events.push(`e${n}`);
    }
    await eventually('all events', async () => (await page.evaluate(() => got.length)) >= events.length);
    await drawsAgain(page, 3);
    assert.deepEqual(await page.evaluate(() => got), events);
    await page.close();
});

test('a look says what the page says: the type that it sets, where it is, how it asks', async () => {
    const page = await on.open('/told-page');
    await followed(page, '/told');
    const count = on.change();
    await page.waitForFunction((count) => drawn.at(-1).count.endsWith(String(count)), count);
    await followed(page, '/told');
    const told = (await shown(page)).map((text) => text.replace(/\d+$/, ''));
    assert.equal(new Set(told).size, 1, [...new Set(told)].join('\n'));
    assert.match(told[0], /"content-type","application\/json".*Mozilla.*same-origin.*cors.*empty/);
    await page.close();
});
