// One held request for any number of URLs. Runs in the worker that tabs share, or in a page.

import { AbortController, Date, JSON, TextDecoder, nativeClearTimeout, nativeFetch, nativeSetTimeout, prefix } from './native.js';

/** The number of silent heartbeats after which a stream counts as dead. */
export const SILENT = 2.5;

/**
 * The server sends the first bytes at once. An intermediary that delays them by this many milliseconds buffers the
 * whole stream.
 */
const BEGINS = 4000;

/**
 * Reads the stream of `follow` until it ends or `signal` aborts. `told` is called with each record, `heard` for each
 * sign of life. With `once`, the server ends the response after the first update. Returns how it ended: `ended` by the
 * server, `held back` by a buffering intermediary, `failed`, or `refused` by a server without Sungrazer.
 */
export async function streamOnce({ follow, once, heartbeat, signal, told, heard }) {
    const control = new AbortController();
    const stop = () => control.abort();
    signal.addEventListener('abort', stop);
    let timer;
    let begun = false;
    let late = false;
    // Checks the clock more often than necessary, because timers stand still while a computer sleeps.
    const watch = (patience, since = Date.now()) => {
        nativeClearTimeout(timer);
        const rest = since + patience - Date.now();
        timer = nativeSetTimeout(() => {
            if (rest > heartbeat) {
                watch(patience, since);
            } else {
                late = true;
                stop();
            }
        }, Math.min(rest, heartbeat));
    };
    try {
        watch(once ? heartbeat * SILENT + BEGINS : BEGINS);
        const answer = await nativeFetch(`${prefix}/stream`, {
            method: 'POST',
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify({ follow, exact: true, once }),
            cache: 'no-store',
            signal: control.signal,
        });
        if (!answer.ok || !/^text\/event-stream/.test(answer.headers.get('content-type'))) {
            // 5xx means "try later"; any other status means that there is no stream here.
            return answer.status >= 500 ? 'failed' : 'refused';
        }
        const reader = answer.body.getReader();
        const decoder = new TextDecoder();
        let rest = '';
        for (;;) {
            const { done, value } = await reader.read();
            if (done) {
                return 'ended';
            }
            begun = true;
            watch(heartbeat * SILENT);
            heard();
            const lines = (rest + decoder.decode(value, { stream: true })).split('\n');
            rest = lines.pop();
            for (const line of lines) {
                if (line.startsWith('data: ')) {
                    told(JSON.parse(line.slice(6)));
                }
            }
        }
    } catch {
        return late && !begun && !once ? 'held back' : 'failed';
    } finally {
        nativeClearTimeout(timer);
        signal.removeEventListener('abort', stop);
        stop();
    }
}
