// The page that displays both sides. All measurements take place in this browser: an edit begins with a server event or
// a click, and each frame reports by a message when it displays the text.
'use strict';

/** The number of edits in a chart, and in a median. */
const MOST = 12;

/** The period over which requests per minute are counted, in milliseconds. */
const WINDOW = 15_000;

const TABS = 10;

const $ = (selector, within = document) => within.querySelector(selector);
const seconds = (ms) => `${(ms / 1000).toFixed(ms < 995 ? 2 : 1)}\u00a0s`;
const number = new Intl.NumberFormat('en');

let setup = { interval: 5000 };
let mine;
const sides = ['polled', 'pushed'].map((name) => new Side(name));
const [polled, pushed] = sides;

/** One side, with the edits that it has displayed and their delays. */
function Side(name) {
    const section = document.getElementById(name);
    Object.assign(this, {
        name,
        section,
        frame: $('iframe', section),
        followed: name === 'polled',
        pending: [],
        delays: [],
        counts: [],
        shown: undefined,
    });
}

Object.assign(Side.prototype, {
    set(selector, text) {
        const element = $(selector, this.section);
        if (element.textContent !== text) {
            element.textContent = text;
        }
    },

    /** Records an edit that the frame does not display yet. */
    await(edit) {
        this.pending.push(edit);
        // The frame's message may arrive first.
        if (this.shown?.text === edit.text) {
            this.show(this.shown.text, this.shown.at);
        }
    },

    /** Records that the frame displays `text` since `at`. Earlier edits are complete too. */
    show(text, at) {
        this.shown = { text, at };
        const index = this.pending.findLastIndex((edit) => edit.text === text);
        for (const edit of this.pending.splice(0, index + 1)) {
            const delay = Math.max(0, at - edit.since);
            this.delays = [...this.delays, { ...edit, delay, learning: !this.followed }].slice(-MOST);
            this.section.classList.remove('arrived');
            requestAnimationFrame(() => this.section.classList.add('arrived'));
        }
        if (index >= 0) {
            this.draw();
        }
    },

    median() {
        const sorted = this.delays.map(({ delay }) => delay).sort((a, b) => a - b);
        return sorted[Math.floor(sorted.length / 2)];
    },

    draw() {
        const top = setup.interval * 1.1;
        const chart = $('.chart', this.section);
        chart.replaceChildren(...this.delays.map(({ delay, way, learning }) => {
            const bar = document.createElement('i');
            bar.className = learning ? 'learning' : way === 'pushed' ? 'through' : 'behind';
            bar.style.height = `${Math.min(100, (delay / top) * 100)}%`;
            bar.title = seconds(delay);
            return bar;
        }));
        const said = this.delays.map(({ delay }) => seconds(delay)).join(', ');
        chart.setAttribute('aria-label', `Delays of the last edits: ${said}`);
        this.set('.median', seconds(this.median()));
        this.tick(performance.now());
    },

    /** Updates the stopwatch, which runs while an edit is not displayed. */
    tick(now) {
        const running = this.pending[0];
        const last = this.delays.at(-1);
        this.section.classList.toggle('running', !!running);
        if (running) {
            this.set('.time', `${((now - running.since) / 1000).toFixed(1)}\u00a0s`);
            this.set('.what', 'and still the old text');
        } else if (last) {
            this.set('.time', seconds(last.delay));
            this.set('.what', 'until it showed the last edit');
        }
        const pill = $('.state', this.section);
        const state = this.shown ? (this.followed ? (this.name === 'polled' ? 'polls' : 'live') : 'learning…') : 'connecting';
        if (pill.textContent !== state) {
            pill.textContent = state;
            pill.className = `pill state ${state === 'live' ? 'live' : ''}`;
            pill.title = this.followed ? '' : 'The browser script follows what a page has polled twice.';
        }
    },

    /** Records the number of requests that have reached the application. */
    count(asked, now) {
        this.counts = [...this.counts.filter(({ at }) => now - at < WINDOW), { at: now, asked }];
        const [first] = this.counts;
        this.rate = now - first.at > 4000 ? Math.round(((asked - first.asked) / (now - first.at)) * 60_000) : undefined;
        this.set('.asked', number.format(asked));
        this.set('.rate', this.rate === undefined ? '–' : number.format(this.rate));
    },
});

/** Returns a URL of the server that this browser can reach. */
function reachable(url) {
    const there = new URL(url);
    if (/^(0\.0\.0\.0|\[::\])$/.test(there.hostname)) {
        there.hostname = location.hostname;
    }
    return there.href;
}

function begin(told) {
    if (setup.polled) {
        // The connection was lost, so missed edits are not measured.
        sides.forEach((side) => (side.pending = []));
        return;
    }
    setup = told;
    const interval = `${setup.interval / 1000} s`;
    $('#interval').textContent = interval;
    sides.forEach((side) => (side.frame.src = reachable(setup[side.name])));
    if (setup.admin) {
        Object.assign($('#dashboard'), { href: reachable(setup.admin), hidden: false });
    }
    if (setup.edits) {
        $('#meanwhile').textContent = `The demo itself writes a line about every ${setup.edits / 1000} s, behind Sungrazer’s back.`;
        $('#meanwhile').hidden = false;
    }
}

/** Displays a summary of the measurements. */
function sum() {
    if (polled.rate === undefined || pushed.rate === undefined) {
        return;
    }
    const readers = setup.readers + 1 + crowd.childElementCount / 2;
    const whom = readers === 1 ? 'One reader on each side' : `${readers} readers on each side`;
    let text = `${whom}: ${number.format(polled.rate)} requests a minute polled, ${number.format(pushed.rate)} through Sungrazer`;
    if (polled.delays.length > 0 && pushed.delays.length > 0) {
        text += `, where the page was ${seconds(pushed.median())} late instead of ${seconds(polled.median())}`;
    }
    $('#load').textContent = `${text}.`;
}

const crowd = $('#crowd');
const tabs = $('#tabs');
let opening = [];

/** Opens pages on both sides, staggered as people would open them. */
function openTabs() {
    for (let index = 0; index < TABS; index += 1) {
        opening.push(setTimeout(() => {
            for (const side of sides) {
                const frame = document.createElement('iframe');
                Object.assign(frame, { src: side.frame.src, title: `Tab ${index + 2}, ${side.name}`, tabIndex: -1 });
                crowd.append(frame);
            }
        }, (index * setup.interval) / TABS));
    }
}

function closeTabs() {
    opening.forEach(clearTimeout);
    opening = [];
    crowd.replaceChildren();
}

tabs.addEventListener('click', () => {
    const open = tabs.getAttribute('aria-pressed') !== 'true';
    tabs.setAttribute('aria-pressed', open);
    tabs.textContent = open ? 'Close the ten tabs' : 'Open ten more tabs on each side';
    (open ? openTabs : closeTabs)();
});

$('#edit').addEventListener('submit', async (event) => {
    event.preventDefault();
    const note = $('#note').value.trim();
    mine = { note, since: performance.now() };
    const body = JSON.stringify({ note, way: new FormData(event.target).get('way') });
    const saved = await fetch('/edit', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body }).catch(() => null);
    if (!saved?.ok) {
        mine = undefined;
        $('#said').textContent = 'Not saved: the demo does not answer.';
    }
    $('#note').select();
});

addEventListener('message', ({ source, data }) => {
    const now = performance.now();
    const side = sides.find(({ frame }) => frame.contentWindow === source);
    if (side && typeof data?.shown === 'string') {
        side.show(data.shown, now);
        if (sides.every(({ pending, delays }) => pending.length === 0 && delays.length > 0)) {
            const [late, soon] = sides.map(({ delays }) => seconds(delays.at(-1).delay));
            $('#said').textContent = `Polled: ${late} late. Through Sungrazer: ${soon} late.`;
        }
    } else if (side && data?.followed) {
        side.followed = true;
    }
});

const events = new EventSource('/events');
events.addEventListener('setup', ({ data }) => begin(JSON.parse(data)));
events.addEventListener('edit', ({ data }) => {
    const now = performance.now();
    const edit = { ...JSON.parse(data), since: now };
    if (mine && edit.text.split('\n', 1)[0].endsWith(mine.note)) {
        edit.since = mine.since;
        mine = undefined;
    }
    sides.forEach((side) => side.await(edit));
});
events.addEventListener('asked', ({ data }) => {
    const now = performance.now();
    const asked = JSON.parse(data);
    sides.forEach((side) => side.count(asked[side.name], now));
    sum();
});

setInterval(() => sides.forEach((side) => side.tick(performance.now())), 100);
