// Pages that nobody rewrites: they poll as they always did, and are told of changes at once.

import { page } from './application.mjs';
import { INTERVAL, testLoops } from './loops.mjs';

const EVERY = `${INTERVAL}`;

testLoops({
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
            if (!(performance.now() - asked < ${INTERVAL / 8})) {
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
    'a bare number as cache buster': page(`
        const poll = () => fetch('/state?' + Date.now()).then((r) => r.json()).then(draw);
        poll(); setInterval(poll, ${EVERY});`),
    'synchronous XMLHttpRequest': page(`
        function poll() { const xhr = new XMLHttpRequest(); xhr.open('GET', '/state', false); xhr.send(); draw(JSON.parse(xhr.responseText)); }
        poll(); setInterval(poll, ${EVERY});`),
}, (way) => /without a user/.test(way));
