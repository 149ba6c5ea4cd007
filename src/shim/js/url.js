// URLs by which pages poll: what of them only keeps caches out, and what says where the page stands.

/** Parameters that mean a place in something that moves on, or that an answer waits or consumes. */
const CURSOR = new RegExp(
    '^(rid|.+_?token|since|after|before|from|until|cursor|offset|seq(uence|no)?|last.*|next.*|newer.*|older.*|marker|'
        + 'pos(ition)?|rev(ision)?|ack|wait|timeout|sync.*|events?_?id|message_?id|draw|modified.*|updated.*|watermark)$',
    'i',
);

/** Parameters that are there to keep caches out, whatever they say. */
const BUSTER = /^(_+|_dc|_ts|[_-]?no[_-]?cache|(cache[_-]?)?bust(er)?|rnd|_?rand(om)?|.*preventcache)$/i;

/** Parameters that may be there for that, if what they say is the time or at random. */
const MAYBE_BUSTER = /^(_?[a-z]|ts|dc|time|timestamp|now|cb|nc|cache|nonce|uniq(ue)?|uid)$/i;

/** Paths that do something to what they answer. */
const CONSUMES = /(^|[/_.-])(pop|dequeue|consume|take|drain|ack|receive|shift|next)([/_.-]|$)/i;

/** A moment that differs by this much from now was not made for this request. */
const MOMENT = 250;

function isMadeUp(value) {
    return /^0?\.\d+$/.test(value) || (/^\d{13}$/.test(value) && Math.abs(Date.now() - value) <= MOMENT);
}

/** What counted last behind each path; `Infinity` where it was no counting. */
const counts = new Map();
const MOST_COUNTS = 500;

/** Whether `name`, without a value, counts on from a time since this page was loaded, as with MooTools. */
function isCount(path, name) {
    if (!/^(\d{13}|[\da-z]{8})$/.test(name)) {
        return false;
    }
    const value = parseInt(name, name[8] ? 10 : 36);
    const last = counts.get(path);
    if (counts.size > MOST_COUNTS) {
        counts.clear();
    }
    counts.set(path, value > (last ?? 0) ? value : Infinity);
    return value > last && value >= performance.timeOrigin && value < Date.now();
}

function isBuster(path, name, value) {
    return value ? BUSTER.test(name) || (MAYBE_BUSTER.test(name) && isMadeUp(value)) : isMadeUp(name) || isCount(path, name);
}

/**
 * What a URL asks for: path and query without what keeps caches out; the family of URLs that differ in values alone;
 * and whether anything in it says that it is no pure read.
 */
function targetOf(url) {
    const kept = [];
    const names = [];
    let cursor = CONSUMES.test(url.pathname);
    for (const part of url.search.slice(1).split('&')) {
        const at = part.indexOf('=');
        const name = attempt(() => decodeURIComponent(at < 0 ? part : part.slice(0, at)), () => part);
        const value = at < 0 ? undefined : part.slice(at + 1);
        if (part && !isBuster(url.pathname, name, value)) {
            kept.push(part);
            names.push(value ? name : '?');
            cursor ||= CURSOR.test(name);
        }
    }
    const query = kept.join('&');
    const text = url.pathname + (query && `?${query}`);
    return { text, path: url.pathname, family: `${url.pathname}?${names.sort().join('&')}`, cursor };
}

/** The URL, if it is on the page's own origin. */
function sameOrigin(text) {
    const url = attempt(() => new URL(text, document.baseURI));
    return url && url.origin === scope.location.origin ? url : undefined;
}

// Headers that are different with every request and say nothing about what is asked for, and those that ask whether
// something is new.
const PASSING = /^(if-(none-match|modified-since)|cache-control|pragma|trace(parent|state)|baggage|x-([\w-]+-)?(request|correlation|trace)-id)$/;

/** Headers that only proxies are believed about, or that ask for a part, or for no mere state. */
const OF_OTHERS = /^(x-forwarded-.*|forwarded|range|prefer|if-(match|range|unmodified-since))$/;

/** The headers by which an answer may differ, as an object with its names in order; without those that no page may set. */
function lasting(headers) {
    return Object.fromEntries([...new Request(scope.location, { headers }).headers].filter(([name]) => !PASSING.test(name)));
}
