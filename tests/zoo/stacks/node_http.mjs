// Node's http module: chunked answers unless a length is given.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export const SITE = process.env.ZOO_SITE;
export const EVENTS = ['one', 'two', 'three'];
export const file = (name) => readFileSync(`${SITE}/${name}`);

export function data() {
    const rows = Array.from({ length: 20 }, (_, id) => ({ id, name: `row ${id}` }));
    return { value: file('value.txt').toString(), rows };
}

export const save = (value) => writeFileSync(`${SITE}/value.txt`, value);
export const summary = (body) => ({ bytes: body.length, sha1: createHash('sha1').update(body).digest('hex') });

async function answer(request, response) {
    let body = Buffer.alloc(0);
    for await (const piece of request) {
        body = Buffer.concat([body, piece]);
    }
    const json = (value) => {
        response.setHeader('Content-Type', 'application/json');
        response.end(JSON.stringify(value));
    };
    switch (request.url) {
        case '/':
            response.setHeader('Content-Type', 'text/html');
            return response.end(file('index.html'));
        case '/data':
            return json(data());
        case '/tagged': {
            const tag = `W/"${createHash('md5').update(JSON.stringify(data())).digest('base64')}"`;
            response.setHeader('ETag', tag);
            if (request.headers['if-none-match'] === tag) {
                response.statusCode = 304;
                return response.end();
            }
            return json(data());
        }
        case '/save':
            save(new URLSearchParams(body.toString()).get('value'));
            response.writeHead(303, { Location: '/' });
            return response.end();
        case '/upload':
            return json(summary(body));
        case '/file.bin':
            response.writeHead(200, { 'Content-Type': 'application/octet-stream', 'Content-Length': file('file.bin').length });
            return response.end(file('file.bin'));
        case '/wait':
            await sleep(300);
            response.setHeader('Content-Type', 'text/plain');
            return response.end('waited');
        case '/moved':
            response.writeHead(302, { Location: '/data' });
            return response.end();
        case '/cookie':
            response.setHeader('Set-Cookie', ['a=1; Path=/', 'b=2; HttpOnly']);
            return response.end('two cookies');
        case '/events':
            response.writeHead(200, { 'Content-Type': 'text/event-stream' });
            for (const event of EVENTS) {
                response.write(`data: ${event}\n\n`);
                await sleep(50);
            }
            return response.end();
        case '/early':
            response.writeEarlyHints({ link: '</style.css>; rel=preload; as=style' });
            return json(data());
        default:
            response.writeHead(404, { 'Content-Type': 'text/plain' });
            return response.end('no such page');
    }
}

if (process.argv[1].endsWith('node_http.mjs')) {
    createServer(answer).listen(Number(process.argv[2]), '127.0.0.1');
}
