// What this script needs of the browser, taken before any page can replace it; and how it keeps its own mistakes to
// itself.

const scope = self;
const {
    Promise, Response, Request, Headers, URL, URLSearchParams, JSON, Map, Set, WeakMap, Date, Error, Event, ProgressEvent,
    TextEncoder, TextDecoder, Uint8Array, Blob, DOMParser, AbortController, DOMException, XMLHttpRequest, ReadableStream,
    queueMicrotask,
} = scope;
const inPage = typeof document === 'object';
const nativeFetch = scope.fetch.bind(scope);
const nativeSetTimeout = scope.setTimeout.bind(scope);
const nativeClearTimeout = scope.clearTimeout.bind(scope);
const nativeEval = scope.eval;
const now = performance.now.bind(performance);
const apply = Reflect.apply;
const { then } = Promise.prototype;
const addListener = EventTarget.prototype.addEventListener;

/** Where the script was loaded from, without the query that names its version; beside it is the stream. */
const ownTag = inPage ? document.currentScript : undefined;
const ownUrl = new URL(ownTag ? ownTag.src : scope.location.href);
const prefix = ownUrl.pathname.replace(/\/[^/]*$/, '');

/** What the tag says of the site, with defaults for a tag that somebody wrote by hand. */
const told = { ...ownTag?.dataset };

/** Does something that may fail without anybody noticing. */
function attempt(work, otherwise) {
    try {
        return work();
    } catch {
        return otherwise && otherwise();
    }
}

// A worker of the page's own may answer in the application's place. One that was there when the page was navigated to and
// was not asked for that only has other things to do.
const controller = () => attempt(() => inPage && navigator.serviceWorker.controller);
const idle = attempt(() => !performance.getEntriesByType('navigation')[0].workerStart) && controller();
let isRegistered = false;
attempt(() => inPage && navigator.serviceWorker.ready.then(() => (isRegistered = true)));
/** Whether there is none. */
const mayBeAnswered = () => !controller() || controller() === idle;
/** Whether there will be another when the page is loaded again. */
const isAwaited = () => isRegistered && !controller();

/** Whether a function of the page's global object is called as one. */
const isOwn = (self) => self === undefined || self === null || self === scope;

/** The native functions behind ours, by which they are told as text. */
const natives = new WeakMap();

/** A function that looks and feels like `native`. `traps` are those of a proxy. */
function disguised(native, traps) {
    const proxy = new Proxy(native, traps);
    natives.set(proxy, native);
    return proxy;
}

/** Replaces a function by one that looks and feels the same. `trap` is given the native one, `this` and the arguments. */
function wrap(holder, name, trap) {
    const native = holder[name];
    if (typeof native !== 'function') {
        return undefined;
    }
    const proxy = disguised(native, { apply: (target, self, args) => trap(target, self, args) });
    const known = Object.getOwnPropertyDescriptor(holder, name) || { configurable: true, enumerable: true, writable: true };
    Object.defineProperty(holder, name, { ...known, value: proxy });
    return native;
}

/** Replaces the getter of a property by one that first asks `get`, which says `undefined` to mean the native one. */
function wrapGetter(holder, name, get) {
    const known = Object.getOwnPropertyDescriptor(holder, name);
    if (known && known.get) {
        const trap = (native, self) => {
            const own = attempt(() => get(self));
            return own === undefined ? apply(native, self, []) : own;
        };
        known.get = disguised(known.get, { apply: trap });
        Object.defineProperty(holder, name, known);
    }
}

// A task of one's own, which browsers do not slow down in tabs that are hidden, as they do timers.
const tasks = [];
const { port1: taskIn, port2: taskOut } = new MessageChannel();
taskOut.onmessage = () => attempt(tasks.shift());
const post = taskIn.postMessage.bind(taskIn);

/** Runs `work` in a task of its own, behind all microtasks of this one. */
function soon(work) {
    tasks.push(work);
    post(0);
}

/** Does something when the page has been loaded, in a task behind that. */
function whenLoaded(work) {
    if (document.readyState === 'complete') {
        work();
    } else {
        scope.addEventListener('load', () => nativeSetTimeout(work, 0), { once: true });
    }
}
