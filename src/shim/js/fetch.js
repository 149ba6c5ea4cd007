// fetch as the page knows it.

function wrapFetch() {
    wrap(scope, 'fetch', (native, self, args) => {
        const go = (changed) => apply(native, self, changed || args);
        const asked = (self === undefined || self === scope) && attempt(() => describe(args));
        if (!asked || !asked.url) {
            return go();
        }
        const { poll, mine, write, mark } = attempt(() => consider(asked)) || {};
        const answer = mine && attempt(() => answerOf(poll, asked.headers));
        if (answer && (!answer.charset || /^utf-?8$/i.test(answer.charset) || answer.replica.encoding)) {
            return settled(asked, answer);
        }
        const sent = go(mark ? attempt(() => marked(args)) : undefined);
        if (write || poll) {
            sent.then((response) => attempt(() => {
                if (write) {
                    page.wrote = true;
                    link.renew();
                } else if (!poll.tick) {
                    poll.statusText = response.statusText;
                    answered(poll, response.headers.get('etag'));
                }
            }), () => write && attempt(() => link.renew()));
        }
        return sent;
    });
    const { sendBeacon } = Navigator.prototype;
    if (sendBeacon) {
        wrap(Navigator.prototype, 'sendBeacon', (native, self, args) => {
            const sent = apply(native, self, args);
            attempt(() => sameOrigin(args[0]) && nativeSetTimeout(() => link.renew(), 1000));
            return sent;
        });
    }
}

function describe([input, init]) {
    const request = input instanceof Request ? input : undefined;
    const options = init || {};
    const url = sameOrigin(request ? request.url : input);
    if (!url) {
        return undefined;
    }
    const method = String(options.method ?? request?.method ?? 'GET').toUpperCase();
    const given = new Headers(options.headers ?? request?.headers);
    const headers = { accept: '*/*', ...Object.fromEntries(given) };
    const option = (name) => options[name] ?? request?.[name];
    const plain = option('credentials') !== 'omit' && option('mode') !== 'no-cors' && !option('integrity')
        && option('cache') !== 'only-if-cached' && !('range' in headers);
    const body = options.body ?? (request && request.body !== null && method !== 'GET' ? request : undefined);
    return { method, url, headers, body, plain, signal: option('signal') };
}

/** The arguments, with the mark by which the server knows a poll from a write. */
function marked([input, init]) {
    const headers = new Headers(init?.headers ?? (input instanceof Request ? input.headers : undefined));
    headers.set('sungrazer-poll', '1');
    return [input, { ...init, headers }];
}

/** The answer, in a task of its own, as from the network: a page that asks again at once must not stand still. */
function settled({ url, signal }, answer) {
    return new Promise((resolve, reject) => {
        const abort = () => reject(signal.reason ?? new DOMException('The user aborted a request.', 'AbortError'));
        if (signal?.aborted) {
            abort();
            return;
        }
        signal?.addEventListener('abort', abort, { once: true });
        soon(() => {
            signal?.removeEventListener('abort', abort);
            resolve(asResponse(answer, url.href.split('#')[0]));
        });
    });
}

function asResponse(answer, url) {
    const { status, statusText, headers } = answer;
    const response = new Response(answer.hasBody ? answer.bytes() : null, { status, statusText, headers });
    const properties = {
        url: { value: url },
        type: { value: 'basic' },
        clone: { value: () => like(Response.prototype.clone.call(response)) },
    };
    const like = (copy) => Object.defineProperties(copy, { ...properties, clone: { value: () => like(Response.prototype.clone.call(copy)) } });
    return Object.defineProperties(response, properties);
}
