// The wrapped timers. A timer that leads to a poll can be fired early.

import { Map, apply, attempt, isOwn, nativeClearTimeout, nativeEval, nativeSetTimeout, now, scope, soon, wrap } from './native.js';
import { COUNTS, FASTEST, TimerOrigin, begin, currentRun, originOfCaller, running, siteOf } from './sites.js';
import { FORGOTTEN } from './polls.js';

const timers = new Map();

/** How late, in milliseconds, an idle browser fires timers at most. */
const LATEST = 50;

class Timer {
    /** @param {any} options */
    constructor({ site, run, parent, handler, args, repeats, delay, depth }) {
        /** The line of the page that set it, the run in which it did, and the run that this timer continues. */
        this.site = site;
        this.parent = parent;
        this.run = run;
        this.handler = handler;
        this.args = args;
        this.repeats = repeats;
        this.delay = delay;
        /** How many short timers in a row led here. */
        this.depth = depth;
        /** The identifier that the page knows, and that of the native timer. */
        this.id = this.handle = undefined;
        /** The interval of its loop. */
        this.pace = delay;
        /** When it may be fired early; until then an early run has taken its place. */
        this.free = 0;
        /** The early run that took the place of the next one. */
        this.taken = undefined;
    }

    /** Sets the native timer to fire after `wait`. */
    arm(set, wait) {
        const passes = () => attempt(() => this.passes());
        const { handler } = this;
        const isCode = typeof handler === 'string';
        return set(function (...args) {
            if (passes()) {
                return undefined;
            }
            // The handler runs in the same task; microtasks in between would belong to other code.
            return isCode ? nativeEval(handler) : apply(handler, this, args);
        }, wait, ...this.args);
    }

    /**
     * Handles its firing, on time or early. Returns whether the page's handler must not run.
     *
     * @returns {boolean | void}
     */
    passes() {
        const { site, taken, repeats } = this;
        let { early } = this;
        this.early = this.taken = undefined;
        if (repeats) {
            // The pending early run is obsolete.
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
            // A run without requests did not take the place, and after a change the page may poll again.
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

    /** Prepares a run of the callback: `early`, or at the time that the page set. */
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

    /** Returns the data for a run that takes the place of the next one. */
    ahead() {
        const { due, pace } = this;
        this.free = due;
        return { until: due, shift: Math.max(due - now(), 0), pace };
    }

    /**
     * Returns whether it is for one of `polls`, like other timers of its origin. A timer set by a run that did not make
     * the poll is not, nor is a timer with a much longer delay if it is unknown which run set it.
     */
    isFor(polls) {
        const { parent } = this;
        return polls.size > 0
            && (this.repeats || (parent ? [...polls.keys()].some((poll) => parent.polls.has(poll)) : this.delay <= 2 * this.site.fired));
    }

    /** Removes it from the table: the page has cleared it or can no longer clear it. */
    forget() {
        timers.delete(this.id);
        this.site?.waiting.delete(this);
    }

    /** Clears all native timers behind it. */
    clear() {
        this.forget();
        nativeClearTimeout(this.handle);
        nativeClearTimeout(this.hurried);
    }

    /**
     * Returns whether the page has set other timers for the same moment before. Browsers fire long timers a little late
     * to save power; this one was set again with a shorter delay, and would fire before them.
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
     * Handles a timer set by an early run, and returns its delay. The first timer with a similar delay that has led to
     * polls, or is the only effect of the run, continues the loop. It is due when it would have been due if that run
     * had been on time (a loop that reads a clock may have adjusted its delay itself). It also checks, at the time of
     * the replaced run, whether the early run made a request.
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
        // A run without requests did not take the place, even if it ended after that time.
        this.taken = parent;
        return Math.max(rest, 1);
    }
}

/** Returns whether a loop with the step `run` may continue after `delay`. */
const mayGoOn = ({ early: { shift, pace } }, delay) => delay - shift <= 2 * pace && pace <= 2 * delay;

/**
 * Fires the timers of `site` that are for due polls as soon as they may fire. A timer whose place is taken handles that
 * itself.
 */
export function hurry(site) {
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

/** Code in strings that may declare names that outlive it, or that depends on its own location. */
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
        // A short timer inside a callback continues the same run. For code in strings this does not matter.
        return isCode ? undefined : new Timer({ run: parent, handler, args: rest, repeats }).arm(native, wish);
    }
    if (!long && !(delay > 0)) {
        return undefined;
    }
    if (isCode) {
        const id = native(handler, delay);
        if (!id) {
            // The page's policy forbids code in strings.
            return id;
        }
        nativeClearTimeout(id);
    }
    if (!long) {
        // A step of a countdown, perhaps: it is not fired early, but the request at its end can be answered.
        const depth = repeats ? 1 : 1 + (running?.depth || 0);
        return new Timer({ site: siteOf(`${Math.round(Math.log2(delay))}`, delay), handler, args: rest, repeats, delay, depth }).arm(native, delay);
    }
    // A loop may set a new interval each time.
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

export function wrapTimers() {
    for (const [name, repeats] of Object.entries({ setTimeout: false, setInterval: true })) {
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
    // A drawing loop may poll too. It cannot be fired early, but its polls can be answered.
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

/** The origin of animation frames: one for all, because it is needed sixty times per second. */
const frames = new TimerOrigin();
