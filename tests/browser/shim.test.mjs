// Pages that nobody rewrites: they poll as they always did, and are told of changes at once.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { page } from './application.mjs';
import { followed, shows, stage } from './stage.mjs';

/** The pages' own interval. */
const INTERVAL = 1500;

const EVERY = `${INTERVAL}`;

/** Each way to poll, and the library that it needs. */
const LOOPS = {
    'setInterval and fetch': page(`
        const poll = () => fetch('/state').then((r) => r.json()).then(draw);
        poll(); setInterval(poll, ${EVERY});`),
    'setInterval and XMLHttpRequest': page(`
        function poll() {
            const xhr = new XMLHttpRequest();
            xhr.open('GET', '/state');
            xhr.onreadystatechange = function () { if (this.readyState === 4 && this.status === 200) draw(JSON.parse(this.responseText)); };
            xhr.send();
        }
        poll(); setInterval(poll, ${EVERY});`),
    'setTimeout after completion, with XMLHttpRequest': page(`
        function poll() {
            const xhr = new XMLHttpRequest();
            xhr.onload = () => { draw(xhr.response); setTimeout(poll, ${EVERY}); };
            xhr.open('GET', '/state');
            xhr.responseType = 'json';
            xhr.send();
        }
        poll();`),
    'setTimeout after completion, with fetch': page(`
        function poll() { fetch('/state').then((r) => r.json()).then((s) => { draw(s); setTimeout(poll, ${EVERY}); }); }
        poll();`),
    'an async loop that sleeps': page(`
        const sleep = (ms) => new Promise((r) => setTimeout(r, ms));
        (async () => { for (;;) { const r = await fetch('/state'); draw(await r.json()); await sleep(${EVERY}); } })();`),
    'code in a string': page(`
        function poll() { fetch('/state').then((r) => r.json()).then((s) => { draw(s); setTimeout("poll()", ${EVERY}); }); }
        poll();`),
    'jQuery without cache': page(`
        function poll() { $.ajax({ url: '/state', cache: false, dataType: 'json' }).done(draw).always(() => setTimeout(poll, ${EVERY})); }
        poll();`, '<script src="/lib/jquery/dist/jquery.js"></script>'),
    'jQuery with setInterval': page(`
        setInterval(() => $.getJSON('/state', draw), ${EVERY});`, '<script src="/lib/jquery/dist/jquery.js"></script>'),
    'jQuery 1 without cache': page(`
        $.ajaxSetup({ cache: false });
        (function poll() { $.getJSON('/state').complete((xhr) => draw(JSON.parse(xhr.responseText))); setTimeout(poll, ${EVERY}); })();`, '<script src="/lib/jquery1/dist/jquery.js"></script>'),
    'AngularJS with $interval': page(`
        angular.module('legacy', []).run(($interval, $http) => {
            const poll = () => $http.get('/state').then(({ data }) => draw(data));
            poll(); $interval(poll, ${EVERY});
        });
        angular.element(() => angular.bootstrap(document, ['legacy']));`, '<script src="/lib/angular/angular.js"></script>'),
    'Prototype with a PeriodicalExecuter': page(`
        const poll = () => new Ajax.Request('/state', { method: 'get', onSuccess: (answer) => draw(answer.responseText.evalJSON()) });
        poll(); new PeriodicalExecuter(poll, ${INTERVAL / 1000});`, '<script src="/lib/debian/prototype/prototype.js"></script>'),
    'Prototype with a PeriodicalUpdater': page(`
        new Ajax.PeriodicalUpdater('text', '/state', { method: 'get', frequency: ${INTERVAL / 1000}, onSuccess: (answer) => draw(answer.responseJSON) });`, '<script src="/lib/debian/prototype/prototype.js"></script><p id="text"></p>'),
    'MooTools without cache': page(`
        const poll = () => new Request.JSON({ url: '/state', method: 'get', noCache: true, onSuccess: draw }).send();
        poll(); poll.periodical(${EVERY});`, '<script src="/lib/debian/mootools/mootools-core-nc.js"></script>'),
    'MooTools with Request.Periodical': page(`
        new Request.JSON({ url: '/state', method: 'get', onSuccess: draw, initialDelay: 100, delay: ${EVERY}, limit: ${EVERY} }).startTimer();`, '<script src="/lib/debian/mootools/mootools-core-nc.js"></script><script src="/lib/debian/mootools/mootools-more-nc.js"></script>'),
    'Dojo without cache': page(`
        const poll = () => dojo.xhrGet({ url: '/state', handleAs: 'json', preventCache: true, load: draw });
        poll(); setInterval(poll, ${EVERY});`, '<script src="/lib/debian/dojo/dojo.js"></script>'),
    // As YUI and others do.
    'XMLHttpRequest without a user': page(`
        function poll() {
            const xhr = new XMLHttpRequest();
            xhr.onreadystatechange = () => { if (xhr.readyState === 4) { draw(JSON.parse(xhr.responseText)); setTimeout(poll, ${EVERY}); } };
            xhr.open('GET', '/state', true, null, null);
            xhr.send(null);
        }
        poll();`),
    'an interval that each run sets anew': page(`
        function poll() {
            fetch('/state').then((r) => r.json()).then((state) => {
                draw(state);
                const timer = setInterval(() => { clearInterval(timer); poll(); }, ${EVERY});
            });
        }
        poll();`),
    'a library that asks again only after some time': page(`
        let asked, state;
        async function get() {
            if (!(performance.now() - asked < ${INTERVAL / 4})) {
                asked = performance.now();
                state = await (await fetch('/state')).json();
                draw(state);
            }
        }
        (async function poll() { await get(); setTimeout(poll, ${EVERY}); })();`),
    'a Request with a signal': page(`
        const poll = () => {
            const control = new AbortController();
            const late = setTimeout(() => control.abort(), ${EVERY} * 10);
            fetch(new Request('/state', { signal: control.signal, credentials: 'include' })).then((r) => r.json()).then(draw).finally(() => clearTimeout(late));
        };
        poll(); setInterval(poll, ${EVERY});`),
    'XMLHttpRequests of a pool, with credentials': page(`
        const pool = [new XMLHttpRequest(), new XMLHttpRequest()];
        function poll() {
            const xhr = pool.shift();
            xhr.open('GET', '/state', true);
            xhr.withCredentials = true;
            xhr.onreadystatechange = () => {
                if (xhr.readyState !== 4) return;
                xhr.onreadystatechange = null;
                pool.push(xhr);
                draw(JSON.parse(xhr.responseText));
            };
            xhr.send(null);
        }
        poll(); setInterval("poll()", ${EVERY});`),
    'answers that are read in pieces, and cloned': page(`
        async function poll() {
            const answer = await fetch('/state');
            const copy = answer.clone();
            const reader = answer.body.getReader();
            let bytes = 0;
            for (let piece; !(piece = await reader.read()).done;) bytes += piece.value.length;
            const text = await copy.text();
            if (bytes !== text.length || !answer.bodyUsed || answer.type !== 'basic') throw new Error('another answer');
            draw(JSON.parse(text));
        }
        poll(); setInterval(poll, ${EVERY});`),
    axios: page(`
        const poll = async () => draw((await axios.get('/state')).data);
        poll(); setInterval(poll, ${EVERY});`, '<script src="/lib/axios/dist/axios.js"></script>'),
    'a bare number as cache buster': page(`
        const poll = () => fetch('/state?' + Date.now()).then((r) => r.json()).then(draw);
        poll(); setInterval(poll, ${EVERY});`),
    'synchronous XMLHttpRequest': page(`
        function poll() { const xhr = new XMLHttpRequest(); xhr.open('GET', '/state', false); xhr.send(); draw(JSON.parse(xhr.responseText)); }
        poll(); setInterval(poll, ${EVERY});`),
};

const on = stage(Object.fromEntries(Object.values(LOOPS).map((body, number) => [`/page${number}`, body])));

/** Ways that are tried for longer: each time that one of the polls goes out, a handler that was there first sets the timer. */
const LONG = /PeriodicalUpdater|without a user/;

for (const [number, way] of Object.keys(LOOPS).entries()) {
    test(`${way}: a change is shown at once, and the polls leave the network`, async () => {
        const page = await on.open(`/page${number}`);
        await followed(page);
        const took = [];
        for (let round = 0; round < (LONG.test(way) ? 25 : 3); round++) {
            await sleep(INTERVAL / 5);
            took.push(await shows(page, on.change()));
        }
        console.log(`${way}: shown after ${took.join(', ')} ms; the page polls every ${INTERVAL} ms`);
        // Three times in a row this fast, by its own polls alone, would be one chance in 64.
        assert.ok(took.every((ms) => ms < INTERVAL / 2), took.join());
        assert.deepEqual(page.errors, []);
        await page.close();
    });
}
