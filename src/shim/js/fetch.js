// The wrapped `fetch`.

import {
    DOMException, Headers, JSON, Promise, ReadableStream, Request, Response, TextDecoder, WeakMap, apply, attempt,
    isOwn, nativeSetTimeout, scope, soon, wrap, wrapGetter,
} from './native.js';
import { sameOrigin } from './url.js';
import { link } from './link.js';
import { asksOthers, currentRun, resume, trackPromise } from './sites.js';
import { answered, consider } from './polls.js';
import { answerOf } from './answers.js';
import { asks } from './page.js';

export function wrapFetch() {
    wrap(scope, 'fetch', (native, self, args) => {
        const asked = isOwn(self) && attempt(() => describe(args));
        const run = attempt(currentRun);
        const { poll, mine, write, mark, check, began, heard } = asked && attempt(() => consider(asked)) || {};
        // The response is created before anything is promised: if that fails, the application is asked.
        const response = mine && attempt(() => asResponse(answerOf(poll, asked.headers, run), asked));
        if (response) {
            return settled(asked, response, run);
        }
        asksOthers(run);
        const ended = asks(write);
        const sent = apply(native, self, mark && attempt(() => marked(args, mark)) || args);
        return trackPromise(sent, run, (response) => {
            ended();
            const header = response && ((name) => response.headers.get(name));
            began?.(header);
            if (write) {
                link.renew();
            }
            if (response && heard) {
                readers.set(response, heard);
            } else if (response && poll && !poll.tick) {
                answered(poll, header, response.statusText, check);
            }
        });
    });
    for (const name of ['arrayBuffer', 'blob', 'bytes', 'formData', 'json', 'text']) {
        wrap(Response.prototype, name, (native, self, args) => {
            const heard = readers.get(self);
            const { signal } = origins.get(self) || {};
            if (signal?.aborted && !self.bodyUsed) {
                return Promise.reject(signal.reason);
            }
            return trackPromise(apply(native, self, args), attempt(currentRun), heard && ((read) => heard(toText(read))));
        });
    }
    wrapResponses();
    const { sendBeacon } = Navigator.prototype;
    if (sendBeacon) {
        wrap(Navigator.prototype, 'sendBeacon', (native, self, args) => {
            const sent = apply(native, self, args);
            attempt(asks(true));
            attempt(() => sameOrigin(args[0]) && nativeSetTimeout(() => link.renew(), 1000));
            return sent;
        });
    }
}

/** The callbacks to call with the body that a page reads from a response. */
const readers = new WeakMap();

/** Returns the read body as a text, which differs whenever the body differs. */
export const toText = (read) => (typeof read === 'string' ? read : read instanceof ArrayBuffer ? new TextDecoder().decode(read) : String(JSON.stringify(read)));

function describe([input, init]) {
    const request = input instanceof Request ? input : undefined;
    const options = init || {};
    const url = sameOrigin(request ? request.url : input);
    if (!url) {
        return undefined;
    }
    const method = String(options.method ?? request?.method ?? 'GET').toUpperCase();
    const named = options.headers ?? request?.headers;
    if (named && typeof named.next === 'function') {
        // An iterator can be read only once.
        return undefined;
    }
    const given = new Headers(named);
    const headers = { accept: '*/*', ...Object.fromEntries(given) };
    const option = (name) => options[name] ?? request?.[name];
    const plain = option('credentials') !== 'omit' && option('mode') !== 'no-cors' && !option('integrity')
        && option('cache') !== 'only-if-cached' && !('range' in headers);
    const body = options.body ?? (request && request.body !== null && method !== 'GET' ? request : undefined);
    return { method, url, headers, body, plain, signal: option('signal') };
}

/**
 * Returns the arguments with a header that tells the server whether this is a poll or a write, or the URL of the poll.
 *
 * @param {[RequestInfo | URL, RequestInit?]} args
 */
function marked(args, mark) {
    const request = new Request(...args);
    request.headers.set('sungrazer-poll', mark);
    return [request];
}

/**
 * Resolves with the response in a separate task, as the network would, so that a page that polls again at once does not
 * block.
 */
function settled({ signal }, response, run) {
    return new Promise((resolve, reject) => {
        const abort = () => reject(signal.reason ?? new DOMException('The user aborted a request.', 'AbortError'));
        if (signal?.aborted) {
            abort();
            return;
        }
        signal?.addEventListener('abort', abort, { once: true });
        soon(() => {
            signal?.removeEventListener('abort', abort);
            attempt(() => run && resume(run));
            resolve(response);
        });
    });
}

/** The requests of responses that were created here. */
const origins = new WeakMap();

function wrapResponses() {
    wrapGetter(Response.prototype, 'url', (self) => origins.get(self)?.url.href.split('#')[0]);
    wrapGetter(Response.prototype, 'type', (self) => origins.has(self) ? 'basic' : undefined);
    wrap(Response.prototype, 'clone', (native, self, args) => {
        const copy = apply(native, self, args);
        attempt(() => origins.has(self) && origins.set(copy, origins.get(self)));
        return copy;
    });
}

/** Returns the bytes as a stream that fails once `signal` aborts. */
const unlessAborted = (bytes, signal) => signal ? new ReadableStream({
    type: 'bytes',
    start(control) {
        if (bytes.length > 0) {
            control.enqueue(bytes);
        }
        control.close();
        signal.addEventListener('abort', () => attempt(() => control.error(signal.reason)));
    },
}) : bytes;

/** Returns the response for the page; `undefined` if only the browser can decode its text. */
function asResponse(answer, asked) {
    const { status, statusText, headers, charset } = answer;
    if (charset && !/^utf-?8$/i.test(charset) && !answer.replica.encoding) {
        return undefined;
    }
    const response = new Response(answer.hasBody ? unlessAborted(answer.bytes(), asked.signal) : null, { status, statusText, headers });
    origins.set(response, asked);
    return response;
}
