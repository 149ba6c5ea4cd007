// Ways to poll, each on a page of its own: what every one of them has to do.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { drawsAgain, followed, shows, stage } from './stage.mjs';

/** The pages' own interval. */
export const INTERVAL = 1500;

/**
 * Tests pages, given by the way in which they poll. Those that `isLong` picks are tried for longer: each time that one of the
 * polls goes out, a handler that was there first sets the timer. A poll that is early takes the place of the next, so that
 * changes are made behind that.
 */
export function testLoops(loops, isLong) {
    const on = stage(Object.fromEntries(Object.values(loops).map((body, number) => [`/page${number}`, body])));
    for (const [number, way] of Object.keys(loops).entries()) {
        test(`${way}: a change is shown at once, and the polls leave the network`, async () => {
            const page = await on.open(`/page${number}`);
            await followed(page);
            const took = [];
            for (let round = 0; round < (isLong(way) ? 12 : 3); round++) {
                await drawsAgain(page);
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
}
