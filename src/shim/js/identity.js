// Whose a replica is. A stream may be opened with other cookies than the page's polls are sent with: by path, or since one
// has changed. So a poll is answered from a replica only while the answer to this very poll, as the browser sent it, has
// said that it was for the same client.

/** An answer says so for this long, while the cookies that can be seen stay the same. */
const PROOF_TTL = 5000;

/** What is written on a poll, and what its answer says about the poll's replica: whether it is for the same client. */
function proof(poll) {
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
                // A stream that is opened anew has newer cookies. If it is another's even so, it stays another's. (A cache
                // that answers says nothing.)
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

/** Whether the replica of `poll` is for this page as it is now. */
const isProven = ({ proof, replica }) => proof && proof.identity === replica.identity && now() < proof.until && !cookieChanged(proof);
const cookieChanged = (proof) => proof.cookie !== document.cookie;

/** Whether a page that makes `poll` asks for something else with each cookie that it writes. */
function turns(poll) {
    if (!poll.proof || !cookieChanged(poll.proof)) {
        return false;
    }
    const often = now() - poll.turned < REFUSED;
    poll.proof = undefined;
    poll.turned = now();
    return often;
}

