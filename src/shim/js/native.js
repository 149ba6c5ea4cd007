// Native functions of the browser, saved before any page can replace them, and helpers that keep this script's errors
// from the page.

/** @type {any} */
export const scope = self;
export const {
    Promise, Response, Request, Headers, URL, URLSearchParams, JSON, Map, Set, WeakMap, Date, Error, Event, ProgressEvent,
    TextEncoder, TextDecoder, Uint8Array, Blob, DOMParser, AbortController, DOMException, XMLHttpRequest, ReadableStream,
    queueMicrotask,
} = scope;
export const inPage = typeof document === 'object';
export const nativeFetch = scope.fetch.bind(scope);
export const nativeSetTimeout = scope.setTimeout.bind(scope);
export const nativeClearTimeout = scope.clearTimeout.bind(scope);
export const nativeEval = scope.eval;
export const now = performance.now.bind(performance);
export const apply = Reflect.apply;
export const { then } = Promise.prototype;
export const addListener = EventTarget.prototype.addEventListener;

/** @type {any} */
export const ownTag = inPage ? document.currentScript : undefined;
/** The URL that the script was loaded from, without the version query. The stream is beside it. */
export const ownUrl = new URL(ownTag ? ownTag.src : scope.location.href);
export const prefix = ownUrl.pathname.replace(/\/[^/]*$/, '');

/** The site's settings in the tag, with defaults for a tag written by hand. */
export const told = { ...ownTag?.dataset };

/** Runs `work` and ignores exceptions. */
export function attempt(work, otherwise) {
    try {
        return work();
    } catch {
        return otherwise && otherwise();
    }
}

// A service worker of the page may answer in place of the application. One that was already active but was not
// consulted for the navigation only serves other purposes.
const controller = () => attempt(() => inPage && navigator.serviceWorker.controller);
// @ts-expect-error The entry is a PerformanceNavigationTiming.
const idle = attempt(() => !performance.getEntriesByType('navigation')[0].workerStart) && controller();
let isRegistered = false;
attempt(() => inPage && navigator.serviceWorker.ready.then(() => (isRegistered = true)));
/** Returns whether no service worker may interfere. */
export const mayBeAnswered = () => !controller() || controller() === idle;
/** Returns whether a service worker will control the page after a reload. */
export const isAwaited = () => isRegistered && !controller();

/** Returns whether a function of the global object is called on it. */
export const isOwn = (self) => self === undefined || self === null || self === scope;

/** The native function behind each of our wrappers, for `toString`. */
export const natives = new WeakMap();

/** Returns a proxy with `traps` that is indistinguishable from `native`. */
export function disguised(native, traps) {
    const proxy = new Proxy(native, traps);
    natives.set(proxy, native);
    return proxy;
}

/** Replaces a function by an indistinguishable one. `trap` receives the native function, `this` and the arguments. */
export function wrap(holder, name, trap) {
    const native = holder[name];
    if (typeof native !== 'function') {
        return undefined;
    }
    const proxy = disguised(native, { apply: (target, self, args) => trap(target, self, args) });
    const known = Object.getOwnPropertyDescriptor(holder, name) || { configurable: true, enumerable: true, writable: true };
    Object.defineProperty(holder, name, { ...known, value: proxy });
    return native;
}

/** Replaces a getter by one that first calls `get`; if that returns `undefined`, the native getter runs. */
export function wrapGetter(holder, name, get) {
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

// Runs tasks through a message channel, which browsers do not throttle in hidden tabs as they do timers.
const tasks = [];
const { port1: taskIn, port2: taskOut } = new MessageChannel();
taskOut.onmessage = () => attempt(tasks.shift());
const post = taskIn.postMessage.bind(taskIn);

/** Runs `work` in a separate task, after all microtasks of the current one. */
export function soon(work) {
    tasks.push(work);
    post(0);
}

/** Runs `work` in a task after the page's `load` event. */
export function whenLoaded(work) {
    if (document.readyState === 'complete') {
        work();
    } else {
        scope.addEventListener('load', () => nativeSetTimeout(work, 0), { once: true });
    }
}
