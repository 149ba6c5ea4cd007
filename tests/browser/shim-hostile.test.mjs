// Pages that meddle with what the browser script stands on. Whatever worked before works with it, and looks the same.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { DRAWS, page } from './application.mjs';
import { stage } from './stage.mjs';

const POLL = `
    const poll = () => fetch('/state').then((r) => r.json()).then(draw);
    poll(); setInterval(poll, 300);`;

const POLL_XHR = `
    function poll() {
        const xhr = new XMLHttpRequest();
        xhr.onload = () => { draw(JSON.parse(xhr.responseText)); setTimeout(poll, 300); };
        xhr.open('GET', '/state');
        xhr.send();
    }
    poll();`;

const BOTH = `${POLL}(() => {${POLL_XHR}})();`;

/** What each page does before it polls; `said` is what it says of itself. */
const MEDDLING = {
    'natives that are replaced by others': `
        const { fetch: asks, XMLHttpRequest: Xhr, Promise: Native, setTimeout: sets, MessageChannel: Channel } = window;
        window.fetch = (...args) => asks(...args).then((response) => response);
        window.XMLHttpRequest = class extends Xhr { open(...args) { return super.open(...args); } };
        window.Promise = class extends Native {};
        window.setTimeout = (...args) => sets(...args);
        for (const name of ['Response', 'Headers', 'Request', 'URL', 'Event', 'ProgressEvent', 'TextEncoder', 'TextDecoder', 'MessageChannel']) {
            window[name] = class { constructor() { throw new Error(name + ' is not what it was'); } };
        }`,
    'natives that are frozen': `
        for (const name of ['Object', 'Array', 'Function', 'Promise', 'Error', 'XMLHttpRequest', 'Response', 'Headers', 'Event', 'EventTarget', 'Map', 'Set', 'Date', 'JSON']) {
            Object.freeze(window[name]);
            if (window[name].prototype) Object.freeze(window[name].prototype);
        }`,
    'prototypes with things added to them': `
        for (const name of ['get', 'set', 'value', 'extra', 'signal', 'polls', 'answered']) {
            Object.defineProperty(Object.prototype, name, { value: undefined, writable: true, configurable: true, enumerable: name === 'extra' });
        }
        Array.prototype.toJSON = function () { return String(this); };
        Array.prototype.each = function () {};
        Function.prototype.bind = function () { throw new Error('bound'); };`,
    'stacks that are formatted otherwise': `
        Error.prepareStackTrace = (error, sites) => sites;
        Error.stackTraceLimit = 0;`,
    'stacks that throw': `
        Error.prepareStackTrace = () => { throw new Error('no stack'); };`,
    'ports that are broken': `
        MessagePort.prototype.postMessage = () => { throw new Error('no port'); };
        SharedWorker.prototype.addEventListener = () => { throw new Error('no worker'); };`,
    'a clock that stands still': `
        Date.now = () => 1000;
        performance.now = () => 1;`,
    'XMLHttpRequest with properties of its own': `
        const Xhr = XMLHttpRequest;
        window.XMLHttpRequest = function () {
            const xhr = new Xhr();
            const text = Object.getOwnPropertyDescriptor(Xhr.prototype, 'responseText').get;
            Object.defineProperty(xhr, 'responseText', { get() { return text.call(this).trim(); } });
            return xhr;
        };`,
    'a global of the same name': `
        var sungrazer = 'mine';
        said.push(sungrazer);`,
    'a document that is written anew': `
        addEventListener('load', () => {
            const before = window.drawn;
            document.open();
            document.write('<!doctype html><title>Anew</title><output id=count></output><script>said.push(document.title)</scr' + 'ipt>');
            document.close();
        });`,
    'functions that are looked at': `
        for (const f of [fetch, setTimeout, setInterval, clearTimeout, XMLHttpRequest.prototype.open, Response.prototype.json, requestIdleCallback]) {
            said.push([f.name, f.length, /\\[native code\\]/.test(Function.prototype.toString.call(f)), typeof f, Object.keys(f).length]);
        }
        said.push(Object.keys(window).filter((name) => /sungrazer/i.test(name)).length, XMLHttpRequest.prototype.constructor === XMLHttpRequest);
        for (const name of ['fetch', 'setTimeout', 'requestIdleCallback']) {
            const { writable, enumerable, configurable } = Object.getOwnPropertyDescriptor(window, name);
            said.push([writable, enumerable, configurable]);
        }`,
    'rejections that nobody handles': `
        addEventListener('unhandledrejection', (event) => { said.push('unhandled'); event.preventDefault(); });
        fetch('http://127.0.0.1:1/').catch(() => said.push('handled'));
        setTimeout(() => fetch('/nowhere', { method: 'BAD METHOD' }).catch((error) => said.push(error.name)), 260);`,
    'headers that can be read only once': `
        setTimeout(() => fetch('/headers', { headers: new Map([['x-own', 'once']]).entries() }).then((r) => r.text()).then((text) => said.push(text)), 260);`,
};

const POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'";

const XHTML = `<?xml version="1.0" encoding="utf-8"?>
<html xmlns="http://www.w3.org/1999/xhtml"><head><title>XHTML</title></head>
<body><output id="count"/><script>//<![CDATA[
window.said = [document.contentType, document.title, document.documentElement.nodeName];
${DRAWS}${BOTH}
//]]></script></body></html>`;

const pages = Object.values(MEDDLING).map((meddling) => page(BOTH, `<script>window.said = [];${meddling}</script>`));

const on = stage({
    ...Object.fromEntries(pages.map((body, number) => [`/page${number}`, body])),
    '/headers': (request, send) => send(200, 'text/plain', `${request.headers['x-own']}`),
    '/script.js': (request, send) => send(200, 'text/javascript', `window.said = [];${DRAWS}${BOTH}`),
    '/strict': (request, send) => send(200, 'text/html', '<title>Strict</title><output id=count></output><script src=/script.js></script>', { 'content-security-policy': POLICY }),
    '/typed': (request, send) => send(200, 'text/html', page(`
        window.said = [];
        document.addEventListener('securitypolicyviolation', (event) => said.push(event.effectiveDirective));
        ${BOTH}`), { 'content-security-policy': "require-trusted-types-for 'script'" }),
    '/unconnected': (request, send) => send(200, 'text/html', page(`
        window.said = [];
        const poll = () => fetch('/state').then(() => said.push('answered'), () => draw({ count: 'refused' }));
        poll(); setInterval(poll, 300);`), { 'content-security-policy': "connect-src 'none'" }),
    '/xhtml': (request, send) => send(200, 'application/xhtml+xml', XHTML),
    '/sandboxed': (request, send) => send(200, 'text/html', page(`
        window.said = [];
        addEventListener('unhandledrejection', (event) => said.push(String(event.reason)));
        setInterval(() => draw({ count: location.pathname }), 300);`), { 'content-security-policy': 'sandbox allow-scripts' }),
    '/frame-page': page(`window.said = [];
        addEventListener('unhandledrejection', (event) => parent.postMessage(String(event.reason), '*'));
        setInterval(() => parent.postMessage('tick', '*'), 300);`),
    '/sandboxed-frame': page(`
        window.said = [];
        addEventListener('message', ({ data }) => (data === 'tick' ? draw({ count: 'ticks' }) : said.push(data)));`)
        .replace('<output', '<iframe sandbox="allow-scripts" src="/frame-page"></iframe><output'),
});

/** What a page is after it has drawn some times, and after a change. */
async function observe(page, changes) {
    await page.waitForFunction(() => window.draws > 6);
    const seen = await page.evaluate(() => ({ said, title: document.title, mode: document.compatMode }));
    if (changes) {
        const count = on.change();
        await page.waitForFunction((count) => drawn.slice(-2).every((drawn) => drawn.count === count), count);
    }
    return { ...seen, errors: page.errors };
}

async function compare(path, changes = true) {
    const plain = await on.openPlain(path);
    const native = await observe(plain, changes);
    await plain.close();
    const shimmed = await observe(await on.open(path), changes);
    assert.deepEqual(shimmed, native);
    return shimmed;
}

for (const [number, name] of Object.keys(MEDDLING).entries()) {
    test(`a page with ${name} goes on as before`, () => compare(`/page${number}`));
}

for (const path of ['/strict', '/typed', '/xhtml']) {
    test(`${path}: goes on as before`, () => compare(path));
}

for (const path of ['/unconnected', '/sandboxed', '/sandboxed-frame']) {
    test(`${path}: goes on as before`, async () => {
        const { said, errors } = await compare(path, false);
        assert.deepEqual([said, errors], [[], []]);
    });
}

test('a request that is answered from the replica throws as any other where it is misused', async () => {
    const misuse = () => new Promise((resolve) => {
        const said = [];
        const xhr = new XMLHttpRequest();
        const tries = (work) => { try { work(); said.push('did'); } catch (error) { said.push(error.name, error.message); } };
        xhr.open('GET', '/state');
        xhr.send();
        tries(() => xhr.send());
        tries(() => xhr.setRequestHeader('x-late', '1'));
        xhr.onload = () => {
            tries(() => xhr.send());
            tries(() => xhr.setRequestHeader('x-late', '1'));
            said.push(xhr.readyState, xhr.status);
            resolve(said);
        };
    });
    const results = await Promise.all([on.openPlain('/page0'), on.open('/page0')].map(async (opening) => {
        const page = await opening;
        return page.evaluate((misuse) => new Promise((resolve) => {
            const work = eval(`(${misuse})`);
            let rounds = 0;
            setInterval(() => work().then((said) => ++rounds > 4 && resolve(said)), 300);
        }), String(misuse));
    }));
    assert.deepEqual(results[1], results[0]);
});
