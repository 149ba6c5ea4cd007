// Where timers come from, and what their callbacks ask for.
//
//     setInterval, or the line that calls setTimeout again and again ─▶ TimerOrigin ─ each callback is a TimerRun ─▶ requests
//
// A request belongs to the run whose callback makes it, or the microtasks that this resolves; or what comes of an answer
// that the run has asked for.

/** A page's timers with a delay below this are not fired early. */
const FASTEST = 250;

/** So many of them in a row are a clock that ticks. */
const COUNTS = 3;

/** After this many lines of code are known that set timers, all are forgotten: something makes up new ones. */
const MOST_SITES = 300;

class TimerOrigin {
    constructor() {
        this.runs = 0;
        /** The polls that the last run asked for, and the one before. */
        this.last = new Set();
        this.before = new Set();
        /** Timers that will fire. */
        this.waiting = new Set();
        this.pace = Infinity;
        /** The delay of the timer that fired last. */
        this.fired = 0;
        /** How often in a row they were hurried in vain, and until when they are not to be. */
        this.vain = 0;
        this.rest = 0;
        /** The polls for which its timers are to be hurried, and how often they have run for them since. */
        this.due = new Map();
        /** What its runs ask for when they have been answered, as far as that may depend on the answer. */
        this.chain = new Map();
    }

    /** Whether another run will most likely ask for `poll`, and for nothing else than the runs before did. */
    leadsTo(poll) {
        return this.last.has(poll) && (this.runs < 2 || this.before.has(poll));
    }

    /** A timer of `delay` was hurried, and asked for nothing, or for something. */
    rests(isVain, delay) {
        this.vain = isVain ? Math.min(this.vain + 1, MOST_VAIN) : 0;
        this.rest = now() + (isVain ? delay * (2 ** (this.vain - 1) - 1) : 0);
    }
}

/** A run that asks no more often than it likes is hurried more and more rarely, down to one in so many powers of two. */
const MOST_VAIN = 7;

/** What is due was not asked for by so many runs of its timer: it will not be. */
const MOST_RUNS = 2;

const sites = new Map();

function siteOf(key, pace = Infinity) {
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

/** Frames that tell one line of code from another, though both set their timers by way of the same library. */
const DEPTH = 12;

/**
 * The site of the line that is calling, in the run `parent` or outside of any. What that has asked for is part of it, and
 * so is about how long the timer is to take: a library may keep any number of loops going by one line.
 */
function originOfCaller(parent, delay) {
    const stack = stackOf();
    if (typeof stack !== 'string') {
        return undefined;
    }
    const own = ownUrl.origin + ownUrl.pathname;
    const lines = stack.split('\n').filter((line) => /[:@]/.test(line) && !line.includes(own));
    return siteOf([...lines.slice(0, DEPTH), ...(parent ? parent.seen.asked : []), Math.round(Math.log2(delay))].join());
}

/** Where this was called from. What the page has to say about stacks is set aside meanwhile: it is for its own. */
function stackOf() {
    const ours = { prepareStackTrace: undefined, stackTraceLimit: DEPTH + 8 };
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

/** The run whose callback, or microtasks, are being executed. */
let running;

/**
 * Begins a run of `site`'s, `early` if in place of one that was to come; or goes on with `run`, which has set a short timer.
 * `depth` is how many short ones led to it.
 */
function begin(site, run, early, depth) {
    // It is still for what it was hurried for, should it not ask this time.
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

/** What `run` waited for has come, in this task. */
function resume(run) {
    begin(run.site, run.answered ? run : { ...run, answered: true });
}

/** The run asks for something that is not answered by us. */
function asksOthers(run) {
    if (run) {
        run.seen.news = true;
    }
}

const MOST_LINKS = 50;

/**
 * Whether a run that has been answered asks for `key` whatever the answer was. If it does so only when there was news,
 * it has to be given what is not older than that.
 */
function isAskedAnyway({ site, seen }, key) {
    const { chain, runs } = site;
    const known = chain.get(key);
    const quiet = (known && runs - known.runs < 2 ? known.quiet : 0) + !seen.news;
    if (known || chain.size < MOST_LINKS) {
        chain.set(key, { runs, quiet });
    }
    return quiet > 1;
}

/**
 * The promise that a page is given for `promise`: with its outcome goes on what began in `run`, if that is known. `after`
 * is told of it first.
 */
function trackPromise(promise, run, after) {
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

/** What a user does is not what a timer does, even in the same moment. */
const BY_HAND = /^(key|mouse|pointer|touch|click|dblclick|submit|change|input|drop|popstate|hashchange|wheel|contextmenu|auxclick)/;

function currentRun() {
    const { event } = scope;
    return running && (running.depth < COUNTS || (event && event.isTrusted && BY_HAND.test(event.type))) ? undefined : running;
}
