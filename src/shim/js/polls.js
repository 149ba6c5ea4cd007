// Which of a page's requests are polls, and what is known of what they ask for.
//
//     a request that timers repeat ─┬─ a pure read ─▶ followed; answered from the replica; a change fires the timers
//                                   └─ anything else ─▶ ticks are followed; a tick fires the timers; never answered

/** What was asked for before, by anybody: families of URLs, and URLs. */
const families = new Map();
const MOST_FAMILIES = 500;
const MOST_TARGETS = 200;
const MOST_SHAPES = 50;

class Family {
    constructor() {
        /** When each was asked for last. */
        this.targets = new Map();
        this.moves = 0;
        /** Whether its URLs say where the page stands in something that moves on, or its answers do. */
        this.moving = false;
        /** How many answers came at once, since one that may have been waited for; and when the last did. */
        this.prompt = 0;
        this.ended = Infinity;
        this.shapes = new Set();
        /** The headers that came with it, and how much they have been other ones of late. */
        this.ways = new Set();
        this.turns = 0;
        /** What each site asked for last. */
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

/** Bodies that differ in their numbers alone have the same shape. `undefined`: it cannot be told. */
function shapeOf(body) {
    if (body === undefined || body === null) {
        return '';
    }
    return typeof body === 'string' || body instanceof URLSearchParams ? String(body).replace(/\d+/g, '#') : undefined;
}

/** Polls by what they ask for. */
const polls = new Map();

/** A poll that nobody has made for so long, or for some of its own intervals, is over. */
const FORGOTTEN = 90_000;

/** What cannot be followed is not tried again for this long. */
const REFUSED = 60_000;
const refused = new Map();

class Poll {
    constructor(key, { url, headers, tick }, pace) {
        Object.assign(this, { key, url, headers, tick });
        this.sites = new Set();
        this.asked = now();
        /** Frames have none. */
        this.pace = Number.isFinite(pace) ? pace : undefined;
        this.replica = undefined;
        /** How the page has been answered by the application: it may ask for this, as far as the browser goes. */
        this.served = undefined;
        /** Whether the replica is what the application would answer now. */
        this.live = false;
        /** Whether the page is to ask as soon as it can be answered. */
        this.late = false;
        /** What each kind of it was answered last; how often ticks were in vain in a row, and until when they hurry nothing. */
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

    /** It is not followed any more, or not for some time. */
    giveUp(time = Infinity) {
        this.drop();
        refused.set(this.key, now() + time);
    }

    take(record) {
        const live = link.renewing === 0;
        switch (record.event) {
            case 'snapshot': {
                const changed = this.replica?.version !== record.version;
                // The first is what the page has just been answered, or it will ask in time.
                this.late ||= changed && !!this.replica;
                this.replica = record;
                this.live = live;
                this.catchUp();
                if (changed) {
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

    /** Has the page ask for what is new, once it need not ask the application. */
    catchUp() {
        if (this.late && this.live) {
            this.late = false;
            this.hurry();
        }
    }

    /** Has the page ask now; or before `rest` when it would have, though another run came early in place of that. */
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

    /** A tick has `run` ask, which is in vain until the answer says something else. */
    heeds({ early }) {
        if (early) {
            this.rest = now() + (this.pace || 0) * 2 ** ++this.vain;
        }
    }

    /**
     * `run` was answered `text` to a request of this `shape`. It is news if it is another one than before, though answers
     * used to be the same: what differs each time says nothing.
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

/** Answers that were once the same are looked at for so many times that they are not. */
const STEADY = 8;

/**
 * Looks at a request that the page is about to make: `method`, `url`, `headers` with names in lower case, `body`, and
 * whether it is `plain`, made with the same credentials and in the same way as any other. `run` is where it began, if that
 * is not here. Returns what is known of it.
 */
function consider({ method, url, headers, body, plain, run: begun }) {
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
    // One URL may be asked for many things, each by a body of its own.
    const repeated = family.shapes.has(shape);
    if (shape !== undefined && family.shapes.size < MOST_SHAPES) {
        family.shapes.add(shape);
    }
    const began = beginning(family, run, headers);
    if (run?.depth && run.seen.asked.size === 0) {
        // Of those that ask for nothing there are too many to count.
        run.site.runs++;
    }
    if (!run) {
        return { poll: isGet ? polls.get(key) : undefined, write, began };
    }
    run.seen.asked.add(name);
    const last = settle(family, target, again, run);
    // What a loop sends again and again is no reason for ticks. Whether it writes is for the server to tell: it sees what comes
    // of it.
    const mark = write && run.loops && (last || repeated) ? '1' : undefined;
    if (run.answered && !(isGet && isAskedAnyway(run, key))) {
        return { poll: isGet ? polls.get(key) : undefined, write, began, mark };
    }
    if (!(isGet ? known : repeated)) {
        return { write, began, mark };
    }
    const stable = headersAreStable(family, lastingHeaders);
    const pure = isGet && stable && !target.cursor && !family.moving && family.prompt >= 0 && mayBeAnswered();
    if (pure && !(again && family.prompt > 1)) {
        // A new one of a kind. If it comes again, and is answered at once, it is a poll.
        return { began };
    }
    const poll = pure
        ? pollOf(key, { url: target.text, headers: lastingHeaders, tick: false }, run, now() - before)
        : pollOf(`${method} ${target.path.replace(/\d+/g, '0')}`, { url: target.text, headers: {}, tick: true }, run);
    if (poll && last?.run.polls === run.site.before) {
        // The run before asked for it as well; it was only not known yet what that was.
        run.site.before.add(poll);
    }
    const heard = poll?.tick && ((text) => poll.hears(run, shape, text));
    // Others who ask for the same have other things in their URLs that only keep caches out, and other cookies.
    return { poll, mine: true, write, began, heard, mark, ...(poll?.replica && proof(poll)) };
}

/** Learns from the URLs that a site's runs ask for whether they move on. Returns what the site asked for last. */
function settle(family, target, again, run) {
    const last = family.last.get(run.site);
    if (!again && last && last.run.polls !== run.polls) {
        family.moves++;
        // A number that is another one each time counts something.
        const numbers = last.text.replace(/\d+/g, '#') === target.text.replace(/\d+/g, '#');
        if (numbers || family.moves > 1) {
            leave(family);
        }
    }
    family.last.set(run.site, { run, text: target.text });
    return last;
}

/** What is asked for by these URLs is for the page alone to ask for. */
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
 * An answer that takes so long may have been waited for: then it tells of something once, and not what is. It may if it
 * takes longer than the page pauses, too; but the application may only have been slow.
 */
const WAITED = 8000;

/** So many answers have to come at once, then, before it is only ticks that are followed no more. */
const SLOW = 3;

/** What to do when the answer to a request with these headers, that `run` makes now, begins. */
function beginning(family, run, headers) {
    const since = now();
    const pause = Math.max(run?.site.pace, run?.depth ? since - family.ended : 0);
    return (header) => {
        family.ended = now();
        const took = family.ended - since;
        // An answer may say which request it is to, and so may each, then.
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

/** What is new so often among the headers of one kind of request moves; the more often it is the same, the less that counts. */
const MOST_TURNS = 3;

function headersAreStable(family, headers) {
    const { ways } = family;
    const way = JSON.stringify(headers);
    if (ways.has(way)) {
        family.turns *= 0.95;
    } else {
        if (ways.size > 0) {
            // What was asked for in other ways may not be any more.
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

/** `gap` is for how long it was not asked for: not each time that a timer fires, maybe. */
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
 * A genuine answer with these headers has come for something that is followed. If it is another one than ours, ours may be
 * older.
 */
function answered(poll, header, statusText, check) {
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
            // From Sungrazer's memory, of which the stream tells as well: this may be what comes next.
            poll.live = parseInt(told) <= parseInt(replica.version);
        } else {
            link.renew();
        }
    }
}

function sweepPolls() {
    for (const poll of [...polls.values()]) {
        if (now() - poll.asked > Math.max(FORGOTTEN, 4 * poll.pace || 0)) {
            poll.drop();
        }
    }
}
