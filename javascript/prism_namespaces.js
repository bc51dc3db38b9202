// The prompt boxes of the page while the panel "Prism Namespaces" is on: completion, chips, Ctrl+Up and Ctrl+Down.
//
// The tags are found here, with the registry that the server gives; how they are said comes from the server. Where it
// does not answer, there is only what can be done without it.
(() => {
  const shared = (globalThis.prismNamespaces ??= {});
  const ROUTES = "./prism/v1/namespaces";
  const TYPING = 150, COMPLETING = 70, SETTLED = 1000; // milliseconds without a key
  const BEHIND = 1000; // characters before the caret that matter to what is being written
  const STEP = 0.1; // of a weight, where the host does not say
  const SIDES = ["prompt", "negative"];
  const SETTINGS = ["dialect", "strength", "window", "anti", "isolate", "order", "replace", "sets"];
  const PAIRS = [
    ["txt2img", "txt2img_prompt", "txt2img_neg_prompt"],
    ["txt2img", "hires_prompt", "hires_neg_prompt"],
    ["img2img", "img2img_prompt", "img2img_neg_prompt"],
  ];

  const paused = (milliseconds, act) => {
    let timer = 0;
    return () => { clearTimeout(timer); timer = setTimeout(act, milliseconds); };
  };

  // Asks the server. null without an answer, or when something else was asked since: a question is not withdrawn, for
  // hosts report that as an error.
  const asker = () => {
    let last = 0;
    return async (path, body) => {
      const number = (last += 1);
      const post = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
      try {
        const answer = await fetch(`${ROUTES}/${path}`, post);
        const given = answer.ok ? await answer.json() : null;
        return number === last ? given : null;
      } catch {
        return null; // the server is gone
      }
    };
  };

  // --- the panel of a tab: whether it is on, its settings, its registry

  class Panel {
    constructor(tab) {
      this.tab = tab;
      this.registry = null;
      this.ask = asker();
      this.fields = new Map();
    }

    field(name) {
      if (!this.fields.get(name)?.isConnected) {
        this.fields.set(name, document.querySelector(`[id*="${this.tab}"][id$="_prism_namespaces_${name}"]`));
      }
      return this.fields.get(name);
    }

    value(name) {
      const input = this.field(name)?.querySelector("input:checked, input:not([type=radio]), textarea");
      return input?.type === "checkbox" ? input.checked : input?.value;
    }

    owns(element) { return [...this.fields.values()].some((field) => field?.contains(element)); }

    get enabled() { return Boolean(this.value("panel-checkbox") ?? this.value("panel_enabled")); }

    get settings() {
      return Object.fromEntries(SETTINGS.map((name) => [name, this.value(name)]).filter(([, value]) => value !== undefined));
    }

    // What the registry depends on, besides model and the user's files.
    get names() {
      const { dialect = "", sets = "" } = this.settings;
      return { tab: this.tab, dialect, sets };
    }

    async load() {
      const given = await this.ask(`registry?${new URLSearchParams(this.names)}`);
      const known = given && this.registry?.digest === given.digest && this.registry.chosen === given.chosen;
      if (given && !known) this.registry = shared.registryOf(given);
    }
  }

  // --- a prompt box

  const rivalIsOpen = () => // tagcomplete's list
    [...document.querySelectorAll(".autocompleteParent, .autocompleteResults")].some((one) => one.getClientRects().length);

  const write = (box, text, from, to = from) => {
    box.focus();
    box.value = text;
    box.setSelectionRange(from, to);
    updateInput(box);
  };

  // The value that is being written before `at`: its namespace, what stands of it, and where it starts.
  const writing = (text, at, registry) => {
    const from = Math.max(0, at - BEHIND), head = text.slice(from, at);
    for (const rest of ['x"', "x"]) { // any letter, with the end of a quote that is open
      const tag = shared.scan(head + rest, registry).at(-1);
      if (tag?.end !== head.length + rest.length || tag.quoted !== (rest !== "x") || tag.opens) continue;
      const start = tag.start + head.slice(tag.start).match(/^[^:：]*[:：]\s*/)[0].length;
      return { ...tag, typed: tag.value.slice(0, -1), head: head.slice(0, start), start: from + start };
    }
    return null;
  };

  // A value as it must be written there: in quotes only if it would be read differently without them.
  const written = ({ head, inline }, value, registry) => {
    const plain = inline ? value.replaceAll(" ", "_") : value.replaceAll("_", " ");
    const tag = shared.scan(`${head}${plain},`, registry).at(-1);
    const same = tag?.end === head.length + plain.length && tag.value === (inline ? plain.replaceAll("_", " ") : plain);
    return same ? plain : `"${value.replace(/["\\]/g, "\\$&")}"`;
  };

  class Box {
    constructor(id, pair) {
      [this.id, this.pair] = [id, pair];
      this.chips = null;
      this.ask = asker();
      this.complete = paused(COMPLETING, () => this.completeNow());
    }

    get area() { return document.querySelector(`#${this.id} textarea`); }

    get text() { return this.area?.value ?? ""; }

    get tags() {
      const { text, pair: { panel: { registry } } } = this;
      if (this.scanned?.text !== text || this.scanned.registry !== registry) {
        this.scanned = { text, registry, tags: registry ? shared.scan(text, registry) : [] };
      }
      return this.scanned.tags;
    }

    // `answer` is the server's last one: its remarks, and how each tag is said.
    draw(answer, typing) {
      const { area, tags } = this, { enabled, registry } = this.pair.panel;
      const focused = document.activeElement === area, busy = typing || popup.box === area;
      const atCaret = ({ start, end }) => focused && start <= area.selectionStart && area.selectionStart <= end;
      const lints = (answer?.lints ?? []).filter((lint) => !(busy && atCaret(lint))); // half a word is no mistake
      if (!enabled || !registry || !(focused || tags.length || lints.length)) return this.chips?.hide();
      if (!this.chips?.row.isConnected) this.chips = new shared.Chips(document.getElementById(this.id), this);
      const color = (namespace) => registry.namespaces[namespace].color;
      const said = tags.map((tag) => ({ ...tag, color: color(tag.namespace), said: answer?.said.get(keyOf(tag)) }));
      return this.chips.draw(said, lints);
    }

    select({ start, end }) {
      this.area.focus();
      this.area.setSelectionRange(start, end);
    }

    // Writes a lint's correction, if the text that it speaks of still stands there.
    correct({ start, end, source, fix }) {
      const { text } = this;
      if (text.slice(start, end) === source) write(this.area, text.slice(0, start) + fix + text.slice(end), start + fix.length);
    }

    async completeNow() {
      const { area, pair: { panel } } = this;
      const { value, selectionStart: at, selectionEnd: end } = area;
      const now = panel.enabled && at === end && panel.registry && !rivalIsOpen() && writing(value, at, panel.registry);
      if (!now) return this.close();
      const asked = new URLSearchParams({ ...panel.names, namespace: now.namespace, typed: now.typed });
      const entries = await this.ask(`complete?${asked}`);
      const stale = !panel.enabled || area.value !== value || area.selectionStart !== at || document.activeElement !== area;
      if (!entries || stale || rivalIsOpen()) return stale ? undefined : this.close();
      return popup.open(area, now.start, entries, ({ value: chosen }) => this.take(chosen, now.start));
    }

    // Writes a chosen value in place of what stands there between `start` and the caret by now.
    take(chosen, start) {
      const { area, pair: { panel: { registry } } } = this, at = area.selectionEnd;
      const now = writing(area.value, at, registry);
      if (now?.start !== start) return;
      const text = area.value.slice(0, start) + written(now, chosen, registry);
      write(area, text + area.value.slice(at), text.length);
    }

    close() { if (popup.box === this.area) popup.close(); }

    // Whether the tag at the caret was weighted.
    weigh(up) {
      const { area } = this;
      const step = globalThis.opts?.keyedit_precision_attention || STEP;
      const done = shared.weigh(area.value, this.tags, area.selectionStart, area.selectionEnd, up ? step : -step);
      if (done) write(area, done.text, done.from, done.to);
      return Boolean(done);
    }
  }

  // --- a prompt and its negative: they are rendered together

  const keyOf = ({ namespace, value }) => JSON.stringify([namespace, value]);

  // The part of the server's answer that is about one text. It counts characters, a text box UTF-16 units.
  const about = (text, side, { tags, lints }) => {
    const units = [0];
    for (const character of text) units.push(units.at(-1) + character.length);
    const remarks = lints.filter((one) => one.side === side).map((one) => {
      const [start, end] = [units[one.start], units[one.end]];
      return { ...one, start, end, source: text.slice(start, end) };
    });
    const spoken = tags.filter((one) => one.side === side).map((one) => [keyOf(one), { text: one.text, place: one.place }]);
    return { lints: remarks, said: new Map(spoken) };
  };

  class Pair {
    constructor(panel, ...ids) {
      this.panel = panel;
      this.boxes = ids.map((id) => new Box(id, this));
      this.answers = [];
      this.ask = asker();
      this.seen = "";
      this.typing = false;
      this.changed = paused(TYPING, () => this.update());
      this.settled = paused(SETTLED, () => { this.typing = false; this.draw(); });
    }

    get state() {
      const { enabled, settings } = this.panel;
      return JSON.stringify(enabled ? [settings, ...this.boxes.map(({ text }) => text)] : null);
    }

    // Also finds what no key has changed: a pasted infotext, a style, a switch.
    look() {
      if (this.state !== this.seen) this.changed();
    }

    typed() {
      this.typing = true;
      this.changed();
      this.settled();
    }

    draw() { this.boxes.forEach((box, i) => box.draw(this.answers[i], this.typing)); }

    async update() {
      const { panel, boxes } = this, texts = boxes.map(({ text }) => text);
      this.seen = this.state;
      if (!panel.enabled) boxes.forEach((box) => box.close());
      if (!panel.enabled || !texts.some(shared.hasColon)) {
        this.answers = [];
        return this.draw();
      }
      if (!panel.registry) await panel.load();
      this.draw();
      const [prompt, negative] = texts;
      const given = await this.ask("render", { prompt, negative, tab: panel.tab, ...panel.settings });
      if (given) this.answers = texts.map((text, i) => about(text, SIDES[i], given));
      return this.draw();
    }
  }

  // --- life

  const panels = Object.fromEntries(["txt2img", "img2img"].map((tab) => [tab, new Panel(tab)]));
  const pairs = PAIRS.map(([tab, ...ids]) => new Pair(panels[tab], ...ids));
  const boxes = pairs.flatMap((pair) => pair.boxes);
  const boxOf = (target) => (target?.tagName === "TEXTAREA" ? boxes.find((box) => target.closest(`#${box.id}`)) : undefined);
  let popup = null;

  const on = (name, act) => document.addEventListener(name, (event) => {
    const box = popup && boxOf(event.target);
    if (box?.pair.panel.enabled) act(box, event);
  }, true);

  on("input", (box, event) => {
    box.pair.typed();
    if (event.inputType && !event.isComposing) box.complete(); else box.close(); // a script's input completes nothing
  });
  on("compositionend", (box) => box.complete());
  on("focusin", async ({ pair }) => {
    await pair.panel.load();
    pair.changed();
  });
  on("focusout", (box) => {
    box.close();
    box.pair.changed();
  });
  on("keydown", (box, event) => {
    const { key, ctrlKey, metaKey, altKey, shiftKey, isComposing } = event;
    const open = popup.box === box.area;
    let ours = false;
    if (open && rivalIsOpen()) popup.close();
    else if (open && !isComposing && !(ctrlKey || metaKey || altKey || shiftKey)) ours = popup.key(event);
    if ((ctrlKey || metaKey) && (key === "ArrowUp" || key === "ArrowDown")) ours = box.weigh(key === "ArrowUp");
    if (!ours) return;
    event.preventDefault();
    event.stopPropagation();
  });

  const look = () => pairs.forEach((pair) => pair.look());
  // A panel's settings may change what the names are.
  const moved = async ({ target }) => {
    const panel = Object.values(panels).find((one) => one.owns(target));
    if (panel?.enabled) await panel.load();
    look();
  };
  const start = () => {
    if (!shared.Popup) { addEventListener("load", start, { once: true }); return; } // its script is still on its way
    popup = new shared.Popup();
    const leave = ({ target }) => { if (!popup.list.contains(target)) popup.close(); };
    document.addEventListener("mousedown", leave);
    document.addEventListener("scroll", leave, true);
    document.addEventListener("change", moved);
    onAfterUiUpdate(() => {
      if (rivalIsOpen()) popup.close();
      look();
    });
    look();
  };
  onUiLoaded(start);
})();
