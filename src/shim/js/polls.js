// Detects which of a page's requests are polls, and keeps the state of each poll.
//
//     a request that timers repeat ─┬─ a pure read ─▶ subscription; answered from the replica; a change fires the timers
//                                   └─ anything else ─▶ subscription to ticks; a tick fires the timers; never answered

import { Date, JSON, Map, Set, URLSearchParams, WeakMap, mayBeAnswered, now } from './native.js';
import { OF_OTHERS, lasting, targetOf } from './url.js';
import { link } from './link.js';
import { currentRun, isAskedAnyway } from './sites.js';
import { hurry } from './timers.js';
import { proof, turns } from './identity.js';
import { announce } from './bus.js';

/** The requests made so far: families of URLs, and URLs. */
const families = new Map();
const MOST_FAMILIES = 500;
const MOST_TARGETS = 200;
const MOST_SHAPES = 50;

class Family {
    constructor() {
        /** The time of the last request to each URL. */
        this.targets = new Map();
        this.moves = 0;
        /** Whether the URLs contain a position in a changing sequence, or the responses do. */
        this.moving = false;
        /** The number of prompt responses since the last slow one, and the time of the last response. */
        this.prompt = 0;
        this.ended = Infinity;
        this.shapes = new Set();
        /** The headers of these requests, and a measure of how often they changed recently. */
        this.ways = new Set();
        this.turns = 0;
        /** The last request of each timer origin. */
        this.last = new WeakMap();
    }
}

function familyOf(name) {
    let family = families.get(name);
    if (!family) {
        if (families.size >= MOST_FAMILIES) {
            families.clear();
        }
        family = new Family();
        families.set(name, family);
    }
    return family;
}

/** Bodies that differ only in numbers have the same shape. Returns `undefined` for bodies that cannot be compared. */
function shapeOf(body) {
    if (body === undefined || body === null) {
        return '';
    }
    return typeof body === 'string' || body instanceof URLSearchParams ? String(body).replace(/\d+/g, '#') : undefined;
}

/** The polls, by URL and headers. */
const polls = new Map();

/** A poll that was not made for this many milliseconds, or for some of its own intervals, has ended. */
export const FORGOTTEN = 90_000;

/** How long, in milliseconds, a rejected subscription is not retried. */
export const REFUSED = 60_000;
const refused = new Map();

class Poll {
    constructor(key, { url, headers, tick }, pace) {
        this.key = key;
        this.url = url;
        this.headers = headers;
        this.tick = tick;
        this.sites = new Set();
        this.asked = now();
        /** Animation frames have no interval. */
        this.pace = Number.isFinite(pace) ? pace : undefined;
        this.replica = undefined;
        /** How the application answered the page before. Only then may the poll be answered here. */
        this.served = undefined;
        /** Whether the replica is the application's current response. */
        this.live = false;
        /** Whether the page should poll as soon as its poll can be answered. */
        this.late = false;
        /**
         * The last response of each request shape; how many ticks in a row found no change, and until when ticks fire
         * no timers.
         */
        this.said = new Map();
        this.vain = 0;
        this.rest = 0;
        polls.set(key, this);
        const since = () => this.replica?.version;
        this.leave = link.follow({ url, headers, tick, every: this.pace, since }, (record) => this.take(record));
    }

    drop() {
        polls.delete(this.key);
        this.leave();
    }

    /** Ends the subscription, permanently or for some time. */
    giveUp(time = Infinity) {
        this.drop();
        refused.set(this.key, now() + time);
    }

    take(record) {
        const live = link.renewing === 0;
        switch (record.event) {
            case 'snapshot': {
                const changed = this.replica?.version !== record.version;
                // The first state is the response that the page has just received, or that it will request in time.
                this.late ||= changed && !!this.replica;
                this.replica = record;
                this.live = live && !record.old;
                this.catchUp();
                if (changed && !record.old) {
                    announce(record);
                }
                break;
            }
            case 'live':
                if (this.replica) {
                    this.replica.identity = record.identity;
                }
                this.live = live && !!this.replica;
                this.catchUp();
                break;
            case 'tick':
                this.hurry(this.rest);
                break;
            case 'end':
                this.live = false;
                if (!/max|drain|reload/.test(record.reason)) {
                    this.giveUp(REFUSED);
                }
                break;
            default:
                this.live = false;
        }
    }

    /** Makes the page poll for a new state, once the application need not be asked. */
    catchUp() {
        if (this.late && this.live) {
            this.late = false;
            this.hurry();
        }
    }

    /** Makes the page poll now. Before `rest` it only polls at its usual time, even if an early run took that place. */
    hurry(rest = 0) {
        for (const site of this.sites) {
            if (site.leadsTo(this)) {
                site.due.set(this, 0);
                if (now() > rest) {
                    hurry(site);
                }
            }
        }
    }

    /** Counts a tick that makes `run` poll. It counts as unsuccessful until the response has changed. */
    heeds({ early }) {
        if (early) {
            this.rest = now() + (this.pace || 0) * 2 ** ++this.vain;
        }
    }

    /**
     * Handles the response `text` of `run` to a request of this `shape`. A changed response counts as a change only if
     * responses used to be the same: a response that differs each time says nothing.
     */
    hears(run, shape, text) {
        let hash = text.length;
        for (let at = 0; at < text.length; at++) {
            hash = (Math.imul(hash, 31) + text.charCodeAt(at)) | 0;
        }
        const known = this.said.get(shape);
        const isSame = known?.hash === hash;
        const same = isSame ? STEADY : (known?.same || 0) - 1;
        if (known || this.said.size < MOST_SHAPES) {
            this.said.set(shape, { hash, same });
        }
        if (run.early && !isSame && same >= 0) {
            this.vain = this.rest = 0;
            run.seen.told = true;
        }
    }
}

/** How many changed responses are still compared after responses were the same. */
const STEADY = 8;

/**
 * Examines a request that the page is about to make: `method`, `url`, `headers` with lower-case names, `body`, and
 * whether it is `plain`, made with the usual credentials and mode. `run` is the timer run that began it, if that is not
 * the current one. Returns the poll and how to handle the request.
 */
export function consider({ method, url, headers, body, plain, run: begun }) {
    const target = targetOf(url);
    const run = begun || currentRun();
    const isGet = method === 'GET' && (body === undefined || body === null) && plain
        && !Object.keys(headers).some((name) => OF_OTHERS.test(name));
    const name = `${method} ${target.family.replace(/\d+/g, '0')}`;
    const family = familyOf(name);
    const known = family.targets.size > 0;
    const before = family.targets.get(target.text);
    const again = before !== undefined;
    if (again || family.targets.size < MOST_TARGETS) {
        family.targets.set(target.text, now());
    }
    const lastingHeaders = lasting(headers);
    const key = `${target.text}\n${JSON.stringify(lastingHeaders)}`;
    const write = !['GET', 'HEAD', 'OPTIONS'].includes(method);
    const shape = isGet ? '' : shapeOf(body);
    // One URL may serve many requests, each with a different body.
    const repeated = family.shapes.has(shape);
    if (shape !== undefined && family.shapes.size < MOST_SHAPES) {
        family.shapes.add(shape);
    }
    const began = beginning(family, run, headers);
    if (run?.depth && run.seen.asked.size === 0) {
        // Runs without requests are too many to count.
        run.site.runs++;
    }
    if (!run) {
        return { poll: isGet ? polls.get(key) : undefined, write, began };
    }
    run.seen.asked.add(name);
    const last = settle(family, target, again, run);
    // A request that a loop repeats is no reason for ticks. The server decides whether it writes, because it sees the
    // effects.
    const mark = write && run.loops && (last || repeated) ? '1' : undefined;
    if (run.answered && !(isGet && isAskedAnyway(run, key))) {
        return { poll: isGet ? polls.get(key) : undefined, write, began, mark };
    }
    if (!(isGet ? known : repeated)) {
        return { write, began, mark };
    }
    const stable = headersAreStable(family, lastingHeaders);
    const pure = isGet && stable && !target.cursor && !family.moving && family.prompt >= 0 && mayBeAnswered();
    const gap = now() - before;
    const follow = () => {
        const poll = pure
            ? pollOf(key, { url: target.text, headers: lastingHeaders, tick: false }, run, gap)
            : pollOf(`${method} ${target.path.replace(/\d+/g, '0')}`, { url: target.text, headers: {}, tick: true }, run);
        if (poll && last?.run.polls === run.site.before) {
            // The previous run made the same request, before it was recognised as a poll.
            run.site.before.add(poll);
        }
        return poll;
    };
    if (pure && !(again && family.prompt > 1)) {
        // The second request of its kind is a poll if it is answered promptly, too.
        const isSecond = again && family.prompt === 1;
        return {
            began: isSecond ? (header) => {
                began(header);
                if (family.prompt > 1 && !family.moving) {
                    follow();
                }
            } : began,
        };
    }
    const poll = follow();
    const heard = poll?.tick && ((text) => poll.hears(run, shape, text));
    // Clients that request the same resource differ in cache-busting parameters and cookies.
    return { poll, mine: true, write, began, heard, mark, ...(poll?.replica && proof(poll)) };
}

/**
 * Learns from the URLs of a timer origin's runs whether they contain a moving position. Returns the origin's last
 * request.
 */
function settle(family, target, again, run) {
    const last = family.last.get(run.site);
    if (!again && last && last.run.polls !== run.polls) {
        family.moves++;
        // A number that differs each time is a counter.
        const numbers = last.text.replace(/\d+/g, '#') === target.text.replace(/\d+/g, '#');
        if (numbers || family.moves > 1) {
            leave(family);
        }
    }
    family.last.set(run.site, { run, text: target.text });
    return last;
}

/** Leaves the requests of this family to the page alone. */
function leave(family) {
    family.moving = true;
    dropAll(family);
}

function dropAll(family) {
    for (const poll of [...polls.values()]) {
        if (!poll.tick && family.targets.has(poll.url)) {
            poll.drop();
        }
    }
}

/**
 * A response that takes this many milliseconds may be a long poll, which delivers an event once instead of a state. The
 * same holds if it takes longer than the page's pause, but then the application may only have been slow.
 */
const WAITED = 8000;

/**
 * How many prompt responses are needed after a slow one before the poll is recognised again; until then only ticks are
 * used.
 */
const SLOW = 3;

/** Returns the function to call when the response to a request with these headers in `run` begins. */
function beginning(family, run, headers) {
    const since = now();
    const pause = Math.max(run?.site.pace, run?.depth ? since - family.ended : 0);
    return (header) => {
        family.ended = now();
        const took = family.ended - since;
        // A response that echoes a request id may differ for each request.
        if (took > WAITED || Object.keys(headers).some((name) => /-id$/.test(name) && header?.(name))) {
            leave(family);
        } else if (took > pause) {
            family.prompt = -SLOW;
            dropAll(family);
        } else {
            family.prompt++;
        }
    };
}

/**
 * The maximum number of recent header changes in a family. More changes mean that the headers move; unchanged headers
 * reduce the count.
 */
const MOST_TURNS = 3;

function headersAreStable(family, headers) {
    const { ways } = family;
    const way = JSON.stringify(headers);
    if (ways.has(way)) {
        family.turns *= 0.95;
    } else {
        if (ways.size > 0) {
            // Requests with the previous headers may have ended.
            dropAll(family);
        }
        if (ways.size > MOST_SHAPES) {
            ways.clear();
        }
        ways.add(way);
        family.turns++;
    }
    return family.turns <= MOST_TURNS;
}

/** `gap` is the time since the last request, which may exceed the timer's interval. */
function pollOf(key, what, run, gap = 0) {
    const { site } = run;
    if (refused.get(key) > now()) {
        return undefined;
    }
    const poll = polls.get(key) || new Poll(key, what, run.depth ? gap : Math.max(site.pace, gap));
    if (turns(poll)) {
        poll.giveUp();
        return undefined;
    }
    poll.asked = now();
    poll.sites.add(site);
    run.polls.add(poll);
    // A loop may set its timers in more than one place.
    site.due.delete(poll);
    run.from?.due.delete(poll);
    if (what.tick) {
        poll.heeds(run);
    }
    return poll;
}

/**
 * Handles a genuine response with these headers to a poll with a replica. If it differs from the replica, the replica
 * may be old.
 */
export function answered(poll, header, statusText, check) {
    poll.served = {
        statusText,
        // The application has a clock of its own.
        ahead: (Date.parse(header('date')) || Infinity) - Date.now(),
        isSized: !!header('content-length') && !header('content-encoding'),
    };
    const isSame = check?.(header);
    const etag = header('etag');
    const { live, replica } = poll;
    if (live && replica && ![`"${replica.version}"`, replica.headers.etag].includes(etag)) {
        const told = /^sungrazer; hit; detail="([^"]*)"/.exec(header('cache-status'))?.[1];
        if (isSame && told) {
            // The response came from Sungrazer's memory, which the stream reports too, so it may be the next state.
            poll.live = parseInt(told) <= parseInt(replica.version);
        } else {
            link.renew();
        }
    }
}

export function sweepPolls() {
    for (const poll of [...polls.values()]) {
        if (now() - poll.asked > Math.max(FORGOTTEN, 4 * poll.pace || 0)) {
            poll.drop();
        }
    }
}
