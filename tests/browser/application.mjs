// An application without any push, scripted by a test: pages, what they poll, the files of client libraries, and what it
// was asked.

import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname } from 'node:path';

/** Where the libraries are that are too old to be on npm, as Debian has them. */
const DEBIAN = new URL('file:///usr/share/javascript/');

/**
 * A file below `node_modules`, or of Debian's; modules may be named without their ending, as bundlers let them.
 */
async function library(path) {
    const name = extname(path) ? path : `${path}.js`;
    const url = name.startsWith('debian/') ? new URL(name.slice(7), DEBIAN) : new URL(`node_modules/${name}`, import.meta.url);
    return { type: 'text/javascript', body: await readFile(url) };
}

/**
 * Starts it on a port of its own. `pages` are given by path: HTML, a function of a request and `send`, or what
 * `application.set` makes. `/state…` is whatever `state` holds, `/lib/…` what is installed.
 */
export async function startApplication(pages = {}) {
    const application = {
        /** What is polled: any JSON value. */
        state: { count: 0 },
        /** Requests so far: method, path, URL, headers and body. */
        asked: [],
        /** What it says at `path` from now on. */
        set(path, type, body, more = {}) {
            pages[path] = { type, body, ...more };
        },
        /** The requests for `path` so far, as far as `by` says: those of pages, or Sungrazer's own. */
        askedFor: (path, by = () => true) => application.asked.filter((request) => request.path === path && by(request)),
    };
    const server = createServer(async (request, response) => {
        const { pathname: path } = new URL(request.url, 'http://site.example');
        const pieces = await request.toArray().catch(() => undefined);
        if (!pieces) {
            // Whoever asked has left.
            return;
        }
        const body = Buffer.concat(pieces).toString();
        const seen = { method: request.method, path, url: request.url, headers: request.headers, body };
        application.asked.push(seen);
        const send = (status, type, body, headers = {}) => {
            const length = status === 204 || status === 304 ? {} : { 'content-length': Buffer.byteLength(body) };
            response.writeHead(status, { 'content-type': type, ...length, ...headers });
            response.end(body);
        };
        const page = path.startsWith('/lib/') ? await library(path.slice(5)) : pages[path];
        if (typeof page === 'function') {
            page(seen, send, application);
        } else if (typeof page === 'string') {
            send(200, 'text/html; charset=utf-8', page);
        } else if (page) {
            send(page.status ?? 200, page.type, page.body, page.headers);
        } else if (path.startsWith('/state')) {
            send(200, 'application/json', JSON.stringify(application.state), { 'cache-control': 'no-store' });
        } else {
            send(404, 'text/plain', 'There is nothing here.');
        }
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    application.url = `http://127.0.0.1:${server.address().port}`;
    application.server = server;
    application.stop = async () => {
        server.close();
        server.closeAllConnections();
        await once(server, 'close');
    };
    return application;
}

/** Whether a request is one of Sungrazer's own looks. */
export const isLook = (request) => /;q=/.test(request.headers['accept-encoding']);

/** A page with `script`, and `draw(state)` for it to call. */
export function page(script, head = '') {
    return `<!doctype html><html><head><meta charset="utf-8"><title>Legacy</title>${head}</head>
<body><output id="count"></output>
<script>
${DRAWS}
${script}
</script></body></html>`;
}

/** What pages draw with. */
export const DRAWS = `
window.drawn = [];
window.draws = 0;
function draw(state) {
    draws += 1;
    document.getElementById('count').textContent = state.count;
    drawn.push({ at: performance.now(), count: state.count });
}`;
