// The subscriptions of all tabs of a browser, on one stream. Runs in the worker that the tabs share, in the leading
// tab, or in each tab.
//
//     clients ─ follow, unfollow, renew ─▶ StreamHub ─ POST {prefix}/stream ─▶ records ─▶ each client that follows

import { AbortController, Date, JSON, Map, Set, nativeClearTimeout, nativeSetTimeout } from './native.js';
import { SILENT, streamOnce } from './stream.js';

/** The maximum number of URLs on one stream. */
const MOST = 64;

/** The delay in milliseconds within which changes are combined into one request. */
const DEBOUNCE = 15;

export const HEARTBEAT = 15_000;

/** How long, in milliseconds, a replaced stream stays open for remaining ticks. */
const OVERLAP = 250;

/**
 * The reconnection delay in milliseconds, doubled up to the maximum. A URL that ends twice within the maximum is given
 * up.
 */
const RETRY = 500;
const LONGEST_RETRY = 30_000;

export class StreamHub {
    constructor() {
        /** The subscriptions, by URL and headers. */
        this.follows = new Map();
        /** The streams by number. Two requests that differ only in their headers cannot share a stream. */
        this.lanes = [];
        this.heartbeat = HEARTBEAT;
    }

    /** Adds a subscription that `client` calls `id`. */
    follow(client, { id, url, headers, tick, every, since, page }) {
        const key = JSON.stringify([url, headers, !!tick]);
        let follow = this.follows.get(key);
        if (!follow) {
            follow = { key, url, headers, tick, every, page, version: since, clients: new Map(), known: undefined, live: false };
            const taken = (lane) => lane.size >= MOST || [...lane.follows].some((other) => other.url === url);
            let number = this.lanes.findIndex((lane) => !taken(lane));
            number = number < 0 ? this.lanes.length : number;
            if (number > 2) {
                client.tell({ id, event: 'end', reason: 'overload' });
                return;
            }
            follow.lane = this.lanes[number] ??= new StreamConnection(this);
            follow.lane.follows.add(follow);
            this.follows.set(key, follow);
            follow.lane.change();
        } else {
            // Until the state is known to be current, it is not sent to clients that join later.
            follow.joined = !follow.live;
            if (every && !(follow.every <= every)) {
                follow.every = every;
                follow.lane.change();
            }
        }
        follow.clients.set(client, (follow.clients.get(client) || new Set()).add(id));
        if (follow.live && follow.known) {
            client.tell({ ...follow.known, id });
        } else if (follow.known && !page) {
            // Not as an answer, but so that what comes next is known to be news.
            client.tell({ ...follow.known, old: true, id });
        } else if (follow.live) {
            // The first client sent its version and was told that it is current; this client may hold another version.
            follow.version = undefined;
            follow.lane.change();
        }
    }

    unfollow(client, id) {
        for (const follow of this.follows.values()) {
            const ids = follow.clients.get(client);
            if (ids && (id === undefined || (ids.delete(id) && ids.size === 0))) {
                follow.clients.delete(client);
                if (follow.clients.size === 0) {
                    this.drop(follow);
                }
            }
        }
    }

    drop(follow) {
        this.follows.delete(follow.key);
        follow.lane.follows.delete(follow);
        follow.lane.change();
    }

    /**
     * Handles a write: replicas count again once the server has confirmed that they are no older than the write. The
     * server need not fetch for that, because pages ask the application until then.
     */
    renew() {
        for (const lane of this.lanes) {
            lane.down();
            lane.follows.forEach((follow) => (follow.patient = true));
            lane.change();
        }
    }

    /** Reconnects at once after the browser was asleep or offline. */
    wake() {
        for (const lane of this.lanes) {
            if (!lane.isFresh()) {
                lane.down();
                lane.change();
            }
        }
    }
}

class StreamConnection {
    constructor(hub) {
        this.hub = hub;
        this.follows = new Set();
        this.once = false;
        this.failures = 0;
        this.heard = 0;
    }

    get size() {
        return this.follows.size;
    }

    isFresh() {
        return this.control && Date.now() - this.heard < this.hub.heartbeat * SILENT;
    }

    /** Schedules a new request after a change of the subscriptions. It resumes from the known versions. */
    change(wait = DEBOUNCE) {
        nativeClearTimeout(this.timer);
        this.timer = nativeSetTimeout(() => this.open(), wait);
    }

    /** Marks all replicas as possibly old. */
    down() {
        for (const follow of this.follows) {
            if (follow.live) {
                follow.live = false;
                this.tell(follow, { event: 'down' });
            }
        }
    }

    async open() {
        nativeClearTimeout(this.timer);
        const before = this.control;
        this.control = undefined;
        if (this.follows.size === 0) {
            before?.abort();
            return;
        }
        const control = (this.control = new AbortController());
        // The old stream may still send ticks that the new stream does not know of.
        const relieve = () => before && nativeSetTimeout(() => before.abort(), OVERLAP);
        const asked = [...this.follows];
        const byUrl = new Map(asked.map((follow) => [follow.url, follow]));
        const follow = asked.map(({ url, headers, tick, every, page, version, live, patient }) =>
            ({ url, headers, tick, page, every: every && Math.round(every), since: version, confirm: !live, patient, delta: 'splice' }));
        let begun = false;
        const ended = await streamOnce({
            follow,
            once: this.once,
            heartbeat: this.hub.heartbeat,
            signal: control.signal,
            heard: () => {
                if (!begun) {
                    begun = true;
                    relieve();
                }
                this.heard = Date.now();
            },
            told: (record) => {
                const follow = byUrl.get(record.url);
                const current = this.control === control;
                if (follow && this.follows.has(follow) && (current || record.event === 'tick')) {
                    this.failures = 0;
                    this.take(follow, record);
                }
            },
        });
        before?.abort();
        if (this.control === control) {
            this.control = undefined;
            this.retry(ended);
        }
    }

    take(follow, record) {
        if (record.event === 'patch') {
            const { known } = follow;
            if (known?.version !== record.base) {
                follow.version = undefined;
                this.change();
                return;
            }
            record = { ...known, version: record.version, identity: record.identity, headers: record.headers, body: spliced(known.body, record.patch) };
        }
        switch (record.event) {
            case 'snapshot':
                follow.version = record.version;
                follow.known = record;
                follow.live = true;
                follow.patient = follow.joined = false;
                break;
            case 'live':
                if (follow.joined && !follow.known) {
                    follow.version = undefined;
                    this.change();
                    return;
                }
                if (follow.known) {
                    // The same state may now belong to another identity.
                    follow.known.identity = record.identity;
                }
                record = follow.joined ? follow.known : record;
                follow.live = true;
                follow.patient = follow.joined = false;
                break;
            case 'stale':
            case 'down':
                // Another window of this browser, or a worker, has written.
                follow.live = false;
                break;
            case 'end':
                follow.live = false;
                if (record.reason === 'reload' && !(Date.now() - follow.reloaded < LONGEST_RETRY)) {
                    // The stream continues without this URL, so it is requested again.
                    follow.reloaded = Date.now();
                    this.change(RETRY);
                } else if (!/max|drain/.test(record.reason)) {
                    // The stream continues, and requesting the URL again would end in the same way.
                    record.reason = 'gone';
                    this.hub.follows.delete(follow.key);
                    this.follows.delete(follow);
                }
                break;
            default:
        }
        this.tell(follow, record);
    }

    tell(follow, record) {
        for (const [client, ids] of follow.clients) {
            for (const id of ids) {
                client.tell({ ...record, id });
            }
        }
    }

    retry(ended) {
        if (ended === 'ended' && this.once) {
            // Sends the next request with the known versions. Changes in between are not lost: they are detected sooner
            // than by the page's own polls.
            this.open();
            return;
        }
        this.down();
        if (ended === 'refused') {
            for (const follow of [...this.follows]) {
                this.hub.follows.delete(follow.key);
                this.tell(follow, { event: 'end', reason: 'gone' });
            }
            this.follows.clear();
            return;
        }
        if (ended === 'held back') {
            this.once = true;
        }
        const wait = ended === 'failed' ? RETRY * 2 ** Math.min(this.failures++, 10) : RETRY / 5;
        this.change(Math.min(wait, LONGEST_RETRY) * (1 + Math.random()));
    }
}

/** Returns `text` with each `[start, delete, insert]` applied in turn. */
function spliced(text, splices) {
    for (const [start, length, insert] of splices) {
        text = text.slice(0, start) + insert + text.slice(start + length);
    }
    return text;
}

/** Handles a client's message to the hub. */
export function serve(hub, client, message) {
    const { follow, unfollow, renew, wake, bye, heartbeat } = message;
    hub.heartbeat = heartbeat || hub.heartbeat;
    if (follow) {
        hub.follow(client, follow);
    } else if (unfollow) {
        hub.unfollow(client, unfollow);
    } else if (renew) {
        hub.renew();
        client.tell({ event: 'renewed' });
    } else if (wake) {
        hub.wake();
    } else if (bye) {
        hub.unfollow(client);
    }
}
