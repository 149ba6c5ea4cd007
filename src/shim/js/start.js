// The entry point: as the worker that tabs share, or in a page, before any script of the page.

import { apply, attempt, inPage, nativeSetTimeout, natives, ownTag, scope, told, whenLoaded, wrap } from './native.js';
import { link, work } from './link.js';
import { currentRun } from './sites.js';
import { wrapTimers } from './timers.js';
import { sweepPolls } from './polls.js';
import { wrapXhr } from './xhr.js';
import { wrapFetch } from './fetch.js';
import { subscribe } from './bus.js';
import { SHARED, followPage, followReloads, paceOf, refreshOf, touch, touched, watchReloads, watchUser, wrote } from './page.js';

const SWEEP = 30_000;

function start() {
    Object.defineProperty(scope, 'sungrazer', { value: Object.freeze({ subscribe }), configurable: true, writable: true });
    // For frames of this page.
    Object.defineProperty(scope, SHARED, { value: { run: currentRun, touch, isCalm: () => !touched && !wrote }, configurable: true });
    wrap(Function.prototype, 'toString', (native, self, args) => apply(native, natives.get(self) || self, args));
    wrapTimers();
    wrapXhr();
    wrapFetch();
    watchUser();
    watchReloads();
    const begin = () => attempt(() => {
        // Actions that a policy in the page's markup may forbid are not tried, because violations would be reported.
        /** @type {NodeListOf<HTMLMetaElement>} */
        const policies = document.querySelectorAll('meta[http-equiv=content-security-policy i]');
        const policy = [...policies].map(({ content }) => content).join(';');
        if (policy) {
            told.worker = 'no';
        }
        attempt(() => followPage(paceOf(refreshOf(document, told.refresh))));
        attempt(followReloads);
        const way = /connect-src[^;]*/i.exec(policy) || /default-src[^;]*/i.exec(policy);
        if (!way || /'self'| \*( |$)/.test(way[0])) {
            link.start();
        }
    });
    // A stream opened while the page loads would delay the load event.
    whenLoaded(begin);
    scope.addEventListener('pagehide', () => attempt(() => link.leave()));
    scope.addEventListener('pageshow', ({ persisted }) => persisted && begin());
    const wake = () => document.visibilityState === 'visible' && link.post({ wake: true });
    document.addEventListener('visibilitychange', wake);
    document.addEventListener('resume', wake);
    // Open connections belong to the previous network.
    scope.addEventListener('online', () => attempt(() => link.renew()));
    nativeSetTimeout(function sweep() {
        attempt(sweepPolls);
        nativeSetTimeout(sweep, SWEEP);
    }, SWEEP);
}

if (!inPage) {
    work();
} else if (!scope.sungrazer && scope.origin !== 'null') {
    attempt(start);
}
if ('accept' in told) {
    // Sungrazer injected the tag, so it is removed before the page's own scripts run.
    ownTag.remove();
}
