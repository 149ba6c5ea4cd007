// Replicas as the answers that the page asks for.

/** The answer of `poll`'s replica to a request with these headers, if there is one that is as good as a genuine one. */
function answerOf(poll, headers, run) {
    if (!poll || poll.tick || !poll.live || !poll.replica || !poll.served || navigator.onLine === false || !mayBeAnswered() || !isProven(poll)) {
        return undefined;
    }
    const { replica } = poll;
    if (run && poll.given !== replica.version) {
        run.seen.news = true;
    }
    poll.given = replica.version;
    const has = replica.headers;
    const asked = headers['if-none-match'];
    const date = headers['if-modified-since'];
    const unchanged = asked !== undefined
        ? asked.split(',').some((tag) => [has.etag, `"${replica.version}"`].includes(tag.trim()))
        : date !== undefined && has['last-modified'] && Date.parse(has['last-modified']) <= Date.parse(date);
    return new Answer(replica, unchanged, poll.served);
}

const NO_BODY = [204, 205, 304];

class Answer {
    /** `served` says how the page was answered by the application. */
    constructor(replica, unchanged, { statusText, ahead, isSized } = {}) {
        this.replica = replica;
        this.status = unchanged ? 304 : replica.status;
        this.statusText = { 200: statusText ?? 'OK', 204: 'No Content', 304: 'Not Modified' }[this.status] ?? '';
        this.hasBody = !NO_BODY.includes(this.status);
        this.headers = { ...replica.headers };
        if (ahead < Infinity) {
            this.headers.date = new Date(Date.now() + ahead).toUTCString();
        }
        /** How long it says that it is. */
        this.total = this.hasBody && isSized ? this.bytes().length : undefined;
        if (this.total !== undefined) {
            this.headers['content-length'] = String(this.total);
        }
    }

    get type() {
        return this.replica.type;
    }

    get charset() {
        return /charset\s*=\s*"?([^\s";]+)/i.exec(this.type)?.[1];
    }

    bytes() {
        const { body, encoding } = this.replica;
        if (!this.hasBody) {
            return new Uint8Array();
        }
        return encoding === 'base64' ? Uint8Array.from(atob(body), (c) => c.charCodeAt(0)) : new TextEncoder().encode(body);
    }

    /** The text; `otherwise` is what its bytes are in if they do not say so. */
    text(otherwise) {
        const { body, encoding } = this.replica;
        if (!this.hasBody) {
            return '';
        }
        if (encoding !== 'base64') {
            return body;
        }
        const bytes = this.bytes();
        // What it begins with may say it, whatever else does.
        const mark = { '254,255': 'utf-16be', '255,254': 'utf-16le', '239,187': 'utf-8' }[bytes.subarray(0, 2)];
        return attempt(() => new TextDecoder(mark ?? this.charset ?? otherwise), () => new TextDecoder()).decode(bytes);
    }
}
