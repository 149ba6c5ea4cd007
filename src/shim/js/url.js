// URLs by which pages poll: what of them only keeps caches out, and what says where the page stands.

/** Parameters that mean a place in something that moves on, or that an answer waits or consumes. */
const CURSOR = new RegExp(
    '^(rid|.+_?token|since|after|before|from|until|cursor|offset|seq(uence|no)?|last.*|next.*|newer.*|older.*|marker|'
        + 'pos(ition)?|rev(ision)?|ack|wait|timeout|sync.*|events?_?id|message_?id|draw|modified.*|updated.*|watermark)$',
    'i',
);

/** Parameters that are there to keep caches out, whatever they say. */
const BUSTER = /^(_+|_?dc|_ts?|_r|[_-]?no[_-]?cache|(cache[_-]?)?bust(er)?|rnd|_?rand(om)?|.*preventcache)$/i;

/** Parameters that may be there for that, if what they say is the time or at random. */
const MAYBE_BUSTER = /^([a-z]|ts|time|timestamp|now|cb|nc|cache|nonce|uniq(ue)?|uid)$/i;

/** Paths that do something to what they answer. */
const CONSUMES = /(^|[/_.-])(pop|dequeue|consume|take|drain|ack|receive|shift|next)([/_.-]|$)/i;

/** A moment that differs by this much from now was not made for this request. */
const MOMENT = 250;

/** A time that differs by this much from now may be when the page was loaded. */
const LATELY = 1e9;

function isMadeUp(value) {
    return /^0?\.\d+$/.test(value) || (/^\d{13}$/.test(value) && Math.abs(Date.now() - value) <= MOMENT);
}

function isBuster(name, value) {
    if (value === '' || value === undefined) {
        // A bare number, a time in letters (MooTools counts on from that), or a name that is nothing but random.
        return /^(\d{10,}|0?\.\d+|(?=.*\d)[\w-]{16,})$/.test(name) || Math.abs(Date.now() - parseInt(name, 36)) < LATELY;
    }
    return BUSTER.test(name) || (MAYBE_BUSTER.test(name) && isMadeUp(value));
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
        if (part && !isBuster(name, value)) {
            kept.push(part);
            names.push(value === undefined ? '' : name);
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
const PASSING = /^(if-(none-match|modified-since)|cache-control|pragma|traceparent|tracestate|baggage|x-([\w-]+-)?(request|correlation|trace)-id)$/;

// Headers that browsers let no page set.
const FORBIDDEN = /^(accept-(charset|encoding)|access-control-request-.*|connection|content-length|cookie2?|date|dnt|expect|host|keep-alive|origin|permissions-policy|proxy-.*|sec-.*|referer|te|trailer|transfer-encoding|upgrade|via)$/;

/** Headers that only proxies are believed about, or that ask for a part, or for no mere state. */
const OF_OTHERS = /^(x-forwarded-.*|forwarded|range|prefer|if-(match|range|unmodified-since))$/;

/** The headers by which an answer may differ, as an object with its names in order. */
function lasting(headers) {
    const names = Object.keys(headers).filter((name) => !PASSING.test(name) && !FORBIDDEN.test(name));
    return Object.fromEntries(names.sort().map((name) => [name, headers[name]]));
}
