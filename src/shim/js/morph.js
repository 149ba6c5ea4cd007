// Makes one tree of another, and keeps what is the same: focus, selection, scroll, what was typed and what is playing are
// with nodes that stay.

/** What was put into the page by us is no part of it. */
function isOurs(node) {
    return (node.nodeName === 'SCRIPT' && attempt(() => new URL(node.src).pathname) === ownUrl.pathname)
        || (node.nodeType === Node.COMMENT_NODE && /^sungrazer /.test(node.data));
}

const childrenOf = (node) => [...node.childNodes].filter((child) => !isOurs(child));

/** What a user, or the browser, changes by itself. */
const OF_USERS = { INPUT: ['value', 'checked'], OPTION: ['selected'], DETAILS: ['open'], DIALOG: ['open'] };

function morphAttributes(from, to) {
    const own = OF_USERS[from.nodeName] || [];
    for (const { name, value } of to.attributes) {
        if (from.getAttribute(name) !== value && !own.includes(name) && !(name === 'src' && shownAgain.get(from) === value)) {
            from.setAttribute(name, value);
        }
    }
    for (const { name } of [...from.attributes]) {
        if (!to.hasAttribute(name) && !own.includes(name)) {
            from.removeAttribute(name);
        }
    }
}

function morph(from, to) {
    if (from.nodeType !== Node.ELEMENT_NODE) {
        if (from.nodeValue !== to.nodeValue) {
            from.nodeValue = to.nodeValue;
        }
        return;
    }
    morphAttributes(from, to);
    if (from.nodeName === 'TEXTAREA') {
        // What was typed stays; what was not is the page's.
        if (from.value === from.defaultValue) {
            from.value = to.defaultValue;
        }
        return;
    }
    if (from.nodeName === 'INPUT' && from.value === from.defaultValue && from.defaultValue !== to.defaultValue) {
        from.defaultValue = to.defaultValue;
    }
    morphChildren(from, to);
}

const isLike = (one, other) => one.nodeName === other.nodeName && (one.id || '') === (other.id || '');

function morphChildren(parent, next) {
    let left = childrenOf(parent);
    let wanted = childrenOf(next);
    // What is the same at both ends stays as it is.
    while (left.length && wanted.length && left[0].isEqualNode(wanted[0])) {
        left = left.slice(1);
        wanted = wanted.slice(1);
    }
    while (left.length && wanted.length && left.at(-1).isEqualNode(wanted.at(-1))) {
        left.pop();
        wanted.pop();
    }
    // A child becomes the next one that is like it, as long as that leaves all others in order.
    const behind = left.at(-1)?.nextSibling ?? (left.length ? null : insertionPoint(parent, next, wanted));
    let at = 0;
    const surplus = left.length - wanted.length;
    for (const child of wanted) {
        let found = at;
        while (found < left.length && !(isLike(left[found], child) && (found === at || surplus > 0 || child.id))) {
            found++;
        }
        if (found < left.length) {
            left.slice(at, found).forEach((gone) => gone.remove());
            morph(left[found], child);
            at = found + 1;
        } else {
            parent.insertBefore(document.importNode(child, true), left[at] ?? behind);
        }
    }
    left.slice(at).forEach((gone) => gone.remove());
}

/** Where children that only the other side has belong: before the first that both sides have behind them. */
function insertionPoint(parent, next, wanted) {
    if (wanted.length === 0) {
        return null;
    }
    const all = childrenOf(next);
    const after = all.length - 1 - all.indexOf(wanted.at(-1));
    const children = childrenOf(parent);
    return after > 0 ? children[children.length - after] : null;
}

/** Images that are shown under one name and may be others by now. */
const MOST_IMAGES = 24;

/** Makes the page what `html` says. */
function morphPage(html) {
    const next = new DOMParser().parseFromString(html, 'text/html');
    for (const meta of next.querySelectorAll('meta[http-equiv="refresh" i]')) {
        meta.remove();
    }
    morphAttributes(document.documentElement, next.documentElement);
    morph(document.head, next.head);
    if (document.body && next.body) {
        morph(document.body, next.body);
    }
    for (const image of [...document.images].slice(0, MOST_IMAGES)) {
        attempt(() => showAgain(image));
    }
}

/** Images that were shown again, and what the page calls them. */
const shownAgain = new WeakMap();

/** Has the browser ask whether an image is still the same, and show what it is told. */
async function showAgain(image) {
    const name = image.getAttribute('src');
    const url = name && sameOrigin(shownAgain.get(image) ?? name);
    if (!url || !/^https?:$/.test(url.protocol)) {
        return;
    }
    const answer = await nativeFetch(url.href, { cache: 'no-cache' }).catch(() => undefined);
    if (answer?.ok) {
        shownAgain.set(image, shownAgain.get(image) ?? name);
        // The same name would be shown as it was; another fragment is looked for where the answer is now.
        url.hash = `${Date.now()}`;
        image.src = url.href;
    }
}
