// More real applications, each with what it takes to sign in to it. See apps.mjs for the first, which are also timed.

import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { eventually } from '../support.mjs';
import { done, listens, output, runs, torrent, vacant } from './apps.mjs';

const venv = (name) => join(process.env.APPS_VENVS ?? '', name, 'bin');

/** Asks an application itself, and fails where it refuses. */
const ask = async (url, options, ...statuses) => done(await fetch(url, { redirect: 'manual', ...options }), ...statuses);

const basic = (user, password) => ({ authorization: `Basic ${btoa(`${user}:${password}`)}` });

/** Whether what `needs` names is there: programs by name or path. Returns the first that is not. */
export const missing = (app) => (app.needs ?? []).find((name) => {
    const folders = name.includes('/') ? [''] : (process.env.PATH ?? '').split(':').map((folder) => `${folder}/`);
    return !folders.some((folder) => existsSync(`${folder}${name}`));
});

/**
 * As in apps.mjs. `login` signs in, `lists` says that a page has to be loaded again to show a change, and `needs` which
 * programs it takes.
 */
export const others = {
    'http.server': {
        what: 'HTTP/1.0, Content-Length',
        path: '/',
        lists: true,
        needs: ['python3'],
        value: () => document.querySelectorAll('li').length,
        async start(folder, port) {
            let count = 0;
            const change = async () => writeFileSync(join(folder, `file-${count++}.txt`), 'text');
            await change();
            return { change, stops: [runs('python3', ['-m', 'http.server', '--bind', '127.0.0.1', '--directory', folder, port])] };
        },
    },
    monit: {
        what: 'meta refresh, HTTP/1.0, gzip, a cookie with each answer',
        path: '/',
        needs: ['monit'],
        credentials: { username: 'admin', password: 'monit' },
        value: () => document.querySelector('table') && (document.body.innerText.match(/Status failed|not running|failed/gi) || []).length,
        async start(folder, port) {
            const file = join(folder, 'monitrc');
            const alarm = join(folder, 'alarm');
            const names = ['log', 'pidfile', 'idfile', 'statefile'].map((name) => `set ${name} ${folder}/monit.${name}\n`).join('');
            writeFileSync(file, `set daemon 2\n${names}set httpd port ${port} and use address 127.0.0.1\n    allow admin:monit\ncheck program gate path "/usr/bin/test ! -e ${alarm}"\n    if status != 0 then alert\n`, { mode: 0o600 });
            const change = async () => (existsSync(alarm) ? rmSync(alarm) : writeFileSync(alarm, ''));
            return { change, stops: [runs('monit', ['-I', '-c', file])] };
        },
    },
    qbittorrent: {
        what: 'refuses a foreign Host; a cursor with state',
        path: '/',
        needs: ['qbittorrent-nox'],
        async login(page) {
            await page.fill('#username', 'admin');
            await page.fill('#password', 'adminadmin');
            await page.click('#login, #loginButton, input[type=submit]');
        },
        value: () => document.querySelector('#torrentsTableDiv') && document.querySelectorAll('#torrentsTableDiv tbody tr').length,
        async start(folder, port) {
            const config = join(folder, 'qBittorrent', 'config');
            mkdirSync(config, { recursive: true });
            const session = { Port: await vacant(), Interface: 'lo', InterfaceName: 'lo', InterfaceAddress: '127.0.0.1', DHTEnabled: false, PeXEnabled: false, LSDEnabled: false, AddTorrentPaused: true };
            const lines = Object.entries(session).map(([name, value]) => `Session\\${name}=${value}\n`).join('');
            writeFileSync(join(config, 'qBittorrent.conf'), `[LegalNotice]\nAccepted=true\n[BitTorrent]\n${lines}[Network]\nPortForwardingEnabled=false\n[Preferences]\nConnection\\UPnP=false\nWebUI\\Address=127.0.0.1\nWebUI\\Port=${port}\nWebUI\\UseUPnP=false\n`);
            const stops = [runs('qbittorrent-nox', [`--profile=${folder}`, `--webui-port=${port}`], { env: { ...process.env, HOME: folder } })];
            await eventually('qbittorrent', () => listens(port));
            const base = `http://127.0.0.1:${port}`;
            let count = 0;
            const change = async () => {
                const signed = await fetch(`${base}/api/v2/auth/login`, { method: 'POST', headers: { referer: base }, body: new URLSearchParams({ username: 'admin', password: 'adminadmin' }) });
                const body = new FormData();
                body.append('torrents', new Blob([torrent(`file-${count++}.bin`)]), 'a.torrent');
                body.append('paused', 'true');
                await ask(`${base}/api/v2/torrents/add`, { method: 'POST', headers: { cookie: signed.headers.get('set-cookie').split(';')[0] }, body }, 200);
            };
            await change();
            return { change, stops };
        },
    },
    rabbitmq: {
        what: 'synchronous XMLHttpRequest; 412 to a tag that it does not know',
        path: '/',
        needs: ['/usr/lib/rabbitmq', 'erl'],
        async login(page) {
            await page.fill('input[name=username]', 'guest');
            await page.fill('input[name=password]', 'guest');
            await page.click('input[type=submit]');
            await page.waitForSelector('#menu, #main');
            await page.evaluate(() => {
                location.hash = '#/queues';
            });
        },
        value: () => document.querySelectorAll('table.list tbody tr').length || null,
        async start(folder, port) {
            const [amqp, dist, epmd] = [await vacant(), await vacant(), await vacant()];
            writeFileSync(join(folder, 'enabled_plugins'), '[rabbitmq_management].\n');
            writeFileSync(join(folder, 'rabbitmq.conf'), `management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = ${port}\nlisteners.tcp.local = 127.0.0.1:${amqp}\n`);
            writeFileSync(join(folder, '.erlang.cookie'), `APPS${port}`, { mode: 0o400 });
            const env = {
                ...process.env, HOME: folder, RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-kernel inet_dist_use_interface {127,0,0,1}',
                RABBITMQ_NODENAME: `apps${port}@localhost`, RABBITMQ_NODE_IP_ADDRESS: '127.0.0.1', RABBITMQ_NODE_PORT: amqp, RABBITMQ_DIST_PORT: dist,
                RABBITMQ_MNESIA_BASE: join(folder, 'mnesia'), RABBITMQ_LOG_BASE: join(folder, 'log'), RABBITMQ_CONFIG_FILE: join(folder, 'rabbitmq'),
                RABBITMQ_ENABLED_PLUGINS_FILE: join(folder, 'enabled_plugins'), ERL_EPMD_ADDRESS: '127.0.0.1', ERL_EPMD_PORT: epmd,
            };
            const root = '/usr/lib/rabbitmq/lib';
            const server = join(root, readdirSync(root).find((name) => name.startsWith('rabbitmq_server')), 'sbin', 'rabbitmq-server');
            const stops = [
                runs('epmd', ['-port', epmd, '-address', '127.0.0.1'], { env }),
                runs(server, [], { env, cwd: folder, detached: true }),
            ];
            const base = `http://127.0.0.1:${port}`;
            const headers = { ...basic('guest', 'guest'), 'content-type': 'application/json' };
            await eventually('rabbitmq', async () => (await fetch(`${base}/api/whoami`, { headers }).catch(() => ({}))).status === 200, 120_000);
            let count = 0;
            const change = () => ask(`${base}/api/queues/%2F/q${count++}`, { method: 'PUT', headers, body: '{"durable":true}' }, 201, 204);
            await change();
            return { change, stops };
        },
    },
    flower: {
        what: 'DataTables that poll each second with a cache buster',
        path: '/workers',
        needs: ['redis-server', `${venv('flower')}/celery`],
        value: () => document.querySelector('#workers-table tbody td:nth-child(4)')?.innerText,
        async start(folder, port) {
            const redis = await vacant();
            const url = `redis://127.0.0.1:${redis}`;
            writeFileSync(join(folder, 'tasks.py'), `from celery import Celery\napp = Celery("tasks", broker="${url}/0", backend="${url}/1")\napp.conf.worker_send_task_events = True\napp.conf.task_send_sent_event = True\n@app.task\ndef add(a, b):\n    return a + b\n`);
            const stops = [runs('redis-server', ['--port', redis, '--bind', '127.0.0.1', '--save', '', '--dir', folder])];
            await eventually('redis', () => listens(redis));
            const celery = (...args) => runs(join(venv('flower'), 'celery'), ['-A', 'tasks', ...args], { cwd: folder });
            stops.push(celery('worker', '-E', '-c', '1', '-P', 'solo', '-n', 'w@local'), celery('flower', '--address=127.0.0.1', `--port=${port}`));
            const change = () => output(join(venv('flower'), 'python'), ['-c', 'import tasks; tasks.add.delay(2, 3).get(timeout=60)'], { cwd: folder });
            return { change, stops };
        },
    },
    optuna: {
        what: 'wsgiref: HTTP/1.0 with chunked coding; a cursor',
        path: '/dashboard/studies/1/trials',
        needs: [`${venv('optuna')}/optuna-dashboard`],
        value: () => (document.body.innerText.match(/Trial \d+/g) || []).length || null,
        async start(folder, port) {
            const storage = `sqlite:///${folder}/o.db`;
            const run = (code) => output(join(venv('optuna'), 'python'), ['-W', 'ignore', '-c', `import optuna; optuna.logging.set_verbosity(optuna.logging.ERROR)\n${code}`]);
            await run(`optuna.create_study(storage="${storage}", study_name="s").optimize(lambda t: t.suggest_float("x", -1, 1) ** 2, n_trials=2)`);
            const change = () => run(`s = optuna.load_study(storage="${storage}", study_name="s"); t = s.ask(); t.suggest_float("x", -1, 1); s.tell(t, 0.5)`);
            return { change, stops: [runs(join(venv('optuna'), 'optuna-dashboard'), [storage, '--host', '127.0.0.1', '--port', port])] };
        },
    },
    supervisor: {
        what: 'HTTP/1.1 of its own; Basic authentication',
        path: '/',
        lists: true,
        needs: ['supervisord'],
        credentials: { username: 'admin', password: 'sup' },
        value: () => document.querySelector('table') && [...document.querySelectorAll('.status')].map((cell) => cell.innerText).join(),
        async start(folder, port) {
            const file = join(folder, 'supervisord.conf');
            writeFileSync(file, `[supervisord]\nnodaemon=true\nuser=root\nlogfile=${folder}/log\npidfile=${folder}/pid\nchildlogdir=${folder}\n[inet_http_server]\nport=127.0.0.1:${port}\nusername=admin\npassword=sup\n[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n[program:one]\ncommand=sleep 100000\nstartsecs=0\n`);
            let up = true;
            const change = async () => {
                up = !up;
                const body = `<?xml version="1.0"?><methodCall><methodName>supervisor.${up ? 'start' : 'stop'}Process</methodName><params><param><value><string>one</string></value></param></params></methodCall>`;
                await ask(`http://127.0.0.1:${port}/RPC2`, { method: 'POST', headers: { ...basic('admin', 'sup'), 'content-type': 'text/xml' }, body }, 200);
            };
            return { change, stops: [runs('supervisord', ['-c', file])] };
        },
    },
    syncthing: {
        what: 'long polls of its own; a CSRF token for each host',
        path: '/',
        needs: ['syncthing'],
        value: () => document.querySelector('#folders') && document.querySelectorAll('#folders .panel').length,
        async start(folder, port) {
            const env = { ...process.env, HOME: folder, STGUIAPIKEY: 'key', STNOUPGRADE: '1', STNODEFAULTFOLDER: '1' };
            const stops = [runs('syncthing', ['serve', '--no-browser', `--home=${folder}/home`, `--gui-address=http://127.0.0.1:${port}`], { env })];
            const base = `http://127.0.0.1:${port}/rest/config`;
            const headers = { 'x-api-key': 'key', 'content-type': 'application/json' };
            await eventually('syncthing', async () => (await fetch(`${base}/options`, { headers }).catch(() => ({}))).status === 200, 120_000);
            const quiet = { listenAddresses: [`tcp://127.0.0.1:${await vacant()}`], globalAnnounceEnabled: false, localAnnounceEnabled: false, relaysEnabled: false, natEnabled: false, urAccepted: -1, crashReportingEnabled: false };
            await ask(`${base}/options`, { method: 'PATCH', headers, body: JSON.stringify(quiet) }, 200);
            let count = 0;
            const change = async () => {
                const id = `f${count++}`;
                await ask(`${base}/folders`, { method: 'POST', headers, body: JSON.stringify({ id, label: id, path: join(folder, id), paused: true }) }, 200);
            };
            await change();
            return { change, stops };
        },
    },
    dokuwiki: {
        what: 'PHP; a session bound to what describes the browser',
        path: '/doku.php?id=start',
        lists: true,
        needs: ['php', '/usr/share/dokuwiki'],
        async login(page, base) {
            await page.goto(`${base}/doku.php?id=start&do=login`);
            await page.fill('#dokuwiki__content input[name=u]', 'admin');
            await page.fill('#dokuwiki__content input[name=p]', 'admin');
            await page.click('#dokuwiki__content button[type=submit]');
            await page.waitForSelector('.action.logout, a[href*="do=logout"]', { state: 'attached' });
        },
        value: () => document.querySelector('a[href*="do=logout"]') && document.querySelector('#dokuwiki__content .page, #dokuwiki__content')?.innerText,
        async start(folder, port) {
            const [wiki, data, config] = ['wiki', 'data', 'conf'].map((name) => join(folder, name));
            cpSync('/usr/share/dokuwiki', wiki, { recursive: true, dereference: true, filter: (name) => existsSync(name) });
            cpSync('/etc/dokuwiki', config, { recursive: true, dereference: true, filter: (name) => existsSync(name) });
            for (const name of ['pages', 'attic', 'media', 'media_attic', 'media_meta', 'meta', 'cache', 'index', 'locks', 'tmp', 'log']) {
                mkdirSync(join(data, name), { recursive: true });
            }
            writeFileSync(join(wiki, 'inc', 'preload.php'), `<?php define('DOKU_CONF', '${config}/');\n`);
            writeFileSync(join(config, 'local.php'), `<?php $conf['savedir'] = '${data}'; $conf['useacl'] = 1; $conf['superuser'] = '@admin'; $conf['title'] = 'Wiki'; $conf['updatecheck'] = 0;\n`);
            writeFileSync(join(config, 'acl.auth.php'), '*\t@ALL\t8\n');
            const hash = execFileSync('php', ['-r', 'echo password_hash("admin", PASSWORD_BCRYPT);']).toString();
            writeFileSync(join(config, 'users.auth.php'), `admin:${hash}:Admin:admin@example.org:admin,user\n`);
            let count = 0;
            // Written behind its back, the page would tell the first who fetches something else than the next.
            const change = async () => {
                const file = join(folder, 'start.txt');
                writeFileSync(file, `====== Start ======\nText of version ${'x'.repeat(++count)}.\n`);
                await output('php', ['-d', 'error_reporting=0', join(wiki, 'bin', 'dwpage.php'), 'commit', '-m', 'changed', file, 'start'], { stdio: 'ignore' });
            };
            await change();
            const env = { ...process.env, PHP_CLI_SERVER_WORKERS: '4' };
            const args = ['-d', `session.save_path=${data}/tmp`, '-d', 'error_reporting=0', '-S', `127.0.0.1:${port}`, '-t', wiki];
            return { change, stops: [runs('php', args, { env, cwd: wiki })] };
        },
    },
};
