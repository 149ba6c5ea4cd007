// What clients and the application make up is shown to operators on the dashboard: none of it may run there, lead away from
// it, pretend to be something else, or push the rest off the page.

import assert from 'node:assert/strict';
import { createServer, request } from 'node:http';
import { after, before, test } from 'node:test';

import { eventually, startBrowser, startSidecar } from './support.mjs';

const PAYLOADS = [
    '<img src=x onerror=alert(1)>',
    '</script><script>alert(1)</script>',
    '"><svg onload=alert(1)>',
    "' autofocus onfocus='alert(1)",
    'javascript:alert(1)',
    '{{constructor.constructor("alert(1)")()}}',
    '${alert(1)}',
    '\u2028alert(1)\u2029',
    '\u202Egnp.eli\u2066f',
    '__proto__',
];

const LONG = 'x'.repeat(6000);

const quoted = (text) => JSON.stringify(text).replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);

// A pattern is a path, so it holds no angle brackets as they are; a route can be called much else.
const ROUTES = `[[route]]
path = "/api/**"
every = "200ms"
every_max = "400ms"
[[route]]
path = "/a<img src=x onerror=alert(1)>/**"
every = "200ms"
every_max = "400ms"
ignore = { regex = [${quoted('<img src=x onerror=alert(1)>')}] }
`;

let application;
let sidecar;
let browser;
const held = [];

/** An application that answers with what attackers wrote, in its body, its headers and its status line. */
async function startApplication() {
    let round = 0;
    let broken = false;
    const server = createServer((asked, response) => {
        round += 1;
        const payload = PAYLOADS[round % PAYLOADS.length];
        const headers = { 'Content-Type': 'text/html', 'X-Evil': encodeURI(payload), ETag: `"<script>alert(${round})</script>"` };
        if (asked.url.includes('vary')) headers.Vary = '<img-src=x>, X-<script>, X-Img-Onerror';
        if (asked.url.includes('private')) headers['Cache-Control'] = 'private="<script>alert(1)</script>"';
        response.writeHead(broken ? 503 : 200, '<img src=x onerror=alert(1)>', headers);
        response.end(`${payload}${PAYLOADS.join('\n')}${round}`);
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    return {
        url: `http://127.0.0.1:${server.address().port}`,
        fail: (on) => {
            broken = on;
        },
        stop: () => {
            server.closeAllConnections();
            server.close();
        },
    };
}

/** Asks as no browser would: with this target and these headers, as they are. Returns the status. */
function hold(path, headers = {}) {
    const { hostname, port } = new URL(sidecar.url);
    return new Promise((resolve, reject) => {
        const asked = request({ hostname, port, path, headers: { Accept: 'text/event-stream', ...headers } }, (response) => {
            response.resume();
            response.on('error', () => {});
            resolve(response.statusCode);
        });
        asked.on('error', reject);
        asked.end();
        held.push(asked);
    });
}

before(async () => {
    application = await startApplication();
    sidecar = await startSidecar(application.url, ROUTES);
    browser = await startBrowser();
    for (const [number, payload] of PAYLOADS.entries()) {
        const encoded = encodeURIComponent(payload);
        await hold(`/api/${number}?q=${encoded}`, { Cookie: `sid=${encoded}`, 'User-Agent': payload.replace(/[^\x20-\x7e]/g, '') });
        // What a URL can hold without being encoded.
        await hold(`/api/${number}?${payload.replace(/[^\x21-\x7e]|[#]/g, '')}`, { Host: `x${number}.example` });
    }
    await hold(`/api/long/${LONG}`);
    await hold(`/api/spaceless?${'%E2%80%AE'.repeat(200)}`);
    await hold('/api/vary?vary');
    await hold('/api/private?private');
});

after(async () => {
    held.forEach((asked) => asked.destroy());
    await browser?.stop();
    await sidecar?.stop();
    application?.stop();
});

/** Opens the dashboard, and takes note of whatever ran, was asked for, or was forbidden. */
async function open() {
    const page = await browser.open('about:blank');
    page.seen = [];
    page.on('dialog', async (dialog) => {
        page.seen.push(`dialog: ${dialog.message()}`);
        await dialog.dismiss();
    });
    page.on('request', (asked) => {
        if (!asked.url().startsWith(sidecar.admin)) page.seen.push(`request: ${asked.url().slice(0, 200)}`);
    });
    page.on('framenavigated', (frame) => {
        if (!frame.url().startsWith(`${sidecar.admin}/`)) page.seen.push(`navigated: ${frame.url().slice(0, 200)}`);
    });
    page.on('console', (line) => {
        if (/Content Security Policy/i.test(line.text())) page.seen.push(`policy: ${line.text()}`);
    });
    await page.addInitScript(() => {
        window.alert = (text) => console.log(`ran: ${text}`);
    });
    page.on('console', (line) => {
        if (line.text().startsWith('ran: ')) page.seen.push(line.text());
    });
    await page.setViewportSize({ width: 1280, height: 900 });
    await page.goto(`${sidecar.admin}/`);
    await page.locator('#connection.live').waitFor();
    return page;
}

/** Elements that nobody but an attacker would put there, and attributes that run. */
const foreign = (page) =>
    page.evaluate(() => {
        const all = [...document.querySelectorAll('body *')];
        const runs = all.filter((element) => [...element.attributes].some(({ name }) => name.startsWith('on')));
        const leads = [...document.querySelectorAll('body [href], body [src], body [action], body [formaction]')].filter((element) =>
            ['href', 'src', 'action', 'formaction'].some((name) => /^\s*(javascript|data|vbscript|https?):/i.test(element.getAttribute(name) ?? '')),
        );
        const made = [...document.querySelectorAll('body img, body iframe, body object, body embed, body script:not([src])')];
        return [...runs, ...leads, ...made].map((element) => element.outerHTML.slice(0, 200));
    });

test('nothing that clients or the application made up runs on the dashboard', async () => {
    const page = await open();
    await eventually('all of them to be shown', async () => (await page.locator('#resources tr').count()) >= PAYLOADS.length * 2);
    application.fail(true);
    await page.locator('#resources .badge.stale').first().waitFor();
    assert.match(await page.locator('#resources').innerText(), /onerror=alert\(1\)|%3Cimg/, 'it is shown as what it is');
    application.fail(false);
    await page.locator('#changes li').nth(20).waitFor();
    assert.deepEqual(await foreign(page), []);
    // What each of them is like, in the dialog.
    const links = page.locator('#resources a');
    for (let at = 0; at < (await links.count()); at += 1) {
        await links.nth(at).evaluate((link) => link.click());
        await page.locator('#why-body table, #why-body p').first().waitFor();
        await page.locator('#why-body :text("Asking")').waitFor({ state: 'detached' });
        assert.deepEqual(await foreign(page), []);
        await page.keyboard.press('Escape');
    }
    for (const payload of PAYLOADS) await page.getByRole('searchbox').fill(payload);
    await page.getByRole('searchbox').fill('');
    assert.deepEqual(page.seen, []);
    assert.deepEqual(page.errors, []);
    await page.close();
});

test('no URL pushes the rest off the page, or turns it round', async () => {
    const page = await open();
    for (const size of [{ width: 1280, height: 900 }, { width: 390, height: 844 }]) {
        await page.setViewportSize(size);
        await page.locator('#resources tr').first().waitFor();
        const width = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(width <= size.width, `${width} px wide on ${size.width}`);
        const tallest = await page.evaluate(() =>
            Math.max(...[...document.querySelectorAll('#resources tr, #changes li')].map((row) => row.getBoundingClientRect().height)),
        );
        assert.ok(tallest <= size.height, `a row of ${tallest} px`);
    }
    // Characters that turn the direction are shown within their own cell alone.
    const isolated = await page.evaluate(() =>
        ['#resources td', '#changes .path', '#changes .because', '#routes td'].every((cells) =>
            [...document.querySelectorAll(cells)].every((cell) => /isolate|plaintext/.test(getComputedStyle(cell).unicodeBidi)),
        ),
    );
    assert.ok(isolated, 'text of others can turn what stands beside it');
    await page.close();
});

test('the answers themselves are taken for nothing else', async () => {
    const page = await browser.open('about:blank');
    page.seen = [];
    page.on('dialog', async (dialog) => {
        page.seen.push(dialog.message());
        await dialog.dismiss();
    });
    const payload = encodeURIComponent('<script>alert(1)</script>');
    for (const path of ['/', '/api/resources', '/api/state', '/metrics', `/api/why?url=${payload}`, `/${payload}`, '/dashboard.js']) {
        const answer = await page.request.get(`${sidecar.admin}${path}`);
        const headers = answer.headers();
        assert.equal(headers['x-content-type-options'], 'nosniff', path);
        assert.match(headers['content-security-policy'], /default-src 'none'/, path);
        assert.match(headers['content-security-policy'], /frame-ancestors 'none'/, path);
        assert.ok(!/unsafe/.test(headers['content-security-policy']), path);
        if (path === '/') continue;
        assert.ok(!headers['content-type'].startsWith('text/html'), path);
        // Some of them a browser does not even show.
        await page.goto(`${sidecar.admin}${path}`).catch((error) => assert.match(String(error), /Download is starting/));
    }
    assert.deepEqual(page.seen, []);
    await page.close();
});
