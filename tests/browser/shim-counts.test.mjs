// Pages that count what they do, or look at the clock before they do it: with the script they come to the same, at the same
// time or sooner, however much happens. Each is opened by the browser alone and with the script, at once.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { isLook, page } from './application.mjs';
import { stage } from './stage.mjs';
import { eventually } from './support.mjs';

/** The pages' own interval. */
const INTERVAL = 500;

const GET = "fetch('/state').then((r) => r.json())";

/** Asks for progress `most` times at most. */
const attempts = (loop) => page(`
    let left = 16;
    /** Returns whether it is over. */
    function takes(state) {
        draw(state);
        if (state.done) { window.came = 'ready'; } else if (--left === 0) { window.came = 'gave up'; }
        return window.came;
    }
    ${loop}`);

/** Does not ask again before `gap` has passed. */
const guarded = (gap, every, loop) => page(`
    let last = -Infinity;
    window.calls = 0;
    function maybe() {
        calls += 1;
        if (performance.now() - last < ${gap}) { return undefined; }
        last = performance.now();
        return ${GET}.then(draw);
    }
    ${loop.replaceAll('EVERY', every)}`);

const REACT = ['react', 'react-dom'].map((name) => `<script src="/lib/${name}/umd/${name}.production.min.js"></script>`).join('');
const data = (text) => `data:text/javascript,${encodeURIComponent(text)}`;
const IMPORTS = `<script type="importmap">${JSON.stringify({ imports: {
    react: data(`const R = window.React; export default R; export const { useRef, useMemo, useCallback, useDebugValue, useEffect,
        useLayoutEffect, createContext, useContext, createElement, useState, useSyncExternalStore, startTransition, use } = R;`),
    'use-sync-external-store/shim/index.js': data('export const { useSyncExternalStore } = window.React;'),
    'dequal/lite': '/lib/dequal/lite/index.mjs',
    swr: '/lib/swr/dist/index/index.mjs',
    query: '/lib/@tanstack/query-core/build/modern/index.js',
} })}</script>`;

const swr = (options) => `${page('', REACT + IMPORTS)}<div id="root"></div><script type="module">
    import useSWR from 'swr';
    function Count() {
        useSWR('/state', () => ${GET}.then((state) => { draw(state); return state; }), ${JSON.stringify(options)});
        return null;
    }
    ReactDOM.createRoot(document.getElementById('root')).render(React.createElement(Count));
</script>`;

const on = stage({
    '/attempts/completion': attempts(`(function poll() { ${GET}.then((s) => takes(s) || setTimeout(poll, ${INTERVAL})); })();`),
    '/attempts/interval': attempts(`const id = setInterval(() => ${GET}.then((s) => takes(s) && clearInterval(id)), ${INTERVAL});`),
    '/attempts/async': attempts(`(async () => { while (!takes(await ${GET})) { await new Promise((go) => setTimeout(go, ${INTERVAL})); } })();`),
    '/attempts/first': attempts(`(function poll() { const id = setTimeout(poll, ${INTERVAL}); ${GET}.then((s) => takes(s) && clearTimeout(id)); })();`),
    '/attempts/string': attempts(`window.poll = () => ${GET}.then((s) => takes(s) || setTimeout('poll()', ${INTERVAL})); poll();`),
    '/attempts/xhr': attempts(`(function poll() {
        const xhr = new XMLHttpRequest();
        xhr.onload = () => takes(JSON.parse(xhr.responseText)) || setTimeout(poll, ${INTERVAL});
        xhr.open('GET', '/state'); xhr.send(); })();`),
    '/attempts/rxjs': attempts(`const by = rxjs.timer(0, ${INTERVAL}).pipe(rxjs.exhaustMap(() => rxjs.from(${GET}))).subscribe((s) => takes(s) && by.unsubscribe());`,
    ).replace('</head>', '<script src="/lib/rxjs/dist/bundles/rxjs.umd.js"></script></head>'),
    '/ticks': page(`
        window.ticks = 0;
        setInterval(() => { ticks += 1; ${GET}.then(draw); }, ${INTERVAL});`),
    '/ticks/timeout': page(`
        window.ticks = 0;
        (function tick() { ticks += 1; ${GET}.then(draw); setTimeout(tick, ${INTERVAL}); })();`),
    '/ticks/drift': page(`
        window.ticks = 0;
        let expected = performance.now();
        (function tick() {
            ticks += 1; expected += ${INTERVAL}; ${GET}.then(draw);
            setTimeout(tick, Math.max(0, expected - performance.now()));
        })();`),
    '/guarded/timeout': guarded(1600, 2000, '(function loop() { maybe(); setTimeout(loop, EVERY); })();'),
    '/guarded/interval': guarded(1600, 2000, 'maybe(); setInterval(maybe, EVERY);'),
    '/guarded/branches': guarded(1600, 2000, `(function loop() {
        const asked = maybe();
        if (!asked) { setTimeout(loop, EVERY); return; }
        asked.then(() => setTimeout(loop, EVERY)); })();`),
    '/guarded/async': guarded(1600, 2000, '(async () => { for (;;) { await maybe(); await new Promise((go) => setTimeout(go, EVERY)); } })();'),
    '/guarded/swr': swr({ refreshInterval: 2000, dedupingInterval: 1800 }),
    '/swr': swr({ refreshInterval: 2000 }),
    '/query': page('window.process = { env: {} };', IMPORTS) + `<script type="module">
        import { QueryClient, QueryObserver } from 'query';
        const client = new QueryClient();
        client.mount();
        new QueryObserver(client, { queryKey: ['s'], queryFn: () => ${GET}.then((state) => { draw(state); return state; }), refetchInterval: 2000, staleTime: 1900 })
            .subscribe(() => {});
    </script>`,
    '/clock': page(`
        let left = 0;
        window.counted = 0;
        (function count() {
            counted += 1;
            if (--left <= 0) { left = 10; fetch('/status').then((r) => r.json()).then(draw); }
            setTimeout(count, 100);
        })();`),
    '/clock/interval': page(`
        let left = 0;
        window.counted = 0;
        setInterval(() => {
            counted += 1;
            if (--left <= 0) { left = 20; fetch('/status').then((r) => r.json()).then(draw); }
        }, 50);`),
    '/status': (request, send, application) => send(200, 'application/json', JSON.stringify(application.state)),
});

/** Opens `path` in both ways. */
const both = (path) => Promise.all([on.openPlain(path), on.open(path)]);

/** Something changes each so many milliseconds until `until` resolves. */
async function busy(every, until) {
    const timer = setInterval(() => on.change(), every);
    try {
        return await until;
    } finally {
        clearInterval(timer);
    }
}

for (const way of ['completion', 'interval', 'async', 'first', 'string', 'xhr', 'rxjs']) {
    test(`attempts/${way}: a job that is done before the page gives up is shown as done`, async () => {
        on.application.state = { count: 0 };
        const pages = await both(`/attempts/${way}`);
        await busy(INTERVAL / 4, sleep(INTERVAL * 12.5));
        on.application.state = { count: -1, done: true };
        for (const page of pages) {
            await page.waitForFunction(() => window.came);
            assert.equal(await page.evaluate(() => window.came), 'ready');
            assert.deepEqual(page.errors, []);
            await page.close();
        }
        on.application.state = { count: 0 };
    });
}

for (const path of ['/ticks', '/ticks/timeout', '/ticks/drift']) {
    test(`${path}: what a page counts goes on at its own pace, however often there is news`, async () => {
        const pages = await both(path);
        await pages[1].waitForFunction(() => draws > 3);
        const count = () => Promise.all(pages.map((page) => page.evaluate(() => ticks)));
        const before = await count();
        const [plain, shimmed] = await busy(INTERVAL / 3, sleep(INTERVAL * 16)).then(count)
            .then((after) => after.map((ticks, at) => ticks - before[at]));
        console.log(`${path}: ${plain} ticks by itself, ${shimmed} with the script`);
        // It is one ahead, or was.
        assert.ok(Math.abs(shimmed - plain) <= 1, `${plain} ticks by itself, ${shimmed} with the script`);
        assert.deepEqual(pages[1].errors, []);
        await Promise.all(pages.map((page) => page.close()));
    });
}

for (const path of ['/guarded/timeout', '/guarded/interval', '/guarded/branches', '/guarded/async', '/guarded/swr', '/swr', '/query']) {
    test(`${path}: a page that asks no more often than it likes is never told later`, async () => {
        const page = await on.open(path);
        await page.waitForFunction(() => draws > 2);
        const took = [];
        for (let round = 0; round < 4; round++) {
            // Soon after a question of its own it will not ask again.
            const seen = page.times('/state');
            await eventually('a question', () => page.times('/state') > seen, 4000).catch(() => {});
            await sleep(300);
            const count = on.change();
            const begun = performance.now();
            await page.waitForFunction((count) => drawn.at(-1).count === count, count);
            took.push(Math.round(performance.now() - begun));
        }
        console.log(`${path}: shown after ${took.join(', ')} ms; the page polls every 2000 ms`);
        assert.ok(took.every((ms) => ms < 2300), took.join());
        assert.deepEqual(page.errors, []);
        await page.close();
    });
}

for (const [path, tick, every] of [['/clock', 100, 1000], ['/clock/interval', 50, 1000]]) {
    test(`${path}: a clock that polls at every so many ticks is followed, by all tabs together, and goes on as it did`, async () => {
        const pages = await Promise.all(Array.from({ length: 5 }, () => on.open(path)));
        await Promise.all(pages.map((page) => page.waitForFunction(() => draws > 4)));
        const asked = () => on.application.askedFor('/status', (request) => !isLook(request)).length;
        const times = () => pages.map((page) => page.times('/status')).reduce((sum, times) => sum + times);
        const counted = () => pages[0].evaluate(() => [counted, performance.now()]);
        const [before, sent, [from, since]] = [asked(), times(), await counted()];
        await sleep(every * 5);
        const [after, out, [to, until]] = [asked(), times(), await counted()];
        // Each proves once in five seconds whose its answers are, which Sungrazer answers.
        assert.ok(out - sent <= 2 * pages.length, `${out - sent} requests of 5 tabs in ${every * 5} ms`);
        assert.ok(after - before <= 5, `the application was asked ${after - before} times`);
        const ticks = (until - since) / tick;
        assert.ok(to - from <= ticks + 1 && to - from > ticks * 0.8, `${to - from} of ${ticks} ticks`);
        const count = on.change();
        const begun = performance.now();
        await pages[0].waitForFunction((count) => drawn.at(-1).count === count, count);
        assert.ok(performance.now() - begun < every * 2);
        assert.deepEqual(pages.flatMap((page) => page.errors), []);
    });
}
