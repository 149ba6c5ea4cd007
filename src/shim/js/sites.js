// Where timers come from, and what their callbacks ask for.
//
//     setInterval, or the line that calls setTimeout again and again ─▶ Site ─ each callback is a Run ─▶ requests
//
// A request belongs to the run whose callback makes it, or the microtasks that this resolves.

/** A page's timers with a delay below this need no help. */
const FASTEST = 250;

/** After this many lines of code are known that set timers, all are forgotten: something makes up new ones. */
const MOST_SITES = 300;

class Site {
    constructor() {
        this.runs = 0;
        /** The polls that the last run asked for, and the one before. */
        this.last = new Set();
        this.before = new Set();
        /** Timers that will fire. */
        this.waiting = new Set();
        this.pace = Infinity;
        this.hurried = -Infinity;
    }

    /** Whether another run will most likely ask for `poll`, and for nothing else than the runs before did. */
    leadsTo(poll) {
        return this.last.has(poll) && (this.runs < 2 || this.before.has(poll));
    }
}

const sites = new Map();

/** Frames that are enough to tell one line of code from another. */
const DEPTH = 6;

/** The site of the line that is calling. */
function callingSite() {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = DEPTH + 8;
    const { stack } = new Error();
    Error.stackTraceLimit = limit;
    if (typeof stack !== 'string') {
        return undefined;
    }
    const own = ownUrl.origin + ownUrl.pathname;
    const lines = stack.split('\n').filter((line) => /[:@]/.test(line) && !line.includes(own));
    const key = lines.slice(0, DEPTH).join();
    let site = sites.get(key);
    if (!site) {
        if (sites.size >= MOST_SITES) {
            sites.clear();
        }
        site = new Site();
        sites.set(key, site);
    }
    return site;
}

/** The run whose callback, or microtasks, are being executed. */
let running;

/** Begins a run of `site`'s, `hurried` if by us; or goes on with `run`, which has set a short timer. */
function begin(site, run, hurried) {
    const current = run || { site, hurried, polls: new Set() };
    running = current;
    if (!run) {
        site.before = site.last;
        site.last = current.polls;
        site.runs++;
    }
    soon(() => {
        if (running === current) {
            running = undefined;
        }
    });
    return current;
}

/** What a user does is not what a timer does, even in the same moment. */
const BY_HAND = /^(key|mouse|pointer|touch|click|dblclick|submit|change|input|drop|popstate|hashchange|wheel|contextmenu|auxclick)/;

function currentRun() {
    const { event } = scope;
    return running && event && event.isTrusted && BY_HAND.test(event.type) ? undefined : running;
}
