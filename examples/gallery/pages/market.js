// What the page of the market draws with. Prices are in cents.

var cells = {};

function cell(row, text, className) {
    var td = document.createElement('td');
    td.className = className || '';
    td.appendChild(document.createTextNode(text));
    row.appendChild(td);
    return td;
}

function build(quotes) {
    var body = document.getElementById('quotes');
    var row;
    for (var i = 0; i < quotes.length; i++) {
        if (i % 4 == 0) {
            row = body.insertRow(-1);
        }
        cell(row, quotes[i].id);
        cells[quotes[i].id] = { price: cell(row, '', 'number'), volume: cell(row, '', 'number'), was: quotes[i].price };
    }
}

function draw(state) {
    if (!document.getElementById('quotes').rows.length) {
        build(state.quotes);
    }
    for (var i = 0; i < state.quotes.length; i++) {
        var quote = state.quotes[i];
        var at = cells[quote.id];
        at.price.firstChild.nodeValue = (quote.price / 100).toFixed(2);
        at.volume.firstChild.nodeValue = quote.volume;
        if (quote.price != at.was) {
            at.price.className = quote.price > at.was ? 'number up' : 'number down';
            at.was = quote.price;
        }
    }
    document.getElementById('state').firstChild.nodeValue = (state.open ? 'Open' : 'Closed') + '. Last deal: ' + state.deal + '.';
}

function post(url, body) {
    var xhr = new XMLHttpRequest();
    xhr.open('POST', url, true);
    xhr.setRequestHeader('Content-Type', 'application/x-www-form-urlencoded');
    xhr.send(body);
    return false;
}

function buy(form) {
    return post('/market/buy', 'name=' + encodeURIComponent(form.elements.name.value) + '&symbol=' + form.symbol.value);
}

document.write('<form onsubmit="return buy(this)"><input type="text" name="name" size="8" value="guest" title="Your name"> ' +
    '<input type="text" name="symbol" size="4" value="AKU" title="Symbol"> <input type="submit" value="Buy"> ' +
    '<input type="button" value="Open the market" onclick="post(\'/market/bell\', \'open=yes\')"> ' +
    '<input type="button" value="Close it" onclick="post(\'/market/bell\', \'open=no\')"></form>' +
    '<p id="state" class="state">&nbsp;</p><table><tbody id="quotes"></tbody></table>');
