// What the browser tests stand on: the demo as a program, Chromium, and waiting for conditions.

import { spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { chromium } from 'playwright-core';

/** How long anything that is expected may take before a test gives up. */
const PATIENCE = 20_000;

/** Waits until `condition` gives something, and returns that. For conditions that nothing announces. */
export async function eventually(what, condition, patience = PATIENCE) {
    const deadline = Date.now() + patience;
    for (;;) {
        const found = await condition();
        if (found) {
            return found;
        }
        if (Date.now() > deadline) {
            throw new Error(`gave up waiting for ${what}`);
        }
        await sleep(10);
    }
}

function program() {
    if (!process.env.SUNGRAZER) {
        throw new Error('SUNGRAZER must name the program; tests/run sees to it');
    }
    return process.env.SUNGRAZER;
}

/** Starts the program, and reads its lines until `ready` has what it needs of them. */
async function start(args, ready) {
    const child = spawn(program(), args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    for await (const line of createInterface({ input: child.stdout })) {
        if (ready(line)) {
            // What else it says is not to block it.
            child.stdout.resume();
            return async () => {
                child.kill('SIGTERM');
                await ended;
            };
        }
    }
    throw new Error(`it ended before it began: ${args.join(' ')}`);
}

/** Starts `sungrazer demo` on free ports, without readers and edits of its own unless `args` say otherwise. */
export async function startDemo(args = ['--readers', '0', '--edits', 'off']) {
    const links = {};
    const ports = ['--page', '--listen', '--backend', '--admin'].flatMap((flag) => [flag, '127.0.0.1:0']);
    const stop = await start(['demo', ...ports, '--for', '5m', ...args], (line) => {
        const [, name, url] = line.match(/^ {2}(open|polled|pushed|admin) +(http:\/\/[^/]+)\//) ?? [];
        if (name) {
            links[name] = url;
        }
        return links.admin;
    });
    return {
        ...links,
        stop,
        /** Saves `text` in the wiki, straight, so that Sungrazer only learns of it by looking. */
        async edit(text) {
            const saved = await fetch(`${links.polled}/wiki/text`, { method: 'POST', body: text });
            if (saved.status !== 204) {
                throw new Error(`not saved: ${saved.status}`);
            }
        },
    };
}

/** How many clients are held on `url` by `transport`. */
async function held(admin, url, transport) {
    const { resources } = await (await fetch(`${admin}/api/resources`)).json();
    return resources
        .filter((resource) => resource.url === url)
        .reduce((sum, resource) => sum + (resource.subscribers[transport] ?? 0), 0);
}

/** Starts Sungrazer in front of `upstream`, with these routes in TOML; `admin` is where its operators come in. */
export async function startSidecar(upstream, routes, listen = '127.0.0.1:0') {
    const folder = mkdtempSync(join(tmpdir(), 'sungrazer-sidecar-'));
    const file = join(folder, 'sungrazer.toml');
    writeFileSync(file, routes);
    let links;
    const args = ['run', '-c', file, '--upstream', upstream, '--listen', listen, '--admin', '127.0.0.1:0'];
    const stop = await start(args, (line) => {
        links = line.match(/ listen=(?<url>http:\S+) admin=(?<admin>http:\S+)/)?.groups;
        return links;
    });
    return {
        ...links,
        held: (url, transport) => held(links.admin, url, transport),
        /** How many streams are held. */
        async streams() {
            return (await (await fetch(`${links.admin}/api/resources`)).json()).streams;
        },
        /** Writes another configuration in place of the first. */
        configure(text) {
            writeFileSync(file, text);
        },
        async stop() {
            await stop();
            rmSync(folder, { recursive: true });
        },
    };
}

/** Starts Sungrazer by `--upstream` alone. */
export async function startUpstream(upstream) {
    let links;
    const stop = await start(['run', '--upstream', upstream, '--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0'], (line) => {
        links = line.match(/ listen=(?<url>http:\S+) admin=(?<admin>http:\S+)/)?.groups;
        return links;
    });
    return { ...links, stop };
}

function installed(...names) {
    for (const folder of process.env.PATH.split(delimiter)) {
        for (const name of names) {
            try {
                accessSync(join(folder, name), constants.X_OK);
                return join(folder, name);
            } catch {
                // Not there: the next one.
            }
        }
    }
    throw new Error('there is no Chromium here; tests/run installs it');
}

/** A part of the browser script, without its imports and exports. */
export function shimPart(name) {
    const text = readFileSync(new URL(`../../src/shim/js/${name}.js`, import.meta.url), 'utf8');
    return text.replace(/^import [^;]*;$/gm, '').replace(/^export /gm, '');
}

/** The browser script, made of its parts. */
export function shim() {
    const list = readFileSync(new URL('../../src/shim/script.rs', import.meta.url), 'utf8').matchAll(/include_str!\("js\/(.*?)\.js"\)/g);
    return `(() => {'use strict';${[...list].map(([, name]) => shimPart(name)).join('')}})();`;
}

/** Starts Chromium with an empty profile; it talks to nobody but the pages that it is sent to. */
export async function startBrowser({ patience = PATIENCE, ...options } = {}) {
    const profile = mkdtempSync(join(tmpdir(), 'sungrazer-browser-'));
    const context = await chromium.launchPersistentContext(profile, {
        executablePath: installed('chromium', 'chromium-browser', 'google-chrome'),
        headless: true,
        ...options,
        args: [
            '--no-sandbox',
            // A name that is here, and is not known to be.
            '--host-resolver-rules=MAP site.example 127.0.0.1',
            '--disable-gpu',
            '--disable-quic',
            '--no-first-run',
            '--disable-background-networking',
            '--disable-component-update',
            '--disable-sync',
        ],
    });
    if (process.env.SHIM_FROM_SOURCE) {
        // For those who work on the browser script: without building, but for the worker that tabs share.
        await context.route('**/shim.js?*', (route) => route.fulfill({ contentType: 'text/javascript', body: shim() }));
    }
    const own = new Set();
    return {
        /** Opens `url` in a page of its own. `page.errors` collects what goes wrong in it, `page.asked` what it asks for. */
        open: (url) => openIn(context, url, patience),
        /** Another user of the same browser, who shares neither cookies nor workers with anybody. */
        async user() {
            const other = await context.browser().newContext();
            own.add(other);
            other.on('close', () => own.delete(other));
            return { open: (url) => openIn(other, url, patience), leave: () => other.close() };
        },
        /** Closes all pages but the one that a browser begins with. */
        async clear() {
            await Promise.all(context.pages().slice(1).map((page) => page.close()));
        },
        async stop() {
            await Promise.all([...own].map((other) => other.close()));
            await context.close();
            rmSync(profile, { recursive: true, force: true });
        },
    };
}

async function openIn(context, url, patience) {
    const page = await context.newPage();
    page.errors = [];
    page.on('pageerror', (error) => page.errors.push(String(error)));
    page.asked = [];
    page.on('request', (request) => page.asked.push(new URL(request.url()).pathname));
    page.loads = 0;
    page.on('request', (request) => (page.loads += request.isNavigationRequest()));
    page.times = (path) => page.asked.filter((asked) => asked === path).length;
    page.setDefaultTimeout(patience);
    surviveReloads(page);
    await page.goto(url);
    return page;
}

/** Lets `page.evaluate` ask the next document where a page was loaded again meanwhile, which it may be at any moment. */
function surviveReloads(page) {
    const evaluate = page.evaluate.bind(page);
    page.evaluate = async (...asked) => {
        for (;;) {
            try {
                return await evaluate(...asked);
            } catch (error) {
                if (!String(error).includes('Execution context was destroyed')) {
                    throw error;
                }
            }
        }
    };
}
