// Timer origins, and the requests that their callbacks make.
//
//     setInterval, or the line that calls setTimeout again and again ─▶ TimerOrigin ─ each callback is a TimerRun ─▶ requests
//
// A request belongs to the run whose callback or microtasks make it, or that made the request whose response leads to
// it.

import { Error, Map, Set, apply, attempt, now, ownUrl, scope, soon, then } from './native.js';

/** The minimum delay in milliseconds of a timer that is fired early. */
export const FASTEST = 250;

/** This many short timers in a row form a clock. */
export const COUNTS = 3;

/** The maximum number of known origins. Beyond it all are forgotten, since something generates new ones. */
const MOST_SITES = 300;

export class TimerOrigin {
    constructor() {
        /** The line and the approximate delay, of an origin outside of any run. */
        this.root = undefined;
        this.runs = 0;
        /** The polls of the last run and of the run before it. */
        this.last = new Set();
        this.before = new Set();
        /** Timers that will fire. */
        this.waiting = new Set();
        this.pace = Infinity;
        /** The delay of the timer that fired last. */
        this.fired = 0;
        /** How many early runs in a row made no request, and until when no timer is fired early. */
        this.vain = 0;
        this.rest = 0;
        /** The polls for which timers are to be fired early, and the number of runs since. */
        this.due = new Map();
        /** The requests that runs make after a response, as far as they may depend on the response. */
        this.chain = new Map();
    }

    /** Returns whether another run will most likely make `poll`, and make the same requests as the previous runs. */
    leadsTo(poll) {
        return this.last.has(poll) && (this.runs < 2 || this.before.has(poll));
    }

    /** Records that a timer of `delay` fired early, and whether it made no request. */
    rests(isVain, delay) {
        this.vain = isVain ? Math.min(this.vain + 1, MOST_VAIN) : 0;
        this.rest = now() + (isVain ? delay * (2 ** (this.vain - 1) - 1) : 0);
    }
}

/** The maximum back-off of an origin whose early runs make no request, as a power of two. */
const MOST_VAIN = 7;

/** After this many runs without the expected poll, the poll is no longer due. */
const MOST_RUNS = 2;

const sites = new Map();

export function siteOf(key, pace = Infinity) {
    let site = sites.get(key);
    if (!site) {
        if (sites.size >= MOST_SITES) {
            sites.clear();
        }
        site = new TimerOrigin();
        sites.set(key, site);
    }
    site.pace = Math.min(site.pace, pace);
    return site;
}

/**
 * How many stack frames distinguish one line of code from another, although both set timers through the same library.
 */
const DEPTH = 12;

/**
 * Returns the origin of the calling line, within the run `parent` or outside of any run. The origin includes the
 * requests of that run and the approximate delay, because a library may run any number of loops from one line.
 */
export function originOfCaller(parent, delay) {
    const stack = stackOf();
    if (typeof stack !== 'string') {
        return undefined;
    }
    const own = ownUrl.origin + ownUrl.pathname;
    const lines = stack.split('\n').filter((line) => /[:@]/.test(line) && !line.includes(own));
    const line = [...lines.slice(0, DEPTH), Math.round(Math.log2(delay))].join();
    if (!parent) {
        const site = siteOf(line);
        site.root = line;
        return site;
    }
    // A loop whose first step was not set by a run.
    const { site } = parent;
    return site.root === line && site.runs === 1 ? site : siteOf([line, ...parent.seen.asked].join());
}

/** Returns the call stack. The page's customisations of `Error` are disabled meanwhile. */
function stackOf() {
    const ours = { prepareStackTrace: undefined, stackTraceLimit: DEPTH + 8 };
    /** @type {[string, PropertyDescriptor?][]} */
    const before = Object.keys(ours).map((name) => [name, Object.getOwnPropertyDescriptor(Error, name)]);
    try {
        for (const [name] of before) {
            Object.defineProperty(Error, name, { value: ours[name], configurable: true, writable: true });
        }
        return new Error().stack;
    } finally {
        for (const [name, known] of before) {
            delete Error[name];
            if (known) {
                Object.defineProperty(Error, name, known);
            }
        }
    }
}

/** The run whose callback or microtasks are being executed. */
export let running;

/**
 * Begins a run of `site`, or continues `run`, which has set a short timer. `early` is set if the run takes the place of
 * a later one; `depth` is the number of short timers that led to it.
 */
export function begin(site, run, early, depth) {
    // An early run still counts for the due polls if it does not make them this time.
    const current = run || { site, early, depth, polls: new Set(early ? site.due.keys() : []), seen: { asked: new Set() } };
    running = current;
    if (!run && !depth) {
        site.before = site.last;
        site.last = current.polls;
        site.runs++;
        for (const [poll, runs] of site.due) {
            site.due.set(poll, runs + 1);
            if (runs === MOST_RUNS) {
                site.due.delete(poll);
            }
        }
    }
    soon(() => {
        if (running === current) {
            running = undefined;
        }
    });
    return current;
}

/** Continues `run` in this task, after a response that it waited for. */
export function resume(run) {
    begin(run.site, run.answered ? run : { ...run, answered: true });
}

/** Records that the run makes a request that is not answered here. */
export function asksOthers(run) {
    if (run) {
        run.seen.news = true;
    }
}

const MOST_LINKS = 50;

/**
 * Returns whether a run that has received a response requests `key` whatever the response was. If it does so only after
 * a change, the response must be no older than that change.
 */
export function isAskedAnyway({ site, seen }, key) {
    const { chain, runs } = site;
    const known = chain.get(key);
    const quiet = (known && runs - known.runs < 2 ? known.quiet : 0) + !seen.news;
    if (known || chain.size < MOST_LINKS) {
        chain.set(key, { runs, quiet });
    }
    return quiet > 1;
}

/**
 * Returns the promise for the page in place of `promise`: its outcome continues `run`, if known. `after` is called
 * first.
 */
export function trackPromise(promise, run, after) {
    const come = (value) => {
        attempt(() => after && after(value));
        attempt(() => run && resume(run));
    };
    return run || after ? apply(then, promise, [
        (value) => {
            come(value);
            return value;
        },
        (error) => {
            come();
            throw error;
        },
    ]) : promise;
}

/** Events of the user are not attributed to a timer, even at the same moment. */
const BY_HAND = /^(key|mouse|pointer|touch|click|dblclick|submit|change|input|drop|popstate|hashchange|wheel|contextmenu|auxclick)/;

export function currentRun() {
    const { event } = scope;
    return running && (running.depth < COUNTS || (event && event.isTrusted && BY_HAND.test(event.type))) ? undefined : running;
}
