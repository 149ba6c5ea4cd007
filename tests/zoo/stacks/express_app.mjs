// Express: weak entity tags on what it sends, and its static files.
import express from 'express';

import { data, EVENTS, save, SITE, summary } from './node_http.mjs';

const app = express();
app.get('/', (_, response) => response.sendFile('index.html', { root: SITE }));
app.get(['/data', '/tagged'], (_, response) => response.json(data()));
app.post('/save', express.urlencoded({ extended: false }), (request, response) => {
    save(request.body.value);
    response.redirect(303, '/');
});
app.post('/upload', express.raw({ type: () => true, limit: '4mb' }), (request, response) => response.json(summary(request.body)));
app.get('/wait', (_, response) => setTimeout(() => response.type('text').send('waited'), 300));
app.get('/moved', (_, response) => response.redirect('/data'));
app.get('/cookie', (_, response) => response.cookie('a', '1').cookie('b', '2', { httpOnly: true }).send('two cookies'));
app.get('/events', (_, response) => {
    response.set('Content-Type', 'text/event-stream').flushHeaders();
    EVENTS.forEach((event, at) => setTimeout(() => response.write(`data: ${event}\n\n`), at * 50));
    setTimeout(() => response.end(), 200);
});
app.use(express.static(SITE, { index: false }));
app.listen(Number(process.argv[2]), '127.0.0.1');
