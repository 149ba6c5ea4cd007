// What pages notice of the browser script: nothing. Everything is done twice, by the browser alone and with the script, and
// has to come to the same.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { page } from './application.mjs';
import { stage } from './stage.mjs';
import { eventually } from './support.mjs';

const XML = '<?xml version="1.0"?><state><count>3</count></state>';

const on = stage({
    '/empty': page(''),
    '/quirks': '<title>Quirks</title><p id=count>',
    '/json': (request, send) => send(200, 'application/json', '{ "count":  1.50 }', { etag: '"one"', 'x-own': 'a' }),
    '/xml': (request, send) => send(200, 'text/xml', XML),
    '/latin': (request, send) => send(200, 'text/plain; charset=iso-8859-1', Buffer.from('caf\u00e9', 'latin1')),
    '/bytes': (request, send) => send(200, 'application/octet-stream', Buffer.from([0, 255, 128, 10])),
    '/nothing': (request, send) => send(204, 'text/plain', ''),
    '/html': (request, send) => send(200, 'text/html', '<p>one</p>'),
    '/conflict': (request, send) => send(409, 'text/plain', 'no', { 'x-own': 'a' }),
    '/never': () => {},
    '/upload': (request, send) => send(201, 'text/plain', `${request.body.length} of ${request.headers['content-type']}`),
    '/conditional': (request, send) => request.headers['if-none-match'] === '"one"'
        ? send(304, 'text/plain', '', { etag: '"one"' })
        : send(200, 'text/plain', 'text', { etag: '"one"' }),
});

/** What `work` comes to in a page by the browser alone, and with the script. */
async function both(work, path = '/empty', argument) {
    return Promise.all([on.application.url, on.sidecar.url].map(async (base) => {
        const page = await on.browser.open(`${base}${path}`);
        assert.equal(await page.evaluate(() => 'sungrazer' in window), base === on.sidecar.url);
        const result = await page.evaluate(work, argument);
        assert.deepEqual(page.errors, []);
        await page.close();
        return result;
    }));
}

test('timers behave as natively', async () => {
    const [native, shimmed] = await both(async () => {
        const said = [];
        const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
        // Arguments, this, and a callback that is longer away.
        setTimeout(function (...args) { said.push(['timeout', this === window, ...args]); }, 300, 1, 'two');
        setTimeout((...args) => said.push(['short', ...args]), 0, 3);
        const interval = setInterval(function (...args) { said.push(['interval', this === window, ...args]); }, 260, 4);
        // Ids are numbers that grow and are never given twice; clearing is one for all.
        const ids = [setTimeout(() => said.push('cleared'), 300), setInterval(() => said.push('cleared'), 300), setTimeout('said2.push("cleared")', 300)];
        said.push(['ids', ids.every((id) => typeof id === 'number' && id > 0), new Set(ids).size, ids.every((id, at) => at === 0 || id > ids[at - 1])]);
        clearInterval(ids[0]);
        clearTimeout(ids[1]);
        clearTimeout(String(ids[2]));
        clearTimeout(undefined);
        clearTimeout(999999);
        window.said2 = [];
        setTimeout('said2.push("code", typeof x, (() => this === window)()); var x = 1;', 270);
        setTimeout({ toString: () => 'said2.push("object")' }, 280);
        await wait(600);
        clearInterval(interval);
        const count = said.length;
        await wait(400);
        said.push(['stays', said.length === count]);
        // How they look.
        for (const f of [setTimeout, setInterval, clearTimeout, clearInterval, fetch, requestAnimationFrame, XMLHttpRequest.prototype.open]) {
            said.push([f.name, f.length, String(f).replace(f.name, ''), Object.getOwnPropertyNames(f).sort().join()]);
        }
        const thrown = (f) => { try { return f(); } catch (error) { return `${error.name}`; } };
        said.push(thrown(() => setTimeout()), thrown(() => new setTimeout(() => {}, 1)), thrown(() => setTimeout.call({}, () => {}, 300)));
        return [said, said2];
    });
    assert.deepEqual(shimmed, native);
});

test('a timer keeps its pace, though others are fired early', async () => {
    const page = await on.open('/empty');
    const late = await page.evaluate(async () => {
        const ticks = [];
        const start = performance.now();
        setInterval(() => ticks.push(performance.now() - start), 300);
        setInterval(() => fetch('/json').then((r) => r.text()), 300);
        await new Promise((resolve) => setTimeout(resolve, 3200));
        return ticks.map((at, number) => at - 300 * (number + 1));
    });
    assert.ok(late.length === 10, `${late.length} ticks`);
    assert.ok(late.every((ms) => ms > -5), `too early: ${late}`);
    await page.close();
});

test('what a callback throws is reported as the page\'s own', async () => {
    const [native, shimmed] = await both(() => new Promise((resolve) => {
        const said = [];
        window.onerror = (message, source, line) => { said.push([message, line > 0]); return true; };
        setTimeout(() => { throw new Error('thrown'); }, 260);
        setTimeout('throw new Error("in code")', 270);
        setTimeout(() => resolve(said), 400);
    }));
    assert.deepEqual(shimmed, native);
});

/** What an XMLHttpRequest says and does from its first event to its last. */
function observeXhr({ path, type, conditional, sync }) {
    return new Promise((resolve) => {
        const said = [];
        const xhr = new XMLHttpRequest();
        const text = () => (['', 'text'].includes(xhr.responseType) ? xhr.responseText : undefined);
        for (const event of ['readystatechange', 'loadstart', 'progress', 'load', 'loadend', 'error', 'abort', 'timeout']) {
            const listener = (by) => function (seen) {
                if (event === 'readystatechange' && this.readyState === 3) {
                    return;
                }
                said.push([by, event, this === xhr, this.readyState, this.status, text() === undefined ? '' : text().length, seen.type, seen instanceof ProgressEvent]);
                if (by === 'listener' && event === 'loadend' && !sync) {
                    resolve([said, state()]);
                }
            };
            xhr[`on${event}`] = listener('handler');
            xhr.addEventListener(event, listener('listener'));
        }
        function state() {
            const { response } = xhr;
            const shown = response instanceof ArrayBuffer ? [...new Uint8Array(response)].join()
                : response instanceof Blob ? `${response.type} ${response.size}`
                : response instanceof Document ? `${response.contentType} ${response.documentElement.outerHTML}` : response;
            const xml = ['', 'document'].includes(xhr.responseType) ? xhr.responseXML : undefined;
            const headers = xhr.getAllResponseHeaders().split('\r\n').map((line) => line.split(':')[0])
                .filter((name) => !/^(date|connection|keep-alive|via|transfer-encoding|content-length|vary|cache-status|)$/.test(name));
            return {
                shown, same: type === 'json' || response === xhr.response, text: text(), xml: xml && xml.documentElement.outerHTML,
                status: xhr.status, statusText: xhr.statusText, url: new URL(xhr.responseURL || 'http://none/').pathname,
                type: xhr.getResponseHeader('Content-Type'), none: xhr.getResponseHeader('x-none'), headers,
                etag: xhr.getResponseHeader('ETag') !== null, state: xhr.readyState,
            };
        }
        xhr.open('GET', path, !sync);
        if (type) {
            xhr.responseType = type;
        }
        if (conditional) {
            xhr.setRequestHeader('If-None-Match', conditional);
        }
        xhr.send();
        if (sync) {
            resolve([said, state()]);
        }
    });
}

/** The same, by a timer that asks again and again: the last of what it observed, and whether that was from the replica. */
async function repeated(base, work, argument) {
    const page = await on.browser.open(`${base}/empty`);
    await page.evaluate(([work, argument]) => {
        const observe = eval(`(${work})`);
        window.observed = [];
        const poll = () => observe(argument).then((result) => observed.push(result));
        // A validator comes from an answer.
        (argument.conditional ? fetch(argument.path) : Promise.resolve()).then(poll);
        setInterval(poll, 250);
    }, [String(work), argument]);
    const count = () => page.evaluate(() => observed.length);
    const network = () => page.times(argument.path.split('?')[0]);
    let quiet = true;
    if (base === on.sidecar.url) {
        quiet = await eventually('an answer from the replica', async () => {
            const [before, asked] = [await count(), network()];
            await eventually('two more', async () => (await count()) > before + 1);
            return network() === asked;
        });
    } else {
        await eventually('two', async () => (await count()) > 1);
    }
    const result = await page.evaluate(() => observed.at(-1));
    assert.deepEqual(page.errors, []);
    await page.close();
    return result;
}

for (const argument of [
    { path: '/json' }, { path: '/json', type: 'json' }, { path: '/json', type: 'text' }, { path: '/json', type: 'arraybuffer' },
    { path: '/json', type: 'blob' }, { path: '/xml', type: 'text' }, { path: '/latin' },
    { path: '/bytes', type: 'arraybuffer' }, { path: '/nothing' }, { path: '/html' },
    { path: '/conditional', conditional: '"one"' }, { path: '/json', sync: true },
]) {
    test(`XMLHttpRequest from the replica is as from the network: ${JSON.stringify(argument)}`, async () => {
        const [native, shimmed] = await Promise.all([on.application.url, on.sidecar.url].map((base) => repeated(base, observeXhr, argument)));
        // The version is a validator where the application gives none.
        assert.deepEqual(shimmed, native);
    });
}

test('a poll that is answered with an error is answered with that error', async () => {
    const [native, shimmed] = await both(() => new Promise((resolve) => {
        const said = [];
        const poll = () => {
            const xhr = new XMLHttpRequest();
            xhr.onloadend = () => said.push([xhr.status, xhr.statusText, xhr.responseText, xhr.getResponseHeader('x-own')]) > 6 && resolve(said);
            xhr.open('GET', '/conflict');
            xhr.send();
            fetch('/conflict').then(async (response) => said.push([response.status, response.ok, await response.text()]));
        };
        setInterval(poll, 250);
    }));
    assert.deepEqual(new Set(shimmed.map(String)), new Set(native.map(String)));
});

test('an upload goes its own way, with all that it says on it', async () => {
    const [native, shimmed] = await both(() => new Promise((resolve) => {
        const said = [];
        let uploads = 0;
        const upload = () => {
            const xhr = new XMLHttpRequest();
            for (const event of ['loadstart', 'load', 'loadend']) {
                xhr.upload.addEventListener(event, (seen) => said.push(['upload', event, seen.loaded, seen.total]));
                xhr.addEventListener(event, () => said.push([event, xhr.status, xhr.responseText]));
            }
            xhr.open('POST', '/upload');
            xhr.setRequestHeader('Content-Type', 'application/octet-stream');
            xhr.timeout = 10_000;
            xhr.onloadend = () => (++uploads < 3 ? setTimeout(upload, 300) : setTimeout(() => resolve(said), 0));
            xhr.send(new Uint8Array(100_000));
        };
        upload();
    }));
    assert.deepEqual(shimmed, native);
});

test('a request that takes too long times out, and one that cannot be made fails, as natively', async () => {
    const [native, shimmed] = await both(() => new Promise((resolve) => {
        const said = [];
        let open = 4;
        const ask = (url, timeout) => {
            const xhr = new XMLHttpRequest();
            for (const event of ['load', 'error', 'timeout', 'abort']) {
                xhr.addEventListener(event, () => said.push([url, event, xhr.readyState, xhr.status]));
            }
            xhr.onloadend = () => --open || resolve(said.sort());
            xhr.open('GET', url);
            xhr.timeout = timeout;
            xhr.send();
        };
        const asks = () => { ask('/never', 100); ask('http://127.0.0.1:1/', 0); };
        setTimeout(asks, 260);
        setTimeout(asks, 800);
    }));
    assert.deepEqual(shimmed, native);
});

async function observeFetch({ path, how, request }) {
    const init = { headers: { 'X-Own': 'b' } };
    const response = await fetch(...(request ? [new Request(path, init)] : [path, init]));
    const { status, statusText, ok, type, redirected, bodyUsed } = response;
    const clone = response.clone();
    const body = how === 'arrayBuffer' ? [...new Uint8Array(await response.arrayBuffer())].join()
        : how === 'blob' ? `${(await response.blob()).type}` : await response[how]();
    let again;
    try { await response.text(); } catch (error) { again = error.name; }
    return {
        status, statusText, ok, type, redirected, bodyUsed, body,
        // No body is never used up, where one from the network is empty.
        ...(status === 204 ? {} : { again, used: response.bodyUsed }),
        url: new URL(response.url).pathname, cloned: [new URL(clone.url).pathname, clone.type, (await clone.arrayBuffer()).byteLength],
        header: response.headers.get('X-Own'), kind: response instanceof Response, tag: String(response),
        contentType: response.headers.get('content-type'),
    };
}

for (const argument of [
    { path: '/json', how: 'json' }, { path: '/json', how: 'text', request: true }, { path: '/bytes', how: 'arrayBuffer' },
    { path: '/xml', how: 'blob' }, { path: '/nothing', how: 'text' }, { path: '/latin', how: 'arrayBuffer' },
]) {
    test(`fetch from the replica is as from the network: ${JSON.stringify(argument)}`, async () => {
        const [native, shimmed] = await Promise.all([on.application.url, on.sidecar.url].map((base) => repeated(base, observeFetch, argument)));
        assert.deepEqual(shimmed, native);
    });
}

test('requests can be reused and aborted, with an answer from the replica as with any other', async () => {
    const work = ({ path }) => new Promise((resolve) => {
        const said = [];
        const xhr = new XMLHttpRequest();
        let uses = 0;
        xhr.onreadystatechange = () => {
            if (xhr.readyState !== 3) {
                said.push([uses, xhr.readyState]);
            }
        };
        xhr.onabort = () => said.push([uses, 'abort', xhr.readyState, xhr.status, xhr.responseText]);
        xhr.onload = () => {
            said.push([uses, 'load', xhr.responseText]);
            uses += 1;
            if (uses === 1) {
                xhr.open('GET', path);
                xhr.send();
            } else {
                xhr.open('GET', path);
                xhr.send();
                xhr.abort();
                said.push(['after', xhr.readyState, xhr.status, xhr.responseText]);
                setTimeout(() => resolve(said), 50);
            }
        };
        xhr.open('GET', path);
        xhr.send();
    });
    const [native, shimmed] = [await repeated(on.application.url, work, { path: '/json' }), await (async () => {
        // What follows the first answer is not the timer's any more, and goes to the network.
        const page = await on.open('/empty');
        await page.evaluate((work) => {
            const observe = eval(`(${work})`);
            window.observed = [];
            setInterval(() => observe({ path: '/json' }).then((result) => observed.push(result)), 250);
        }, String(work));
        await page.waitForFunction(() => observed.length > 5);
        const result = await page.evaluate(() => observed.at(-1));
        assert.deepEqual(page.errors, []);
        await page.close();
        return result;
    })()];
    assert.deepEqual(shimmed, native);
});

test('a page that asks again at once does not stand still', async () => {
    const page = await on.open('/empty');
    await page.evaluate(() => {
        window.rounds = 0;
        window.beats = 0;
        setInterval(async () => {
            for (let n = 0; n < 5; n++) {
                await fetch('/json');
                rounds += 1;
            }
        }, 300);
        setInterval(() => (beats += 1), 100);
    });
    await page.waitForFunction(() => rounds > 30 && beats > 10);
    assert.deepEqual(page.errors, []);
    await page.close();
});

test('a page in quirks mode stays in it', async () => {
    const [native, shimmed] = await both(() => [document.compatMode, document.title, document.getElementById('count') !== null], '/quirks');
    assert.deepEqual(shimmed, native);
});
