// Updates the page in place: applies the differences between two versions of its HTML and nothing else. User input
// stays with its element, or the page is left unchanged.
//
//     base, next ─ pair (match old and new elements) ─▶ steps ─ is all user input still in place? ─▶ done

import { Map, Set, attempt, scope } from './native.js';

/** Controls that the user has set, even if to their previous value, and elements that the user has scrolled. */
export const edited = new WeakSet();
export const scrolled = new Set();

const CONTROLS = 'input:not([type=hidden],[type=submit],[type=button],[type=reset],[type=image]),select,textarea';

/** Attributes that identify an element, and elements identified by their value. */
const KEYS = /^(id|name|href|src|action|for|type|(data-)?([\w-]+-)?(id|key))$/;
const isChoice = ({ nodeName, type }) => /^(OPTION|BUTTON)$/.test(nodeName) || /^(radio|checkbox|hidden)$/.test(type);

/** Returns the identifying attributes of an element, or else those of its descendants. */
const ownKey = (node) => node.getAttributeNames().filter((name) => KEYS.test(name) || (name === 'value' && isChoice(node)))
    .map((name) => `${name}=${node.getAttribute(name)}`).join();
const isControl = (node) => /^(INPUT|SELECT|TEXTAREA|BUTTON|OPTION)$/.test(node.nodeName);
const keysOf = (node) => ownKey(node) || [...node.querySelectorAll('*')].map(ownKey).filter((key) => key).join('|');

/** Returns the visible text, without selections and typed text. */
function textOf(node) {
    const copy = node.cloneNode(true);
    copy.querySelectorAll?.('select,textarea').forEach((inner) => inner.remove());
    return /^(SELECT|TEXTAREA)$/.test(node.nodeName) ? '' : copy.textContent.trim();
}

/** The labels by which a node is matched with the next version: the first label that is unique in its list. */
const LABELS = [
    (node) => node.outerHTML ?? node.data.trim(),
    (node) => node.nodeType === 1 && keysOf(node),
    (node) => node.nodeType === 1 && textOf(node).replace(/\d+/g, '0'),
];

/** Groups the nodes by `label`. */
function byLabel(nodes, label) {
    const groups = new Map();
    for (const node of nodes) {
        const key = label(node);
        if (key) {
            const name = `${node.nodeName} ${key}`;
            (groups.get(name) ?? groups.set(name, []).get(name)).push(node);
        }
    }
    return groups;
}

/**
 * Matches the nodes of one list with those of another: returns `[other, sure]` by node, where `sure` means that the
 * match is unambiguous. Indistinguishable nodes are matched in order, but a control never matches a different control.
 */
function pair(before, after) {
    const pairs = new Map();
    const taken = new Set();
    const like = (node) => node.nodeName + (isControl(node) ? ownKey(node) : node.id ?? '');
    for (const label of [...LABELS, like]) {
        const others = byLabel(after.filter((node) => !taken.has(node)), label);
        for (const [name, nodes] of byLabel(before.filter((node) => !pairs.has(node)), label)) {
            const found = others.get(name) ?? [];
            const sure = nodes.length === 1 && found.length === 1;
            for (const node of sure || label === like ? nodes : []) {
                const other = found.shift();
                if (other) {
                    pairs.set(node, [other, sure]);
                    taken.add(other);
                }
            }
        }
    }
    return pairs;
}

/** Returns the node in `to` at the position of `node` in `from`. */
function counterpart(node, from, to) {
    if (node === from) {
        return to;
    }
    const parent = counterpart(node.parentNode, from, to);
    const other = parent?.childNodes[[...node.parentNode.childNodes].indexOf(node)];
    return other?.nodeName === node.nodeName ? other : undefined;
}

/**
 * Calls `work` for each node of the page and the node at the same position in `base`, as far as the trees are parallel.
 */
function walk(node, base, work) {
    work(node, base);
    const [own, others] = [[...node.childNodes], [...base.childNodes]];
    if (areParallel(own, others)) {
        own.forEach((child, at) => walk(child, others[at], work));
    }
}

const areParallel = (own, others) => own.length === others.length && own.every(({ nodeName }, at) => nodeName === others[at].nodeName);

/**
 * Collects user input: `held` nodes belong to their row, `pinned` nodes must not move either, and `chosen` lists values
 * to restore.
 */
function begun(base) {
    const [held, pinned, chosen] = [new Set(), new Set(), []];
    const { activeElement, fullscreenElement, pictureInPictureElement } = document;
    const selection = scope.getSelection();
    const range = selection.rangeCount && !selection.isCollapsed ? selection.getRangeAt(0) : undefined;
    const pin = (node) => {
        held.add(node);
        pinned.add(node);
    };
    for (const node of [activeElement !== document.body && activeElement, fullscreenElement, pictureInPictureElement]) {
        node && pin(node);
    }
    for (const node of range ? [range.startContainer, range.endContainer] : []) {
        pinned.add(node);
    }
    walk(document.documentElement, base, (node, twin) => {
        if (node.nodeType !== 1) {
            return;
        }
        const { checked, value, open } = node;
        if (node.matches(CONTROLS)) {
            const isRadio = node.type === 'radio';
            const isSet = edited.has(node) || value !== twin.value || checked !== twin.checked || node.files?.length;
            const options = [...node.options ?? []];
            if (isRadio ? isSet && checked : isSet || options.some(({ selected }, at) => selected !== twin.options[at].selected)) {
                held.add(node);
                chosen.push([node, 'checked', checked]);
                for (const option of options) {
                    chosen.push([option, 'selected', option.selected]);
                    option.selected && held.add(option);
                }
            }
        } else if ((open !== undefined && open !== twin.open) || (node.isContentEditable && node.innerHTML !== twin.innerHTML)) {
            held.add(node);
        }
        if (node.paused === false || node.currentTime > 0 || attempt(() => node.matches(':popover-open,:modal'))) {
            pin(node);
        }
        if (scrolled.has(node) && (node.scrollTop || node.scrollLeft)) {
            pinned.add(node);
        }
    });
    return { held, pinned, chosen, range, activeElement };
}

/** Measured values: the text of a row stays the same while they change. */
const MEASURES = /\d+(:\d\d)+|[\d.]+\s?(%|[kKMGT]?i?B\b|[mµ]?s\b)/g;

/** Returns the text of the row of `node`: of the repeated element around it, or else of the elements before that. */
function rowOf(node) {
    let said = '';
    for (let row = node; row.parentElement; row = row.parentElement) {
        const isLikeRow = (other) => other !== row && other.nodeName === row.nodeName && (row === node || other.querySelector(node.nodeName));
        if ([...row.parentElement.children].some(isLikeRow)) {
            const text = textOf(row);
            if (text) {
                said += text;
                break;
            }
            let before = row.previousSibling;
            while (before && !isLikeRow(before) && !textOf(before)) {
                before = before.previousSibling;
            }
            said += before && !isLikeRow(before) ? textOf(before) : '';
        }
    }
    return said.replace(MEASURES, '#').replace(/\s+/g, ' ');
}

const identity = (node) => [node.form ? ownKey(node.form) : '', ownKey(node), rowOf(node)].join('\n');

/** Attributes that must not change on an element that has the focus or is playing. */
const FIRM = /^(value|type|src|disabled|hidden|inert|open|contenteditable)$/;

const CONFLICT = 'the user has begun something else';

/** Returns the steps that turn the page into `next`. Throws if that would lose user input. */
function plan(base, next, { held, pinned, range, activeElement }) {
    const steps = [];
    const pairs = new Map([[base, [next, true]]]);
    const media = [...pinned].filter((node) => node.currentTime !== undefined);
    // Typed text stays, whatever the new version contains.
    const isTyped = edited.has(activeElement) && /^(INPUT|TEXTAREA)$/.test(activeElement.nodeName);
    const firm = isTyped || activeElement === document.body ? media : [activeElement, ...media];
    const refuse = (is) => {
        if (is) {
            throw CONFLICT;
        }
    };
    const touches = (node) => refuse(range?.intersectsNode(node) || firm.some((one) => one?.contains(node)));

    const attributes = (live, from, to) => {
        for (const name of new Set([...from.getAttributeNames(), ...to.getAttributeNames()])) {
            const value = to.getAttributeNode(name);
            if (value?.value !== from.getAttributeNode(name)?.value) {
                refuse(FIRM.test(name) && (firm.includes(live) || live.getAttribute(name) !== from.getAttribute(name)));
                steps.push(() => (value ? live.setAttributeNode(document.importNode(value)) : live.removeAttribute(name)));
            }
        }
    };

    /** Makes `children`, existing and new nodes, the children of `live`. */
    const arrange = (live, children) => {
        let at = live.firstChild;
        for (const { node, made = node, stays } of children) {
            while (stays && at !== node) {
                const gone = at;
                at = at.nextSibling;
                gone.remove();
            }
            if (at === made) {
                at = at.nextSibling;
            } else {
                live.insertBefore(made, at);
            }
        }
        while (at) {
            const gone = at;
            at = at.nextSibling;
            gone.remove();
        }
    };

    const merge = (live, from, to) => {
        if (from.isEqualNode(to)) {
            return;
        }
        if (live.nodeType !== 1) {
            touches(live);
            refuse(live.data !== from.data && live.parentNode.isContentEditable);
            steps.push(() => (live.data = to.data));
            return;
        }
        attributes(live, from, to);
        const [own, before, after] = [live, from, to].map((node) => [...node.childNodes]);
        refuse(!areParallel(own, before));
        const found = pair(before, after);
        const places = new Map();
        before.forEach((node, at) => {
            const [other, sure] = found.get(node) ?? [];
            pairs.set(node, [other, sure]);
            if (other) {
                places.set(other, at);
                merge(own[at], node, other);
            } else {
                touches(own[at]);
            }
        });
        let last = -1;
        let isNew = before.length !== after.length;
        const children = after.map((node, position) => {
            const at = places.get(node);
            isNew ||= at !== position;
            const stays = at !== undefined && [...pinned].some((one) => own[at].contains(one));
            refuse(stays && at < last);
            last = stays ? at : last;
            return { node: own[at], made: at === undefined ? document.importNode(node, true) : undefined, stays };
        });
        if (isNew) {
            refuse(range?.commonAncestorContainer.contains(live) || firm.some((one) => one?.contains(live)));
            steps.push(() => arrange(live, children));
        }
    };

    merge(document.documentElement, base, next);
    for (const node of new Set([...held, ...pinned])) {
        const twin = counterpart(node, document.documentElement, base);
        let root = twin;
        while (root && !pairs.has(root)) {
            root = root.parentNode;
        }
        refuse(!root);
        for (let one = root; one !== base; one = one.parentNode) {
            refuse(!pairs.get(one)?.[1]);
        }
        refuse(held.has(node) && identity(twin) !== identity(counterpart(twin, root, pairs.get(root)[0])));
    }
    return steps;
}

/** Turns the page, which was built from the HTML of `base`, into `next`. */
export function morphPage({ documentElement: base }, { documentElement: next }) {
    const user = begun(base);
    for (const step of plan(base, next, user)) {
        step();
    }
    for (const is of [false, true]) {
        for (const [node, name, was] of user.chosen) {
            if (was === is && node[name] !== was) {
                node[name] = was;
            }
        }
    }
}
