// A legacy application: pages that poll, and what they poll. It knows nothing of push.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

const LIBRARIES = {
    '/lib/jquery.js': 'jquery/dist/jquery.js',
    '/lib/axios.js': 'axios/dist/axios.js',
    '/lib/htmx.js': 'htmx.org/dist/htmx.js',
    '/lib/htmx4.js': 'htmx4/dist/htmx.js',
    '/lib/turbo.js': '@hotwired/turbo/dist/turbo.es2017-umd.js',
};

/** Starts it. `pages` are bodies, or functions of a request and its answer, by path. */
export async function startLegacy(pages) {
    const legacy = {
        /** What is polled: any JSON value. */
        state: { count: 0 },
        /** Requests so far: method, URL, headers and body. */
        asked: [],
        pages,
        /** How often it was asked for `path`, by whom `by` says: the page itself, or anybody. */
        times(path, by = () => true) {
            return legacy.asked.filter((request) => request.path === path && by(request)).length;
        },
    };
    const server = createServer(async (request, answer) => {
        const url = new URL(request.url, 'http://legacy');
        let body = '';
        for await (const piece of request) {
            body += piece;
        }
        const seen = { method: request.method, path: url.pathname, url: request.url, headers: request.headers, body };
        legacy.asked.push(seen);
        const send = (status, type, text, headers = {}) => {
            answer.writeHead(status, { 'content-type': type, ...headers });
            answer.end(text);
        };
        const page = legacy.pages[url.pathname];
        if (typeof page === 'function') {
            page(seen, answer, send, legacy);
        } else if (page !== undefined) {
            send(200, 'text/html; charset=utf-8', page);
        } else if (LIBRARIES[url.pathname]) {
            send(200, 'text/javascript', readFileSync(new URL(`node_modules/${LIBRARIES[url.pathname]}`, import.meta.url)));
        } else if (url.pathname.startsWith('/state')) {
            send(200, 'application/json', JSON.stringify(legacy.state), { 'cache-control': 'no-store' });
        } else {
            send(404, 'text/plain', 'There is nothing here.');
        }
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    legacy.url = `http://127.0.0.1:${server.address().port}`;
    legacy.stop = () => new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
    });
    return legacy;
}

/** Whether a request is one of Sungrazer's own looks. */
export const isLook = (request) => /^sungrazer\//.test(request.headers['user-agent']);

/** Whether a page made it. */
export const isPoll = (request) => !isLook(request);

/** A page with `script`, and `draw(state)` for it to call. */
export function page(script, head = '') {
    return `<!doctype html><html><head><meta charset="utf-8"><title>Legacy</title>${head}</head>
<body><output id="count"></output>
<script>
window.drawn = [];
window.draws = 0;
function draw(state) {
    draws += 1;
    document.getElementById('count').textContent = state.count;
    drawn.push({ at: performance.now(), count: state.count });
}
${script}
</script></body></html>`;
}
