// Keeps a page live. Sections come rendered from the appliance and are laid over the old ones node by node, so that
// focus, scroll position and open timelines stay where they are. Shares its names with lists.js and page.js.
'use strict';

document.documentElement.classList.add('js');

const $ = selector => document.querySelector(selector);
const skew = Date.now() - Number(document.body.dataset.now);

// ---- live ----

let stream;

function connect() {
  stream?.close();
  const sections = [...document.querySelectorAll('[data-sum]')];
  const have = sections.map(({ id, dataset }) => `${id}:${dataset.sum}`).join();
  stream = new EventSource(`/live?of=${encodeURIComponent(document.body.dataset.live)}&have=${have}`);
  stream.onopen = () => link('good', 'live');
  stream.onerror = () => {
    link('bad', 'reconnecting');
    // A browser gives up for good when the answer is not a stream: the session is over, or the appliance restarts.
    if (stream.readyState === EventSource.CLOSED) setTimeout(again, 2000);
  };
  for (const { id } of sections) {
    stream.addEventListener(id, event => lay(id, event.data, event.lastEventId));
  }
  stream.addEventListener('tick', () => refreshTimelines());
  stream.addEventListener('over', () => location.replace('/login'));
}

async function again() {
  try {
    const answer = await fetch('/api/v1/policy');
    if (answer.status === 401) return location.replace('/login');
    if (answer.ok) return connect();
  } catch { /* not back yet */ }
  setTimeout(again, 2000);
}

function link(tone, word) {
  $('#link').dataset.tone = tone;
  $('#link b').textContent = word;
}

function lay(name, html, sum) {
  const old = document.getElementById(name);
  if (!old) return; // another page's
  const past = old.querySelector('.past');
  const atEnd = past && past.scrollTop + past.clientHeight >= past.scrollHeight - 8;
  const fresh = old.cloneNode(false);
  fresh.innerHTML = html;
  fresh.dataset.sum = sum;
  merge(old, fresh);
  written(old);
  age();
  picked(old);
  if (atEnd) past.scrollTop = past.scrollHeight;
}

// Makes `old` like `fresh` without replacing what is the same. Elements with an id are found again by it; a button
// never becomes another one under somebody's finger.
function merge(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== 'open') old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (['data-keep', 'data-since', 'data-at'].some(name => old.hasAttribute(name))) return;
  let next = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    let match = null;
    if (child.id) match = [...old.children].find(node => node.id === child.id) || null;
    else if (next && !next.id && next.nodeName === child.nodeName && next.dataset?.do === child.dataset?.do) match = next;
    if (!match) {
      old.insertBefore(child, next);
      continue;
    }
    if (match === next) next = next.nextSibling;
    else old.insertBefore(match, next);
    if (match.nodeType === Node.ELEMENT_NODE) merge(match, child);
    else if (match.nodeValue !== child.nodeValue) match.nodeValue = child.nodeValue;
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
  if (old.nodeName === 'SELECT' && document.activeElement !== old) old.value = old.dataset.now;
}

// ---- times ----

function age() {
  const now = Date.now() - skew;
  for (const day of document.querySelectorAll('time[data-day]:empty')) {
    day.textContent = new Date(Number(day.dataset.day) + skew).toLocaleDateString();
  }
  for (const time of document.querySelectorAll('time[data-since]')) {
    const since = Number(time.dataset.since);
    const text = span((now - since) / 1000);
    if (time.textContent !== text) time.textContent = text;
    if (!time.title) time.title = 'since ' + new Date(since + skew).toLocaleString();
  }
}

function span(secs) {
  if (secs < 1) return 'now';
  if (secs < 60) return `${Math.floor(secs)} s`;
  if (secs < 3600) return `${Math.floor(secs / 60)} min`;
  if (secs < 86400) return `${Math.floor(secs / 3600)} h ${Math.floor(secs / 60) % 60} min`;
  return `${Math.floor(secs / 86400)} d ${Math.floor(secs / 3600) % 24} h`;
}

setInterval(age, 1000);

// Moments of the log, in the time of this place; and in a timeline what each line took.
function written(place) {
  let before = 0;
  for (const time of place.querySelectorAll('time[data-at]')) {
    const at = Number(time.dataset.at);
    const date = new Date(at + skew);
    const today = date.toDateString() === new Date().toDateString();
    const text = (today ? '' : date.toLocaleDateString() + ' ') + date.toLocaleTimeString();
    if (time.textContent !== text) time.textContent = text;
    time.dateTime = new Date(at).toISOString();
    // What took its time is worth seeing; what came at once is not.
    const spent = (at - before) / 1000;
    const next = time.nextElementSibling;
    if (next?.classList.contains('spent')) next.textContent = before && spent >= 2 ? `+${span(spent)}` : '';
    before = at;
  }
}

// ---- timelines ----

document.addEventListener('toggle', event => {
  if (event.target.matches('details[data-timeline]') && event.target.open) fill(event.target);
}, true);

let refreshing = 0;

function refreshTimelines() {
  clearTimeout(refreshing);
  refreshing = setTimeout(() => {
    for (const details of document.querySelectorAll('details[data-timeline][open]')) fill(details);
  }, 300);
}

async function fill(details) {
  const place = details.querySelector('[data-keep]');
  let answer;
  try {
    answer = await fetch(`/timeline/${encodeURIComponent(details.dataset.timeline)}`);
  } catch {
    return; // The next tick asks again.
  }
  if (!answer.ok) return;
  const html = await answer.text();
  if (place.source === html) return;
  const list = () => place.querySelector('ol');
  const end = !list() || list().scrollTop + list().clientHeight >= list().scrollHeight - 8;
  const at = list() ? list().scrollTop : 0;
  place.source = html;
  place.innerHTML = html;
  written(place);
  if (list()) list().scrollTop = end ? list().scrollHeight : at;
}
