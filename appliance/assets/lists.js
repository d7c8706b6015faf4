// Lists: what is looked for in them, and what of them is chosen.
'use strict';

// The list follows what is typed: its address says what is looked for, and the page is live for that.
let typing = 0;

document.addEventListener('input', event => {
  const form = event.target.closest('form[data-search]');
  if (!form) return;
  clearTimeout(typing);
  typing = setTimeout(() => search(form), 120);
});

function search(form) {
  const asked = [...new FormData(form)].filter(([, value]) => value.trim());
  const query = asked.map(([name, value]) => `${name}=${encodeURIComponent(value.trim())}`).join('&');
  const address = form.getAttribute('action') + (query ? `?${query}` : '');
  if (address === document.body.dataset.live) return;
  document.body.dataset.live = address;
  history.replaceState(null, '', address);
  for (const box of boxes()) box.checked = false;
  connect();
}

const boxes = () => [...document.querySelectorAll('[data-pick]:not([data-pick=page])')];
const chosen = () => boxes().filter(box => box.checked).map(box => box.dataset.pick);

// Once all that match are chosen, also those on other pages, they are so until another choice is made.
let whole = false;

document.addEventListener('change', event => {
  if (!event.target.matches('[data-pick]')) return;
  whole = false;
  if (event.target.dataset.pick === 'page') {
    for (const box of boxes()) box.checked = event.target.checked;
  }
  picked(event.target.closest('.panel'));
});

// Says how many are chosen, and offers what can be done with them.
function picked(panel) {
  const table = panel?.querySelector('table[data-total]');
  const bar = panel?.querySelector('.many');
  if (!table || !bar) return;
  const total = Number(table.dataset.total);
  const here = chosen().length;
  const count = whole ? total : here;
  panel.classList.toggle('picking', count > 0);
  const text = count ? `${count.toLocaleString('en')} chosen` : '';
  const said = bar.querySelector('[role=status]');
  if (said.textContent !== text) said.textContent = text;
  bar.querySelector('[data-do=all]').hidden = whole || here >= total;
  bar.querySelector('[data-do=all]').textContent = `Choose all ${total.toLocaleString('en')} that match`;
  const all = table.querySelector('[data-pick=page]');
  all.checked = boxes().length > 0 && here === boxes().length;
  all.indeterminate = here > 0 && !all.checked;
}
