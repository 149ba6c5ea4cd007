// Checks that a replica belongs to the page's identity. A stream may be opened with other cookies than the page's
// polls: because of cookie paths, or because a cookie has changed. A poll is therefore answered from a replica only
// while the server's response to this very poll, as sent by the browser, has confirmed the same identity.

import { now } from './native.js';
import { link } from './link.js';
import { REFUSED } from './polls.js';

/** How long, in milliseconds, such a confirmation is valid while the visible cookies stay the same. */
const PROOF_TTL = 5000;

/**
 * Returns the mark for a poll, and a function that checks its response: whether the poll's replica has the same
 * identity.
 */
export function proof(poll) {
    const nonce = `#${Math.random()}`;
    const { cookie } = document;
    return {
        mark: poll.url + nonce,
        check(header) {
            const said = header('sungrazer-identity');
            const { identity } = poll.replica;
            const isSame = said === identity + nonce;
            poll.proof = isSame && { identity, cookie, until: now() + PROOF_TTL };
            if (isSame) {
                poll.isOthers = false;
            } else if (poll.live && said?.endsWith(nonce)) {
                // A new stream has the current cookies. If the identity still differs then, the poll is given up. (A
                // response from a cache proves nothing.)
                if (poll.isOthers) {
                    poll.giveUp();
                }
                poll.isOthers = true;
                link.renew();
            }
            return isSame;
        },
    };
}

/** Returns whether the replica of `poll` is confirmed for the page's current cookies. */
export const isProven = ({ proof, replica }) => proof && proof.identity === replica.identity && now() < proof.until && !cookieChanged(proof);
const cookieChanged = (proof) => proof.cookie !== document.cookie;

/** Returns whether a page that makes `poll` requests something else whenever it writes a cookie. */
export function turns(poll) {
    if (!poll.proof || !cookieChanged(poll.proof)) {
        return false;
    }
    const often = now() - poll.turned < REFUSED;
    poll.proof = undefined;
    poll.turned = now();
    return often;
}

