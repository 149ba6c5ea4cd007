// An application without any push, scripted by a test: pages, the files of client libraries, and what it was asked.

import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname } from 'node:path';

const TYPES = { '.js': 'text/javascript' };

/** A file below `node_modules`; modules may be named without their ending, as bundlers let them. */
async function library(path) {
    const name = extname(path) ? path : `${path}.js`;
    const file = new URL(`node_modules/${name}`, import.meta.url);
    return { type: TYPES[extname(name)], body: await readFile(file) };
}

/** Starts it on a port of its own. */
export async function startBackend() {
    const pages = new Map();
    const asked = [];
    const server = createServer(async (request, response) => {
        const { pathname } = new URL(request.url, 'http://site.example');
        const chunks = await request.toArray();
        asked.push({ method: request.method, path: pathname, headers: request.headers, body: Buffer.concat(chunks).toString() });
        const page = pathname.startsWith('/lib/') ? await library(pathname.slice(5)) : pages.get(pathname);
        const { status = 200, type, body, headers } = page ?? { status: 404, type: 'text/plain', body: 'no such page' };
        response.writeHead(status, { 'Content-Type': type, 'Content-Length': Buffer.byteLength(body), ...headers });
        response.end(body);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return {
        url: `http://127.0.0.1:${server.address().port}`,
        /** What it says at `path` from now on. */
        set(path, type, body, more = {}) {
            pages.set(path, { type, body, ...more });
        },
        /** The requests for `path` so far. */
        asked: (path) => asked.filter((request) => request.path === path),
        async stop() {
            server.close();
            server.closeAllConnections();
            await once(server, 'close');
        },
    };
}
