// Login and first password: sends the form as JSON and goes to the page, or says what is wrong.
'use strict';

const form = document.querySelector('form[data-post]');
const wrong = form.querySelector('.wrong');
const button = form.querySelector('button');

form.addEventListener('submit', async event => {
  event.preventDefault();
  const body = {};
  for (const input of form.querySelectorAll('input[name]:not([data-skip])')) body[input.name] = input.value;
  button.disabled = true;
  wrong.hidden = true;
  try {
    const answer = await fetch(form.dataset.post, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });
    if (answer.ok) return location.replace('/');
    wrong.textContent = (await answer.json()).detail;
  } catch {
    wrong.textContent = 'The appliance does not answer. Is it still running?';
  }
  wrong.hidden = false;
  button.disabled = false;
  form.querySelector('input:not([type=hidden])').focus();
});
