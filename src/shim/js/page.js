// Pages that load themselves again: by a refresh in their head, or by a timer. They are followed instead, and made anew
// when they have really changed: in place if no script of their own stands in the way, else by one reload.

const pageHeaders = { accept: told.accept || 'text/html,*/*;q=0.8' };

const page = {
    /** What is followed in place of reloading; `undefined` while nothing is. */
    watch: undefined,
    /** Whether the next reload is to happen. */
    passes: false,
    wrote: false,

    /** Takes over what would load the page again every `pace` milliseconds. */
    take(pace) {
        if (this.watch) {
            return;
        }
        this.watch = { pace, url: location.pathname + location.search, live: false, html: undefined };
        if (mayBeAnswered()) {
            this.follow();
        }
        const check = () => {
            if (!this.watch.live || !mayBeAnswered() || isAwaited()) {
                this.reload();
            } else {
                this.proven(() => nativeSetTimeout(check, pace));
            }
        };
        nativeSetTimeout(check, Math.max(pace, FASTEST));
    },

    /** Goes on with `then` if what is known of the page is for us, by an answer to a request for it; else loads it again. */
    proven(then) {
        const { watch } = this;
        const { mark, check } = proof(watch);
        const headers = { ...pageHeaders, 'sungrazer-poll': mark, 'if-none-match': `"${watch.replica.version}"` };
        nativeFetch(watch.url, { headers, cache: 'no-store' })
            .then((answer) => (check((name) => answer.headers.get(name)) ? then() : this.reload()))
            .catch(() => this.reload());
    },

    follow() {
        const { watch } = this;
        link.follow({ url: watch.url, headers: pageHeaders, every: watch.pace }, (record) => {
            switch (record.event) {
                case 'snapshot': {
                    watch.live = true;
                    watch.replica = record;
                    const html = new Answer(record).text(document.characterSet);
                    const before = watch.html;
                    const changed = before === undefined ? !isShown(record.version) : before !== html;
                    watch.html = html;
                    if (changed) {
                        announce(record);
                        this.proven(() => this.show(html, before));
                    }
                    break;
                }
                case 'live':
                    watch.live = true;
                    watch.replica.identity = record.identity;
                    break;
                default:
                    watch.live = false;
            }
        });
    },

    show(html, before) {
        if (mayMorph(before)) {
            attempt(() => morphPage(html), () => this.reload());
        } else {
            this.reload();
        }
    },

    /** Reloads now, or when the page itself would, if it changes with every look. */
    reload() {
        const key = 'sungrazer:reloaded';
        const last = attempt(() => Number(sessionStorage.getItem(key)), () => 0);
        const pace = this.watch?.pace ?? 0;
        const often = Date.now() - last < 2 * pace;
        const wait = often ? Math.max(0, pace - now()) : 0;
        nativeClearTimeout(this.timer);
        this.timer = nativeSetTimeout(() => {
            attempt(() => sessionStorage.setItem(key, String(Date.now())));
            this.passes = true;
            location.reload();
        }, wait);
    },
};

/** The state that this page was loaded in, as Sungrazer has written behind it. */
function loadedState() {
    for (const root of [document, document.body, document.documentElement]) {
        for (let node = root?.lastChild; node; node = node.previousSibling) {
            const found = node.nodeType === Node.COMMENT_NODE && /^sungrazer (\S{11})$/.exec(node.data);
            if (found) {
                return found[1];
            }
        }
    }
    return undefined;
}

/** Whether this version is what the page was loaded as. Without a mark it counts as that. */
function isShown(version) {
    const state = loadedState();
    // The mark is half of the fingerprint; its last character holds less than six bits of it.
    return state === undefined || version.split('-').slice(1).join('-').startsWith(state.slice(0, 10));
}

/** Whether nothing but the page's own markup has made it what it is. */
function mayMorph(before) {
    if (document.contentType !== 'text/html') {
        return false;
    }
    const scripts = [...document.scripts].filter((script) => !isOurs(script) && /^$|javascript|module/.test(script.type));
    if (scripts.length === 0) {
        return true;
    }
    if (before === undefined || !document.body) {
        return false;
    }
    // Scripts there are. If they left the page as it was sent, they need not run again.
    const sent = new DOMParser().parseFromString(before, 'text/html').body;
    const shown = document.body.cloneNode(true);
    for (const script of shown.querySelectorAll('script')) {
        if (isOurs(script)) {
            script.remove();
        }
    }
    for (const tree of [sent, shown]) {
        // What stands behind the end of a page is part of its body to some parsers.
        [...tree.childNodes].filter(isOurs).forEach((node) => node.remove());
        tree.normalize();
    }
    return sent.innerHTML.trimEnd() === shown.innerHTML.trimEnd();
}

/** Keeps the refresh in the page's own head from coming true: behind this tag begins a comment that ends behind it. */
function holdRefresh(tag) {
    const [, seconds] = /^\s*(\d*)/.exec(tag.dataset.refresh);
    document.write('<!--');
    page.take(seconds * 1000);
}

/** Timers that load the page again. */
function watchReloads() {
    const { navigation } = scope;
    if (!navigation?.addEventListener) {
        return;
    }
    navigation.addEventListener('navigate', (event) => attempt(() => {
        const own = (url) => url.split('#')[0];
        const again = event.navigationType === 'reload'
            || (event.navigationType !== 'traverse' && own(event.destination.url) === own(location.href) && !event.hashChange);
        const run = currentRun() || parentRun();
        // A page that loads itself again because of an answer has its reasons.
        if (run?.answered || !again || event.destination.sameDocument || !run || !event.cancelable || event.userInitiated || event.formData || event.downloadRequest || page.passes || page.wrote) {
            return;
        }
        event.preventDefault();
        page.take(Number.isFinite(run.site?.pace) ? run.site.pace : 1000);
    }));
}

/** A page may load its frames again. */
function parentRun() {
    return attempt(() => (scope.parent !== scope ? scope.parent[Symbol.for('sungrazer')]?.run() : undefined));
}
