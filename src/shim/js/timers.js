// Timers as the page knows them. Those that lead to a poll can be made to fire early.

const timers = new Map();

/** Browsers fire what is due this much later at most, if they are not busy. */
const LATEST = 50;

class Timer {
    constructor({ site, run, parent, handler, args, repeats, delay, depth }) {
        Object.assign(this, { site, run, parent, handler, args, repeats, delay, depth });
        /** How far its loop's times are apart. */
        this.pace = delay;
        /** When it may be fired early; until then its place has been taken by a run that was. */
        this.free = 0;
        /** The run that was early: it took the place of the next time. */
        this.taken = undefined;
    }

    /** Sets it natively, to fire after `wait`. */
    arm(set, wait) {
        const passes = () => attempt(() => this.passes());
        const { handler } = this;
        const isCode = typeof handler === 'string';
        return set(function (...args) {
            if (passes()) {
                return undefined;
            }
            // In the same task: what is in one between belongs to others.
            return isCode ? nativeEval(handler) : apply(handler, this, args);
        }, wait, ...this.args);
    }

    /** Its time has come, or it was hurried. Returns whether the page is to hear nothing of it. */
    passes() {
        const { site, taken, repeats } = this;
        let { early } = this;
        this.early = this.taken = undefined;
        if (repeats) {
            // Too late to be early.
            nativeClearTimeout(this.hurried);
            this.due = now() + this.delay;
        }
        if (taken) {
            const { asked, told } = taken.seen;
            if (!asked.size && !repeats && this.isAheadOfOthers()) {
                this.taken = taken;
                this.handle = this.arm(nativeSetTimeout, 1);
                return true;
            }
            taken.site.rests(!asked.size, this.delay);
            // A run that asked for nothing was none, and what was told of something real may ask again.
            if (asked.size && !told) {
                const rest = Math.ceil(this.due - now());
                if (this.isFor(site.due)) {
                    early = this.ahead();
                } else if (repeats) {
                    return true;
                } else if (rest > 1) {
                    this.handle = this.arm(nativeSetTimeout, rest);
                    return true;
                }
            }
        }
        this.runs(early);
        return false;
    }

    /** Its callback is about to run: `early`, or when the page has set it to. */
    runs(early) {
        const { site, run, repeats, depth } = this;
        if (!repeats) {
            this.forget();
        }
        if (site) {
            site.fired = this.delay;
        }
        const current = begin(site, run, early, depth);
        current.loops ||= repeats || !!this.parent || depth >= COUNTS;
        current.from ||= this.parent?.site;
        if (repeats) {
            this.taken = early && current;
            this.depth &&= depth + 1;
        }
    }

    /** What a run has to know that takes the place of this one's next time. */
    ahead() {
        const { due, pace } = this;
        this.free = due;
        return { until: due, shift: Math.max(due - now(), 0), pace };
    }

    /**
     * Whether it is for one of `polls`, as others of its site were. One that was set by a run that did not ask for it is
     * another's; and so is one that is to fire much later than they did, if it is not known what has set it.
     */
    isFor(polls) {
        const { parent } = this;
        return polls.size > 0
            && (this.repeats || (parent ? [...polls.keys()].some((poll) => parent.polls.has(poll)) : this.delay <= 2 * this.site.fired));
    }

    /** The page may not clear it any more, or has. */
    forget() {
        timers.delete(this.id);
        this.site?.waiting.delete(this);
    }

    /** Clears what the page knows nothing of. */
    clear() {
        this.forget();
        nativeClearTimeout(this.handle);
        nativeClearTimeout(this.hurried);
    }

    /**
     * Whether the page has set others for the same moment before. Browsers fire timers that were set for long a little late, to wake
     * up less often; this one was set anew for a shorter time, and would come before them.
     */
    isAheadOfOthers() {
        const overdue = now() - LATEST;
        return [...timers.values()].some((other) => other !== this && !other.repeats && other.due <= this.free && other.due > overdue);
    }

    /** Fires now, in place of the next time. */
    hurry() {
        const early = this.ahead();
        if (this.repeats) {
            const once = new Timer(this);
            once.passes = () => this.runs(early);
            this.hurried = once.arm(nativeSetTimeout, 0);
        } else {
            nativeClearTimeout(this.handle);
            this.early = early;
            this.taken = undefined;
            this.handle = this.arm(nativeSetTimeout, 0);
        }
    }

    /**
     * Set by a run that was early. The first that is about as long, and has led to polls, or is all that the run has done, is
     * how its loop goes on: it is due when it would have been, had that run been in time (a loop that looks at a clock may have seen to that); but looks
     * when that would have been whether the run asked for anything. Returns for how long it is set.
     */
    follows(parent) {
        const { until, shift, pace, next } = parent.early;
        const { delay, site } = this;
        this.free = until;
        const leads = site === parent.site || site.last.size > 0 || !parent.seen.asked.size;
        if (next || this.repeats || !leads || !mayGoOn(parent, delay)) {
            return delay;
        }
        parent.early.next = true;
        const wait = Math.max(delay, shift + Math.min(delay, pace));
        this.due = now() + wait;
        this.pace = Math.min(delay, wait - shift);
        const rest = Math.ceil(until - now());
        if (rest <= 0 && parent.seen.asked.size > 0) {
            return wait;
        }
        // A run that asked for nothing took nobody's place, though it may have ended after that time.
        this.taken = parent;
        return Math.max(rest, 1);
    }
}

/** Whether a loop of which `run` was a step may go on after `delay`. */
const mayGoOn = ({ early: { shift, pace } }, delay) => delay - shift <= 2 * pace && pace <= 2 * delay;

/** Hurries the timers of `site` that are for what is due, as soon as they may be; those see to it whose place has been taken. */
function hurry(site) {
    const rests = [...site.waiting].filter((timer) => !timer.taken && timer.isFor(site.due)).map((timer) => {
        const rest = Math.max(timer.free, site.rest) - now();
        if (rest <= 0) {
            attempt(() => timer.hurry());
        }
        return rest;
    });
    const rest = Math.min(...rests.filter((rest) => rest > 0));
    if (rest < FORGOTTEN) {
        site.later ??= nativeSetTimeout(() => {
            site.later = undefined;
            hurry(site);
        }, rest);
    }
}

/** Code in strings that may declare what outlives it, or that says where from by where it stands. */
const DECLARES = /\b(let|const|class|import)\b/;

function setTimer(native, args, repeats) {
    const [handler, wish, ...rest] = args;
    const delay = typeof wish === 'string' ? Number(wish) : wish;
    const isCode = typeof handler === 'string';
    if (isCode ? DECLARES.test(handler) : typeof handler !== 'function') {
        return undefined;
    }
    const parent = currentRun();
    const long = typeof delay === 'number' && delay >= FASTEST;
    if (!long && parent && !parent.depth && !repeats) {
        // A detour of the callback that is running. Code in a string takes none that matters.
        return isCode ? undefined : new Timer({ run: parent, handler, args: rest, repeats }).arm(native, wish);
    }
    if (!long && !(delay > 0)) {
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
    if (!long) {
        // One step of a countdown, maybe: it is not hurried, but what it asks for at its end can be answered.
        const depth = repeats ? 1 : 1 + (running?.depth || 0);
        return new Timer({ site: siteOf(`${Math.round(Math.log2(delay))}`, delay), handler, args: rest, repeats, delay, depth }).arm(native, delay);
    }
    // A loop may set an interval anew each time.
    const site = repeats && !parent ? new TimerOrigin() : originOfCaller(parent, parent?.early && mayGoOn(parent, delay) ? parent.early.pace : delay);
    if (!site) {
        return undefined;
    }
    site.pace = Math.min(site.pace, delay);
    const timer = new Timer({ site, parent, handler, args: rest, repeats, delay });
    const wait = parent?.early ? timer.follows(parent) : delay;
    timer.due ??= now() + wait;
    timer.id = timer.handle = timer.arm(native, wait);
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
        const own = run?.depth ? undefined : run;
        return apply(target, self, [function (...args) {
            attempt(() => begin(frames, own, undefined, COUNTS));
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
const frames = new TimerOrigin();
