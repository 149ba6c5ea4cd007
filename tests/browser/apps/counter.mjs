// A proxy that counts.

import { Agent, createServer, request as ask } from 'node:http';
import { connect } from 'node:net';

/**
 * Counts what the application is asked, and passes it on. With `hidden`, the application does not see that somebody is in
 * between: where a request names the counter, it is made to name the application.
 */
export async function startCounter(port, hidden = false) {
    const counter = { asked: 0 };
    const agent = new Agent({ keepAlive: true });
    const renamed = (fields) => fields.map((field) => (hidden ? field.replaceAll(counter.authority, `127.0.0.1:${port}`) : field));
    const server = createServer((request, answer) => {
        counter.asked += 1;
        const { method, url } = request;
        const rawHeaders = renamed(request.rawHeaders);
        const sent = ask({ host: '127.0.0.1', port, method, path: url, headers: rawHeaders, agent }, (got) => {
            answer.writeHead(got.statusCode, got.rawHeaders);
            got.pipe(answer);
        });
        sent.on('error', () => answer.destroy());
        answer.on('close', () => sent.destroy());
        request.pipe(sent);
    });
    server.on('upgrade', (request, socket, head) => {
        const lines = [`${request.method} ${request.url} HTTP/1.1`];
        const fields = renamed(request.rawHeaders);
        for (let at = 0; at < fields.length; at += 2) {
            lines.push(`${fields[at]}: ${fields[at + 1]}`);
        }
        const sent = connect(port, '127.0.0.1', () => {
            sent.write(`${lines.join('\r\n')}\r\n\r\n`);
            sent.write(head);
            sent.pipe(socket).pipe(sent);
        });
        for (const end of [sent, socket]) {
            end.on('error', () => {
                sent.destroy();
                socket.destroy();
            });
        }
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    counter.authority = `127.0.0.1:${server.address().port}`;
    counter.url = `http://${counter.authority}`;
    counter.stop = () => {
        server.close();
        server.closeAllConnections();
        agent.destroy();
    };
    return counter;
}
