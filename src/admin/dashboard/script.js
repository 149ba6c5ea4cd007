// The dashboard: subscribes to /api/state as any page could subscribe to a resource behind Sungrazer, and displays it.
'use strict';

(() => {
  const find = (id) => document.getElementById(id);
  const WINDOW = 120; // seconds that the chart shows
  const SPAN = 10; // seconds over which rates are taken
  const TOKEN = 'sungrazer-admin-token';

  let known = null; // the newest state
  let paused = false;
  let samples = []; // { at, polls, looks }, one a second
  let told = 0; // the number of the newest event that is shown

  // Subscription.

  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const headers = (more) => {
    const token = sessionStorage.getItem(TOKEN);
    return token ? { Authorization: `Bearer ${token}`, ...more } : more;
  };

  async function follow() {
    for (let patience = 250; ; patience = Math.min(patience * 2, 8000)) {
      try {
        const response = await fetch('/api/state', { headers: headers({ Accept: 'application/x-ndjson', Prefer: 'delta=json-patch' }), cache: 'no-store' });
        if (response.status === 401) {
          await askForToken();
          patience = 250;
          continue;
        }
        if (response.ok) {
          patience = 125;
          await read(response.body.getReader());
        }
      } catch {
        // The connection is down or broke: the pill shows it, and the script reconnects.
      }
      connection('lost', 'connection lost');
      await pause(patience);
    }
  }

  async function read(reader) {
    const decoder = new TextDecoder();
    let text = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += decoder.decode(value, { stream: true });
      const lines = text.split('\n');
      text = lines.pop();
      for (const line of lines.filter((line) => line)) {
        const record = JSON.parse(line);
        if (record.event === 'snapshot') take(record.body);
        else if (record.event === 'patch') take(patched(known, record.patch));
      }
    }
  }

  /** Applies a JSON Patch (RFC 6902) that is known to match the document, and returns the result. */
  function patched(document, operations) {
    const holder = { '': document };
    const steps = (pointer) => pointer.split('/').map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
    const above = (path) => path.slice(0, -1).reduce((value, step) => value[step], holder);
    const take = (path) => {
      const [parent, last] = [above(path), path.at(-1)];
      if (Array.isArray(parent)) return parent.splice(Number(last), 1)[0];
      const value = parent[last];
      delete parent[last];
      return value;
    };
    const add = (path, value) => {
      const [parent, last] = [above(path), path.at(-1)];
      if (Array.isArray(parent)) parent.splice(last === '-' ? parent.length : Number(last), 0, value);
      else parent[last] = value;
    };
    for (const { op, path, from, value } of operations) {
      const place = steps(path);
      if (op === 'remove') take(place);
      else if (op === 'add') add(place, value);
      else if (op === 'replace') above(place)[place.at(-1)] = value;
      else if (op === 'move') add(place, take(steps(from)));
      else if (op === 'copy') add(place, structuredClone(steps(from).reduce((found, step) => found[step], holder)));
    }
    return holder[''];
  }

  function take(state) {
    if (known && known.started !== state.started) {
      // This is another process, with counters that begin at zero.
      samples = [];
      told = 0;
    }
    known = state;
    if (!paused) show();
  }

  function askForToken() {
    const form = find('login');
    const refused = sessionStorage.getItem(TOKEN) !== null;
    sessionStorage.removeItem(TOKEN);
    form.hidden = false;
    find('refused').textContent = refused ? 'That is not the token.' : '';
    connection('lost', 'token needed');
    find('token').focus();
    return new Promise((resolve) => {
      form.onsubmit = (event) => {
        event.preventDefault();
        sessionStorage.setItem(TOKEN, find('token').value);
        find('token').value = '';
        form.hidden = true;
        resolve();
      };
    });
  }

  // Output. Text is only touched where it changes, so that screen readers, selections and the focus are not disturbed.

  function put(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === 'class') element.className = value;
      else element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  }

  /** Makes the children of `parent` match `items`: `create` creates a child, `update` updates it. */
  function each(parent, items, keyOf, create, update) {
    const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
    items.forEach((item, at) => {
      const key = String(keyOf(item));
      let child = before.get(key);
      before.delete(key);
      if (!child) {
        child = create(item);
        child.dataset.key = key;
      }
      if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null);
      update(child, item);
    });
    for (const child of before.values()) child.remove();
  }

  const number = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
  const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
  const count = (value) => (value < 100000 ? number : short).format(value);
  const rate = (value) => (value === 0 ? '0' : value < 10 ? value.toFixed(1) : number.format(value));

  function bytes(value) {
    const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
    let at = 0;
    for (; value >= 1024 && at < units.length - 1; at += 1) value /= 1024;
    return `${at === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[at]}`;
  }

  function duration(ms) {
    if (ms === null || ms === undefined) return '–';
    if (ms < 10) return `${Number(ms.toFixed(1))} ms`;
    if (ms < 1000) return `${Math.round(ms)} ms`;
    const seconds = ms / 1000;
    if (seconds < 60) return `${seconds < 10 ? Number(seconds.toFixed(1)) : Math.floor(seconds)} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
    if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
    return `${Math.floor(seconds / 86400)} days`;
  }

  /** Formats how long ago something was, in whole seconds or larger units. */
  const age = (time) => duration(Math.max(0, Math.floor((Date.now() - Date.parse(time)) / 1000) * 1000) || 1000);
  const ago = (time) => (time ? `${age(time)} ago` : '–');
  const sum = (counts) => Object.values(counts).reduce((all, one) => all + one, 0);
  const total = (of) => known.routes.reduce((all, route) => all + of(route), 0);
  const clock = (time) => new Date(time).toLocaleTimeString('en-GB');

  function connection(kind, text) {
    find('connection').className = `pill ${kind}`;
    put(find('connection'), text);
  }

  // Display.

  function show() {
    if (paused) connection('paused', 'paused');
    else if (known.state === 'ready') connection('live', 'live');
    else connection('lost', 'stopping');
    put(find('upstream'), known.upstream.map(({ url, path }) => (path ? `${url} for ${path}` : url)).join(', '));
    put(find('version'), known.version);
    problems();
    spared();
    tiles();
    routes();
    resources();
    happenings();
    observed();
  }

  function problems() {
    const found = [];
    const { config, upstream, budget } = known;
    for (const { url, because, path } of upstream.filter(({ away }) => away)) {
      const alone = upstream.every((other) => other.away || other.path !== path);
      const text = alone ? 'Streams say so, and go on when it answers again.' : 'The others are asked in its place.';
      found.push({ warn: !alone, title: `${url} is not asked: ${because}`, text });
    }
    if (config.wrong) found.push({ title: 'The configuration file is wrong; the one of before is in force', code: config.wrong });
    if (config.needs_restart.length) {
      found.push({ warn: true, title: `A restart is needed for ${config.needs_restart.join(', ')}`, text: 'All else in the file is in force.' });
    }
    if (budget.stretched) {
      found.push({ warn: true, title: 'Looks wait for the budget', text: 'max_fetches or max_fetch_rate makes intervals longer than routes say.' });
    }
    if (known.state !== 'ready') found.push({ warn: true, title: 'This process is stopping', text: 'Clients are asked to come back, one by one.' });
    const create = () => make('div', {}, make('strong'), make('span'), make('pre'));
    each(find('problems'), found, (problem) => problem.title, create, (element, problem) => {
      element.className = problem.warn ? 'problem warn' : 'problem';
      put(element.children[0], problem.title);
      put(element.children[1], problem.text ?? '');
      put(element.children[2], problem.code ?? '');
      element.children[2].hidden = !problem.code;
    });
  }

  function spared() {
    const { polls, looks } = rates(samples.length - 1);
    put(find('polls-rate'), rate(polls));
    put(find('looks-rate'), rate(looks));
    put(find('spared-requests'), count(total((route) => route.spared.requests)));
    put(find('spared-bytes'), bytes(total((route) => route.spared.bytes)));
    const asked = total((route) => route.replaced);
    const factor = looks > 0 ? polls / looks : polls > 0 ? Infinity : 0;
    put(find('factor'), factor === 0 ? '–' : factor === Infinity ? 'all of it' : `${factor < 10 ? factor.toFixed(1) : number.format(factor)}×`);
    put(find('sentence'), asked === 0
      ? 'Nobody is held yet: open a page or a stream behind Sungrazer.'
      : factor >= 1.05
        ? 'fewer requests than the same clients would make by polling, over the last ten seconds.'
        : 'as many looks as the clients would make themselves: one client alone spares nothing, but hears sooner.');
    draw();
  }

  /** Returns the rates per second at this sample, over as much of the preceding period as exists. */
  function rates(at) {
    const last = samples[at];
    const first = samples[Math.max(0, at - SPAN)];
    const seconds = last && first ? (last.at - first.at) / 1000 : 0;
    if (seconds < 0.5) return { polls: 0, looks: 0 };
    return { polls: Math.max(0, last.polls - first.polls) / seconds, looks: Math.max(0, last.looks - first.looks) / seconds };
  }

  function sample() {
    if (!known) return;
    const polls = total((route) => route.replaced + (route.polls.memory ?? 0) + (route.polls.held ?? 0));
    samples.push({ at: performance.now(), polls, looks: total((route) => sum(route.looks)) });
    if (samples.length > WINDOW + SPAN) samples.shift();
    if (!paused) show();
  }

  function draw() {
    const from = Math.max(0, samples.length - WINDOW);
    const points = samples.slice(from).map((_, at) => rates(from + at));
    const top = Math.max(1, ...points.flatMap(({ polls, looks }) => [polls, looks])) * 1.15;
    const x = (at) => (600 * (WINDOW - points.length + at)) / (WINDOW - 1);
    for (const series of ['polls', 'looks']) {
      const line = points.map((point, at) => `${x(at).toFixed(1)} ${(180 - (180 * point[series]) / top).toFixed(1)}`);
      find(`${series}-line`).setAttribute('d', line.length > 1 ? `M${line.join('L')}` : '');
      find(`${series}-area`).setAttribute('d', line.length > 1 ? `M${x(0)} 180L${line.join('L')}L600 180Z` : '');
    }
    put(find('chart-top'), `up to ${rate(top / 1.15)} a second`);
    const { polls, looks } = rates(samples.length - 1);
    const label = `Requests a second over the last two minutes. Now: clients would poll ${rate(polls)} times a second, Sungrazer looks ${rate(looks)} times.`;
    find('chart').setAttribute('aria-label', label);
  }

  function tiles() {
    const held = {};
    for (const route of known.routes) {
      for (const [transport, clients] of Object.entries(route.streams)) held[transport] = (held[transport] ?? 0) + clients;
    }
    const transports = Object.entries(held).sort((a, b) => b[1] - a[1]);
    put(find('held'), count(known.streams.held));
    each(find('transports'), transports, ([name]) => name, ([name]) => make('i', { class: name }), (part, [, clients]) => {
      part.style.flexGrow = clients;
    });
    each(find('transport-list'), transports, ([name]) => name, ([name]) => make('li', { class: name }, `${name} `, make('b')), (part, [, clients]) => {
      put(part.querySelector('b'), count(clients));
    });
    delays();
    const { budget, config } = known;
    meter('in-flight', budget.running, budget.max_fetches);
    meter('a-second', budget.last_second, budget.max_fetch_rate);
    put(find('waiting'), budget.waiting ? `${count(budget.waiting)} looks wait for others` : 'No look waits.');
    const [state, kind] = config.wrong ? ['wrong file', 'bad'] : config.needs_restart.length ? ['restart needed', 'warn'] : ['in force', 'good'];
    find('config-state').className = `state ${kind}`;
    put(find('config-state'), state);
    find('config-file').title = config.file ?? '';
    put(find('config-file'), `${config.file?.split('/').pop() ?? 'no file'}, read ${ago(config.read_at)}`);
    put(find('uptime'), `running for ${age(known.started)}`);
  }

  function meter(id, value, most) {
    const element = find(id);
    Object.assign(element, { max: most, low: most * 0.7, high: most * 0.95, optimum: 0, value });
    put(find(`${id}-text`), `${count(value)} of ${count(most)}`);
  }

  function delays() {
    const bounds = known.delay_bounds;
    const counts = bounds.concat(null).map((_, at) => total((route) => route.delays[at]));
    const all = sum(counts);
    if (all === 0) return;
    const quantile = (part) => {
      let rest = part * all;
      for (const [at, found] of counts.entries()) {
        // Interpolates within a bucket as if its changes were spread evenly.
        if (rest <= found && found > 0) {
          const low = at === 0 ? 0 : bounds[at - 1];
          const high = bounds[at] ?? bounds[at - 1] * 2;
          return 1000 * (low + ((high - low) * rest) / found);
        }
        rest -= found;
      }
      return 1000 * bounds[bounds.length - 1];
    };
    put(find('delay'), duration(quantile(0.5)));
    put(find('delay-more'), `half of ${count(all)} events were faster; 99 of 100 within ${duration(quantile(0.99))}`);
    const most = Math.max(...counts);
    const create = () => document.createElementNS('http://www.w3.org/2000/svg', 'rect');
    each(find('delays'), counts.map((found, at) => ({ found, at })), ({ at }) => at, create, (bar, { found, at }) => {
      const height = found ? Math.max(2, (38 * found) / most) : 0.6;
      for (const [key, value] of Object.entries({ x: at * 10 + 1, y: 40 - height, width: 8, height, rx: 1.5 })) bar.setAttribute(key, value);
    });
  }

  const cells = (row, texts) => texts.forEach((text, at) => put(row.children[at], text));
  // A narrow page shows rows as blocks, so each cell carries its column's name; the roles keep it a table.
  const rowOf = (columns) => make('tr', { role: 'row' }, ...columns.map(([label, name]) =>
    make('td', { role: 'cell', 'data-label': label, class: name ?? '' })));

  function routes() {
    const numbers = ['every', 'resources', 'held', 'looks', 'changes', 'events', 'errors', 'spared'];
    const create = () => rowOf([['', 'path'], ...numbers.map((name) => [name, 'n'])]);
    each(find('routes'), known.routes, (route) => route.route, create, (row, route) => {
      const held = sum(route.streams);
      cells(row, [
        route.route,
        route.fetch ? (route.every_ms === null ? 'auto' : duration(route.every_ms)) : 'ticks only',
        count(route.resources),
        count(held),
        count(sum(route.looks)),
        count(route.looks.changed ?? 0),
        count(sum(route.events)),
        count(route.looks.error ?? 0),
        count(route.spared.requests),
      ]);
    });
  }

  function resources() {
    const wanted = find('filter').value.trim();
    const shown = known.resources.filter((resource) => !wanted || resource.url.includes(wanted));
    put(find('watched'), known.watched ? `· ${count(known.watched)}` : '');
    const more = known.watched - known.resources.length;
    put(find('resources-more'), known.watched === 0 ? 'Nothing is watched: nobody waits for anything.' : more > 0 ? `and ${count(more)} more` : '');
    const create = (resource) => {
      const row = rowOf([['', 'path'], ['state'], ['held by'], ['looked at every', 'n'], ['last change'], ['learned'], ['']]);
      row.children[0].append(make('span'), make('small'));
      row.children[1].append(make('span', { class: 'badge' }), make('small'));
      const link = make('a', { href: `/api/why?url=${encodeURIComponent(resource.url)}` }, 'why', make('span', { class: 'hidden' }, ` ${resource.url} is as it is`));
      link.onclick = (event) => {
        event.preventDefault();
        why(resource.url);
      };
      row.children[6].append(link);
      return row;
    };
    each(find('resources'), shown, (resource) => resource.resource, create, (row, resource) => {
      const [url, state, held, every, change, polls] = row.children;
      put(url.firstChild, resource.url);
      const remarks = [resource.route && resource.route !== resource.url && `route ${resource.route}`, resource.advice && 'there is advice: see why', resource.noise && `${count(resource.noise)} ${resource.noise === 1 ? 'part changes' : 'parts change'} by ${resource.noise === 1 ? 'itself' : 'themselves'}: see why`];
      put(url.lastChild, remarks.filter(Boolean).join(' · '));
      state.firstChild.className = `badge ${resource.state}`;
      put(state.firstChild, resource.state);
      put(state.lastChild, resource.state === 'stale' ? `for ${age(resource.stale_since)}: ${resource.because ?? ''}` : '');
      const by = Object.entries(resource.subscribers).map(([name, clients]) => `${count(clients)} ${name}`);
      put(held, by.join(', ') || 'nobody now');
      put(every, duration(resource.interval_ms));
      put(change, ago(resource.last_change));
      put(polls, learned(resource.polls));
    });
  }

  function learned({ clients, overlapping, held_at_most_ms: most }) {
    if (!clients) return '–';
    const words = [`${count(clients)} polling`];
    if (most !== null) words.push(`held for ${duration(most)} at most`);
    if (overlapping) words.push(`${count(overlapping)} not held: they do not wait for answers`);
    return words.join(', ');
  }

  const WHAT = { first: 'first look', changed: 'changed', stale: 'stale', live: 'live again', ended: 'ended' };

  function happenings() {
    const fresh = told > 0;
    find('changes-none').hidden = known.happenings.length > 0;
    each(find('changes'), known.happenings, (one) => `${known.started} ${one.number}`, (one) => {
      const facts = [one.trigger, duration(one.took_ms)];
      if (one.bytes !== null) facts.push(bytes(one.bytes));
      return make('li', fresh && one.number > told ? { class: 'new' } : {},
        make('time', { datetime: one.at }, clock(one.at)),
        make('span', { class: `badge ${one.what}` }, WHAT[one.what] ?? one.what),
        make('span', { class: 'path' }, one.url),
        make('span', { class: 'facts' }, facts.join(' · ')),
        make('span', { class: 'because' }, one.because));
    }, () => {});
    told = Math.max(told, ...known.happenings.map((one) => one.number));
  }

  // The observation report in observe mode, where nothing is pushed. It is requested when there is more traffic, once a
  // second at most.

  let asked = -1;
  let asking = false;

  async function observed() {
    find('observed').hidden = !known.observed;
    if (!known.observed || asking || asked === known.observed.requests) return;
    asking = true;
    asked = known.observed.requests;
    try {
      const response = await fetch('/api/observed', { headers: headers({}) });
      if (response.ok) showObserved(await response.json());
    } catch {
      // The connection pill shows the failure.
    }
    setTimeout(() => {
      asking = false;
      observed();
    }, 1000);
  }

  function showObserved({ totals, polls, configuration }) {
    const { polls_per_day: requests, bytes_per_day: sent } = totals;
    put(find('observed-summary'), polls.length === 0
      ? 'All passes as it is. Nothing is polled so far: a poll is known by its fourth request.'
      : `All passes as it is. ${count(totals.polls)} of ${count(totals.requests)} requests are polls. In a day ${short.format(requests.today)} reach the application, ` +
        `with push about ${short.format(requests.then)}; clients are sent ${bytes(sent.today)}, with push about ${bytes(sent.then)}.`);
    const numbers = ['clients', 'every', 'same answers', 'late today', 'with push', 'requests a day', 'with push'];
    const create = () => {
      const row = rowOf([['', 'path'], ...numbers.map((name) => [name, 'n'])]);
      row.children[0].append(make('span'), make('small'));
      return row;
    };
    each(find('observed-polls'), polls, ({ method, path }) => `${method} ${path}`, create, (row, poll) => {
      put(row.children[0].firstChild, `${poll.method} ${poll.path}`);
      const parts = poll.volatile.map(({ place, looks_like: kind }) => `${place} ${kind === 'unknown' ? 'changes often' : `is a ${kind}`}`);
      const identities = poll.identities > 1 ? [`${count(poll.identities)} identities`] : [];
      put(row.children[0].lastChild, [...poll.why, ...parts, ...identities].join(' · '));
      [
        count(poll.clients),
        duration(poll.interval * 1000),
        poll.same === null ? '–' : `${Math.round(poll.same * 100)} %`,
        duration(poll.late.today * 1000),
        duration(poll.late.then * 1000),
        short.format(poll.requests_per_day.today),
        short.format(poll.requests_per_day.then),
      ].forEach((text, at) => put(row.children[at + 1], text));
    });
    put(find('observed-configuration'), configuration);
  }

  // The recent history of a resource: its last fetches.

  async function why(url) {
    const body = find('why-body');
    put(find('why-title'), `Why ${url} is as it is`);
    body.replaceChildren(make('p', { class: 'quiet' }, 'Asking …'));
    find('why').showModal();
    const response = await fetch(`/api/why?url=${encodeURIComponent(url)}`, { headers: headers({}) });
    if (!response.ok) return body.replaceChildren(make('p', {}, await response.text()));
    const { resources } = await response.json();
    body.replaceChildren(...resources.flatMap(({ resource, advice, noise, looks }) => {
      const head = ['When', 'Because of', 'Result', 'Status', 'Body', 'Took', 'Why'];
      const rows = looks.map((look) => make('tr', {},
        make('td', {}, clock(look.at)),
        make('td', {}, look.trigger),
        make('td', {}, make('span', { class: `badge ${look.result}` }, look.result.replace('_', ' '))),
        make('td', {}, String(look.status ?? '–')),
        make('td', {}, look.bytes === null ? '–' : bytes(look.bytes)),
        make('td', {}, duration(look.took_ms)),
        make('td', {}, look.because)));
      return [
        make('h3', {}, resource),
        ...(advice ? [make('p', { class: 'advice' }, advice)] : []),
        ...(noise.length ? [make('p', {}, 'Changes by itself, and hurries nobody:'), make('ul', {}, ...noise.map(({ rule, because }) => make('li', {}, make('code', {}, rule), ` (${because})`)))] : []),
        make('table', {}, make('thead', {}, make('tr', {}, ...head.map((text) => make('th', { scope: 'col' }, text)))), make('tbody', {}, ...rows)),
      ];
    }));
  }

  // Buttons.

  const pressed = (button, on) => button.setAttribute('aria-pressed', String(on));

  find('pause').onclick = (event) => {
    paused = !paused;
    pressed(event.currentTarget, paused);
    if (known) paused ? connection('paused', 'paused') : show();
  };
  find('announce').onclick = (event) => {
    const on = find('log').getAttribute('aria-live') === 'off';
    find('log').setAttribute('aria-live', on ? 'polite' : 'off');
    pressed(event.currentTarget, on);
  };
  find('filter').oninput = () => known && resources();

  setInterval(sample, 1000);
  follow();
})();
