// Timers as the page knows them. Those that lead to a poll can be made to fire early.

const timers = new Map();

class Timer {
    constructor({ site, run, handler, args, repeats }) {
        Object.assign(this, { site, run, handler, args, repeats, beside: [], hurried: [] });
    }

    /** Sets it natively. What has to be cleared with it is `beside`. */
    arm(set, delay) {
        const { handler } = this;
        const fires = () => attempt(() => this.fires());
        if (typeof handler === 'function') {
            return set(function (...args) {
                fires();
                return apply(handler, this, args);
            }, delay, ...this.args);
        }
        // Code in a string is for the browser to run. Timers with one delay fire in the order in which they were set.
        this.beside = [set(fires, delay)];
        return set(handler, delay);
    }

    fires() {
        const hurried = !!this.isHurried;
        this.isHurried = false;
        if (!this.repeats) {
            this.forget();
        }
        begin(this.site, this.run, hurried);
    }

    /** The page may not clear it any more, or has. */
    forget() {
        timers.delete(this.id);
        this.site?.waiting.delete(this);
    }

    /** Clears what the page knows nothing of. */
    clear() {
        this.forget();
        [...this.beside, ...this.hurried].forEach(nativeClearTimeout);
    }

    /** Fires now: one that repeats once more than it would, any other instead of later. */
    hurry() {
        if (this.isHurried) {
            return;
        }
        this.isHurried = true;
        if (this.repeats) {
            const once = new Timer(this);
            once.fires = () => this.fires();
            this.hurried = [once.arm(nativeSetTimeout, 0), ...once.beside];
        } else {
            [this.id, ...this.beside].forEach(nativeClearTimeout);
            this.hurried = [this.arm(nativeSetTimeout, 0), ...this.beside];
        }
    }
}

/** Hurries the timers of `site`, and does so no more often than it can be seen. */
const SEEN = 50;

function hurry(site) {
    const wait = site.hurried + SEEN - now();
    if (wait > 0) {
        site.later ??= nativeSetTimeout(() => {
            site.later = undefined;
            hurry(site);
        }, wait);
        return;
    }
    site.hurried = now();
    for (const timer of [...site.waiting]) {
        attempt(() => timer.hurry());
    }
}

function setTimer(native, args, repeats) {
    const [handler, wish, ...rest] = args;
    const delay = typeof wish === 'string' ? Number(wish) : wish;
    const long = typeof delay === 'number' && delay >= FASTEST;
    const isCode = typeof handler === 'string';
    if (!long) {
        // A detour of the callback that is running. Code in a string takes none that matters.
        const run = !isCode && !repeats && typeof handler === 'function' && currentRun();
        return run ? new Timer({ run, handler, args: rest, repeats }).arm(native, wish) : undefined;
    }
    if (!isCode && typeof handler !== 'function') {
        return undefined;
    }
    const site = repeats ? new Site() : callingSite();
    if (!site) {
        return undefined;
    }
    site.pace = Math.min(site.pace, delay);
    const timer = new Timer({ site, handler, args: rest, repeats });
    timer.id = timer.arm(native, delay);
    timers.set(timer.id, timer);
    site.waiting.add(timer);
    return timer.id;
}

function wrapTimers() {
    for (const [name, repeats] of [['setTimeout', false], ['setInterval', true]]) {
        const native = scope[name].bind(scope);
        wrap(scope, name, (target, self, args) => {
            const ours = (self === undefined || self === scope) && args.length > 0;
            const id = ours ? attempt(() => setTimer(native, args, repeats)) : undefined;
            return id ?? apply(target, self, args);
        });
    }
    for (const name of ['clearTimeout', 'clearInterval']) {
        wrap(scope, name, (target, self, args) => {
            attempt(() => timers.get(Number(args[0]))?.clear());
            return apply(target, self, args);
        });
    }
    // A page that draws again and again may ask as often; it cannot be hurried, but its polls can be answered.
    wrap(scope, 'requestAnimationFrame', (target, self, [handler, ...rest]) => {
        const site = typeof handler === 'function' ? attempt(frameSite) : undefined;
        if (!site) {
            return apply(target, self, [handler, ...rest]);
        }
        return apply(target, self, [function (...args) {
            attempt(() => begin(site));
            return apply(handler, this, args);
        }, ...rest]);
    });
}

/** The site of frames: one for all, since it is asked for sixty times a second. */
let frames;

function frameSite() {
    frames ??= new Site();
    return frames;
}
