// Writes that the script in the page does not see: no poll that begins after one was answered tells what was before it.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { page } from './application.mjs';
import { followed, stage } from './stage.mjs';

let count = 0;

/** How long the application takes to answer, with what it knew when it was asked. */
const SLOW = 150;

const ROUNDS = 8;

/** Polls, and writes by `write` now and then, which resolves when that has been answered with the new count. */
const writes = (write) => page(`
    let written = 0;
    window.old = [];
    window.rounds = 0;
    const poll = async () => {
        const known = written;
        const state = await (await fetch('/value')).json();
        if (state.count < known) old.push([known, state.count]);
        draw(state);
    };
    setInterval(poll, 1000);
    const write = ${write};
    window.begin = async () => {
        while (rounds < ${ROUNDS}) {
            written = Math.max(written, Number(await write()));
            rounds += 1;
            await new Promise((resolve) => setTimeout(resolve, 500 + 97 * (rounds % 5)));
        }
    };`);

const on = stage({
    '/value': (request, send) => {
        const body = JSON.stringify({ count });
        setTimeout(() => send(200, 'application/json', body, { 'cache-control': 'no-store' }), SLOW);
    },
    '/write': (request, send) => send(200, 'text/html', String(++count)),
    '/writer.js': (request, send) => send(200, 'text/javascript', `onmessage = async () => postMessage(await (await fetch('/write', { method: 'POST', body: 'x' })).text());`),
    '/worker': writes(`(() => {
        const worker = new Worker('/writer.js');
        return () => new Promise((resolve) => { worker.onmessage = ({ data }) => resolve(data); worker.postMessage(1); });
    })()`),
    '/blank': writes(`(() => {
        const frame = document.body.appendChild(document.createElement('iframe'));
        return async () => (await frame.contentWindow.fetch('/write', { method: 'POST', body: '{"n":1}' })).text();
    })()`),
    '/form': writes(`(() => {
        document.body.insertAdjacentHTML('beforeend', '<iframe name=into></iframe><form method=post action=/write target=into><input name=a value=1></form>');
        const frame = document.querySelector('iframe');
        return () => new Promise((resolve) => {
            frame.onload = () => resolve(frame.contentDocument.body.textContent.match(/[0-9]+/)[0]);
            document.querySelector('form').submit();
        });
    })()`),
});

for (const path of ['/worker', '/blank', '/form']) {
    test(`what is written by ${path.slice(1)} is never read as it was before`, async () => {
        const opened = await on.open(path);
        await followed(opened, '/value');
        await opened.evaluate(() => void window.begin());
        await opened.waitForFunction((rounds) => window.rounds >= rounds, ROUNDS);
        assert.deepEqual(await opened.evaluate(() => window.old), []);
    });
}
