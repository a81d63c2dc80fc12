// The form adds filters, the bridge sends what matches them. Everything that comes from outside is put
// into the page as text, never as HTML.
'use strict';

const ROWS = 100;               // newest matches shown
const byId = (id) => document.getElementById(id);
const filters = new Map();      // ref -> {request, id, count, item}
let socket, nextRef = 1;

function connect() {
  socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`);
  socket.onopen = () => {
    byId('state').textContent = 'connected';
    // after a lost connection the bridge knows nothing of this page: ask again
    for (const filter of filters.values()) send(filter.request);
  };
  socket.onclose = () => {
    byId('state').textContent = 'connecting ...';
    for (const filter of filters.values()) filter.id = null;
    setTimeout(connect, 1000);
  };
  socket.onmessage = (event) => receive(JSON.parse(event.data));
}

function send(message) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function element(name, text) {
  const result = document.createElement(name);
  result.textContent = text;
  return result;
}

function receive(message) {
  const filter = message.ref === undefined
    ? [...filters.values()].find((f) => f.id === message.id)
    : filters.get(message.ref);

  if (message.op === 'added' && filter) {
    filter.id = message.id;
    show(filter);
  } else if (message.op === 'refused') {
    byId('error').textContent = message.message;
    if (filter && !filter.id) forget(filter);
  } else if (message.op === 'match' && filter) {
    filter.count++;
    show(filter);
    showMatch(filter, message.event);
  } else if (message.op === 'expired' && filter) {
    filter.id = null;
    send(filter.request);
  } else if (message.op === 'missed') {
    byId('error').textContent = `${message.count} matches were too many to show.`;
  }
}

function words({ event_type, match, condition }) {
  return [event_type, ...Object.entries(match).map(([k, v]) => `${k} is ${JSON.stringify(v)}`), ...(condition ? [condition] : [])].join(', ');
}

function show(filter) {
  if (!filter.item) {
    const button = element('button', 'Remove');
    button.type = 'button';
    button.onclick = () => {
      if (filter.id) send({ op: 'remove', id: filter.id });
      forget(filter);
    };
    filter.item = document.createElement('li');
    filter.item.append(element('span', ''), button);
    byId('filters').append(filter.item);
  }
  filter.item.firstChild.textContent = `${words(filter.request)}: ${filter.count}`;
}

function forget(filter) {
  filters.delete(filter.request.ref);
  if (filter.item) filter.item.remove();
}

function showMatch(filter, event) {
  const row = document.createElement('tr');
  const cells = event
    ? [new Date(event.at).toLocaleTimeString(), words(filter.request), event.event_type, JSON.stringify(event.properties)]
    : ['', words(filter.request), '', '(an event too long to show)'];
  row.append(...cells.map((text) => element('td', text)));
  byId('matches').prepend(row);
  while (byId('matches').rows.length > ROWS) byId('matches').lastChild.remove();
}

// 100 and true are what they look like, "100" and Izmir are texts.
function valueOf(text) {
  try {
    const value = JSON.parse(text);
    if (value === null || typeof value !== 'object') return value;
  } catch { /* a text */ }
  return text;
}

byId('add').onsubmit = (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const property = form.get('property').trim();
  const request = {
    op: 'add', ref: nextRef++, event_type: form.get('event_type'),
    match: property ? { [property]: valueOf(form.get('value')) } : {},
    condition: form.get('condition').trim() || null,
  };
  byId('error').textContent = '';
  filters.set(request.ref, { request, id: null, count: 0, item: null });
  send(request);
};

connect();
