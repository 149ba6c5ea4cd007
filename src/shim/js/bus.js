// For code that is written with push in mind: a DOM event for each change, and a function to follow a URL by.

/** What a change is told as. */
function detailOf({ url, version, body, type, encoding }) {
    const isJson = !encoding && /^application\/([\w.-]+\+)?json\b|^json\b/.test(type);
    return { url, version, body: isJson ? attempt(() => JSON.parse(body), () => body) : body };
}

/** Dispatches `sungrazer:change` on the document, in a task of its own: whatever listens is no part of this. */
function announce(record) {
    soon(() => document.dispatchEvent(new CustomEvent('sungrazer:change', { detail: detailOf(record), bubbles: true })));
}

/** Calls `listener` with each state of `url` until the function that this returns is called. */
function subscribe(url, listener) {
    const target = sameOrigin(url);
    if (!target) {
        throw new TypeError(`${url} is not on this site`);
    }
    let version;
    return link.follow({ url: target.pathname + target.search, headers: { accept: '*/*' }, since: () => version }, (record) => {
        if (record.event === 'snapshot' && record.version !== version) {
            version = record.version;
            announce(record);
            // Its mistakes are reported as any other of the page's.
            soon(() => queueMicrotask(() => listener(detailOf(record))));
        }
    });
}
