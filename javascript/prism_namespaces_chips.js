// The row of chips under a prompt: its tags as they are understood and as they will be said, and what is odd about them.
// It mirrors the text and never writes it, but for a correction that is clicked.
(() => {
  const shared = (globalThis.prismNamespaces ??= {});
  const PLACES = {
    end: "said at the end of the prompt", negative: "said in the negative prompt", drop: "not said to this model",
  };

  // Whether a tag becomes something else; one that is said as it stands needs no second text.
  const changed = ({ namespace, value, said }) =>
    said && said.place !== "drop" && ![value, `${namespace}:${value}`].includes(said.text);

  // A tag in words, for a tooltip.
  const told = (tag) => {
    const { written, value, said } = tag, place = PLACES[said?.place];
    return `${written}:${value}${changed(tag) ? ` → ${said.text}` : ""}${place ? ` (${place})` : ""}`;
  };

  class Chips {
    // Calls `select(span)` and `correct(lint)` of `box` when a chip or a correction is clicked.
    constructor(block, box) {
      this.box = box;
      this.row = shared.made("div", { class: "prism-chips", role: "group", "aria-label": "Tags of this prompt" });
      this.row.hidden = true;
      this.drawn = "[[],[]]";
      block.append(this.row);
      this.row.addEventListener("mousedown", (event) => event.preventDefault()); // the text box keeps its focus
    }

    hide() {
      this.draw([], []);
      this.row.hidden = true;
      this.row.style.minHeight = "";
    }

    draw(tags, lints) {
      const state = JSON.stringify([tags, lints]);
      if (state === this.drawn) return;
      this.drawn = state;
      this.row.replaceChildren(...tags.map((tag) => this.chip(tag)), ...lints.map((lint) => this.lint(lint)));
      this.row.hidden = false;
      this.row.style.minHeight = `${Math.ceil(this.row.getBoundingClientRect().height)}px`; // nothing moves up while one types
    }

    button(name, title, act, ...children) {
      const button = shared.made("button", { type: "button", class: name, title }, ...children);
      button.addEventListener("click", act);
      return button;
    }

    chip(tag) {
      const { made } = shared, { said } = tag;
      const parts = [["name", `${tag.negative ? "−" : ""}${tag.namespace}`], ["value", tag.value]];
      if (changed(tag)) parts.push(["said", said.text]);
      const spans = parts.map(([name, text]) => made("span", { class: `prism-chip-${name}` }, text));
      const name = `prism-chip prism-chip-${said?.place ?? "here"}`;
      const chip = this.button(name, told(tag), () => this.box.select(tag), ...spans);
      if (tag.color) chip.style.setProperty("--prism-color", tag.color);
      return chip;
    }

    lint(lint) {
      const text = this.button("prism-lint-text", "Show the place", () => this.box.select(lint), lint.message);
      const fix = lint.fix && this.button("prism-lint-fix", `Write ${lint.fix}`, () => this.box.correct(lint), "Correct");
      return shared.made("span", { class: "prism-lint" }, text, ...(fix ? [fix] : []));
    }
  }

  Object.assign(shared, { Chips });
})();
