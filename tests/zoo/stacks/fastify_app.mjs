// Fastify.
import { setTimeout as sleep } from 'node:timers/promises';

import fastify from 'fastify';

import { data, EVENTS, file, save, summary } from './node_http.mjs';

const app = fastify();
app.addContentTypeParser('*', { parseAs: 'buffer' }, (_, body, done) => done(null, body));
app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_, body, done) =>
    done(null, Object.fromEntries(new URLSearchParams(body))),
);
app.get('/', (_, reply) => reply.type('text/html').send(file('index.html')));
app.get('/data', () => data());
app.post('/save', (request, reply) => {
    save(request.body.value);
    return reply.redirect('/', 303);
});
app.post('/upload', (request) => summary(request.body));
app.get('/file.bin', (_, reply) => reply.type('application/octet-stream').send(file('file.bin')));
app.get('/wait', async (_, reply) => {
    await sleep(300);
    return reply.type('text/plain').send('waited');
});
app.get('/moved', (_, reply) => reply.redirect('/data'));
app.get('/events', async (_, reply) => {
    reply.hijack();
    reply.raw.writeHead(200, { 'Content-Type': 'text/event-stream' });
    for (const event of EVENTS) {
        reply.raw.write(`data: ${event}\n\n`);
        await sleep(50);
    }
    reply.raw.end();
});
await app.listen({ port: Number(process.argv[2]), host: '127.0.0.1' });
