// When a page becomes live: with its second poll.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { page } from './application.mjs';
import { shows, stage } from './stage.mjs';

const INTERVAL = 4000;

const LOOPS = {
    'setInterval and fetch': `
        const poll = () => fetch('/state').then((r) => r.json()).then(draw);
        poll(); setInterval(poll, ${INTERVAL});`,
    'setInterval alone': `
        setInterval(() => fetch('/state').then((r) => r.json()).then(draw), ${INTERVAL});`,
    'setTimeout after completion, with XMLHttpRequest': `
        (function poll() {
            const xhr = new XMLHttpRequest();
            xhr.open('GET', '/state');
            xhr.onload = () => { draw(JSON.parse(xhr.responseText)); setTimeout(poll, ${INTERVAL}); };
            xhr.send();
        })();`,
    'an async loop that sleeps': `
        (async () => {
            for (;;) {
                draw(await (await fetch('/state')).json());
                await new Promise((resolve) => setTimeout(resolve, ${INTERVAL}));
            }
        })();`,
};
const on = stage(Object.fromEntries(Object.values(LOOPS).map((loop, number) => [`/page${number}`, page(loop)])));

for (const [number, way] of Object.keys(LOOPS).entries()) {
    test(`${way}: the first change after the second poll is shown at once`, async () => {
        const page = await on.open(`/page${number}`);
        await page.waitForFunction(() => window.draws > 1);
        await sleep(INTERVAL / 8);
        const took = await shows(page, on.change());
        console.log(`${way}: shown after ${took} ms; the page polls every ${INTERVAL} ms`);
        assert.ok(took < INTERVAL / 2, `${took} ms`);
        assert.deepEqual(page.errors, []);
        await page.close();
    });
}
