// The console of a machine: xterm.js or noVNC on a WebSocket.

const { socket: address, kind, nonce } = document.body.dataset;
const screen = document.getElementById('screen');
const again = document.getElementById('again');

function say(tone, text) {
  const link = document.getElementById('link');
  link.dataset.tone = tone;
  link.querySelector('b').textContent = text;
}

// xterm.js writes style sheets and style attributes of its own, which the page's policy forbids: its sheets get the
// page's nonce, and its attributes are set as properties, which are allowed.
const create = document.createElement.bind(document);
document.createElement = (name, options) => {
  const element = create(name, options);
  if (String(name).toLowerCase() === 'style') element.nonce = nonce;
  return element;
};
const setAttribute = Element.prototype.setAttribute;
Element.prototype.setAttribute = function (name, value) {
  if (name === 'style' && this.style) this.style.cssText = value;
  else setAttribute.call(this, name, value);
};

// Every other key goes to the machine, Tab among them; without this one nobody gets out by keyboard.
function leaves(event) {
  if (!event.ctrlKey || event.key !== 'F6') return false;
  document.getElementById('back').focus();
  return true;
}

// What noVNC takes for a WebSocket: it begins to listen a moment after the machine has begun to speak.
class Channel {
  constructor(socket) {
    this.socket = socket;
    this.early = [];
    this.listener = null;
    this.binaryType = 'arraybuffer';
    this.protocol = '';
    this.onopen = null;
    this.onerror = null;
    this.onclose = null;
  }
  get readyState() { return this.socket.readyState; }
  get onmessage() { return this.listener; }
  set onmessage(listener) {
    this.listener = listener;
    for (const event of this.early.splice(0)) listener(event);
  }
  send(data) { this.socket.send(data); }
  close() { this.socket.close(); }
  hear(event) {
    if (this.listener) this.listener(event);
    else this.early.push(event);
  }
}

async function terminal() {
  const [{ Terminal }, { FitAddon }] = await Promise.all([
    import('/libraries/@xterm/xterm/lib/xterm.mjs'),
    import('/libraries/@xterm/addon-fit/lib/addon-fit.mjs'),
  ]);
  const term = new Terminal({
    cursorBlink: true, scrollback: 5000, fontSize: 14, disableStdin: kind === 'installer',
  });
  const fit = new FitAddon();
  term.loadAddon(fit);
  term.open(screen);
  fit.fit();
  addEventListener('resize', () => fit.fit());
  term.attachCustomKeyEventHandler((event) => !leaves(event));
  const reader = document.getElementById('reader');
  reader.addEventListener('click', () => {
    term.options.screenReaderMode = !term.options.screenReaderMode;
    reader.setAttribute('aria-pressed', String(term.options.screenReaderMode));
    term.focus();
  });
  let socket = null;
  const send = (data) => { if (socket?.readyState === WebSocket.OPEN) socket.send(data); };
  const encoder = new TextEncoder();
  term.onData((text) => {
    // One message has room for 64 KiB; what is pasted may be longer.
    const bytes = encoder.encode(text);
    for (let at = 0; at < bytes.length; at += 16384) send(bytes.subarray(at, at + 16384));
  });
  term.onBinary((text) => send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
  return {
    open(opened) { socket = opened; term.reset(); term.focus(); },
    hear(event) { term.write(new Uint8Array(event.data)); },
    end() {},
  };
}

async function display() {
  const { default: RFB } = await import('/libraries/@novnc/novnc/core/rfb.js');
  let rfb = null;
  let channel = null;
  document.getElementById('keys').addEventListener('click', () => { rfb?.sendCtrlAltDel(); rfb?.focus(); });
  addEventListener('keydown', (event) => { if (leaves(event)) event.stopPropagation(); }, { capture: true });
  return {
    open(socket) {
      channel = new Channel(socket);
      screen.replaceChildren();
      rfb = new RFB(screen, channel, { shared: true });
      rfb.scaleViewport = true;
      rfb.addEventListener('connect', () => { screen.dataset.shown = 'true'; rfb.focus(); });
    },
    hear(event) { channel?.hear(event); },
    end(event) { channel?.onclose?.(event); channel = null; },
  };
}

function connect(view) {
  again.hidden = true;
  say('busy', 'connecting');
  let why = '';
  const socket = new WebSocket(new URL(address, location.href));
  socket.binaryType = 'arraybuffer';
  socket.addEventListener('message', (event) => {
    if (typeof event.data !== 'string') return view.hear(event);
    if (event.data.startsWith('end ')) why = event.data.slice(4);
    if (event.data !== 'open') return undefined;
    say('good', 'live');
    return view.open(socket);
  });
  socket.addEventListener('close', (event) => {
    view.end(event);
    say(event.code === 1000 ? 'idle' : 'bad', why || event.reason || 'the connection broke');
    again.hidden = false;
  });
}

try {
  const view = await (kind === 'graphic' ? display() : terminal());
  again.addEventListener('click', () => connect(view));
  connect(view);
} catch (error) {
  say('bad', `it cannot be shown: ${error.message}`);
}
