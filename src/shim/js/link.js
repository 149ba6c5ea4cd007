// The page's way to the hub: in a worker that all tabs share; else in the tab that leads; else its own.

const CHANNEL = 'sungrazer';

/** How long a worker may take to say that it is there. */
const WORKER_ANSWERS = 3000;

const link = {
    /** What is given records by the number under which it follows. */
    heard: new Map(),
    /** What the hub has been asked for, to be asked again of another one. */
    asked: new Map(),
    next: 1,
    send: undefined,
    /** Renewals that the hub has not heard of. What it says until then may be from before. */
    renewing: 0,
    heartbeat: Number(told.heartbeat) || HEARTBEAT,

    /** Follows `what` until the function that this returns is called. `listener` is given each record. */
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

    /** The hub's messages. */
    take(record) {
        const listener = this.heard.get(record.id);
        if (listener) {
            attempt(() => listener(record));
        } else if (record.event === 'renewed') {
            this.renewing--;
        }
    },

    /** Something was written: whatever is held is old until the hub says otherwise, of its own accord or not. */
    renew() {
        this.down();
        if (this.send) {
            this.renewing++;
            this.post({ renew: true });
        }
    },

    /** There is a hub. It is told everything that is followed. */
    connect(send) {
        this.send = send;
        this.renewing = 0;
        this.down();
        for (const id of this.asked.keys()) {
            this.post({ follow: this.ask(id) });
        }
    },

    /** There is none, for now. */
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
                // It is there; or it had lost sight of us.
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

    /** Leads, or is led by the tab that holds the lock. Where there are no locks each tab is on its own. */
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
        // Held for as long as this tab lives: the leader learns by it when that ends.
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

/** Hidden tabs are asked now and then whether they are still there. */
const PING = 60_000;

/** The worker's side: each tab is a port. */
function work() {
    const hub = new StreamHub();
    scope.onconnect = ({ ports: [port] }) => {
        let waits = 0;
        const client = { tell: (record) => port.postMessage(record) };
        const timer = scope.setInterval(() => {
            // A tab that crashed says nothing, and a frozen one comes back.
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
