// Pages that load themselves again: by a refresh in their head, or by a timer. They are followed, and made anew as soon as
// they have changed: in place if they are nothing but markup, else by one reload if nobody has begun anything.
//
//     a refresh, or a timer that reloads ─▶ followed ─ news ─┬─ markup ─▶ changed in place; the refresh is not needed any more
//                                                             └─ else ─▶ loaded again before its time; or when the page does so

/** How the tags of frames and of this page find each other. */
const SHARED = Symbol.for('sungrazer');

/** When somebody did something in this page by hand. */
let touched;
/** Whether it has written something, and whether somebody holds a button down. */
let wrote, pressed;
/** Whether a refresh would not come any more: something else is being loaded, or loading was stopped. */
let leaving, halted;

/** Requests of the page's that are not answered, and when one was last. */
const underWay = new Set();
let rested = -Infinity;

/** The page asks for something, which may be a write. Returns what to call when it has been answered. */
function asks(write) {
    const ended = () => {
        underWay.delete(ended);
        rested = now();
    };
    underWay.add(ended);
    wrote ||= write;
    return ended;
}

/** After a request, and after what a user does, the page may be about to do more. */
const REST = 1000;

/** What changes with each load is left alone for this long, and so is what cannot be followed. */
const LEFT = 600_000;

/** What was learned of this page by the loads before. */
const memory = {
    key: () => `sungrazer:${location.href}`,
    get: () => attempt(() => JSON.parse(sessionStorage.getItem(memory.key()))) ?? {},
    set: (known) => attempt(() => sessionStorage.setItem(memory.key(), JSON.stringify({ ...memory.get(), ...known }))),
};

/** By hand: in this page, or in a frame of it. */
function touch() {
    touched = now();
    if (scope.parent !== scope) {
        attempt(() => scope.parent[SHARED].touch());
    }
}

function watchUser() {
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

/** What the page says of when to load it again: the header and the elements. */
const refreshOf = (doc, header) => [header, ...[...doc.querySelectorAll('meta[http-equiv=refresh i]')].map(({ content }) => content)]
    .filter((content) => content).join('\n');

/** After how many milliseconds that is, if it is this page that is loaded again. At once is no refresh, but a loop. */
function paceOf(refresh) {
    const [, seconds, url = ''] = /^\s*(\d+)[\d.]*\s*(?:$|[;,\s]\s*(?:url\s*=\s*)?["']?([^"'\n]*))/i.exec(refresh) ?? [];
    return (!url.trim() || new URL(url, document.baseURI).href === location.href.split('#')[0]) && seconds * 1000;
}

/** What is loaded or run with the page, and so is not there without a reload. */
const LOADS = `script:not([type*=json],[src^="${ownUrl.pathname}"]),noscript,template,iframe,frame,object,embed,img,image,link:not([rel*=icon]),[background],[poster],[type=image]`;

/** Whether a page is no more than markup. */
const isMarkupOnly = (doc) => doc.contentType === 'text/html' && !doc.querySelector(LOADS)
    && !doc.evaluate('//@*[starts-with(name(),"on") or contains(translate(.,"JAVSCRIPT \t\r\n","javscript"),"javascript:") or contains(.,"url(")]', doc).iterateNext()
    && !/url\(|@import/.test([...doc.querySelectorAll('style')].map(({ textContent }) => textContent));

const parse = (html) => new DOMParser().parseFromString(html, 'text/html');

/** A page as it was sent, but for figures, which count. */
const outlineOf = (html) => html.replace(/>[^<]+/g, (text) => text.replace(/\d+/g, '0'));

/** Ends following the page. */
let unfollow;

/** Follows the page, which loads itself again every `pace` milliseconds: by a timer, or because its head says so. */
function followPage(pace) {
    const known = memory.get();
    if (unfollow || !(pace > 0) || Date.now() - known.left < LEFT || !mayBeAnswered()) {
        return;
    }
    const refresh = refreshOf(document, told.refresh);
    // What a policy on types forbids would be reported.
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
    /** This load tells against following the page. One may be by chance. */
    const doubt = (is) => {
        if (is && known.doubts) {
            leave();
        } else if (is || known.doubts) {
            memory.set({ doubts: is });
        }
    };
    /** Whether what is known of the page is for us as well, by an answer to a request for it. */
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
    /** Takes the place of the browser's refresh, which is to come when nobody does anything in between. */
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
        && [null, document.body].includes(document.activeElement) && scope.getSelection()?.isCollapsed !== false
        && [...document.querySelectorAll('audio,video')].every(({ paused }) => paused);
    /** Loads the page again before its time; not twice in a row if it changes anyway. */
    const reloadSoon = () => {
        if (!isFree()) {
            // Nor will it be. In place it may be made what comes next.
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
        // Without a body there is nothing to show.
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
            // What is new since the page was loaded is not known, if there is anything: from here on it is.
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
    // Who is asked for the page at its own pace besides need not be fetched as often.
    unfollow = link.follow({ url, headers, page: true, every: still ? pace : 4 * pace }, (record) => void hear(record));
}

/** Reloads by timers, so far: of one that comes again at the same time after each load it is known that it goes on to. */
const RELOADS = 'sungrazer:reloads';
let reloads = {};

const keepReloads = (known = reloads) => attempt(() => sessionStorage.setItem(RELOADS, JSON.stringify(known)));

/** Sees timers that load the page again. They do so as without us, but what they load is followed besides. */
function watchReloads() {
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
        // A page that loads itself again because of an answer, or of what somebody has done, has its reasons.
        if (!answered && !depth && url === location.href && isCalm() && !touched && !wrote) {
            const took = now();
            const again = reloads.url === url && reloads.pace === pace && Math.abs(reloads.took - took) < REST / 2 + took / 4;
            keepReloads({ url, pace, took, times: again ? reloads.times + 1 : 1 });
        }
    }));
    // It was not loaded, but made by the page.
    navigation?.addEventListener('navigatesuccess', () => (leaving = false));
}

/** Follows a page that a timer has loaded again, as it had before. */
function followReloads() {
    if (reloads.times > 1 && reloads.url === location.href) {
        followPage(reloads.pace);
    }
}
