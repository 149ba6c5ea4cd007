// Pages that nobody rewrites, by libraries of all ages: they poll as they always did, and are told of changes at once.

import { page } from './application.mjs';
import { INTERVAL, testLoops } from './loops.mjs';

const EVERY = `${INTERVAL}`;

testLoops({
    'jQuery without cache': page(`
        function poll() { $.ajax({ url: '/state', cache: false, dataType: 'json' }).done(draw).always(() => setTimeout(poll, ${EVERY})); }
        poll();`, '<script src="/lib/jquery/dist/jquery.js"></script>'),
    'jQuery with setInterval': page(`
        setInterval(() => $.getJSON('/state', draw), ${EVERY});`, '<script src="/lib/jquery/dist/jquery.js"></script>'),
    'jQuery 1 without cache': page(`
        $.ajaxSetup({ cache: false });
        (function poll() { $.getJSON('/state').complete((xhr) => draw(JSON.parse(xhr.responseText))); setTimeout(poll, ${EVERY}); })();`, '<script src="/lib/jquery1/dist/jquery.js"></script>'),
    'AngularJS with $interval': page(`
        angular.module('legacy', []).run(($interval, $http) => {
            const poll = () => $http.get('/state').then(({ data }) => draw(data));
            poll(); $interval(poll, ${EVERY});
        });
        angular.element(() => angular.bootstrap(document, ['legacy']));`, '<script src="/lib/angular/angular.js"></script>'),
    'Prototype with a PeriodicalExecuter': page(`
        const poll = () => new Ajax.Request('/state', { method: 'get', onSuccess: (answer) => draw(answer.responseText.evalJSON()) });
        poll(); new PeriodicalExecuter(poll, ${INTERVAL / 1000});`, '<script src="/lib/debian/prototype/prototype.js"></script>'),
    'Prototype with a PeriodicalUpdater': page(`
        new Ajax.PeriodicalUpdater('text', '/state', { method: 'get', frequency: ${INTERVAL / 1000}, onSuccess: (answer) => draw(answer.responseJSON) });`, '<script src="/lib/debian/prototype/prototype.js"></script><p id="text"></p>'),
    'MooTools without cache': page(`
        const poll = () => new Request.JSON({ url: '/state', method: 'get', noCache: true, onSuccess: draw }).send();
        poll(); poll.periodical(${EVERY});`, '<script src="/lib/debian/mootools/mootools-core-nc.js"></script>'),
    'MooTools with Request.Periodical': page(`
        new Request.JSON({ url: '/state', method: 'get', onSuccess: draw, initialDelay: 100, delay: ${EVERY}, limit: ${EVERY} }).startTimer();`, '<script src="/lib/debian/mootools/mootools-core-nc.js"></script><script src="/lib/debian/mootools/mootools-more-nc.js"></script>'),
    'Dojo without cache': page(`
        const poll = () => dojo.xhrGet({ url: '/state', handleAs: 'json', preventCache: true, load: draw });
        poll(); setInterval(poll, ${EVERY});`, '<script src="/lib/debian/dojo/dojo.js"></script>'),
    axios: page(`
        const poll = async () => draw((await axios.get('/state')).data);
        poll(); setInterval(poll, ${EVERY});`, '<script src="/lib/axios/dist/axios.js"></script>'),
}, (way) => /PeriodicalUpdater/.test(way));
