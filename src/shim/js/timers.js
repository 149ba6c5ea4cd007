// Timers as the page knows them. Those that lead to a poll can be made to fire early.

const timers = new Map();

class Timer {
    constructor({ site, run, parent, handler, args, repeats, delay }) {
        Object.assign(this, { site, run, parent, handler, args, repeats, delay });
    }

    /** Sets it natively. */
    arm(set, delay) {
        const fires = () => attempt(() => this.fires());
        const { handler } = this;
        const isCode = typeof handler === 'string';
        return set(function (...args) {
            fires();
            // In the same task: what is in one between belongs to others.
            return isCode ? nativeEval(handler) : apply(handler, this, args);
        }, delay, ...this.args);
    }

    fires() {
        const hurried = !!this.isHurried;
        this.isHurried = false;
        if (!this.repeats) {
            this.forget();
        }
        if (this.site) {
            this.site.fired = this.delay;
        }
        begin(this.site, this.run, hurried);
    }

    /**
     * Whether it is for one of `polls`, as others of its site were. One that was set by a run that did not ask for it is
     * another's; and so is one that is to fire much later than they did, if it is not known what has set it.
     */
    isFor(polls) {
        const { parent } = this;
        return this.repeats || (parent ? [...polls].some((poll) => parent.polls.has(poll)) : this.delay <= 2 * this.site.fired);
    }

    /** The page may not clear it any more, or has. */
    forget() {
        timers.delete(this.id);
        this.site?.waiting.delete(this);
    }

    /** Clears what the page knows nothing of. */
    clear() {
        this.forget();
        nativeClearTimeout(this.hurried);
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
            this.hurried = once.arm(nativeSetTimeout, 0);
        } else {
            nativeClearTimeout(this.id);
            this.hurried = this.arm(nativeSetTimeout, 0);
        }
    }
}

/** Hurries the timers of `site` that are for what is due, and does so no more often than it can be seen. */
const SEEN = 50;

/** A library may ask no more often than it likes: it is hurried so often, more and more slowly. */
const MOST_VAIN = 8;

function hurry(site) {
    const { due } = site;
    const wait = site.hurried + (SEEN << Math.min(site.vain, 3)) - now();
    if (wait > 0) {
        site.later ??= nativeSetTimeout(() => {
            site.later = undefined;
            hurry(site);
        }, wait);
        return;
    }
    site.hurried = now();
    const timers = [...site.waiting].filter((timer) => timer.isFor(due));
    for (const timer of timers) {
        attempt(() => timer.hurry());
    }
    // While a run is under way there may be none. Then the next is hurried, if that run does not ask again.
    if (timers.length > 0 && (timers[0].repeats || site.vain++ >= MOST_VAIN)) {
        due.clear();
        site.vain = 0;
    }
}

/** Code in strings that may declare what outlives it. */
const DECLARES = /\b(let|const|class)\b/;

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
    if (isCode ? DECLARES.test(handler) : typeof handler !== 'function') {
        return undefined;
    }
    if (isCode) {
        const id = native(handler, delay);
        if (!id) {
            // The page's policy forbids it.
            return id;
        }
        nativeClearTimeout(id);
    }
    const parent = currentRun();
    // A loop may set an interval anew each time.
    const site = repeats && !parent ? new Site() : callingSite(parent, delay);
    if (!site) {
        return undefined;
    }
    site.pace = Math.min(site.pace, delay);
    const timer = new Timer({ site, parent, handler, args: rest, repeats, delay });
    timer.id = timer.arm(native, delay);
    timers.set(timer.id, timer);
    site.waiting.add(timer);
    if (site.due.size > 0) {
        soon(() => hurry(site));
    }
    return timer.id;
}

function wrapTimers() {
    for (const [name, repeats] of [['setTimeout', false], ['setInterval', true]]) {
        const native = scope[name].bind(scope);
        wrap(scope, name, (target, self, args) => {
            const ours = isOwn(self) && args.length > 0;
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
        if (typeof handler !== 'function') {
            return apply(target, self, [handler, ...rest]);
        }
        const run = currentRun();
        const own = run?.site === frames ? undefined : run;
        return apply(target, self, [function (...args) {
            attempt(() => begin(frames, own));
            return apply(handler, this, args);
        }, ...rest]);
    });
    wrap(scope, 'requestIdleCallback', (target, self, [handler, ...rest]) => {
        const run = typeof handler === 'function' && currentRun();
        return apply(target, self, [run ? function (...args) {
            attempt(() => begin(run.site, run));
            return apply(handler, this, args);
        } : handler, ...rest]);
    });
}

/** The site of frames: one for all, since it is asked for sixty times a second. */
const frames = new Site();
