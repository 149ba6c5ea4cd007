// Makes one tree of another, and keeps what is the same: focus, selection, scroll, what was typed and what is playing are
// with nodes that stay.

/** What was put into the page by us is no part of it. */
function isOurs(node) {
    return (node.nodeName === 'SCRIPT' && attempt(() => new URL(node.src).pathname) === ownUrl.pathname)
        || (node.nodeType === Node.COMMENT_NODE && /^sungrazer /.test(node.data));
}

const childrenOf = (node) => [...node.childNodes].filter((child) => !isOurs(child));

function morphAttributes(from, to) {
    for (const name of [...from.getAttributeNames(), ...to.getAttributeNames()]) {
        const value = to.getAttribute(name);
        if (value === null) {
            from.removeAttribute(name);
        } else if (from.getAttribute(name) !== value) {
            from.setAttribute(name, value);
        }
    }
}

function morph(from, to) {
    if (from.nodeType === Node.ELEMENT_NODE) {
        // A control that nobody has touched follows its attributes, and no other does.
        morphAttributes(from, to);
        morphChildren(from, to);
    } else if (from.nodeValue !== to.nodeValue) {
        from.nodeValue = to.nodeValue;
    }
}

const isLike = (one, other) => one.nodeName === other.nodeName && one.id === other.id;

function morphChildren(parent, next) {
    const left = childrenOf(parent);
    const wanted = childrenOf(next);
    // What is the same at both ends stays as it is.
    while (left.length && wanted.length && left[0].isEqualNode(wanted[0])) {
        left.shift();
        wanted.shift();
    }
    let behind = null;
    while (left.length && wanted.length && left.at(-1).isEqualNode(wanted.at(-1))) {
        behind = left.pop();
        wanted.pop();
    }
    // A child becomes the next one that is like it, as long as that leaves all others in order.
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

/** Makes the page what `next` is. */
function morphPage(next) {
    // What was chosen by hand would lose that to what the page chooses now of the same group.
    const chosen = [...document.querySelectorAll(':checked')]
        .filter((node) => !(node.defaultChecked ?? (node.defaultSelected || node.index === 0)));
    morph(document.documentElement, next.documentElement);
    chosen.forEach((node) => (node.checked = node.selected = true));
}
