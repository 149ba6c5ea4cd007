// Begins: as the worker that tabs share, or in a page, before any script of its own.

const SWEEP = 30_000;

function start() {
    Object.defineProperty(scope, 'sungrazer', { value: Object.freeze({ subscribe }), configurable: true, writable: true });
    // For frames of this page, and for a second tag in it.
    Object.defineProperty(scope, Symbol.for('sungrazer'), { value: { run: currentRun, holdRefresh }, configurable: true });
    wrapTimers();
    wrapXhr();
    wrapFetch();
    watchReloads();
    stopWhereForbidden();
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
    document.addEventListener('visibilitychange', wake);
    document.addEventListener('resume', wake);
    // Whatever was open is of another network.
    scope.addEventListener('online', () => attempt(() => link.renew()));
    nativeSetTimeout(function sweep() {
        attempt(sweepPolls);
        nativeSetTimeout(sweep, SWEEP);
    }, SWEEP);
}

/** A policy in the page's markup may forbid what its headers did not. Then there is no more than the page itself. */
function stopWhereForbidden() {
    document.addEventListener('securitypolicyviolation', ({ blockedURI, effectiveDirective }) => attempt(() => {
        const isStream = effectiveDirective === 'connect-src' && new URL(blockedURI).pathname === `${prefix}/stream`;
        if (isStream) {
            link.leave();
        }
    }));
}

if (!inPage) {
    work();
} else if (!scope.sungrazer && nativeFetch && scope.Proxy && scope.WeakMap && scope.origin !== 'null') {
    attempt(start);
}
if (told.refresh) {
    attempt(() => scope[Symbol.for('sungrazer')].holdRefresh(ownTag));
}
