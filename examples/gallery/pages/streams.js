// Streams by XMLHttpRequest in readyState 3, when a browser had nothing else: what has come so far is in responseText.

function parse(text) {
    return window.JSON ? JSON.parse(text) : eval('(' + text + ')');
}

// Asks for `url`, tells `line` each line that comes, and `whole` what came from a server that does not stream. Asks again
// `pause` milliseconds after the end.
function stream(url, headers, pause, line, whole) {
    var xhr = window.XMLHttpRequest ? new XMLHttpRequest() : new ActiveXObject('Microsoft.XMLHTTP');
    var read = 0;
    xhr.open('GET', url, true);
    for (var name in headers) {
        xhr.setRequestHeader(name, headers[name]);
    }
    xhr.onreadystatechange = function () {
        if (xhr.readyState < 3) {
            return;
        }
        var streams = /event-stream|ndjson/.test(xhr.getResponseHeader('Content-Type'));
        if (streams) {
            for (var end; (end = xhr.responseText.indexOf('\n', read)) >= 0; read = end + 1) {
                line(xhr.responseText.substring(read, end));
            }
        }
        if (xhr.readyState == 4) {
            if (xhr.status == 200 && !streams) {
                whole(xhr.responseText);
            }
            setTimeout(function () { stream(url, headers, pause, line, whole); }, pause);
        }
    };
    xhr.send(null);
}

// Follows JSON as lines of JSON: `draw` is given each state. `delta` may be 'json-patch'.
function records(url, delta, pause, draw) {
    var state;
    var headers = { Accept: 'application/x-ndjson, application/json;q=0.5' };
    if (delta) {
        headers.Prefer = 'delta=' + delta;
    }
    stream(url, headers, pause, function (line) {
        var record = line ? parse(line) : {};
        if (record.event == 'snapshot') {
            draw(state = record.body);
        } else if (record.event == 'patch') {
            for (var i = 0; i < record.patch.length; i++) {
                state = patched(state, record.patch[i]);
            }
            draw(state);
        }
    }, function (text) {
        draw(parse(text));
    });
}

// Follows a text as server-sent events.
function events(url, pause, draw) {
    var data = [];
    var name = '';
    stream(url, { Accept: 'text/event-stream, text/plain;q=0.5' }, pause, function (line) {
        if (line.indexOf('data:') == 0) {
            data.push(line.substring(5).replace(/^ /, ''));
        } else if (line.indexOf('event:') == 0) {
            name = line.substring(6).replace(/^ /, '');
        } else if (line == '') {
            if (data.length && !name) {
                draw(data.join('\n'));
            }
            data = [];
            name = '';
        }
    }, draw);
}

// JSON Patch (RFC 6902): `state` after one operation.
function patched(state, operation) {
    var keys = operation.path.split('/').slice(1);
    for (var i = 0; i < keys.length; i++) {
        keys[i] = keys[i].replace(/~1/g, '/').replace(/~0/g, '~');
    }
    if (operation.op == 'move' || operation.op == 'copy') {
        var value = found(state, operation.from);
        if (operation.op == 'move') {
            state = patched(state, { op: 'remove', path: operation.from });
        }
        return patched(state, { op: 'add', path: operation.path, value: operation.op == 'copy' ? parse(JSON.stringify(value)) : value });
    }
    if (operation.op == 'test') {
        return state;
    }
    if (!keys.length) {
        return operation.value;
    }
    var at = state;
    for (i = 0; i < keys.length - 1; i++) {
        at = at[keys[i]];
    }
    var key = keys[keys.length - 1];
    if (!(at instanceof Array)) {
        if (operation.op == 'remove') {
            delete at[key];
        } else {
            at[key] = operation.value;
        }
    } else if (operation.op == 'remove') {
        at.splice(key, 1);
    } else if (operation.op == 'add') {
        at.splice(key == '-' ? at.length : key, 0, operation.value);
    } else {
        at[key] = operation.value;
    }
    return state;
}

function found(state, path) {
    var keys = path.split('/').slice(1);
    for (var i = 0; i < keys.length; i++) {
        state = state[keys[i].replace(/~1/g, '/').replace(/~0/g, '~')];
    }
    return state;
}
