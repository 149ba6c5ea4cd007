// Old ways to be told of news, which are no polls or not quite: they come to the same with the script as without.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { isLook, page } from './application.mjs';
import { drawsAgain, shows, stage } from './stage.mjs';
import { eventually } from './support.mjs';

/** Who waits for the next event, and what is done with it. */
const waiting = { '/held': new Set(), '/held-xhr': new Set(), '/held-at-once': new Set(), '/held-shortly': new Set() };

const held = (request, send) => {
    const answer = (text) => send(200, 'application/json', text, { 'cache-control': 'no-store' });
    if (isLook(request)) {
        // It would have been the page's.
        answer('["stolen"]');
        return;
    }
    waiting[request.path].add(answer);
};

const APPENDS = 'window.events = []; const take = (found) => events.push(...found);';

const on = stage({
    '/held': held,
    '/held-xhr': held,
    '/held-at-once': held,
    '/held-shortly': held,
    '/long-poll': page(`${APPENDS}
        const poll = () => fetch('/held').then((r) => r.json()).then(take).then(() => setTimeout(poll, 300));
        poll();`),
    '/long-poll-soon': page(`${APPENDS}
        const poll = () => fetch('/held-shortly').then((r) => r.json()).then(take).then(() => setTimeout(poll, 300));
        poll();`),
    '/long-poll-xhr': page(`${APPENDS}
        function poll() {
            const xhr = new XMLHttpRequest();
            xhr.open('GET', '/held-xhr?_=' + Date.now());
            xhr.onload = () => { take(JSON.parse(xhr.responseText)); setTimeout(poll, 300); };
            xhr.send();
        }
        poll();`),
    '/long-poll-at-once': page(`${APPENDS}
        (async () => { for (;;) take(await (await fetch('/held-at-once')).json()); })();`),
    '/decays': page(`
        let decay = 1, last;
        function poll() {
            const xhr = new XMLHttpRequest();
            xhr.open('GET', '/state');
            xhr.onload = () => {
                decay = xhr.responseText === last ? Math.min(decay * 2, 4) : 1;
                last = xhr.responseText;
                draw(JSON.parse(last));
                setTimeout(poll, 500 * decay);
            };
            xhr.send();
        }
        poll();`),
    '/jsonp': (request, send, application) => (request.url.includes('callback')
        ? send(200, 'text/javascript', `${new URL(request.url, application.url).searchParams.get('callback')}(${JSON.stringify(application.state)});`)
        : send(200, 'text/html', page(`
            let number = 0;
            function poll() {
                const name = 'answer' + (++number);
                const script = document.createElement('script');
                window[name] = (state) => { draw(state); delete window[name]; script.remove(); };
                script.src = '/jsonp?callback=' + name;
                document.head.append(script);
            }
            poll(); setInterval(poll, 600);`))),
    '/images': page(`
        const image = new Image();
        let loads = 0;
        image.onload = () => draw({ count: ++loads });
        const show = () => (image.src = '/image?' + Date.now());
        show(); setInterval(show, 600);`),
    '/image': (request, send) => send(200, 'image/gif', Buffer.from('R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7', 'base64')),
    '/gives-up': page(`
        window.outcomes = [];
        setInterval(() => {
            const control = new AbortController();
            fetch('/state', { signal: control.signal }).then((r) => r.json()).then(draw, (error) => outcomes.push(error.name));
            if (draws % 3 === 2) { draws += 1; control.abort(); }
        }, 600);`),
});

const bases = [['without', (path) => on.openPlain(path)], ['with', (path) => on.open(path)]];

/** How long it takes until something is told. */
const PAUSES = [8500, 100, 100, 900, 900, 3000, 100];

for (const [path, source, pauses] of [
    ['/long-poll', '/held', PAUSES],
    ['/long-poll-xhr', '/held-xhr', PAUSES],
    ['/long-poll-at-once', '/held-at-once', PAUSES],
    // An answer that is there, and others that have to be waited for, but for longer than the page pauses.
    ['/long-poll-soon', '/held-shortly', [0, 900, 900, 700, 1500, 1500, 3000]],
]) {
    test(`${path}: an answer that is waited for is told once, to who waited`, async () => {
        for (const [name, open] of bases) {
            const page = await open(path);
            const emit = async (number) => {
                await eventually('the page to wait', () => waiting[source].size > 0);
                waiting[source].forEach((answer) => answer(`[${number}]`));
                waiting[source].clear();
                await page.waitForFunction((number) => events.at(-1) === number, number);
            };
            for (const [number, pause] of pauses.entries()) {
                await sleep(pause);
                await emit(number);
            }
            await sleep(1000);
            assert.deepEqual(await page.evaluate(() => events), [0, 1, 2, 3, 4, 5, 6], name);
            assert.deepEqual(page.errors, []);
            await page.close();
            waiting[source].clear();
        }
        assert.deepEqual(on.application.askedFor(source, isLook), []);
    });
}

test('an updater that asks more and more rarely while nothing changes', async () => {
    for (const [, open] of bases) {
        const page = await open('/decays');
        await drawsAgain(page, 4);
        for (let round = 0; round < 3; round++) {
            const took = await shows(page, on.change());
            assert.ok(took < 2000 + 1500, `${took} ms`);
            await sleep(700);
        }
        assert.deepEqual(page.errors, []);
        await page.close();
    }
});

for (const path of ['/jsonp', '/images']) {
    test(`${path}: what is no request of a script's goes its own way`, async () => {
        for (const [, open] of bases) {
            const page = await open(path);
            await drawsAgain(page, 4);
            if (path === '/jsonp') {
                await shows(page, on.change());
            }
            assert.deepEqual(page.errors, []);
            await page.close();
        }
    });
}

test('a page that gives up some of its requests is told so', async () => {
    for (const [, open] of bases) {
        const page = await open('/gives-up');
        await page.waitForFunction(() => outcomes.length >= 3);
        assert.deepEqual(new Set(await page.evaluate(() => outcomes)), new Set(['AbortError']));
        await shows(page, on.change());
        assert.deepEqual(page.errors, []);
        await page.close();
    }
});
