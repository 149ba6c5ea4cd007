// Answers from the replica, beside those that the application gives: clocks, progress, documents, encodings, what is aborted,
// and how the functions look that give them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';

import { page } from './application.mjs';
import { stage } from './stage.mjs';
import { eventually } from './support.mjs';

const HOURS = 3_600_000;

const says = (type, body, headers) => (request, send) => send(200, type, typeof body === 'function' ? body(request) : body, headers?.() ?? {});
const latin = (text) => Buffer.from(text, 'latin1');

const on = stage({
    '/empty': page(''),
    '/ahead': says('application/json', '{"bid":1}', () => ({ date: new Date(Date.now() + HOURS).toUTCString() })),
    '/behind': says('text/plain', 'x', () => ({ date: new Date(Date.now() - 9 * HOURS).toUTCString() })),
    '/started-1970': says('text/plain', 'x', () => ({ date: new Date(Date.now() % 86_400_000).toUTCString() })),
    '/sized': says('text/plain', 'x'.repeat(700)),
    '/chunked': (request, send) => {
        send(200, 'text/plain', 'y'.repeat(700), { 'content-length': undefined });
    },
    '/zipped': (request, send) => send(200, 'text/plain', gzipSync('z'.repeat(700)), { 'content-encoding': 'gzip' }),
    '/sub/list.html': says('text/html', '<!doctype html><a href="item.html">x</a>'),
    '/sub/list.xhtml': says('application/xhtml+xml', '<html xmlns="http://www.w3.org/1999/xhtml"><body><a href="item.html">x</a></body></html>'),
    '/latin.xml': says('text/xml', latin('<?xml version="1.0" encoding="ISO-8859-1"?><r>M\u00fcller</r>')),
    '/latin-feed': says('application/rss+xml', latin('<?xml version="1.0" encoding="iso-8859-15"?><r>M\u00fcller</r>')),
    '/untyped': says('', latin('<?xml version="1.0" encoding="ISO-8859-1"?><r>M\u00fcller</r>')),
    '/meta.html': says('text/html', latin('<!doctype html><meta charset="iso-8859-1"><p>M\u00fcller</p>')),
    '/latin.txt': says('text/plain; charset=iso-8859-1', latin('M\u00fcller')),
    '/unknown.txt': says('text/plain; charset=none', latin('M\u00fcller')),
    '/bom.json': says('application/json', '\ufeff{"a":1}'),
    '/bom16.txt': says('text/plain', Buffer.from('\ufeffab', 'utf16le')),
    '/mod.js': says('text/javascript', 'export default "module"'),
    '/json': says('application/json', '{"a":1}'),
    '/import': page(`
        window.said = [];
        setInterval("import('./mod.js').then((m) => said.push(m.default), (e) => said.push(e.name)); fetch('/json')", 300);
        setTimeout("import ('./mod.js').then((m) => said.push(m.default), (e) => said.push(e.name))", 300);`),
    '/hooked': page(`
        window.calls = 0;
        Error.prepareStackTrace = (error, frames) => { calls += 1; return String(error) + frames.length; };
        const poll = () => fetch('/json').then((r) => r.json()).then(() => { draw({ count: 1 }); setTimeout(poll, 300); });
        poll();`),
    '/limited': page(`
        delete Error.stackTraceLimit;
        window.gets = 0;
        Object.defineProperty(Error, 'prepareStackTrace', { get() { gets += 1; }, set() { gets += 1; }, configurable: true });
        const poll = () => fetch('/json').then((r) => r.json()).then(() => { draw({ count: 1 }); setTimeout(poll, 300); });
        poll();`),
});

/**
 * What `observe` comes to for each of `path`'s polls in a page by the browser alone, and with the script: the set of all that
 * it came to, when the replica has answered, if it can.
 */
async function both(path, observe, fromReplica) {
    const bases = [on.application.url, on.sidecar.url];
    return Promise.all(bases.map(async (base) => {
        const page = await on.browser.open(`${base}/empty`);
        await page.evaluate(([observe, path]) => {
            const work = eval(`(${observe})`);
            window.observed = [];
            window.failed = [];
            const poll = () => work(path).then((result) => observed.push(JSON.stringify(result)), (error) => observed.push(String(error)));
            poll();
            setInterval(poll, 300);
        }, [String(observe), path]);
        await page.waitForFunction(() => observed.length > 12);
        let isReplayed = false;
        if (base === on.sidecar.url) {
            // How soon that is depends on how soon the first are answered.
            const [before, count] = [page.times(path), await page.evaluate(() => observed.length)];
            const [asked, more] = [() => page.times(path) - before, async () => (await page.evaluate(() => observed.length)) - count];
            isReplayed = await eventually('answers from the replica', async () => (await more()) - asked() > 6, fromReplica ? 30_000 : 3000).catch(() => false);
        }
        const result = [...new Set(await page.evaluate(() => observed))].sort();
        assert.deepEqual(page.errors, []);
        await page.close();
        return { result, isReplayed };
    }));
}

/** Tests that an observation is the same with the script; and that the replica answered, if it can. */
function same(what, path, observe, fromReplica = true) {
    test(`${what}: ${path}`, async () => {
        const [plain, shimmed] = await both(path, observe, fromReplica);
        assert.deepEqual(shimmed.result, plain.result);
        assert.equal(shimmed.isReplayed, fromReplica);
    });
}

const age = (path) => fetch(path).then((r) => Math.round((Date.parse(r.headers.get('date')) - Date.now()) / 600_000));
const ageByXhr = (path) => new Promise((resolve) => {
    const xhr = new XMLHttpRequest();
    xhr.onload = () => resolve(Math.round((new Date(xhr.getResponseHeader('Date')) - Date.now()) / 600_000));
    xhr.open('GET', path);
    xhr.send();
});
same('the clock that Date tells is the application\'s', '/ahead', age);
same('the clock that Date tells is the application\'s', '/ahead', ageByXhr);
same('the clock that Date tells is the application\'s', '/behind', ageByXhr);
same('the clock that Date tells is the application\'s', '/started-1970', age);

const progress = (path) => new Promise((resolve) => {
    const said = [];
    const xhr = new XMLHttpRequest();
    for (const type of ['loadstart', 'progress', 'load', 'loadend']) {
        // How many there are of what comes in pieces is up to the network.
        xhr.addEventListener(type, ({ loaded, total, lengthComputable }) => said.push([type, loaded, total, lengthComputable]));
    }
    xhr.addEventListener('loadend', () => resolve([said.filter(([type], at) => said[at + 1]?.[0] !== type), xhr.getResponseHeader('content-length')]));
    xhr.open('GET', path);
    xhr.send();
});
same('progress is told as natively', '/sized', progress);

const documents = (path) => new Promise((resolve) => {
    const xhr = new XMLHttpRequest();
    xhr.onload = () => {
        const { response } = xhr;
        resolve([response.querySelector('a').href, response.baseURI, response.URL, response.characterSet, response.contentType].map((text) => text.replace(location.origin, '')));
    };
    xhr.open('GET', path);
    xhr.responseType = 'document';
    xhr.send();
});
same('a document is where it came from', '/sub/list.html', documents, false);
same('a document is where it came from', '/sub/list.xhtml', documents, false);

const texts = (path) => new Promise((resolve) => {
    const xhr = new XMLHttpRequest();
    xhr.onload = () => resolve([xhr.responseText, xhr.responseXML?.documentElement.outerHTML, xhr.responseXML?.URL.replace(location.origin, '')]);
    xhr.open('GET', path);
    xhr.send();
});
for (const path of ['/latin.xml', '/latin-feed', '/untyped']) {
    same('XML is read in the encoding that it names', path, texts, false);
}
for (const path of ['/meta.html', '/latin.txt', '/unknown.txt', '/bom.json', '/bom16.txt']) {
    same('text is read as natively', path, texts);
}
same('text is read as natively by fetch', '/bom.json', (path) => fetch(path).then(async (r) => [await r.clone().json(), await r.text()]));

/** Aborts when the head is there, and then reads in one way. */
const aborted = (read) => `async (path) => {
    const control = new AbortController();
    const response = await fetch(path, { signal: control.signal });
    const abort = () => control.abort();
    try {
        return await (${read})(response, abort);
    } catch (error) {
        return [error.name, response.bodyUsed];
    }
}`;
for (const read of [
    '(response, abort) => (abort(), response.text())',
    '(response, abort) => (abort(), response.json())',
    '(response, abort) => (abort(), response.body.getReader().read())',
    '(response, abort) => { const copy = response.clone(); abort(); return copy.text(); }',
    '(response, abort) => response.text().then((text) => (abort(), [text, response.bodyUsed]))',
    '(response, abort) => response.text().then(() => (abort(), response.text()))',
]) {
    same(`what is aborted is not read: ${read}`, '/json', aborted(read));
}

const looks = async (path) => {
    const response = await fetch(path);
    const own = (object) => Reflect.ownKeys(object).map(String);
    return [own(response), own(response.clone()), response.type, response.redirected, new URL(response.url).pathname, new URL(response.clone().url).pathname,
        Object.prototype.toString.call(response), [...response.headers.keys()].filter((name) => !/^(connection|keep-alive|vary|via|cache-status|etag|sungrazer-.*)$/.test(name))];
};
same('a response has nothing that others have not', '/json', looks);

test('functions are told as text as natively, and have the same properties', async () => {
    const [plain, shimmed] = await Promise.all([on.application.url, on.sidecar.url].map(async (base) => {
        const page = await on.browser.open(`${base}/empty`);
        const result = await page.evaluate(() => {
            const getter = (holder, name) => Object.getOwnPropertyDescriptor(holder, name).get;
            const functions = {
                fetch, setTimeout, setInterval, clearTimeout, clearInterval, requestAnimationFrame, requestIdleCallback, XMLHttpRequest,
                open: XMLHttpRequest.prototype.open, send: XMLHttpRequest.prototype.send, constructor: XMLHttpRequest.prototype.constructor,
                status: getter(XMLHttpRequest.prototype, 'status'), response: getter(XMLHttpRequest.prototype, 'response'),
                url: getter(Response.prototype, 'url'), clone: Response.prototype.clone, json: Response.prototype.json,
                sendBeacon: Navigator.prototype.sendBeacon, toString: Function.prototype.toString,
            };
            const described = ({ value, get, set, ...rest }) => [typeof value, typeof get, typeof set, rest];
            const properties = (of) => Object.entries(Object.getOwnPropertyDescriptors(of)).map(([name, known]) => [name, described(known)]);
            return [
                Object.entries(functions).map(([name, f]) => [name, String(f), Function.prototype.toString.call(f), `${f}`, f.name, f.length, properties(f).map(([name]) => name).sort()]),
                [window, XMLHttpRequest.prototype, Response.prototype, Navigator.prototype, Function.prototype]
                    .map((holder) => properties(holder).filter(([name]) => name in functions || holder !== window).sort()),
                (() => { try { Function.prototype.toString.call({}); } catch (error) { return error.name; } return undefined; })(),
                String(class A { b() {} }), String((a) => a),
            ];
        });
        await page.close();
        return result;
    }));
    assert.deepEqual(shimmed, plain);
});

test('code in a string imports what stands beside the page', async () => {
    for (const open of [on.openPlain, on.open]) {
        const page = await open('/import');
        await page.waitForFunction(() => said.length > 4);
        assert.deepEqual(new Set(await page.evaluate(() => said)), new Set(['module']));
        await page.close();
    }
});

for (const path of ['/hooked', '/limited']) {
    test(`${path}: what a page has to say about stacks is for its own`, async () => {
        const page = await on.open(path);
        await page.waitForFunction(() => draws > 8);
        assert.equal(await page.evaluate(() => window.calls ?? window.gets), 0);
        const asked = page.times('/json');
        await eventually('polls from the replica', async () => (await page.evaluate(() => draws)) > 12);
        assert.ok(page.times('/json') - asked < 4);
        assert.deepEqual(await page.evaluate(() => [Object.hasOwn(Error, 'stackTraceLimit'), typeof Object.getOwnPropertyDescriptor(Error, 'prepareStackTrace')]),
            [path === '/hooked', 'object']);
        assert.deepEqual(page.errors, []);
        await page.close();
    });
}
