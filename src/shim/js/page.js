// Pages that load themselves again: by a refresh in their head, or by a timer. They are followed, and made anew as soon as
// they have changed: in place if they are nothing but markup, else by one reload. Those that are more than that are loaded
// again at their own pace besides, as without us.

let isFollowed;

/**
 * Follows the page, which loads itself again every `pace` milliseconds: by what its head says, `refresh`, which this is in
 * place of; or else by a timer.
 */
function followPage(pace, refresh) {
    if (isFollowed) {
        return;
    }
    isFollowed = true;
    let live, stale, sent, next, touched;
    document.addEventListener('input', () => (touched = true));
    const isMarkup = () => isStill(document) && isStill(next) && !/url\(/i.test(sent);
    const url = location.pathname + location.search;
    const headers = { accept: told.accept || 'text/html,*/*;q=0.8' };
    const watch = { url };
    const hear = (record) => {
        const { event, status, type, version } = record;
        live = /live|snapshot/.test(event);
        watch.replica = record;
        // Without a body there is nothing to show.
        if (event !== 'snapshot' || NO_BODY.includes(status)) {
            return;
        }
        const html = new Answer(record).text(document.characterSet);
        const before = sent;
        const refreshes = [record.headers.refresh];
        sent = refreshes + html;
        if (before === sent) {
            return;
        }
        next = new DOMParser().parseFromString(html, 'text/html');
        for (const meta of next.querySelectorAll('meta[http-equiv=refresh i]')) {
            refreshes.push(meta.content);
            meta.remove();
        }
        if (before || !isShown(version)) {
            stale = true;
            if (!before) {
                // What was there for this load alone, such as a message that is shown once, stays until the page itself asks.
                return;
            }
            announce(record);
            const isAlike = /html/.test(type) && refreshes.filter((one) => one).join() === (refresh ?? '') && isMarkup();
            proven(isAlike).then((is) => {
                if (is) {
                    attempt(() => {
                        morphPage(next);
                        stale = false;
                    });
                }
                // What somebody has begun goes on until the page itself ends it.
                if (stale && !touched) {
                    hasten(pace);
                }
            });
        }
    };
    if (mayBeAnswered()) {
        // Who is asked for the page at its own pace besides need not be looked at as often.
        link.follow({ url, headers, page: true, get every() {
            return isStill(document) ? pace : 4 * pace;
        } }, hear);
    }
    /** Whether, if `is`, what is known of the page is for us as well, by an answer to a request for it. */
    const proven = async (is) => {
        try {
            const { mark, check } = proof(watch);
            const answer = is && await nativeFetch(url, {
                headers: { ...headers, 'sungrazer-poll': mark, 'if-none-match': `"${watch.replica.version}"` },
                cache: 'no-store',
            });
            return check((name) => answer.headers.get(name));
        } catch {
            return false;
        }
    };
    const check = async () => {
        if (await proven(live && !stale && mayBeAnswered() && !isAwaited() && isMarkup() && loadedState())) {
            nativeSetTimeout(check, pace);
        } else {
            reload(0);
        }
    };
    if (refresh) {
        whenLoaded(() => nativeSetTimeout(check, pace));
    }
}

/** Set when the page is to be reloaded: once, lest it begin again and again to load. */
let reloading;

const reload = (wait) => (reloading ??= nativeSetTimeout(() => location.reload(), wait));

/** Reloads now; or when the page itself would, at each `pace`, if it changes with every look. */
function hasten(pace) {
    const key = 'sungrazer:page';
    const often = attempt(() => Date.now() - sessionStorage.getItem(key) < 2 * pace);
    attempt(() => sessionStorage.setItem(key, Date.now()));
    reload(often ? pace - now() : 0);
}

/** The beginning of the state that this page was loaded in, as Sungrazer has written behind it. */
const loadedState = () => /<!--sungrazer (.{10})/.exec(new XMLSerializer().serializeToString(document))?.[1];

/** Whether this version is what the page was loaded as. Without a mark it counts as that. */
function isShown(version) {
    return version.includes(`-${loadedState() ?? ''}`);
}

/** What begins anew, or is asked for, each time that a page is loaded; and what is open, by hand or by itself. */
const LOADS = 'script:not([type*=json]),noscript,template,iframe,frame,object,embed,[onload],img,image,link:not([rel*=icon]),details,dialog';

/** Whether a page is no more than markup. */
const isStill = (doc) => doc?.contentType === 'text/html' && [...doc.querySelectorAll(LOADS)].every(isOurs);

/** Keeps the refresh in the page's own head from coming true: behind this tag begins a comment that ends behind it. */
function holdRefresh({ dataset: { refresh } }) {
    document.write('<!--');
    followPage(parseInt(refresh) * 1000, refresh);
}

/** Sees timers that load the page again. They do so as without us, but from then on it is followed besides. */
function watchReloads() {
    scope.navigation?.addEventListener('navigate', ({ destination: { url, sameDocument } }) => attempt(() => {
        const run = currentRun() || scope.parent[Symbol.for('sungrazer')].run();
        // A page that loads itself again because of an answer has its reasons.
        if (!run.answered && !sameDocument && url === location.href) {
            sessionStorage.setItem('sungrazer:pace', `${run.site.pace} ${url}`);
        }
    }));
}

/** Follows a page that a timer has loaded again. */
function followReloads() {
    const key = 'sungrazer:pace';
    const [pace, url] = sessionStorage.getItem(key).split(' ');
    sessionStorage.removeItem(key);
    if (url === location.href) {
        followPage(Number(pace));
    }
}
