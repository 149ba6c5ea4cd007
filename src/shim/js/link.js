// The page's connection to the hub: in a worker that all tabs share, else in the leading tab, else in the page itself.

import { AbortController, Map, Promise, attempt, nativeClearTimeout, nativeSetTimeout, ownUrl, prefix, scope, told } from './native.js';
import { HEARTBEAT, StreamHub, serve } from './hub.js';

const CHANNEL = 'sungrazer';

/** How long, in milliseconds, a worker may take to respond. */
const WORKER_ANSWERS = 3000;

export const link = {
    /** The listeners for records, by subscription number. */
    heard: new Map(),
    /** The subscriptions, to be repeated to another hub. */
    asked: new Map(),
    next: 1,
    send: undefined,
    /**
     * The number of renewals that the hub has not acknowledged. Records that arrive before that may be older than the
     * write.
     */
    renewing: 0,
    heartbeat: Number(told.heartbeat) || HEARTBEAT,

    /** Subscribes to `what` until the returned function is called. `listener` is called with each record. */
    follow(what, listener) {
        const id = this.next++;
        this.heard.set(id, listener);
        this.asked.set(id, what);
        this.post({ follow: this.ask(id) });
        return () => {
            this.heard.delete(id);
            this.asked.delete(id);
            this.post({ unfollow: id });
        };
    },

    ask(id) {
        const what = this.asked.get(id);
        return { id, ...what, since: what.since && what.since() };
    },

    post(message) {
        if (this.send) {
            attempt(() => this.send({ ...message, heartbeat: this.heartbeat }));
        }
    },

    /** Handles a message from the hub. */
    take(record) {
        const listener = this.heard.get(record.id);
        if (listener) {
            attempt(() => listener(record));
        } else if (record.event === 'renewed') {
            this.renewing--;
        }
    },

    /** Handles a write: all replicas count as old until the hub confirms them. */
    renew() {
        this.down();
        if (this.send) {
            this.renewing++;
            this.post({ renew: true });
        }
    },

    /** Connects to a hub and repeats all subscriptions. */
    connect(send) {
        this.send = send;
        this.renewing = 0;
        this.down();
        for (const id of this.asked.keys()) {
            this.post({ follow: this.ask(id) });
        }
    },

    /** Marks all replicas as possibly old while there is no hub. */
    down() {
        for (const listener of this.heard.values()) {
            attempt(() => listener({ event: 'down' }));
        }
    },

    leave() {
        this.post({ bye: true });
        this.send = undefined;
        this.down();
        this.close?.();
        this.close = undefined;
    },

    start() {
        const worker = told.worker !== 'no' && attempt(() => new SharedWorker(ownUrl.href, { name: CHANNEL }));
        if (!worker) {
            this.lead();
            return;
        }
        const { port } = worker;
        let decided = false;
        const giveUp = () => {
            if (!decided) {
                decided = true;
                port.close();
                this.lead();
            }
        };
        const timer = nativeSetTimeout(giveUp, WORKER_ANSWERS);
        worker.onerror = giveUp;
        port.onmessage = ({ data }) => {
            if (data.event === 'ping') {
                port.postMessage({ pong: true });
            } else if (data.event === 'hello') {
                // The worker is there, or it had lost track of this tab.
                decided = true;
                nativeClearTimeout(timer);
                this.close = () => port.close();
                this.connect((message) => port.postMessage(message));
            } else {
                this.take(data);
            }
        };
        port.start();
    },

    /** Becomes the leader, or connects to the tab that holds the lock. Without locks each tab is on its own. */
    lead() {
        const { locks } = navigator;
        if (!locks || !scope.BroadcastChannel) {
            const hub = new StreamHub();
            const client = { tell: (record) => this.take(record) };
            this.close = () => hub.unfollow(client);
            this.connect((message) => serve(hub, client, message));
            return;
        }
        const name = `${CHANNEL}:${prefix}`;
        const channel = new BroadcastChannel(name);
        const me = Math.random().toString(36).slice(2);
        const released = new AbortController();
        let done;
        this.close = () => {
            released.abort();
            channel.close();
            done?.();
        };
        channel.onmessage = ({ data }) => {
            if (data.leads) {
                this.connect((message) => channel.postMessage({ from: me, message }));
            } else if (data.to === me) {
                this.take(data.record);
            }
        };
        // The lock is held for the lifetime of this tab, and tells the leader when that ends.
        const held = new Promise((resolve) => released.signal.addEventListener('abort', resolve));
        locks.request(`${name}:${me}`, () => held).catch(() => {});
        channel.postMessage({ seeks: true });
        const lead = () => new Promise((resolve) => {
            done = resolve;
            const hub = new StreamHub();
            const clients = new Map();
            const client = (from) => {
                if (!clients.has(from)) {
                    const other = { tell: (record) => channel.postMessage({ to: from, record }) };
                    clients.set(from, other);
                    locks.request(`${name}:${from}`, { signal: released.signal }, () => {
                        hub.unfollow(other);
                        clients.delete(from);
                    }).catch(() => {});
                }
                return clients.get(from);
            };
            channel.onmessage = ({ data }) => {
                if (data.seeks) {
                    channel.postMessage({ leads: true });
                } else if (data.from) {
                    serve(hub, client(data.from), data.message);
                }
            };
            const own = { tell: (record) => this.take(record) };
            released.signal.addEventListener('abort', () => {
                for (const other of [own, ...clients.values()]) {
                    hub.unfollow(other);
                }
            });
            this.connect((message) => serve(hub, own, message));
            channel.postMessage({ leads: true });
        });
        locks.request(name, { signal: released.signal }, lead).catch(() => {});
    },
};

/** The interval in milliseconds at which the worker checks that tabs are alive. */
const PING = 60_000;

/** The worker's side. Each tab is a port. */
export function work() {
    const hub = new StreamHub();
    scope.onconnect = ({ ports: [port] }) => {
        let waits = 0;
        const client = { tell: (record) => port.postMessage(record) };
        const timer = scope.setInterval(() => {
            // A crashed tab stays silent, and a frozen one comes back.
            if (++waits > 2) {
                hub.unfollow(client);
            }
            client.tell({ event: 'ping' });
        }, PING);
        port.onmessage = ({ data }) => {
            if (data.pong) {
                if (waits > 2) {
                    client.tell({ event: 'hello' });
                }
                waits = 0;
                return;
            }
            serve(hub, client, data);
            if (data.bye) {
                scope.clearInterval(timer);
                port.close();
            }
        };
        client.tell({ event: 'hello' });
    };
}
