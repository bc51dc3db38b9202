// The bars of the panel "Prism Block Merge": one for each block of the loaded model, painted with the mouse or set by
// keys, and little pictures of the presets in their menu.
//
// Bars read the panel's own fields and write only through them, so the host sees a user's input and nothing else.
(() => {
  const shared = (globalThis.prismMerge ??= {});
  const ROUTES = "./prism/v1/merge";
  const PANEL = '[id$="_prism_block_merge_panel"]';
  const TEXTS = ["weights", "blocks", "te", "vae"];
  const FLAT = "Flat", BASE = "BASE";
  const LOWEST = -1, HIGHEST = 2; // of bars; texts may say more
  const NEAR = "400px"; // of the window: then the server is asked
  const THIN = 0.02; // part of a bar that is drawn for a weight of 0
  const STEP = 0.05, FINE = 0.01, COARSE = 0.2;
  const GAPS = ["IN00", "M00", "OUT00", "TIME_EMBED", "LABEL_EMB", "EMBED", "OUT", "VAE"];
  const SHORT = { TIME_EMBED: "TIME", LABEL_EMB: "LABEL", CLIP_EMB: "CLIP", OUT: "LAST", BASE: "TEXT" };
  const meaning = (label) => ({
    TIME_EMBED: prismSay("time embedding"), LABEL_EMB: prismSay("size embedding"), OUT: prismSay("last layers"),
    BASE: prismSay("text encoder"),
  })[label];

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const made = (name, className, attributes = {}) => {
    const element = document.createElement(name);
    element.className = className;
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    return element;
  };

  const button = (text, title, act) => {
    const element = made("button", "prism-merge-button", { type: "button", title });
    element.textContent = text;
    element.addEventListener("click", act);
    return element;
  };

  // --- the panel's fields

  const fieldOf = (panel, name) => panel.querySelector(`[id$="_prism_block_merge_${name}"]`);
  const inputOf = (panel, name) => fieldOf(panel, name)?.querySelector("input[type=number], textarea, input");
  const valueOf = (panel, name) => inputOf(panel, name)?.value ?? "";
  const ownValue = (input) => Object.getOwnPropertyDescriptor(Object.getPrototypeOf(input), "value");
  const write = (input, text) => {
    if (!input || input.value === text) return;
    ownValue(input).set.call(input, text);
    input.dispatchEvent(new Event("input", { bubbles: true }));
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };

  // Tells of values that the page writes by itself, after a paste for example: there is no event for these.
  const watched = new WeakSet();
  const watch = (input, changed) => {
    if (!input || watched.has(input)) return;
    watched.add(input);
    const { get, set } = ownValue(input);
    Object.defineProperty(input, "value", {
      configurable: true,
      get,
      set(value) { set.call(this, value); changed(); },
    });
  };

  // --- what the server knows: the loaded model, its blocks, presets for them, memory

  const facts = { known: null, sizes: {}, said: "", answers: 0, get model() { return this.known ?? shared.UNKNOWN; } };
  let asking = null;

  const ask = async () => {
    try {
      const answer = await fetch(`${ROUTES}/model`), given = await answer.json();
      if (!answer.ok) throw new Error(given.detail ?? answer.statusText);
      const { title, blocks: sizes, spine, presets, own = {}, memory } = given;
      Object.assign(facts, { known: { blocks: Object.keys(sizes), spine, presets, own }, sizes });
      facts.said = [prismSay("{model}, {count} blocks", { model: title, count: spine.length }), ...memory].join(" · ");
      drawMenu(presets);
    } catch (error) {
      facts.said = prismSay("The loaded model's blocks are not known: {reason}", { reason: error.message });
    }
  };
  const load = async () => {
    await (asking ??= ask());
    asking = null;
    facts.answers += 1;
    drawAll();
  };

  // --- pictures in the menu of presets, as a style sheet: the menu's elements are gradio's

  const picture = (weights) => {
    const line = weights.map((weight, i) => `V${shared.round(1 - weight)}H${i + 1}`).join("");
    const path = `<path fill="#f97316" d="M0 1${line}V1Z"/>`;
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -.05 ${weights.length} 1.1" width="50" height="18" preserveAspectRatio="none">${path}</svg>`;
    return `url("data:image/svg+xml,${encodeURIComponent(svg)}")`;
  };
  const sheet = made("style", "");
  const drawMenu = (presets) => {
    const curves = { [FLAT]: [0.5], ...Object.fromEntries(Object.entries(presets).map(([name, [, ...weights]]) => [name, weights])) };
    sheet.textContent = Object.entries(curves).map(([name, weights]) =>
      `[id$="_prism_block_merge_preset"] li[aria-label="${CSS.escape(name)}"] { background-image: ${picture(weights)}; }`
    ).join("\n");
    if (!sheet.isConnected) document.head.append(sheet);
  };

  // --- bars

  class Bars {
    constructor(place, panel) {
      Object.assign(this, { place, panel, labels: "", bars: [], levels: {}, scale: [0, 1], focused: 0, pending: {} });
      this.tips = JSON.parse(place.dataset.tips);
      this.state = made("span", "prism-merge-state");
      this.value = made("output", "prism-merge-value");
      this.without = button("A/B", prismSay("Off and on: the merge strength goes to 0, and back to what it was"), () => this.toggle());
      this.undo = button(prismSay("Reset"), prismSay("Every block as the preset or the ratio has it"), () => this.put(shared.plain(this.fields)));
      this.own = made("select", "prism-merge-button", {
        title: prismSay("Presets from your own files"), "aria-label": prismSay("Own presets"),
      });
      this.own.addEventListener("change", () => this.put({ ...this.fields, weights: this.own.value }));
      this.row = made("div", "prism-bars", { role: "group", "aria-label": prismSay("Weight of model B in each block") });
      this.facts = made("div", "prism-merge-facts");
      const head = made("div", "prism-merge-head");
      head.append(this.state, this.value, this.own, this.without, this.undo);
      place.replaceChildren(head, this.row, this.facts);
      this.row.addEventListener("pointerdown", (event) => this.grab(event));
      this.row.addEventListener("pointermove", (event) => this.tell(this.indexAt(event)));
      this.row.addEventListener("pointerleave", () => this.tell(-1));
      this.row.addEventListener("dblclick", (event) => this.restore(this.indexAt(event)));
      this.row.addEventListener("keydown", (event) => this.key(event));
      this.row.addEventListener("focusin", ({ target }) => this.tell(this.bars.indexOf(target)));
      new IntersectionObserver(([seen]) => seen.isIntersecting && load(), { rootMargin: NEAR }).observe(place);
      this.draw();
    }

    get fields() {
      const { panel } = this;
      const ratio = Number.parseFloat(valueOf(panel, "ratio"));
      return {
        ratio: Number.isFinite(ratio) ? ratio : 0,
        preset: valueOf(panel, "preset"),
        ...Object.fromEntries(TEXTS.map((name) => [name, valueOf(panel, name)])),
      };
    }

    get labelled() { return facts.model.blocks; }

    // Has the fields say something else.
    put(fields) {
      TEXTS.forEach((name) => write(inputOf(this.panel, name), fields[name]));
      this.draw();
    }

    set(changes) {
      const { fields } = this; // what cannot be read in them gives way
      for (const given of [fields, { ...fields, weights: "" }, shared.plain(fields)]) {
        try {
          return this.put(shared.change(given, facts.model, changes));
        } catch { /* the next one */ }
      }
    }

    // A/B: the strength goes to 0 and back.
    toggle() {
      const input = inputOf(this.panel, "strength"), now = Number.parseFloat(input?.value);
      if (now) this.strength = String(now);
      write(input, now ? "0" : this.strength ?? "1");
      this.draw();
    }

    restore(index) {
      this.flush();
      if (index < 0) return;
      try {
        this.put(shared.reset(this.fields, facts.model, this.labelled[index]));
      } catch { /* the remark beside the bars says why */ }
    }

    // --- mouse

    indexAt({ clientX }) {
      const boxes = this.bars.map((bar) => bar.getBoundingClientRect());
      const index = boxes.findIndex((box) => clientX < box.right);
      return index < 0 ? boxes.length - 1 : index;
    }

    levelAt({ clientY }) {
      const { top, height } = this.bars[0].firstChild.getBoundingClientRect();
      const [low, high] = this.scale;
      return clamp(shared.round(Math.round((low + (1 - (clientY - top) / height) * (high - low)) * 100) / 100), low, high);
    }

    // Paints from the last place to this one.
    paint(event) {
      const to = this.indexAt(event), level = this.levelAt(event), from = this.last ?? { index: to, level };
      const count = Math.abs(to - from.index), way = Math.sign(to - from.index);
      for (let i = 0; i <= count; i += 1) {
        const between = count ? from.level + ((level - from.level) * i) / count : level;
        this.pending[this.labelled[from.index + way * i]] = Math.round(between * 100) / 100;
      }
      this.last = { index: to, level };
      this.focus(to);
      this.frame ??= requestAnimationFrame(() => this.flush());
    }

    flush() {
      cancelAnimationFrame(this.frame);
      this.frame = undefined;
      const changes = this.pending;
      this.pending = {};
      if (Object.keys(changes).length) this.set(changes);
    }

    grab(event) {
      if (event.button !== 0 || !this.bars.length) return;
      event.preventDefault();
      this.painting = true;
      this.row.setPointerCapture(event.pointerId);
      this.paint(event);
      const move = (moved) => this.paint(moved);
      const drop = () => {
        this.flush();
        this.painting = false;
        this.last = undefined;
        this.row.removeEventListener("pointermove", move);
        this.draw();
      };
      this.row.addEventListener("pointermove", move);
      this.row.addEventListener("lostpointercapture", drop, { once: true });
    }

    // --- keys

    focus(index) {
      const bar = this.bars[clamp(index, 0, this.bars.length - 1)];
      this.bars[this.focused]?.setAttribute("tabindex", "-1");
      this.focused = this.bars.indexOf(bar);
      bar?.setAttribute("tabindex", "0");
      bar?.focus({ preventScroll: true });
      this.tell(this.focused);
    }

    key(event) {
      const index = this.bars.indexOf(event.target), label = this.labelled[index];
      if (index < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
      const step = event.shiftKey ? FINE : STEP, now = this.levels[label];
      const levels = {
        ArrowUp: now + step, ArrowDown: now - step, PageUp: now + COARSE, PageDown: now - COARSE, Home: 0, End: 1,
      };
      if (event.key in levels) this.set({ [label]: clamp(shared.round(levels[event.key]), LOWEST, HIGHEST) });
      else if (event.key === "ArrowLeft" || event.key === "ArrowRight") this.focus(index + (event.key === "ArrowLeft" ? -1 : 1));
      else if (event.key === "Delete" || event.key === "Backspace") this.restore(index);
      else return;
      event.preventDefault();
      event.stopPropagation();
      this.tell(this.focused);
    }

    // --- drawing

    tell(index) {
      const label = this.labelled[index];
      const text = label === undefined ? "" : `${label} ${shared.round(this.levels[label] ?? 0)}`;
      if (this.value.textContent !== text) this.value.textContent = text;
    }

    build() {
      this.bars = this.labelled.map((label, i) => {
        const bar = made("div", GAPS.includes(label) ? "prism-bar prism-bar-first" : "prism-bar", {
          role: "slider", "aria-orientation": "vertical", "aria-label": meaning(label) ? `${label}, ${meaning(label)}` : label,
          tabindex: i ? -1 : 0,
        });
        const track = made("div", "prism-track"), name = made("span", "prism-bar-name", { "aria-hidden": true });
        track.append(made("div", "prism-fill"));
        name.textContent = SHORT[label] ?? label;
        bar.append(track, name);
        return bar;
      });
      this.focused = 0;
      this.row.replaceChildren(...this.bars);
    }

    show(bar, label, own) {
      const level = this.levels[label] ?? 0, [low, high] = this.scale;
      const follows = !own.has(label) && !facts.model.spine.includes(label) && this.isSpread;
      const size = facts.sizes[label] ? `, ${(facts.sizes[label] / 1e6).toFixed(1)} MB` : "";
      const name = bar.getAttribute("aria-label");
      bar.setAttribute("aria-valuemin", low);
      bar.setAttribute("aria-valuemax", high);
      bar.setAttribute("aria-valuenow", shared.round(level));
      const leader = follows && label !== BASE && prismSay("goes along with {block}", { block: shared.leader(label, facts.model) });
      bar.title = `${name}${size}${leader ? `; ${leader}` : ""}`;
      bar.classList.toggle("prism-bar-follows", Boolean(follows));
      const from = (Math.min(level, 0) - low) / (high - low), height = Math.max(Math.abs(level) / (high - low), THIN);
      bar.querySelector(".prism-fill").style.transform = `translateY(${-from * 100}%) scaleY(${height})`;
    }

    // Whether the weights come from a list or preset, along which the outer blocks go.
    get isSpread() { return Boolean(this.fields.weights.trim()) || this.fields.preset !== FLAT; }

    draw() {
      const fields = this.fields;
      this.chosen(fields);
      const state = JSON.stringify([fields, facts.answers, valueOf(this.panel, "strength"), valueOf(this.panel, "model"), this.painting]);
      if (state === this.drawn) return;
      this.drawn = state;
      if (this.labels !== this.labelled.join()) {
        this.labels = this.labelled.join();
        this.build();
      }
      let own = new Set(), problem = "";
      try {
        ({ levels: this.levels, own } = shared.read(fields, facts.model));
      } catch (error) {
        problem = error.message;
      }
      if (!this.painting) {
        const levels = Object.values(this.levels);
        this.scale = [Math.min(0, Math.floor(Math.min(...levels))), Math.max(1, Math.ceil(Math.max(...levels)))];
      }
      this.bars.forEach((bar, i) => this.show(bar, this.labelled[i], own));
      this.remark(fields, problem);
    }

    remark(fields, problem) {
      const off = Number.parseFloat(valueOf(this.panel, "strength")) === 0;
      const none = !valueOf(this.panel, "model").trim() && prismSay("No model B is chosen yet");
      this.state.textContent = problem || none || (off ? prismSay("Strength 0: the loaded model alone") : this.whose(fields));
      this.place.classList.toggle("prism-merge-wrong", Boolean(problem));
      this.place.classList.toggle("prism-merge-off", off);
      this.facts.textContent = this.facts.title = facts.said;
      this.offer(fields.weights.trim());
      const usual = shared.plain(fields);
      this.undo.disabled = TEXTS.every((name) => fields[name].trim() === usual[name]);
      fieldOf(this.panel, "ratio")?.classList.toggle("prism-idle", this.isSpread);
      this.without.setAttribute("aria-pressed", off);
    }

    // In words, what the weights come from.
    whose({ weights, preset }) {
      if (weights.trim() in facts.model.own) return weights;
      if (weights.trim()) return prismSay("Your own weights");
      return preset === FLAT ? prismSay("The ratio in every block") : preset;
    }

    // The menu of the user's own presets, where there are some.
    offer(chosen) {
      const names = ["", ...Object.keys(facts.model.own)];
      this.own.hidden = names.length === 1;
      if (this.own.length !== names.length) {
        this.own.replaceChildren(...names.map((name) => new Option(name || prismSay("Own presets"), name)));
      }
      this.own.value = names.includes(chosen) ? chosen : "";
    }

    // A preset chosen by hand takes the place of one's own weights; a pasted one does not.
    chosen(fields) {
      const changed = fields.preset !== this.preset && fields.weights === this.weights && hand === fieldOf(this.panel, "preset");
      if (changed && this.preset !== undefined && fields.weights) {
        fields.weights = "";
        write(inputOf(this.panel, "weights"), "");
      }
      Object.assign(this, { preset: fields.preset, weights: fields.weights });
    }
  }

  // --- life: bars are made once per panel, and look at the fields again whenever these may have changed

  const drawings = new Map();
  let hand = null; // the field that was last touched
  const drawAll = () => drawings.forEach((bars) => bars.draw());
  const look = () => {
    document.querySelectorAll(".prism-merge").forEach((place) => {
      const panel = place.closest(PANEL);
      if (!panel || !inputOf(panel, "ratio")) return;
      if (!drawings.get(place)?.row.isConnected) drawings.set(place, new Bars(place, panel));
      const { tips } = drawings.get(place);
      ["model", "ratio", "preset", "strength", ...TEXTS].forEach((name) => watch(inputOf(panel, name), soon));
      Object.entries(tips).forEach(([name, text]) => {
        const field = fieldOf(panel, name);
        if (field && !field.title) field.title = prismSay(text);
      });
    });
    drawings.forEach((bars, place) => (place.isConnected ? bars.draw() : drawings.delete(place)));
  };
  let waiting = false;
  const soon = () => {
    if (waiting) return;
    waiting = true;
    queueMicrotask(() => { waiting = false; drawAll(); });
  };
  const touched = ({ target }) => { hand = target.closest?.('[id*="_prism_block_merge_"]') ?? null; };

  onAfterUiUpdate(look);
  ["input", "change"].forEach((name) => document.addEventListener(name, ({ target }) => {
    if (target.closest?.(PANEL)) look();
  }, true));
  document.addEventListener("pointerdown", touched, true);
  document.addEventListener("keydown", touched, true);
  document.addEventListener("click", ({ target }) => {
    if (target.closest?.('[id$="_prism_block_merge_refresh"]')) setTimeout(load, 500);
  });
  globalThis.onOptionsChanged?.(() => { // another checkpoint may be there
    if ([...drawings.keys()].some((place) => place.offsetParent)) load();
  });
})();
