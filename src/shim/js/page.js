// Pages that reload themselves, by a refresh in their head or by a timer. The script subscribes to them and updates
// them as soon as they change: in place if they contain only markup, else by one reload if there is no user input.
//
//     a refresh, or a timer that reloads ─▶ subscribed ─ change ─┬─ markup ─▶ changed in place; the refresh is not needed any more
//                                                                 └─ else ─▶ reloaded early, or when the page does so itself

import {
    DOMParser, Date, JSON, Promise, Set, URL, apply, attempt, isAwaited, mayBeAnswered, nativeFetch, nativeSetTimeout,
    now, ownUrl, scope, told, wrap,
} from './native.js';
import { link } from './link.js';
import { currentRun } from './sites.js';
import { proof } from './identity.js';
import { Answer, NO_BODY } from './answers.js';
import { announce } from './bus.js';
import { edited, morphPage, scrolled } from './morph.js';

/** The key by which the script in frames and in this page find each other. */
export const SHARED = Symbol.for('sungrazer');

/** The time of the last user input in this page. */
export let touched;
/** Whether the page has made a write, and whether a button is pressed. */
export let wrote, pressed;
/** Whether a refresh would no longer take place: another page is being loaded, or loading was stopped. */
let leaving, halted;

/** The page's pending requests, and the time when the last one ended. */
const underWay = new Set();
let rested = -Infinity;

/** Records a request of the page, which may be a write. Returns a function to call when the response has arrived. */
export function asks(write) {
    const ended = () => {
        underWay.delete(ended);
        rested = now();
    };
    underWay.add(ended);
    wrote ||= write;
    return ended;
}

/** The time in milliseconds after a request or user input in which the page may do more. */
const REST = 1000;

/** How long, in milliseconds, a page that changes with each load or cannot be subscribed to is left alone. */
const LEFT = 600_000;

/** The knowledge about this page from previous loads. */
const memory = {
    key: () => `sungrazer:${location.href}`,
    get: () => attempt(() => JSON.parse(sessionStorage.getItem(memory.key()))) ?? {},
    set: (known) => attempt(() => sessionStorage.setItem(memory.key(), JSON.stringify({ ...memory.get(), ...known }))),
};

/** Records user input in this page or one of its frames. */
export function touch() {
    touched = now();
    if (scope.parent !== scope) {
        attempt(() => scope.parent[SHARED].touch());
    }
}

export function watchUser() {
    const on = (names, work) => names.split(' ').forEach((name) => scope.addEventListener(name, (event) => attempt(() => work(event)), { capture: true, passive: true }));
    on('pointerdown keydown wheel input change drop paste play', touch);
    on('pointerdown pointerup pointercancel', ({ type }) => (pressed = type === 'pointerdown'));
    on('input change', ({ target }) => edited.add(target));
    on('reset', ({ target }) => [...target.elements].forEach((node) => edited.delete(node)));
    on('scroll', ({ target }) => scrolled.add(target));
    wrap(scope, 'stop', (native, self, args) => {
        halted = true;
        attempt(unfollow);
        return apply(native, self, args);
    });
}

const nativeStop = scope.stop?.bind(scope);

/** Returns the page's refresh instructions: the header and the elements. */
export const refreshOf = (doc, header) => [header, ...[...doc.querySelectorAll('meta[http-equiv=refresh i]')].map(({ content }) => content)]
    .filter((content) => content).join('\n');

/** Returns the delay in milliseconds if this page itself is reloaded. A delay of zero is a loop, not a refresh. */
export function paceOf(refresh) {
    const [, seconds, url = ''] = /^\s*(\d+)[\d.]*\s*(?:$|[;,\s]\s*(?:url\s*=\s*)?["']?([^"'\n]*))/i.exec(refresh) ?? [];
    return (!url.trim() || new URL(url, document.baseURI).href === location.href.split('#')[0]) && Number(seconds) * 1000;
}

/** Resources that are loaded or run with the page, and need a reload to change. */
const LOADS = `script:not([type*=json],[src^="${ownUrl.pathname}"]),noscript,template,iframe,frame,object,embed,img,image,link:not([rel*=icon]),[background],[poster],[type=image]`;

/** Returns whether a page contains only markup. */
const isMarkupOnly = (doc) => doc.contentType === 'text/html' && !doc.querySelector(LOADS)
    && !doc.evaluate('//@*[starts-with(name(),"on") or contains(translate(.,"JAVSCRIPT \t\r\n","javscript"),"javascript:") or contains(.,"url(")]', doc).iterateNext()
    && !/url\(|@import/.test([...doc.querySelectorAll('style')].map(({ textContent }) => textContent).join());

const parse = (html) => new DOMParser().parseFromString(html, 'text/html');

/** Returns the page's HTML with all numbers replaced, to compare two loads. */
const outlineOf = (html) => html.replace(/>[^<]+/g, (text) => text.replace(/\d+/g, '0'));

/** Ends the subscription to the page. */
let unfollow;

/** Subscribes to the page, which reloads itself every `pace` milliseconds by a timer or a refresh. */
export function followPage(pace) {
    const known = memory.get();
    if (unfollow || !(pace > 0) || Date.now() - known.left < LEFT || !mayBeAnswered()) {
        return;
    }
    const refresh = refreshOf(document, told.refresh);
    // A violation of a trusted-types policy would be reported, so the page is not parsed then.
    const still = refresh && !told.worker && isMarkupOnly(document);
    const url = location.pathname + location.search;
    const headers = { accept: told.accept || 'text/html,*/*;q=0.8' };
    const watch = { url };
    let base, last, live, stale, stopped;
    const leave = () => {
        base = undefined;
        unfollow();
        memory.set({ left: Date.now() });
    };
    /** Records evidence against updating the page. A single occurrence may be chance. */
    const doubt = (is) => {
        if (is && known.doubts) {
            leave();
        } else if (is || known.doubts) {
            memory.set({ doubts: is });
        }
    };
    /** Checks by a request for the page that its replica has the same identity. */
    const proven = async () => {
        try {
            const { mark, check } = proof(watch);
            const answer = await nativeFetch(url, {
                headers: { ...headers, 'sungrazer-poll': mark, 'if-none-match': `"${watch.replica.version}"` },
                cache: 'no-store',
            });
            return check((name) => answer.headers.get(name));
        } catch {
            return undefined;
        }
    };
    /** Stops the browser's refresh and checks at its interval instead. Waits while the user is active. */
    const stop = () => {
        if (now() - touched < REST) {
            nativeSetTimeout(stop, REST);
        } else if (base && live && !stale && !leaving && !stopped) {
            stopped = true;
            nativeStop();
            nativeSetTimeout(check, pace);
        }
    };
    const check = async () => {
        const isCurrent = base && live && !stale && mayBeAnswered() && !isAwaited() && await proven();
        if (!isCurrent && !leaving && !halted) {
            location.reload();
        }
        nativeSetTimeout(check, pace);
    };
    const isFree = () => scope.navigation && !touched && !wrote && !leaving && !halted && refreshOf(document, told.refresh) === refresh
        && (document.activeElement ?? document.body) === document.body && scope.getSelection()?.isCollapsed !== false
        // @ts-expect-error The elements are media elements.
        && [...document.querySelectorAll('audio,video')].every(({ paused }) => paused);
    /** Reloads the page early, but not twice in a row if it always changes. */
    const reloadSoon = () => {
        if (!isFree()) {
            // The page will not become free either. A later state may still be applied in place.
            base || unfollow();
            return;
        }
        if (Date.now() - memory.get().at < 2 * pace) {
            return;
        }
        if (underWay.size || now() - rested < REST) {
            nativeSetTimeout(reloadSoon, REST);
            return;
        }
        memory.set({ at: Date.now(), news: last });
        keepReloads();
        location.reload();
    };
    const hear = async (record) => {
        const { event, status, reason } = record;
        live = /live|snapshot/.test(event);
        watch.replica = { ...watch.replica, ...record };
        if (event === 'end' && !/max|drain|reload/.test(reason)) {
            leave();
        }
        // Without a body there is nothing to display.
        if (event !== 'snapshot' || NO_BODY.includes(status)) {
            return;
        }
        const html = new Answer(record).text(document.characterSet);
        const header = record.headers.refresh;
        const said = `${header}\n${html}`;
        const isFirst = last === undefined;
        if (said === last) {
            return;
        }
        last = said;
        const next = still ? parse(html) : document;
        const isMarkup = still && isMarkupOnly(next) && refreshOf(next, header) === refresh && /html/.test(record.type);
        if (isFirst) {
            // Changes between the page's load and the first state are unknown; later ones are not.
            if (still) {
                const shown = document.documentElement.outerHTML;
                stale = isMarkup && outlineOf(shown) === outlineOf(next.documentElement.outerHTML);
                base = stale ? parse(shown) : undefined;
                doubt(!stale);
            } else if (Date.now() - known.at < 2 * pace) {
                doubt(known.news !== last);
            }
        } else {
            announce(record);
            stale = true;
        }
        if (pressed) {
            await new Promise((resolve) => scope.addEventListener('pointerup', () => nativeSetTimeout(resolve), { once: true }));
        }
        const isOurs = base && await proven();
        if (isOurs === false) {
            doubt(true);
        }
        if (last !== said) {
            return;
        }
        if (stale && isOurs && isMarkup) {
            attempt(() => {
                morphPage(base, next);
                base = next;
                stale = false;
            });
        }
        if (stale) {
            reloadSoon();
        } else if (isOurs) {
            stop();
        }
    };
    // A page that also reloads at its own interval need not be fetched as often.
    unfollow = link.follow({ url, headers, page: true, every: still ? pace : 4 * pace }, (record) => void hear(record));
}

/** Reloads by timers. A page that reloads at the same time after each load is expected to continue. */
const RELOADS = 'sungrazer:reloads';
let reloads = {};

const keepReloads = (known = reloads) => attempt(() => sessionStorage.setItem(RELOADS, JSON.stringify(known)));

/**
 * Observes timers that reload the page. The reloads take place as usual, and the script also subscribes to the page.
 */
export function watchReloads() {
    reloads = attempt(() => JSON.parse(sessionStorage.getItem(RELOADS))) ?? {};
    attempt(() => sessionStorage.removeItem(RELOADS));
    const { navigation } = scope;
    navigation?.addEventListener('navigate', ({ destination: { url, sameDocument }, downloadRequest }) => attempt(() => {
        if (sameDocument || downloadRequest) {
            return;
        }
        leaving = true;
        const by = currentRun() ? scope : scope.parent;
        const { run, isCalm } = by[SHARED];
        const { site: { pace }, answered, depth } = run();
        // A reload after a response or user input is not periodic.
        if (!answered && !depth && url === location.href && isCalm() && !touched && !wrote) {
            const took = now();
            const again = reloads.url === url && reloads.pace === pace && Math.abs(reloads.took - took) < REST / 2 + took / 4;
            keepReloads({ url, pace, took, times: again ? reloads.times + 1 : 1 });
        }
    }));
    // The navigation did not load a document: the page handled it itself.
    navigation?.addEventListener('navigatesuccess', () => (leaving = false));
}

/** Subscribes to a page that a timer reloads periodically. */
export function followReloads() {
    if (reloads.times > 1 && reloads.url === location.href) {
        followPage(reloads.pace);
    }
}
