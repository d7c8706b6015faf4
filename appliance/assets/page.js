// Sends the commands of a page: what is asked before, what would come of it, forms. Comes last, and starts the page.
'use strict';

// What is only asked for: the answer tells what would be done, and nothing is.
const plan = { 'Elisandra-Plan': '1' };

async function send(method, path, body, headers = {}) {
  const answer = await fetch(`/api/v1${path}`, {
    method,
    headers: body === undefined ? headers : { 'Content-Type': 'application/json', ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return read(answer.status, await answer.text());
}

function read(status, text) {
  let answer = {};
  try { answer = JSON.parse(text); } catch { /* not from the appliance */ }
  if (status === 401) { location.replace('/login'); throw new Error('log in first'); }
  if (status >= 400 || status === 0) throw new Error(answer.detail || `the appliance answered ${status}`);
  return answer;
}

let saying = 0;

function say(text, tone = 'good') {
  const said = $('#said');
  said.textContent = text;
  said.dataset.tone = tone;
  said.hidden = false;
  clearTimeout(saying);
  saying = setTimeout(() => { said.hidden = true; }, tone === 'bad' ? 12000 : 5000);
}

// Asks a person, and on yes sends `order`. Once it was shown what would come of it, exactly that is done; `atOnce`
// shows it without being asked to.
async function ask(title, text, yes, danger, order, atOnce = false) {
  const forecast = $('#ask .forecast');
  let shown;
  forecast.hidden = true;
  $('#ask-no').hidden = false;
  $('#ask-what-if').hidden = false;
  $('#ask-what-if').onclick = async () => { shown = await show(forecast, order); };
  if (atOnce) show(forecast, order).then(planned => { shown = planned; });
  if (!await answered(title, text, yes, danger)) return;
  return shown ? apply(shown) : order();
}

function answered(title, text, yes, danger) {
  const dialog = $('#ask');
  $('#ask-title').textContent = title;
  $('#ask-text').textContent = text;
  $('#ask-yes').textContent = yes;
  $('#ask-yes').classList.toggle('danger', danger);
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise(done => {
    dialog.addEventListener('close', () => done(dialog.returnValue === 'yes'), { once: true });
  });
}

// Nothing is asked: what a person must know now.
async function tell(title, text, lines) {
  $('#ask-no').hidden = true;
  $('#ask-what-if').hidden = true;
  list($('#ask .forecast'), lines);
  await answered(title, text, 'All right', false);
}

// The disks of the machine on this page, to be chosen from.
function diskBoxes(name, chosen) {
  return [...document.querySelectorAll('[data-disk]')].map(({ dataset, innerText }) => {
    const label = document.createElement('label');
    const box = Object.assign(document.createElement('input'), { type: 'checkbox', name, value: dataset.disk, checked: chosen(dataset) });
    label.className = 'check';
    label.append(box, ` ${innerText.replace(/\s+/g, ' ')}`);
    return label;
  });
}

function list(place, lines, className = '') {
  place.hidden = false;
  place.className = `forecast ${className}`;
  place.replaceChildren(...lines.map(line => {
    const item = document.createElement('li');
    item.textContent = line;
    return item;
  }));
}

// As the appliance says them when it compares.
const sentences = ({ steps }) => steps.flatMap(step => step.effects).map(({ name, sentence }) => `${name}: ${sentence}`);

// Shows what would come of an order. Returns that; nothing if it would be refused.
async function show(place, order) {
  list(place, ['asking the appliance'], 'lead');
  try {
    const planned = await order(plan);
    if (!planned.steps) return void (place.hidden = true); // the dialog was closed meanwhile
    const effects = planned.steps.flatMap(step => step.effects);
    // Of thousands nobody reads all.
    const most = 100;
    const more = effects.length - most;
    effects.length = Math.min(effects.length, most);
    const lines = [
      ...effects.map(({ name, sentence }) => sentence.includes(name) ? sentence : `${name}: ${sentence}`),
      ...(more > 0 ? [`and ${more.toLocaleString('en')} more like these`] : []),
      ...planned.placements.slice(0, most).map(({ vm, host, address }) => `${vm} would be on ${host}${address ? `, at ${address}` : ''}`),
      ...planned.waiting.slice(0, most).map(({ name, what }) => `${name} would wait: ${what}`),
    ];
    list(place, lines.length ? ['Nothing is changed yet. This would happen:', ...lines] : ['Nothing would have to be changed.'], 'lead');
    place.scrollIntoView({ block: 'nearest' });
    return planned;
  } catch (error) {
    list(place, [`It would be refused: ${error.message}`], 'refused');
  }
}

function apply(planned) {
  const commands = planned.steps.map(step => step.command);
  return send('POST', '/apply', { commands, digest: planned.digest, sentences: sentences(planned) });
}

const commands = {
  async adopt({ id, name, serial, disk, size, question }) {
    const order = headers => send('POST', `/machines/${id}/adopt`, { wipe: serial ? [serial] : [] }, headers);
    if (!serial) return order();
    const title = question.charAt(0).toUpperCase() + question.slice(1);
    const text = `${name} will be installed on ${disk} (${size}, serial ${serial}). What is on it cannot be brought back.`;
    return ask(title, text, 'Wipe and adopt', true, order);
  },
  async cancel({ what, id, name, phase }) {
    const order = headers => send('POST', `/${what}/${id}/cancel`, undefined, headers);
    if (phase === 'being removed') {
      return ask(`Keep ${name}?`, 'It is not removed any further. What is deleted already is made anew, empty.', 'Keep it', false, order);
    }
    const text = {
      machines: 'What goes on with it is stopped. It is left alone until you adopt it again.',
      vms: 'It is not made any further, and is removed with what there is of it.',
      services: 'It is not installed any further, and is removed with its VM.',
    }[what];
    return ask(`Cancel ${name}?`, text, 'Cancel it', true, order);
  },
  async drain({ id, name }) {
    const text = 'No new VM is placed on it from now on. Those that are on it stay and go on; remove them when you like. This can be undone.';
    return ask(`Drain ${name}?`, text, 'Drain it', false, headers => send('POST', `/hosts/${id}/drain`, undefined, headers));
  },
  act({ path, body, label, name, text, danger }) {
    const order = headers => send('POST', path, JSON.parse(body), headers);
    return ask(`${label}: ${name}?`, text, label, danger !== undefined, order, true);
  },
  async reimage({ id, name }, button) {
    commands.open({ dialog: 'reimage' }, button);
    const form = $('#reimage form');
    form.dataset.id = id;
    $('#reimage-title').textContent = `Reimage ${name}`;
    $('#reimage-disks').replaceChildren(...diskBoxes('wipe', () => false));
    const choice = form.elements.profile;
    for (const { name: profile, kind } of await send('GET', '/profiles')) {
      if (kind !== 'elisandra' && ![...choice.options].some(({ value }) => value === profile)) choice.add(new Option(profile, profile));
    }
  },
  erase({ id, name }, button) {
    commands.open({ dialog: 'erase' }, button);
    const form = $('#erase form');
    form.dataset.id = id;
    $('#erase-title').textContent = `Erase ${name}`;
    $('#erase-disks').replaceChildren(...diskBoxes('disks', ({ removable }) => removable === undefined));
  },
  bmc({ id, name, address }, button) {
    commands.open({ dialog: 'bmc' }, button);
    const form = $('#bmc form');
    form.dataset.id = id;
    form.elements.address.value = address;
    $('#bmc-title').textContent = `The BMC of ${name}`;
  },
  async findbmc(_, button) {
    const form = button.closest('form');
    const done = await send('POST', `/machines/${form.dataset.id}/bmc/find`, { address: form.elements.address.value || null });
    button.closest('dialog').close();
    return done;
  },
  strip({ id, name, agent, address, outlets }, button) {
    commands.open({ dialog: 'strip' }, button);
    const form = $('#strip form');
    form.dataset.id = id;
    Object.entries({ agent, address, outlets }).forEach(([field, value]) => { form.elements[field].value = value; });
    $('#strip-title').textContent = `The outlets of ${name}`;
  },
  boot({ id, name, phase, asked }) {
    const dialog = $('#boot-once');
    Object.assign(dialog.dataset, { id, name, phase });
    $('#boot-once-title').textContent = `What does ${name} boot once?`;
    $('#boot-usual').hidden = asked === undefined;
    dialog.showModal();
  },
  async once({ once }) {
    const dialog = $('#boot-once');
    const { id, name, phase } = dialog.dataset;
    dialog.close();
    const order = async headers => {
      const done = await send('POST', `/machines/${id}/boot`, { once: once || null }, headers);
      if (done.changed) done.changed = done.changed.map(text => text.includes(name) ? text : `${name}: ${text}`);
      return done;
    };
    const missed = {
      ready: 'Its VMs and services do not run from its next start until it is restarted once more.',
      adopted: 'It is not installed at its next start, but at the one after that.',
      installing: 'If it is restarted now, its installation breaks off and begins anew at the start after that.',
    }[phase];
    const harmless = !once || (once === 'disk' && phase === 'ready') || !missed;
    if (harmless) return order();
    const what = { rescue: 'the rescue system', memtest: 'the memory test', network: 'over the network', disk: 'its own disk' }[once];
    return ask(`Let ${name} boot ${what} once?`, missed, 'Boot it once', true, order);
  },
  undrain({ id }) { return send('POST', `/hosts/${id}/undrain`); },
  async remove({ what, id, name }) {
    const text = {
      machines: 'It is forgotten and its address becomes free. Its disk stays as it is. When it starts from the network again, it is found again.',
      vms: 'It is stopped, and its disk is deleted with all that is on it.',
      services: 'It stops answering, and its VM is deleted with all that is on it.',
      packages: 'Its bundle is not kept any more. What is installed from it goes on.',
      media: 'Nothing can be installed from it any more. Its files are deleted.',
      racks: 'What stands in it stays known, and stands nowhere.',
      switches: 'What is plugged in stays known. If a machine hears it over LLDP, it appears again.',
      subnets: 'Machines behind its relay are given no address any more.',
      reservations: 'A machine that has the address keeps it; others may be given it once it is free.',
      leases: 'The address may be given to machines again.',
      'bmc/logins': 'It is tried nowhere any more. Machines whose BMC took it keep it.',
      users: 'Whoever is logged in by this name is out at once, and so are the tokens made by it.',
    }[what];
    const path = `/${what}/${encodeURIComponent(id)}`;
    try {
      return await ask(`Remove ${name}?`, text, 'Remove', true, headers => send('DELETE', path, undefined, headers));
    } catch (error) {
      // The refusal names what is in the way, and whether force helps.
      if (!/by force/.test(error.message)) throw error;
      return force({ what, id, name }, `This is in the way: ${error.message}.`);
    }
  },
  force(thing) {
    const text = {
      vms: 'It is forgotten now, without waiting for its host to say that it is gone. Do this if the host does not come back.',
      services: 'It is forgotten now, without waiting for its VM to be gone.',
    }[thing.what];
    return force(thing, text);
  },
  async end({ id }, button) {
    const done = await send('DELETE', `/sessions/${id}`);
    button.closest('article').remove();
    return done;
  },
  async many({ order: what, word }) {
    const bar = document.querySelector('.many');
    const ids = chosen();
    const body = { do: what, ...(whole ? { of: document.body.dataset.live } : { ids }) };
    const count = whole ? Number(document.querySelector('table[data-total]').dataset.total) : ids.length;
    const text = {
      remove: 'What is on them is treated as it is when one is removed. Those that cannot be removed now are left as they are.',
      adopt: 'Those whose disks hold data are left as they are.',
      drain: 'No new VM is placed on them from now on. Those that are on them stay and go on.',
    }[what] || 'Those with which this cannot be done are left as they are.';
    const order = headers => send('POST', '/many', body, headers);
    const done = await ask(`${word} ${count.toLocaleString('en')}?`, text, word.split(' ')[0], what === 'remove' || what === 'cancel', order);
    if (done) commands.none({}, bar.querySelector('button'));
    return done;
  },
  all(_, button) {
    whole = true;
    for (const box of boxes()) box.checked = true;
    picked(button.closest('.panel'));
  },
  none(_, button) {
    whole = false;
    for (const box of boxes()) box.checked = false;
    picked(button.closest('.panel'));
  },
  // What else the button says of the thing stands in the fields of that name.
  open({ dialog, for: name, ...known }) {
    const it = document.getElementById(dialog);
    const form = it.querySelector('form');
    form.reset();
    for (const part of form.querySelectorAll('.wrong, .progress, .forecast')) part.hidden = true;
    for (const button of form.querySelectorAll('button')) button.disabled = false;
    form.shown = undefined;
    if (name) form.elements.name.value = name;
    for (const [field, value] of Object.entries(known)) if (form.elements[field]) form.elements[field].value = value;
    it.showModal();
  },
  async whatif(_, button) {
    const form = button.closest('form');
    if (!form.reportValidity()) return;
    form.shown = await show(form.querySelector('.forecast'), headers => forms[form.dataset.form](form, headers));
    for (const line of form.querySelectorAll('.progress')) line.hidden = true;
  },
  close(_, button) { button.closest('dialog').close(); },
  async logout() {
    await send('POST', '/logout');
    location.replace('/login');
  },
};

function force({ what, id, name }, text) {
  const order = headers => send('DELETE', `/${what}/${encodeURIComponent(id)}?force=true`, undefined, headers);
  return ask(`Remove ${name} by force?`, `${text} What is left over is listed afterwards.`, 'Remove by force', true, order);
}

document.addEventListener('click', async event => {
  const button = event.target.closest('button[data-do]');
  if (!button) return;
  button.disabled = true;
  const { name } = button.dataset;
  try {
    const done = await commands[button.dataset.do](button.dataset, button);
    if (done && done.changed && !done.leftovers) {
      const text = done.changed.join('. ') || 'Nothing had to be changed';
      say(!name || text.includes(name) ? text : `${name}: ${text}`);
    }
    if (done && done.leftovers) await tell('Left over', 'It is done. Nobody looks after this any more:', done.leftovers);
  } catch (error) {
    say(error.message, 'bad');
  }
  button.disabled = false;
  // A button that is disabled does not get the focus back when its dialog closes.
  if (!$('dialog[open]')) button.focus({ preventScroll: true });
});

// What was shown is of other words than those that stand there now.
document.addEventListener('input', event => {
  const form = event.target.closest('form[data-form]');
  if (!form) return;
  form.shown = undefined;
  form.querySelector('.forecast').hidden = true;
});

document.addEventListener('change', async event => {
  if (!event.target.matches('select[data-do=policy]')) return;
  try {
    const policy = await send('GET', '/policy');
    const { value, dataset: { field } } = event.target;
    const done = await send('PUT', '/policy', { ...policy, ...(field ? { [field]: value === 'yes' } : { adopt: value }) });
    say(done.changed.join('. '));
  } catch (error) {
    say(error.message, 'bad');
  }
});

// Of a tenant: what is left empty has none.
function limits(form) {
  const said = ['vms', 'vcpus', 'memory_mib', 'disk_gib'].filter(name => form.elements[name].value !== '');
  return Object.fromEntries(said.map(name => [name, Number(form.elements[name].value)]));
}

const forms = {
  async vm(form, headers) {
    const body = { name: form.elements.name.value };
    for (const name of ['memory_mib', 'vcpus', 'disk_gib']) body[name] = Number(form.elements[name].value);
    if (form.elements.tenant?.value) body.tenant = form.elements.tenant.value;
    return send('POST', '/vms', body, headers);
  },
  async user(form) {
    const { name, role, tenant, password } = form.elements;
    await send('POST', '/users', { name: name.value, role: role.value, ...(tenant?.value && { tenant: tenant.value }) });
    await send('PUT', `/users/${encodeURIComponent(name.value)}/password`, { password: password.value });
    return { changed: [`${name.value} can log in now`] };
  },
  reimage(form, headers) {
    const wipe = [...form.querySelectorAll('[name=wipe]:checked')].map(({ value }) => value);
    const { profile, force } = form.elements;
    return send('POST', `/machines/${form.dataset.id}/reimage`, { wipe, profile: profile.value || null, force: force.checked }, headers);
  },
  erase(form, headers) {
    const disks = [...form.querySelectorAll('[name=disks]:checked')].map(({ value }) => value);
    if (!disks.length) throw new Error('choose at least one disk');
    const { method, retire } = form.elements;
    return send('POST', `/machines/${form.dataset.id}/erase`, { disks, method: method.value, retire: retire.checked }, headers);
  },
  bmc(form, headers) {
    const body = Object.fromEntries(['kind', 'address', 'user', 'password'].map(name => [name, form.elements[name].value]));
    return send('PUT', `/machines/${form.dataset.id}/bmc`, body, headers);
  },
  strip(form, headers) {
    const { agent, address, outlets, user, password } = form.elements;
    const names = outlets.value.split(',').map(name => name.trim()).filter(Boolean);
    const body = { agent: agent.value, address: address.value, outlets: names, user: user.value || null, password: password.value || null };
    return send('PUT', `/machines/${form.dataset.id}/strip`, body, headers);
  },
  role(form, headers) {
    const { name, role } = form.elements;
    return send('PUT', `/users/${encodeURIComponent(name.value)}/role`, { role: role.value }, headers);
  },
  password(form) {
    const { name, password } = form.elements;
    return send('PUT', `/users/${encodeURIComponent(name.value)}/password`, { password: password.value });
  },
  login(form) {
    const { user, password } = form.elements;
    return send('POST', '/bmc/logins', { user: user.value, password: password.value });
  },
  tenant(form, headers) {
    return send('POST', '/tenants', { name: form.elements.name.value, limits: limits(form) }, headers);
  },
  limits(form, headers) {
    return send('PUT', `/tenants/${encodeURIComponent(form.elements.name.value)}`, limits(form), headers);
  },
  package(form, headers = {}) {
    // A tenant installs what is kept.
    if (form.elements.name) return send('POST', '/packages', { package: form.elements.name.value }, headers);
    const tenant = form.elements.tenant?.value;
    const file = form.elements.file.files[0];
    const line = form.querySelector('.progress');
    const request = new XMLHttpRequest();
    line.hidden = false;
    form.closest('dialog').addEventListener('close', () => request.abort(), { once: true });
    return new Promise((done, failed) => {
      // fetch() tells nothing about how much of a body has been sent.
      request.upload.onprogress = ({ loaded, total }) => {
        line.querySelector('progress').value = 100 * loaded / total;
        line.querySelector('span').textContent = loaded < total ? `${Math.floor(100 * loaded / total)} %` : 'checking the bundle';
      };
      request.onload = () => { try { done(read(request.status, request.responseText)); } catch (error) { failed(error); } };
      request.onerror = () => failed(new Error('the upload broke off'));
      request.onabort = () => done({});
      request.open('POST', `/api/v1/packages${tenant ? `?tenant=${encodeURIComponent(tenant)}` : ''}`);
      request.setRequestHeader('Content-Type', 'application/octet-stream');
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      request.send(file);
    });
  },
};

document.addEventListener('submit', async event => {
  const form = event.target;
  if (!form.dataset.form) return;
  event.preventDefault();
  const wrong = form.querySelector('.wrong');
  const button = form.querySelector('button:not([type=button])');
  button.disabled = true;
  wrong.hidden = true;
  try {
    const done = await (form.shown ? apply(form.shown) : forms[form.dataset.form](form));
    form.closest('dialog').close();
    if (done.changed) say(done.changed.join('. '));
  } catch (error) {
    wrong.textContent = error.message;
    wrong.hidden = false;
    for (const part of form.querySelectorAll('.progress, .forecast')) part.hidden = true;
    form.shown = undefined;
  }
  button.disabled = false;
});

written(document.body);
age();
for (const past of document.querySelectorAll('.past')) past.scrollTop = past.scrollHeight;
// On a phone the navigation is wider than the window.
$('#head [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' });
connect();
