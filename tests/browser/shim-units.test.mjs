// Parts of the browser script by themselves, and how large it is.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';

import { minify } from 'terser';

import { shim, shimPart } from './support.mjs';

/** What a part defines, outside of any browser. */
function part(names, exports, globals = {}) {
    const text = names.map(shimPart).join('');
    return new Function(...Object.keys(globals), `'use strict';${text};return { ${exports} };`)(...Object.values(globals));
}

const attempt = (work, otherwise) => {
    try {
        return work();
    } catch {
        return otherwise?.();
    }
};

const { targetOf, lasting } = part(['url'], 'targetOf, lasting', { attempt, scope: { location: 'http://site.example/' } });
const target = (text) => targetOf(new URL(text, 'http://site.example'));

test('what keeps caches out is left out', () => {
    const now = Date.now();
    for (const [asked, kept] of [
        ['/a', '/a'],
        ['/a?', '/a'],
        ['/a?_=1795324069242', '/a'],
        ['/a?x=1&_=7&y=2', '/a?x=1&y=2'],
        [`/a?${now}`, '/a'],
        ['/a?0.8241939', '/a'],
        [`/a?dojo.preventCache=${now}`, '/a'],
        [`/a?t=${now}`, '/a'],
        ['/a?rnd=abc', '/a'],
        ['/a?r=0.73', '/a'],
        ['/a?nocache=1', '/a'],
        ['/a?b=%20c&d', '/a?b=%20c&d'],
        ['/a#top', '/a'],
    ]) {
        assert.equal(target(asked).text, kept, asked);
        assert.equal(target(asked).cursor, false, asked);
    }
});

test('what says where a page stands is not', () => {
    for (const asked of [
        '/a?since=1', '/a?after=', '/a?rid=7&_=1', '/a?lastId=3', '/a?offset=0', '/a?page_token=x', '/a?wait=30', '/a?eventId=1',
        '/queue/pop', '/queue/next.json', '/a/ack', '/mail?sync_key=1',
    ]) {
        assert.equal(target(asked).cursor, true, asked);
    }
    // A time that is not this moment's is no cache buster; a number of a page is no cursor by its name.
    assert.equal(target('/a?t=1795324069242').text, '/a?t=1795324069242');
    assert.equal(target('/a?17').text, '/a?17');
    assert.equal(target('/a?page=2&id=7').cursor, false);
});

test('what has no name is left out if it counts, and not if it may be what is asked for', () => {
    const loaded = Math.ceil(performance.timeOrigin);
    const all = (path, ...names) => names.map((name) => target(`${path}?${name}`).text.slice(path.length + 1));
    const counts = [1, 2, 5].map((number) => (loaded + number).toString(36));
    assert.deepEqual(all('/counted', ...counts), [counts[0], '', '']);
    // What comes again, or goes back, is what is asked for, and so is all else there from then on.
    assert.deepEqual(all('/same', counts[0], counts[0], counts[1]), [counts[0], counts[0], counts[1]]);
    assert.deepEqual(all('/turns', ...counts, ...counts), [counts[0], '', '', ...counts]);
    const names = [
        'temperature_sensor_1', 'temperature_sensor_2', '550e8400-e29b-41d4-a716-446655440000', 'f3a9c1d2e4b5a6978', 'monitors', 'newsfeed',
        '1234567890', '1795324069242', '1795324069243', (Date.now() + 60_000).toString(36), `${counts[0]}-7`, `${counts[1]}-8`, 'include_archived_2024',
    ];
    assert.deepEqual(all('/named', ...names), names);
    for (const asked of ['/a?dc=dc1', '/a?_t=2', '/a?_r=north']) {
        assert.equal(target(asked).text, asked);
    }
});

test('URLs that differ in values alone are of one family', () => {
    assert.equal(target('/a?x=1&y=2').family, target('/a?y=3&x=4').family);
    assert.notEqual(target('/a?x=1').family, target('/a?y=1').family);
});

test('headers that pass are no part of what is asked for', () => {
    const headers = { b: '1', accept: '*/*', 'if-none-match': '"a"', 'x-request-id': '7', 'x-turbo-request-id': '8' };
    assert.deepEqual(Object.entries(lasting(headers)), [['accept', '*/*'], ['b', '1']]);
});

test('splices are applied in order', () => {
    const { spliced } = part(['hub'], 'spliced');
    assert.equal(spliced('one \u{1f30d} two', [[0, 3, 'ONE'], [7, 3, 'three'], [12, 0, '!']]), 'ONE \u{1f30d} three!');
    assert.equal(spliced('', []), '');
});

test('who follows what others follow is told what it is, also if that was not known when it came', () => {
    const { StreamHub, StreamConnection } = part(['hub'], 'StreamHub, StreamConnection', { nativeClearTimeout() {}, nativeSetTimeout: () => 0 });
    const hub = new StreamHub();
    const told = { one: [], two: [], three: [] };
    const client = (name) => ({ tell: ({ id, event, body, old }) => told[name].push([id, event, body, old && 'old'].join(' ').trim()) });
    const [one, two, three] = Object.keys(told).map(client);
    hub.follow(one, { id: 1, url: '/a', headers: {} });
    const [{ lane }] = hub.follows.values();
    assert.ok(lane instanceof StreamConnection);
    lane.take([...lane.follows][0], { event: 'snapshot', version: 'v1', body: 'state' });
    // Something is written, and another tab comes before it is known whether that is still so.
    hub.renew();
    hub.follow(two, { id: 2, url: '/a', headers: {} });
    lane.take([...lane.follows][0], { event: 'live' });
    hub.follow(three, { id: 3, url: '/a', headers: {} });
    assert.deepEqual(told, {
        one: ['1 snapshot state', '1 down', '1 snapshot state'],
        two: ['2 snapshot state old', '2 snapshot state'],
        three: ['3 snapshot state'],
    });
});

test('who comes while nobody knows what it is has it asked for', () => {
    const { StreamHub } = part(['hub'], 'StreamHub', { nativeClearTimeout() {}, nativeSetTimeout: () => 0 });
    const hub = new StreamHub();
    const told = [];
    // The first has a state of its own, and is only told that it is current.
    hub.follow({ tell: () => told.push('one') }, { id: 1, url: '/a', headers: {}, since: 'v1' });
    hub.follow({ tell: () => told.push('two') }, { id: 2, url: '/a', headers: {} });
    const [follow] = hub.follows.values();
    follow.lane.take(follow, { event: 'live' });
    assert.deepEqual([follow.version, told], [undefined, []]);
    follow.lane.take(follow, { event: 'snapshot', version: 'v1', body: 'state' });
    assert.deepEqual(told, ['one', 'two']);
});

test('a stream that was silent while the computer slept is given up when it wakes, not minutes later', async () => {
    const HEARTBEAT = 1000;
    let clock = 0;
    let timers = [];
    const { streamOnce } = part(['stream'], 'streamOnce', {
        attempt,
        prefix: '/.sungrazer',
        Date: { now: () => clock },
        nativeSetTimeout: (work, delay) => timers.push({ work, at: clock + delay }),
        nativeClearTimeout: (id) => (timers[id - 1] = { at: Infinity }),
        nativeFetch: (url, { signal }) => new Promise((resolve, reject) => {
            const pieces = new ReadableStream({
                start(stream) {
                    stream.enqueue(new TextEncoder().encode(': begins\n'));
                    signal.addEventListener('abort', () => stream.error(new Error('aborted')));
                },
            });
            resolve({ ok: true, headers: new Headers({ 'content-type': 'text/event-stream' }), body: pieces });
        }),
    });
    let beats = 0;
    const ended = streamOnce({ follow: [], heartbeat: HEARTBEAT, signal: new AbortController().signal, told() {}, heard: () => (beats += 1) });
    while (beats === 0) {
        await new Promise((resolve) => setImmediate(resolve));
    }
    /** Timers run for `ms`, as those of browsers do while a computer is awake. */
    const awake = (ms) => {
        for (const until = clock + ms; ;) {
            const [next] = timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at);
            if (!next) {
                clock = until;
                return;
            }
            clock = Math.max(clock, next.at);
            next.at = Infinity;
            next.work();
        }
    };
    awake(HEARTBEAT / 2);
    assert.equal(await Promise.race([ended, 'goes on']), 'goes on');
    // It sleeps for an hour, in which no timer moves.
    clock += 3_600_000;
    timers = timers.map(({ work, at }) => ({ work, at: at + 3_600_000 }));
    awake(HEARTBEAT);
    assert.equal(await ended, 'failed');
});

test('the script is small', async () => {
    const { code } = await minify(shim());
    const size = gzipSync(code, { level: 9 }).length;
    console.log(`minified and gzipped: ${size} bytes`);
    assert.ok(size < 21 * 1024, `${size} bytes`);
});
