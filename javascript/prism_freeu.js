// The drawings of the panel "Prism FreeU": an editor for each schedule, and the gain over frequency.
//
// Both read the panel's own fields and write only through them, so the host sees a user's input and nothing else. A
// drawing has a fixed size, so nothing moves when a value changes.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const WIDTH = 320, HEIGHT = 110, LEFT = 28, BOTTOM = 16, TOP = 6, RIGHT = 8;
  const MOST = 2; // strength at the editor's upper edge
  const BINS = 12; // frequencies of the plot, in waves per picture
  const STEP = 0.05;

  const node = (name, attributes = {}, text = "") => {
    const made = document.createElementNS(SVG, name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    made.textContent = text;
    return made;
  };
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const short = (value) => String(Math.round(value * 1000) / 1000);
  const xOf = (position, most = 1) => LEFT + (position / most) * (WIDTH - LEFT - RIGHT);
  const yOf = (value, most) => TOP + (1 - value / most) * (HEIGHT - TOP - BOTTOM);

  const fieldOf = (panel, name) => panel.querySelector(`[id$="_prism_freeu_${name}"]`);
  const inputOf = (panel, name) => fieldOf(panel, name)?.querySelector("input[type=number], textarea, input");
  const number = (panel, name) => Number.parseFloat(inputOf(panel, name)?.value);
  const isOn = (panel, name) => Boolean(fieldOf(panel, name)?.querySelector("input[type=checkbox]")?.checked);
  const write = (input, text) => {
    const prototype = input.tagName === "TEXTAREA" ? HTMLTextAreaElement.prototype : HTMLInputElement.prototype;
    Object.getOwnPropertyDescriptor(prototype, "value").set.call(input, text);
    input.dispatchEvent(new Event("input", { bubbles: true }));
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };

  // --- curves: lists of [position, value], as in `0@0 1@0.3 0@1`

  const parse = (text) => {
    const items = text.replaceAll(",", " ").split(/\s+/).filter(Boolean);
    const points = items.map((item) => item.split("@").map(Number).reverse());
    if (items.length === 1 && points[0].length === 1) return [[0, points[0][0]]];
    return points.length && points.every((point) => point.length === 2 && point.every(Number.isFinite)) ? points : null;
  };
  const print = (points) => points.map(([position, value]) => `${short(value)}@${short(position)}`).join(" ");
  const windowed = (start, stop, smooth) => {
    if (!(start < stop)) return [[0, 0]];
    const rise = start > 0 ? [[0, 0], [start, smooth]] : [];
    return [...rise, [start, 1], [stop, 1 - smooth], [stop, 0]];
  };

  class Editor {
    constructor(place, panel) {
      this.panel = panel;
      this.name = place.dataset.field;
      this.svg = node("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "prism-drawing", role: "group" });
      this.svg.setAttribute("aria-label", prismSay(place.dataset.label));
      place.replaceChildren(this.svg);
      this.drawn = "";
      this.svg.addEventListener("dblclick", (event) => this.add(this.at(event)));
      this.svg.addEventListener("pointerdown", (event) => this.grab(event));
      this.svg.addEventListener("keydown", (event) => this.key(event));
      this.draw();
    }

    get own() { return parse(inputOf(this.panel, this.name)?.value ?? ""); }

    get points() {
      if (this.own) return this.own;
      if (this.name !== "schedule") {
        const first = parse(inputOf(this.panel, "schedule")?.value ?? "");
        if (first) return first;
      }
      return windowed(...["start", "stop", "smoothness"].map((name) => number(this.panel, name)));
    }

    set points(points) {
      write(inputOf(this.panel, this.name), print(points));
      this.draw();
    }

    at(event) {
      const box = this.svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * WIDTH;
      const y = ((event.clientY - box.top) / box.height) * HEIGHT;
      const position = (x - LEFT) / (WIDTH - LEFT - RIGHT);
      const value = (1 - (y - TOP) / (HEIGHT - TOP - BOTTOM)) * MOST;
      return [clamp(Math.round(position * 100) / 100, 0, 1), clamp(Math.round(value * 100) / 100, 0, MOST)];
    }

    add(point) {
      const points = [...this.points, point].sort((one, other) => one[0] - other[0]);
      this.points = points;
      this.focus(points.indexOf(point));
    }

    move(index, [position, value]) {
      const points = this.points.map((point) => [...point]);
      const low = index ? points[index - 1][0] : 0;
      const high = index + 1 < points.length ? points[index + 1][0] : 1;
      points[index] = [clamp(position, low, high), clamp(value, 0, MOST)];
      this.points = points;
    }

    remove(index) {
      const points = this.points.filter((_, other) => other !== index);
      if (points.length) this.points = points;
      this.focus(Math.min(index, points.length - 1));
    }

    focus(index) { this.svg.querySelectorAll("circle")[index]?.focus(); }

    grab(event) {
      const index = [...this.svg.querySelectorAll("circle")].indexOf(event.target);
      if (index < 0) return;
      event.preventDefault();
      this.focus(index);
      const drag = (moved) => { this.move(index, this.at(moved)); this.focus(index); };
      const drop = () => { removeEventListener("pointermove", drag); removeEventListener("pointerup", drop); };
      addEventListener("pointermove", drag);
      addEventListener("pointerup", drop);
    }

    key(event) {
      const index = [...this.svg.querySelectorAll("circle")].indexOf(event.target);
      if (index < 0) return;
      const [position, value] = this.points[index];
      const moves = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };
      if (event.key in moves) {
        this.move(index, [position + moves[event.key][0], value + moves[event.key][1]]);
        this.focus(index);
      } else if (event.key === "Delete" || event.key === "Backspace") {
        this.remove(index);
      } else if (event.key === "Enter" || event.key === "+") {
        const next = this.points[index + 1] ?? [1, value];
        this.add([(position + next[0]) / 2, (value + next[1]) / 2]);
      } else return;
      event.preventDefault();
      event.stopPropagation();
    }

    draw() {
      const points = this.points, own = Boolean(this.own);
      const state = `${own} ${print(points)}`;
      if (state === this.drawn) return;
      this.drawn = state;
      const line = [[0, points[0][1]], ...points, [1, points.at(-1)[1]]];
      const path = line.map(([position, value]) => `${xOf(position)},${yOf(value, MOST)}`).join(" ");
      this.svg.replaceChildren(
        ...axes([0, 1, 2], MOST, [prismSay("start"), prismSay("end")]),
        node("polyline", { points: path, class: own ? "prism-line" : "prism-line prism-derived" }),
        ...points.map(([position, value], index) => node("circle", {
          cx: xOf(position), cy: yOf(value, MOST), r: 5, tabindex: 0, role: "slider", class: "prism-point",
          "aria-label": prismSay("point {number} of {count}", { number: index + 1, count: points.length }),
          "aria-valuetext": prismSay("strength {value} at {position}", { value: short(value), position: short(position) }),
          "aria-valuenow": value, "aria-valuemin": 0, "aria-valuemax": MOST,
        })),
      );
    }
  }

  const axes = (values, most, [first, last]) => [
    ...values.flatMap((value) => [
      node("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: yOf(value, most), y2: yOf(value, most), class: "prism-axis" }),
      node("text", { x: LEFT - 8, y: yOf(value, most) + 3, "text-anchor": "end" }, short(value)),
    ]),
    node("text", { x: LEFT, y: HEIGHT - 3 }, first),
    node("text", { x: WIDTH - RIGHT, y: HEIGHT - 3, "text-anchor": "end" }, last),
  ];

  // --- gain over frequency: what the skip filter does to a wave along one axis of a 64 x 64 latent

  class Gains {
    constructor(place, panel) {
      this.panel = panel;
      this.defaults = JSON.parse(place.dataset.defaults);
      this.svg = node("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "prism-drawing", role: "img" });
      place.replaceChildren(this.svg);
      this.drawn = "";
      this.draw();
    }

    value(name) { // a page may not have built a part that was never opened
      const found = number(this.panel, name);
      return Number.isFinite(found) ? found : this.defaults[name];
    }

    gains(stage) {
      const [s, high, cutoff] = ["s", "high", "cutoff"].map((name) => this.value(name + stage));
      const strength = this.value("strength");
      const low = 1 + strength * (s - 1), rest = 1 + strength * (high - 1);
      const radius = Math.max(1, Math.floor(32 * cutoff));
      return Array.from({ length: BINS + 1 }, (_, bin) => {
        if (bin === 0 && isOn(this.panel, "keep_mean")) return 1;
        return bin < radius ? low : bin === radius ? (low + rest) / 2 : rest;
      });
    }

    draw() {
      const lines = ["1", "2", "3"].map((stage) => this.gains(stage));
      const state = JSON.stringify(lines);
      if (state === this.drawn) return;
      this.drawn = state;
      const most = Math.max(1.5, ...lines.flat());
      const at = (gain) => yOf(clamp(gain, 0, most), most);
      this.svg.setAttribute("aria-label", lines.map((line, i) => prismSay(
        "Stage {stage}: gain {mean} for the mean, {one} for one wave, {most} for {count}",
        { stage: i + 1, mean: short(line[0]), one: short(line[1]), most: short(line[BINS]), count: BINS },
      )).join(". "));
      this.svg.replaceChildren(
        ...axes([0, 1], most, [prismSay("mean"), prismSay("{count} waves per picture", { count: BINS })]),
        ...lines.map((line, i) => node("polyline", {
          class: `prism-line prism-stage-${i + 1}`,
          points: line.map((gain, bin) => `${xOf(bin, BINS)},${at(gain)}`).join(" "),
        })),
        ...lines.map((_, i) => node("text", {
          x: WIDTH - RIGHT - 4 - (2 - i) * 46, y: TOP + 8, "text-anchor": "end", class: `prism-stage-${i + 1}`,
        }, prismSay("stage {stage}", { stage: i + 1 }))),
      );
    }
  }

  // --- A/B: one picture with FreeU and one without; only this run, so the switch goes back afterwards

  const compare = (panel) => {
    const box = fieldOf(panel, "compare")?.querySelector("input[type=checkbox]");
    const tab = panel.id.includes("img2img") ? "img2img" : "txt2img";
    if (!box) return;
    if (!box.checked) box.click();
    setTimeout(() => document.querySelector(`#${tab}_generate`)?.click(), 100);
    setTimeout(() => box.checked && box.click(), 600);
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.('[id$="_prism_freeu_ab"]');
    if (button) compare(button.closest('[id$="_prism_freeu_panel"]'));
  });

  // --- life: drawings are made once per panel, and look at the fields again whenever the page may have changed

  const drawings = new Map();
  const look = () => {
    document.querySelectorAll(".prism-curve, .prism-gains").forEach((place) => {
      const panel = place.closest('[id$="_prism_freeu_panel"]');
      if (!panel || !inputOf(panel, "strength") || drawings.get(place)?.svg.isConnected) return;
      drawings.set(place, place.matches(".prism-curve") ? new Editor(place, panel) : new Gains(place, panel));
    });
    drawings.forEach((drawing, place) => (place.isConnected ? drawing.draw() : drawings.delete(place)));
  };
  onAfterUiUpdate(look);
  document.addEventListener("input", look, true);
  document.addEventListener("change", look, true);
})();
