// An API for code written with push in mind: a DOM event for each change, and a function to subscribe to a URL.

import { JSON, attempt, queueMicrotask, soon } from './native.js';
import { sameOrigin } from './url.js';
import { link } from './link.js';

/** Returns the `detail` of a change event. */
function detailOf({ url, version, body, type, encoding }) {
    const isJson = !encoding && /^application\/([\w.-]+\+)?json\b|^json\b/.test(type);
    return { url, version, body: isJson ? attempt(() => JSON.parse(body), () => body) : body };
}

/**
 * Dispatches `sungrazer:change` on the document in a separate task, so that listeners do not run inside this script's
 * code.
 */
export function announce(record) {
    soon(() => document.dispatchEvent(new CustomEvent('sungrazer:change', { detail: detailOf(record), bubbles: true })));
}

/** Calls `listener` with each state of `url` until the returned function is called. */
export function subscribe(url, listener) {
    const target = sameOrigin(url);
    if (!target) {
        throw new TypeError(`${url} is not on this site`);
    }
    let version;
    return link.follow({ url: target.pathname + target.search, headers: { accept: '*/*' }, since: () => version }, (record) => {
        if (record.event === 'snapshot' && record.version !== version) {
            version = record.version;
            announce(record);
            // Exceptions of the listener are reported like any other exception of the page.
            soon(() => queueMicrotask(() => listener(detailOf(record))));
        }
    });
}
