// Analyses the URLs of polls: cache-busting parameters, and parameters that hold a position.

import { Date, Map, Request, URL, attempt, scope } from './native.js';

/** Parameters for a position in a changing sequence, for waiting, or for consuming. */
const CURSOR = new RegExp(
    '^(rid|.+_?token|since|after|before|from|until|cursor|offset|seq(uence|no)?|last.*|next.*|newer.*|older.*|marker|'
        + 'pos(ition)?|rev(ision)?|ack|wait|timeout|sync.*|events?_?id|message_?id|draw|modified.*|updated.*|watermark)$',
    'i',
);

/** Cache-busting parameters, whatever their value. */
const BUSTER = /^(_+|_dc|_ts|[_-]?no[_-]?cache|(cache[_-]?)?bust(er)?|rnd|_?rand(om)?|.*preventcache)$/i;

/** Parameters that may be cache-busting if their value is the time or random. */
const MAYBE_BUSTER = /^(_?[a-z]|ts|dc|time|timestamp|now|cb|nc|cache|nonce|uniq(ue)?|uid)$/i;

/** Paths that have a side effect on the data that they return. */
const CONSUMES = /(^|[/_.-])(pop|dequeue|consume|take|drain|ack|receive|shift|next)([/_.-]|$)/i;

/** The maximum difference in milliseconds between now and a time that was generated for this request. */
const MOMENT = 250;

function isMadeUp(value) {
    return /^0?\.\d+$/.test(value) || (/^\d{13}$/.test(value) && Math.abs(Date.now() - value) <= MOMENT);
}

/** The last counter value for each path; `Infinity` if the values do not count up. */
const counts = new Map();
const MOST_COUNTS = 500;

/** Returns whether `name`, without a value, counts up from a time since this page was loaded, as in MooTools. */
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
 * Returns the target of a URL: path and query without cache-busting parameters, the family of URLs that differ only in
 * values, and whether the URL indicates anything except a pure read.
 */
export function targetOf(url) {
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

/** Returns the URL if it is on the page's own origin. */
export function sameOrigin(text) {
    const url = attempt(() => new URL(text, document.baseURI));
    return url && url.origin === scope.location.origin ? url : undefined;
}

// Headers that differ with every request without affecting the response, and conditional headers.
const PASSING = /^(if-(none-match|modified-since)|cache-control|pragma|trace(parent|state)|baggage|x-([\w-]+-)?(request|correlation|trace)-id)$/;

/** Headers that are only trusted from proxies, or that request a part or something other than the current state. */
export const OF_OTHERS = /^(x-forwarded-.*|forwarded|range|prefer|if-(match|range|unmodified-since))$/;

/** Returns the headers that may affect the response as an object with ordered names, without forbidden header names. */
export function lasting(headers) {
    return Object.fromEntries([...new Request(scope.location, { headers }).headers].filter(([name]) => !PASSING.test(name)));
}
