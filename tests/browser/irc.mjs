// An IRC server, and a plain client of it.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';

import { eventually } from './support.mjs';

const program = [...process.env.PATH.split(delimiter), '/usr/sbin'].map((folder) => join(folder, 'ngircd')).find(existsSync);

/** Why there is no IRC server here, if there is none. */
export const NO_IRC = program ? false : 'there is no ngircd here: apt-get install ngircd, or tests/run browser, installs it';

async function vacant() {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    server.close();
    await once(server, 'close');
    return port;
}

/** Starts it on a port of its own. */
export async function startIrc() {
    const folder = mkdtempSync(join(tmpdir(), 'sungrazer-irc-'));
    const port = await vacant();
    const file = join(folder, 'ngircd.conf');
    writeFileSync(file, `[Global]
Name = irc.example
Info = For tests
Listen = 127.0.0.1
Ports = ${port}
MotdPhrase = Soup
[Limits]
MaxConnectionsIP = 0
[Options]
DNS = no
Ident = no
PAM = no
`);
    const child = spawn(program, ['--nodaemon', '--config', file], { stdio: 'ignore' });
    const ended = once(child, 'exit');
    await eventually('the IRC server', () => new Promise((resolve) => {
        const socket = connect(port, '127.0.0.1');
        socket.once('connect', () => resolve(true)).once('error', () => resolve(false)).once('connect', () => socket.destroy());
    }));
    return {
        address: `127.0.0.1:${port}`,
        /** Somebody with a plain client, who has joined `channel`. */
        async join(nick, channel) {
            const socket = connect(port, '127.0.0.1');
            const heard = [];
            createInterface({ input: socket }).on('line', (line) => {
                heard.push(line);
                if (line.startsWith('PING')) {
                    socket.write(`${line.replace('PING', 'PONG')}\r\n`);
                }
            });
            socket.write(`NICK ${nick}\r\nUSER ${nick} 0 * :${nick}\r\nJOIN ${channel}\r\n`);
            const hears = (text) => eventually(`${nick} to hear ${text}`, () => heard.some((line) => line.includes(text)));
            await hears(`JOIN :${channel}`);
            return { hears, say: (text) => socket.write(`PRIVMSG ${channel} :${text}\r\n`), leave: () => socket.destroy() };
        },
        async stop() {
            child.kill('SIGTERM');
            await ended;
            rmSync(folder, { recursive: true });
        },
    };
}
