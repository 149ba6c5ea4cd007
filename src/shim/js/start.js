// Begins: as the worker that tabs share, or in a page, before any script of its own.

const SWEEP = 30_000;

function start() {
    Object.defineProperty(scope, 'sungrazer', { value: Object.freeze({ subscribe }), configurable: true });
    wrapTimers();
    wrapXhr();
    wrapFetch();
    const begin = () => attempt(() => link.start());
    // A stream that is open while the page loads would keep it loading.
    if (document.readyState === 'complete') {
        begin();
    } else {
        scope.addEventListener('load', () => nativeSetTimeout(begin, 0), { once: true });
    }
    scope.addEventListener('pagehide', () => attempt(() => link.leave()));
    scope.addEventListener('pageshow', ({ persisted }) => persisted && begin());
    const wake = () => document.visibilityState === 'visible' && link.post({ wake: true });
    for (const [target, event] of [[document, 'visibilitychange'], [document, 'resume'], [scope, 'online']]) {
        target.addEventListener(event, wake);
    }
    nativeSetTimeout(function sweep() {
        attempt(sweepPolls);
        nativeSetTimeout(sweep, SWEEP);
    }, SWEEP);
}

if (!inPage) {
    work();
} else if (!scope.sungrazer && nativeFetch && scope.Proxy && scope.WeakMap) {
    attempt(start);
}
