// What all pages of headlines look like.

function show(news) {
    document.getElementById('headline').firstChild.nodeValue = news.number + '. ' + news.headline;
}

function publish(form) {
    var xhr = new XMLHttpRequest();
    xhr.open('POST', '/streams/news', true);
    xhr.setRequestHeader('Content-Type', 'application/x-www-form-urlencoded');
    xhr.send('headline=' + encodeURIComponent(form.elements.headline.value));
    return false;
}

document.write('<p id="headline" class="box">&nbsp;</p><form onsubmit="return publish(this)">' +
    '<input type="text" name="headline" size="30" title="Headline"> <input type="submit" value="Publish"></form>');
