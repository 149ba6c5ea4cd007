// The wrapped `XMLHttpRequest`. A request answered from a replica is never sent: natively it stays in the opened state,
// and the page's calls are answered here.

import {
    Blob, Event, JSON, ProgressEvent, TextDecoder, WeakMap, XMLHttpRequest, addListener, apply, attempt, disguised,
    scope, soon, wrap, wrapGetter,
} from './native.js';
import { sameOrigin } from './url.js';
import { link } from './link.js';
import { asksOthers, currentRun, resume } from './sites.js';
import { answered, consider } from './polls.js';
import { answerOf } from './answers.js';
import { toText } from './fetch.js';
import { asks } from './page.js';

/** The state of each object: the arguments of `open`, and the response that it receives. */
const requests = new WeakMap();

const UNSENT = 0;
const OPENED = 1;
const HEADERS = 2;
const LOADING = 3;
const DONE = 4;

export function wrapXhr() {
    if (!XMLHttpRequest) {
        return;
    }
    const { prototype } = XMLHttpRequest;
    // This listener runs before any listener of the page.
    scope.XMLHttpRequest = prototype.constructor = disguised(XMLHttpRequest, {
        construct(target, args, newTarget) {
            const made = Reflect.construct(target, args, newTarget);
            apply(addListener, made, ['readystatechange', goesOnWith]);
            return made;
        },
    });
    const natively = {};
    const method = (name, trap) => {
        natively[name] = wrap(prototype, name, (native, self, args) => {
            const request = requests.get(self);
            return trap(() => apply(native, self, args), self, args, request);
        });
    };
    method('open', (go, self, args) => {
        const before = requests.get(self);
        const wasFaked = before?.state !== undefined;
        if (before) {
            before.state = undefined;
            before.answer = undefined;
        }
        const result = go();
        attempt(() => {
            const [name, url, isAsync = true, user, password] = args;
            requests.set(self, {
                method: String(name).toUpperCase(),
                url: sameOrigin(url),
                sync: !isAsync,
                plain: (user ?? password) == null,
                headers: {},
                run: currentRun(),
            });
        }, () => requests.delete(self));
        if (wasFaked && before.was > OPENED) {
            // Natively it was open all along.
            dispatch(self, 'readystatechange');
        }
        return result;
    });
    method('setRequestHeader', (go, self, [name, value], request) => {
        notSent(request, 'setRequestHeader');
        const result = go();
        if (request) {
            const key = String(name).toLowerCase();
            const known = request.headers[key];
            request.headers[key] = known === undefined ? String(value).trim() : `${known}, ${String(value).trim()}`;
        }
        return result;
    });
    method('overrideMimeType', (go, self, args, request) => {
        const result = go();
        if (request) {
            request.mime = String(args[0]);
        }
        return result;
    });
    method('send', (go, self, [body], request) => {
        notSent(request, 'send');
        if (!request) {
            return go();
        }
        // Some pages read a cookie or compute a signature between `open` and `send`.
        const run = (request.run ??= currentRun());
        if (!request.url) {
            asksOthers(run);
            isUnderWay(self);
            return go();
        }
        const { poll, mine, write, mark, check, began, heard } = attempt(() => consider({
            ...request,
            headers: { accept: '*/*', ...request.headers },
            body: request.method === 'GET' ? undefined : body,
        })) || {};
        const answer = mine && attempt(() => fitting(self, request, answerOf(poll, request.headers, run)));
        if (answer) {
            deliver(self, request, answer);
            return undefined;
        }
        asksOthers(run);
        isUnderWay(self, write);
        if (mark) {
            attempt(() => apply(natively.setRequestHeader, self, ['sungrazer-poll', mark]));
        }
        const header = (name) => self.getResponseHeader(name);
        const after = (write || poll) && (() => attempt(() => {
            if (write) {
                link.renew();
            }
            if (!self.status) {
                return;
            }
            if (heard) {
                heard(toText(self.responseType ? self.response : self.responseText));
            } else if (poll && !poll.tick) {
                answered(poll, header, self.statusText, check);
            }
        }));
        if (request.sync) {
            const result = go();
            attempt(() => began(header));
            attempt(after);
            return result;
        }
        request.began = () => began?.(header);
        if (after) {
            apply(addListener, self, ['loadend', after, { once: true }]);
        }
        return go();
    });
    method('abort', (go, self, args, request) => {
        if (request?.state === undefined) {
            return go();
        }
        const { state } = request;
        if (state !== DONE && state !== UNSENT) {
            Object.assign(request, { state: DONE, answer: undefined, aborted: true });
            dispatch(self, 'readystatechange');
            progress(self, 'abort', 0);
            progress(self, 'loadend', 0);
        }
        if (request.state === DONE) {
            Object.assign(request, { state: UNSENT, answer: undefined });
        }
        return undefined;
    });
    // Properties that only a response has.
    const shown = (self, least = HEADERS) => {
        const request = requests.get(self);
        return request?.state === undefined ? undefined : { request, answer: request.state >= least ? request.answer : null };
    };
    /** @type {[string, (answer: any, key: any) => any, any][]} */
    const lists = [
        ['getResponseHeader', (answer, key) => header(answer, String(key).toLowerCase()), null],
        ['getAllResponseHeaders', allHeaders, ''],
    ];
    for (const [name, ask, nothing] of lists) {
        method(name, (go, self, [key]) => {
            const faked = shown(self);
            if (!faked) {
                return go();
            }
            return faked.answer ? ask(faked.answer, key) : nothing;
        });
    }
    wrapGetter(prototype, 'readyState', (self) => requests.get(self)?.state);
    const getter = (name, least, get, nothing) => wrapGetter(prototype, name, (self) => {
        const faked = shown(self, least);
        return faked && (faked.answer ? get(faked.answer, self, faked.request) : nothing);
    });
    getter('status', HEADERS, (answer) => answer.status, 0);
    getter('statusText', HEADERS, (answer) => answer.statusText, '');
    getter('responseURL', HEADERS, (answer, self, request) => request.url.href.split('#')[0], '');
    wrapGetter(prototype, 'response', (self) => {
        const isText = ['', 'text'].includes(self.responseType);
        const faked = shown(self, isText ? LOADING : DONE);
        return faked && (faked.answer ? response(self.responseType, faked) : isText ? '' : null);
    });
    wrapGetter(prototype, 'responseText', (self) => {
        // The native getter throws for other response types, which is correct here too.
        const faked = ['', 'text'].includes(self.responseType) ? shown(self, LOADING) : undefined;
        return faked && (faked.answer ? response('text', faked) : '');
    });
    wrapGetter(prototype, 'responseXML', (self) => {
        const faked = ['', 'document'].includes(self.responseType) ? shown(self, DONE) : undefined;
        return faked && null;
    });
}

const isUnderWay = (self, write) => apply(addListener, self, ['loadend', asks(write), { once: true }]);

/** Continues a run when its request is done, before the page is notified. */
function goesOnWith() {
    attempt(() => {
        const request = requests.get(this);
        const { run, began, sync } = request;
        if (began && this.readyState >= HEADERS) {
            request.began = undefined;
            began();
        }
        if (run && !sync && this.readyState === DONE) {
            resume(run);
        }
    });
}

/** Throws the native error for an object whose request was answered here, since natively it was never sent. */
function notSent(request, name) {
    if (request?.state !== undefined) {
        new XMLHttpRequest()[name]('a', 'b');
    }
}

/** Content types that are parsed as XML by default. */
const IS_XML = /^\s*(;|$)|^[^;]*[/+]xml\s*(;|$)/i;

/** Returns the response, unless only the browser can decode it. A document has a URL, which scripts cannot set. */
function fitting({ responseType }, { mime }, answer) {
    const only = /charset/i.test(mime) || responseType === 'document' || (!responseType && IS_XML.test(mime ?? answer.type));
    return only ? undefined : answer;
}

const header = (answer, key) => answer.headers[key] ?? null;

function allHeaders(answer) {
    return Object.keys(answer.headers).sort().map((key) => `${key}: ${answer.headers[key]}\r\n`).join('');
}

/** Returns the body as `type`, created once. */
function response(type, { request, answer }) {
    const made = (request.made ??= {});
    if (!(type in made)) {
        made[type] = make(type, answer, request.mime);
    }
    return made[type];
}

function make(type, answer, mime = answer.type) {
    switch (type) {
        case 'json':
            return attempt(() => JSON.parse(new TextDecoder().decode(answer.bytes())), () => null);
        case 'arraybuffer':
            return answer.bytes().buffer;
        case 'blob':
            return new Blob([answer.bytes()], { type: mime });
        case 'document':
            return null;
        default:
            return answer.text();
    }
}

const dispatch = (self, type) => self.dispatchEvent(new Event(type));

function progress(self, type, loaded, total) {
    self.dispatchEvent(new ProgressEvent(type, { loaded, total, lengthComputable: total > 0 }));
}

/** Passes through all states of a request, as if it had been sent. */
function deliver(self, request, answer) {
    const set = (state) => {
        request.state = state;
        request.was = state;
    };
    request.made = undefined;
    request.answer = answer;
    set(OPENED);
    const length = () => answer.bytes().length;
    const steps = [
        () => set(HEADERS),
        () => dispatch(self, 'readystatechange'),
        () => answer.hasBody && set(LOADING),
        () => answer.hasBody && dispatch(self, 'readystatechange'),
        () => answer.hasBody && progress(self, 'progress', length(), answer.total),
        () => set(DONE),
        () => dispatch(self, 'readystatechange'),
        () => progress(self, 'load', length(), answer.total),
        () => progress(self, 'loadend', length(), answer.total),
    ];
    const go = (from) => {
        for (const step of steps.slice(from)) {
            // A listener may have aborted it or opened it again.
            if (requests.get(self) !== request || request.answer !== answer) {
                return;
            }
            step();
        }
    };
    if (request.sync) {
        go(-4);
    } else {
        progress(self, 'loadstart', 0);
        soon(() => go(0));
    }
}
