// Real applications, as they are installed, each on free ports and with its state in a folder of its own.

import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { createHash } from 'node:crypto';
import { join } from 'node:path';

import { eventually } from '../support.mjs';

/** A port that nobody has. */
export function vacant() {
    return new Promise((resolve) => {
        const server = createServer().listen(0, '127.0.0.1', () => {
            const { port } = server.address();
            server.close(() => resolve(port));
        });
    });
}

/** What runs, so that nothing is left of an application that could not be started as a whole. */
const started = new Set();

/** Runs a program until it is stopped. */
export function runs(program, args, options = {}) {
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'ignore'], ...options });
    const ended = new Promise((resolve) => {
        child.once('exit', resolve);
        child.once('error', resolve);
    });
    const stop = async () => {
        child.kill('SIGTERM');
        const late = setTimeout(() => child.kill('SIGKILL'), 10_000);
        await ended;
        clearTimeout(late);
        started.delete(stop);
    };
    started.add(stop);
    return stop;
}

/** Stops whatever still runs, what was started last first. */
export async function stopAll() {
    for (const stop of [...started].reverse()) {
        await stop();
    }
}

export const listens = (port) => new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
        socket.destroy();
        resolve(true);
    }).once('error', () => resolve(false));
});

export const output = (program, args, options) => new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit'], ...options });
    child.once('error', reject).once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`${program} ended with ${code}`))));
});

const venv = (name, program) => join(process.env[`${name}_VENV`] ?? '', 'bin', program);

/** A metainfo file (BEP 3) of a file that nobody shares. */
export function torrent(name) {
    const data = Buffer.from(name.repeat(2000)).subarray(0, 20000);
    const pieces = Buffer.concat([0, 16384].map((at) => createHash('sha1').update(data.subarray(at, at + 16384)).digest()));
    const text = (value) => Buffer.concat([Buffer.from(`${value.length}:`), Buffer.from(value)]);
    const info = Buffer.concat([
        Buffer.from('d'), text('length'), Buffer.from(`i${data.length}e`), text('name'), text(name),
        text('piece length'), Buffer.from('i16384e'), text('pieces'), text(pieces), text('private'), Buffer.from('i1e'), Buffer.from('e'),
    ]);
    return Buffer.concat([Buffer.from('d'), text('announce'), text('http://127.0.0.1:9/announce'), text('info'), info, Buffer.from('e')]);
}

/** What a request came to, if that is what it should. */
export async function done(answer, ...statuses) {
    const text = await answer.text();
    if (!statuses.includes(answer.status)) {
        throw new Error(`${answer.url}: ${answer.status} ${text.slice(0, 200)}`);
    }
    return text;
}

/** Looks as often as one's own patience asks for. */
const OFTEN = '[[route]]\npath = "/**"\nshim = "learn"\nevery = "250ms"\n';

/**
 * Each has a page that polls every `interval` milliseconds, something that is to be seen there (`value`), and two ways to
 * change that: `change`, behind its back, and `write`, by a request to `base`, as its own pages make them. `routes` are
 * those that it needs to be followed at all; `tuned`, what one would write to have it followed well.
 */
export const apps = {
    'rq-dashboard': {
        needs: ['redis-server', venv('RQ', 'rq-dashboard')],
        path: '/',
        interval: 2500,
        polls: 'XMLHttpRequest, setTimeout after completion, 2.5 s',
        tuned: () => OFTEN,
        value: () => document.querySelector('#queues tbody tr td:nth-child(2)')?.innerText,
        async start(folder, port) {
            const redis = await vacant();
            const stops = [runs('redis-server', ['--port', redis, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', folder])];
            await eventually('redis', () => listens(redis));
            stops.push(runs(venv('RQ', 'rq-dashboard'), ['--bind', '127.0.0.1', '--port', port, '--redis-url', `redis://127.0.0.1:${redis}`]));
            const code = `from redis import Redis; from rq import Queue\nQueue("default", connection=Redis(port=${redis})).enqueue("time.sleep", 1)`;
            const change = () => output(venv('RQ', 'python'), ['-c', code]);
            const write = async (base) => {
                const { jobs: [{ id }] } = JSON.parse(await done(await fetch(`${base}/0/data/jobs/default/queued/1/asc/1.json`), 200));
                await done(await fetch(`${base}/job/${id}/delete`, { method: 'POST' }), 200);
            };
            await change();
            return { change, write, stops };
        },
    },
    haproxy: {
        needs: ['haproxy'],
        path: '/stats',
        interval: 5000,
        polls: 'Refresh header, 5 s',
        // Its counters change with every fetch. These are what its log advises to ignore.
        tuned: () => `${OFTEN}ignore = { css = ["tr > td > p", "table.det > tr > td", "td.ac", "tr.frontend > td", "tr.backend > td"] }\n`,
        credentials: { username: 'admin', password: 'ha' },
        value: () => `${(document.body.innerText.match(/\bMAINT\b/g) || []).length}/${document.querySelectorAll('tr.maintain').length}`,
        async start(folder, port) {
            const socket = join(folder, 'admin.sock');
            writeFileSync(join(folder, 'haproxy.cfg'), `
global
  maxconn 200
  stats socket ${socket} mode 600 level admin
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
listen stats
  bind 127.0.0.1:${port}
  stats enable
  stats uri /stats
  stats refresh 5s
  stats auth admin:ha
  stats admin if TRUE
backend app
  server s1 127.0.0.1:9 weight 10
  server s2 127.0.0.1:9 weight 20
`);
            let down = false;
            const change = () => new Promise((resolve, reject) => {
                down = !down;
                const client = connect(socket, () => client.end(`${down ? 'disable' : 'enable'} server app/s1\n`));
                client.once('error', reject).once('close', resolve).resume();
            });
            const write = async (base) => {
                down = !down;
                const body = new URLSearchParams({ s: 's1', action: down ? 'maint' : 'ready', b: '#3' });
                const headers = { authorization: `Basic ${btoa('admin:ha')}` };
                await done(await fetch(`${base}/stats`, { method: 'POST', headers, body, redirect: 'manual' }), 303);
            };
            return { change, write, stops: [runs('haproxy', ['-W', '-db', '-f', join(folder, 'haproxy.cfg')])] };
        },
    },
    transmission: {
        needs: ['transmission-daemon'],
        path: '/transmission/web/',
        interval: 5000,
        polls: 'POST of JSON-RPC, 5 s; its answers are deltas, so only a tick can hurry it',
        // None of its requests can be answered by anybody else.
        genuine: true,
        value: () => document.querySelectorAll('#torrent_list > li').length || null,
        // The application keeps each torrent in a file: that is the trigger.
        routes: (folder) => `[[route]]\npath = "/transmission/rpc"\nmethods = ["POST"]\nfetch = false\nwatch_files = ["${folder}/cfg/torrents/*"]\n`,
        async start(folder, port) {
            mkdirSync(join(folder, 'cfg', 'torrents'), { recursive: true });
            const peer = await vacant();
            writeFileSync(join(folder, 'cfg', 'settings.json'), JSON.stringify({
                'rpc-enabled': true, 'rpc-bind-address': '127.0.0.1', 'rpc-port': port, 'rpc-whitelist-enabled': false,
                'rpc-authentication-required': false, 'peer-port': peer, 'bind-address-ipv4': '127.0.0.1', 'bind-address-ipv6': '::1',
                'dht-enabled': false, 'lpd-enabled': false, 'pex-enabled': false, 'utp-enabled': false,
                'port-forwarding-enabled': false, 'download-dir': join(folder, 'dl'), 'start-added-torrents': false, 'message-level': 1,
            }));
            const stops = [runs('transmission-daemon', ['-f', '-g', join(folder, 'cfg')])];
            await eventually('transmission', () => listens(port));
            const rpc = `http://127.0.0.1:${port}/transmission/rpc`;
            let count = 0;
            const write = async (base) => {
                const url = new URL(rpc).pathname;
                const session = (await fetch(`${base}${url}`)).headers.get('x-transmission-session-id');
                const metainfo = torrent(`file-${count++}.bin`).toString('base64');
                const body = JSON.stringify({ method: 'torrent-add', arguments: { paused: true, metainfo } });
                const answer = await fetch(`${base}${url}`, { method: 'POST', headers: { 'x-transmission-session-id': session }, body });
                const { result } = JSON.parse(await done(answer, 200));
                if (result !== 'success') {
                    throw new Error(`transmission: ${result}`);
                }
            };
            const change = () => write(new URL(rpc).origin);
            await change();
            return { change, write, stops };
        },
    },
    jupyterlab: {
        needs: [venv('JUPYTER', 'jupyter-lab')],
        path: '/lab?token=tok',
        interval: 10_000,
        polls: 'fetch with a bare number as cache buster, 10 s and more',
        // Each tab saves how its windows are arranged each time that it has asked. Nobody else can do that, and what is asked
        // for after a write must not be older.
        writes: true,
        value: () => document.querySelector('.jp-DirListing-content') && document.querySelectorAll('.jp-DirListing-item').length,
        async start(folder, port) {
            const files = join(folder, 'files');
            mkdirSync(files);
            const env = {
                ...process.env, HOME: folder, JUPYTER_CONFIG_DIR: join(folder, 'config'), JUPYTER_DATA_DIR: join(folder, 'data'),
                JUPYTER_RUNTIME_DIR: join(folder, 'runtime'),
            };
            const args = ['--allow-root', '--no-browser', '--ip=127.0.0.1', `--port=${port}`, '--ServerApp.port_retries=0', '--IdentityProvider.token=tok', `--ServerApp.root_dir=${files}`];
            let count = 0;
            const change = async () => writeFileSync(join(files, `file-${count++}.txt`), 'text');
            const write = async (base) => {
                const name = `file-${count++}.txt`;
                const body = JSON.stringify({ type: 'file', format: 'text', content: 'text' });
                const headers = { authorization: 'token tok', 'content-type': 'application/json' };
                await done(await fetch(`${base}/api/contents/${name}`, { method: 'PUT', headers, body }), 201);
            };
            await change();
            return { change, write, stops: [runs(venv('JUPYTER', 'jupyter-lab'), args, { env })] };
        },
    },
};

/** What a page of an application shows now, in whichever frame. */
export async function value(page, app) {
    for (const frame of page.frames()) {
        const found = await frame.evaluate(app.value).catch(() => undefined);
        if (found !== undefined && found !== null) {
            return String(found);
        }
    }
    return undefined;
}

/** Waits until an application answers. */
export const answers = (url) => eventually(`${url} to answer`, async () => {
    const answer = await fetch(url, { redirect: 'manual' }).catch(() => undefined);
    await answer?.text();
    return answer;
}, 180_000);
